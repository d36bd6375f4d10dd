"""Whose codes the shops take: keys of other issuers, what became of every key, and codes that carry no signature.

A key that is rotated is *retired*: it signs nothing more, and what it signed is honoured for as long as people here declare. A key that
was stolen is *revoked*. Headquarters' own keys are files of its authority; here is only what became of them. Codes without signature
are kept as their hash, here as in the shops.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection
from gateway.codes import is_cardlike, listed_letters
from gateway.errors import MalformedFrame
from gateway.signed import IssuerKey, TokenKey, public_from_hex, public_hex
from gateway.token import HOME_ISSUER
from gateway.verifiers import opaque
from gateway.verifiers.keyring import MAX_NAMELESS

TOKEN: Final = "token"  # noqa: S105 - the format of our own codes, which other issuers may use, too
PRETIX: Final = "pretix"
MOST_CODES: Final = 50_000  # of one shop: some 2 MB of its document
FEWEST_LETTERS: Final = 6  # of a code without signature: a shorter one is guessed


class Fate(Struct, frozen=True):
    """What becomes of a key. Times are seconds since 1970 UTC, 0: never."""

    retired_s: int = 0
    honoured_until_s: int = 0
    revoked: bool = False


def add(db: Connection, key: TokenKey | IssuerKey, own: Mapping[int, Ed25519PrivateKey]) -> None:
    """Have the shops take codes signed with another issuer's key.

    Raises:
        RefusedAsk: No key, or one that is listed already, or whose name another key of that format and issuer has.
    """
    try:
        public_from_hex(key.public)
    except MalformedFrame as error:
        raise RefusedAsk(422, str(error), field="public", code="refused.public") from error
    format_ = TOKEN if isinstance(key, TokenKey) else key.format
    tokens, others = listed(db, own)
    if key.public in {one.public for one in _all(tokens, others)}:
        raise RefusedAsk(409, "this key is listed already", "Change what becomes of it instead", field="public", code="refused.key_listed")
    if isinstance(key, TokenKey) and key.key_id in {one.key_id for one in tokens}:
        hint = "Ask the issuer to use another one: tokens name their key by it"
        raise RefusedAsk(409, f"key id {key.key_id} is taken", hint, field="key_id", code="refused.key_id_taken")
    if isinstance(key, IssuerKey) and not _is_distinct(key, others):
        hint = "Each key of an issuer needs a key id of its own"
        raise RefusedAsk(409, "codes could not tell this key from another one", hint, field="key_id", code="refused.key_id_taken")
    db.execute("INSERT INTO issuer_keys VALUES (?, ?, ?)", (format_, key.public, _written(key)))


def decide(db: Connection, public: str, fate: Fate, own: Mapping[int, Ed25519PrivateKey]) -> None:
    """Retire or revoke a key, ours or another issuer's.

    Raises:
        RefusedAsk: There is no such key.
    """
    tokens, others = listed(db, own)
    for key in _all(tokens, others):
        if key.public == public:
            changed = msgspec.structs.replace(key, **msgspec.structs.asdict(fate))
            db.execute(
                "INSERT INTO issuer_keys VALUES (?, ?, ?) ON CONFLICT (format, public) DO UPDATE SET said = excluded.said",
                (TOKEN if isinstance(key, TokenKey) else key.format, public, _written(changed)),
            )
            return
    raise RefusedAsk(404, "there is no such key", "GET /api/issuers lists them")


def listed(db: Connection, own: Mapping[int, Ed25519PrivateKey]) -> tuple[list[TokenKey], list[IssuerKey]]:
    """Every key the shops are told of: those for tokens, ours among them, and those of other formats."""
    found = db.execute("SELECT format, said FROM issuer_keys ORDER BY format, public").fetchall()
    ours = [TokenKey(key_id, HOME_ISSUER, public_hex(key.public_key()), "總部", "Headquarters") for key_id, key in own.items()]
    said = [msgspec.json.decode(text, type=TokenKey) for format_, text in found if format_ == TOKEN]
    tokens = {key.public: key for key in [*ours, *said]}
    others = [msgspec.json.decode(text, type=IssuerKey) for format_, text in found if format_ != TOKEN]
    return sorted(tokens.values(), key=lambda key: key.key_id), others


def signing_key_id(db: Connection, own: Mapping[int, Ed25519PrivateKey]) -> int:
    """The key that signs new codes: our newest that is in use.

    Raises:
        RefusedAsk: There is none.
    """
    tokens, _ = listed(db, own)
    used = [key.key_id for key in tokens if key.key_id in own and key.issuer == HOME_ISSUER and not key.revoked and not key.retired_s]
    if not used:
        raise RefusedAsk(409, "every key that signs codes is retired or revoked", "Put a new token-NUMBER.key into the authority's folder")
    return max(used)


def describe(db: Connection, own: Mapping[int, Ed25519PrivateKey]) -> list[dict[str, Any]]:
    """Each issuer: its names, its keys, and how many uses clear to it."""
    tokens, others = listed(db, own)
    by_issuer: dict[int, dict[str, Any]] = {}
    for key in _all(tokens, others):
        blank = {"issuer": key.issuer, "name_zh": "", "name_en": "", "keys": []}
        one = by_issuer.setdefault(key.issuer, blank)
        one["name_zh"], one["name_en"] = one["name_zh"] or key.issuer_zh, one["name_en"] or key.issuer_en
        one["keys"].append({"format": TOKEN} | msgspec.to_builtins(key))
    return [one | {"redeemed": _redeemed(db, issuer)} for issuer, one in sorted(by_issuer.items())]


def list_codes(db: Connection, voucher_id: str, codes: list[str], oldest_s: int) -> str:
    """Have codes without signature stand for a voucher; the box whose document changes.

    Raises:
        RefusedAsk: No such voucher, a code that could be guessed or looks like a card, one that stands for another voucher, or more
            than a shop can know. `oldest_s` is the end of the oldest voucher shops are still told of.
    """
    found = db.execute("SELECT gateway FROM vouchers WHERE voucher_id = ?", (voucher_id,)).fetchone()
    if found is None:
        raise RefusedAsk(404, f"there is no voucher {voucher_id}")
    db.execute("DELETE FROM unlisted WHERE voucher_id = ?", (voucher_id,))  # a shop knows codes through its list
    for place, code in enumerate(codes, 1):
        _list_code(db, voucher_id, code, place)
    counted = (
        "SELECT count(*) FROM voucher_codes c JOIN vouchers v ON v.voucher_id = c.voucher_id WHERE v.gateway = ? AND v.not_after_s >= ?"
    )
    if db.execute(counted, (found[0], oldest_s)).fetchone()[0] > MOST_CODES:
        raise RefusedAsk(409, f"a shop knows up to {MOST_CODES:,} codes without signature", "Ask the partner for signed ones")
    return str(found[0])


def _list_code(db: Connection, voucher_id: str, code: str, place: int) -> None:
    """Errors name its place: codes stand in no answer and no log."""
    if is_cardlike(code):
        raise RefusedAsk(422, f"code {place} looks like a card number", "Shops drop such numbers: ask the partner for another code")
    if len(listed_letters(code)) < FEWEST_LETTERS:
        raise RefusedAsk(422, f"code {place} is too short or too long", f"From {FEWEST_LETTERS} to 128 letters")
    digest = opaque.digest_of(code)
    held = db.execute("SELECT voucher_id FROM voucher_codes WHERE digest = ?", (digest,)).fetchone()
    if held is not None and held[0] != voucher_id:
        raise RefusedAsk(409, f"code {place} stands for another voucher")
    db.execute("INSERT INTO voucher_codes VALUES (?, ?) ON CONFLICT (digest) DO NOTHING", (digest, voucher_id))


def codes_of(db: Connection, gateway: str) -> dict[str, list[str]]:
    """The digests of a box's vouchers."""
    found = db.execute(
        "SELECT c.voucher_id, c.digest FROM voucher_codes c JOIN vouchers v ON v.voucher_id = c.voucher_id WHERE v.gateway = ?"
        " ORDER BY c.digest",
        (gateway,),
    )
    codes: dict[str, list[str]] = {}
    for voucher_id, digest in found:
        codes.setdefault(voucher_id, []).append(digest)
    return codes


def _redeemed(db: Connection, issuer: int) -> int:
    """By the references in the rows: `gateway.token.voucher_ref` writes the issuer in front, ours bare."""
    counted = "SELECT count(*) FROM uses WHERE kind = 'redeemed' AND "
    if issuer == HOME_ISSUER:
        return int(db.execute(counted + "(voucher_id LIKE ? OR voucher_id NOT LIKE ?)", (f"{issuer}-%", "%-%")).fetchone()[0])
    return int(db.execute(counted + "voucher_id LIKE ?", (f"{issuer}-%",)).fetchone()[0])


def _all(tokens: list[TokenKey], others: list[IssuerKey]) -> list[TokenKey | IssuerKey]:
    return [*tokens, *others]


def _is_distinct(key: IssuerKey, others: list[IssuerKey]) -> bool:
    alike = [one for one in others if (one.format, one.key_id, one.iss) == (key.format, key.key_id, key.iss)]
    return len(alike) < MAX_NAMELESS if key.format == PRETIX else not alike


def _written(key: TokenKey | IssuerKey) -> str:
    return msgspec.json.encode(key).decode("utf-8")
