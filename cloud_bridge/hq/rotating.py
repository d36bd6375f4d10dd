"""Exchanging a region's secret, under which telephone numbers and old cards are found. All of it runs inside the caller's transaction.

Nobody keeps the numbers. Yet every key is moved on to the new secret at once (`gateway.blinded`), so nobody is lost and nobody has to be
asked. A secret is made of the root key and of a random nonce in this database; with the nonce deleted the secret is gone, whoever has the
root key. Boxes never hold two: the new list of members brings the new secret and the new keys in one document, and until a box has it, it
goes on with the old one. What both are kept for, here only, is rows that boxes wrote under the old one: sales by numbers of nobody,
which somebody may still turn out to have. That ends with the overlap, and then the old secret is deleted.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection, StoredRow
from gateway import blinded, phones
from gateway.events import CatalogApplied

NONCE_B: Final = 32
DAY_US: Final = 86_400_000_000
OVERLAP_DAYS: Final = 14


class Exchange(Struct, frozen=True):
    """One exchange, as the journal has it."""

    region: str
    version: int
    begun_us: int
    until_us: int
    members: int
    cards: int
    finished_us: int
    uncredited: int
    unheard: list[str]  # boxes that had not taken the new list: by now, or when it was finished
    boxes: int = 0  # that have to take it
    is_scrubbed: bool = False  # the old secret is in no file any more


# ---------------------------------------------------------------- secrets


def secret(db: Connection, region: str, chain: bytes) -> bytes:
    """A region's secret in force.

    Args:
        db: Inside a transaction.
        region: ISO 3166 country.
        chain: `phones.region_secrets` of it.
    """
    return _secret(chain, _nonces(db, region)[:1])


def before(db: Connection, region: str, chain: bytes) -> bytes | None:
    """The one before, while the overlap lasts."""
    return _secret(chain, _nonces(db, region)[1:2]) if running(db, region) is not None else None


def remember(db: Connection, region: str, chain: bytes, number: str, member_ref: str) -> None:
    """Somebody's number is at hand: sales that it made under the old secret are to find them, too."""
    old = before(db, region, chain)
    if old is not None:
        _keep(db, region, [(phones.phone_key(old, number), member_ref)])


def _nonces(db: Connection, region: str) -> list[bytes]:
    """The newest first."""
    found = db.execute("SELECT nonce FROM member_secrets WHERE region = ? ORDER BY version DESC", (region,)).fetchall()
    return [bytes.fromhex(nonce) for (nonce,) in found]


def _secret(chain: bytes, nonces: list[bytes]) -> bytes:
    if not nonces:  # never exchanged; or that was the one before the first exchange
        return chain[: phones.SECRET_B]
    return phones.exchanged(chain[: phones.SECRET_B], blinded.scalar_of(hmac.digest(chain[phones.SECRET_B :], nonces[0], "sha512")))


# ---------------------------------------------------------------- an exchange


def running(db: Connection, region: str) -> Exchange | None:
    """The exchange whose overlap lasts."""
    return next((one for one in journal(db) if one.region == region and not one.finished_us), None)


def ready(db: Connection, region: str, chain: bytes, nonce: bytes) -> Callable[[], dict[str, str]]:
    """What takes long of an exchange, to be done outside of any transaction: each key under the secret of that nonce."""
    old, new, keys = secret(db, region, chain), _secret(chain, [nonce]), _keys(db, region)
    move = phones.mover(old, new)
    return lambda: {key: move(key) for key in keys}


def begin(
    db: Connection, region: str, chain: bytes, nonce: bytes, ready: Mapping[str, str], overlap_us: int, now_us: int
) -> Exchange:  # fmt: skip
    """Move every key of a region on to a new secret.

    Args:
        db: Inside a transaction.
        region: ISO 3166 country.
        chain: `phones.region_secrets` of it.
        nonce: 32 random bytes.
        ready: Keys that were moved on before, with the same nonce; what has come since is done now.
        overlap_us: How long the old secret is kept here.
        now_us: µs since 1970 UTC.

    Raises:
        RefusedAsk: The overlap of the last exchange lasts.
    """
    if (last := running(db, region)) is not None:
        raise RefusedAsk(409, f"the exchange to secret {last.version} of {region} is not finished", "Finish it first, or wait for its end")
    version = version_of(db, region) + 1
    old, new = secret(db, region, chain), _secret(chain, [nonce])
    found = db.execute("SELECT phone_key, member_ref FROM members WHERE region = ? AND phone_key IS NOT NULL", (region,)).fetchall()
    _keep(db, region, [(phones.told_key(key), ref) for key, ref in found])
    move = phones.mover(old, new)
    counted = _move_on(db, region, lambda key: ready.get(key) or move(key))
    db.execute("INSERT INTO member_secrets VALUES (?, ?, ?)", (region, version, nonce.hex()))
    values = (region, version, now_us, now_us + overlap_us, *counted, 0, 0, "[]", 0)
    db.execute("INSERT INTO member_exchanges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    return Exchange(region, version, now_us, now_us + overlap_us, *counted, 0, 0, [])


def await_boxes(db: Connection, exchange: Exchange, gateways: Iterable[str]) -> None:
    """Write down who has to take the list that was made for them."""
    found = dict(db.execute("SELECT gateway, version FROM documents WHERE name = 'members'").fetchall())
    rows = [(gateway, exchange.region, exchange.version, found[gateway], 0) for gateway in gateways if gateway in found]
    db.put("member_exchange_boxes", rows, "(gateway, region, version) DO NOTHING")


def applied(db: Connection, row: StoredRow, event: CatalogApplied) -> None:
    """Effect of a row: a box has put a document in force."""
    if event.name == "members":
        taken = "UPDATE member_exchange_boxes SET applied_us = ? WHERE gateway = ? AND applied_us = 0 AND list <= ?"
        db.execute(taken, (row.received_us, row.gateway, event.version))


def finish(db: Connection, region: str, now_us: int, *, even_unheard: bool = False) -> Exchange:
    """End the overlap: delete the old secret and all that was kept under it. Then have the files scrubbed.

    Raises:
        RefusedAsk: There is none, or boxes have not taken the new list yet.
    """
    held = running(db, region)
    if held is None:
        raise RefusedAsk(404, f"no exchange of the secret of {region} is going on", "GET /api/member-secrets lists them")
    if held.unheard and not even_unheard:
        raise RefusedAsk(
            409, f"{len(held.unheard)} boxes have not taken the new list: {', '.join(held.unheard[:5])}", "Wait, or finish with `force`"
        )
    db.execute("DELETE FROM member_secrets WHERE region = ? AND version < ?", (region, held.version))
    db.execute("DELETE FROM member_keys_before WHERE region = ?", (region,))
    late = (
        "UPDATE accruals SET phone_ref = NULL WHERE state = 'waiting' AND phone_ref IS NOT NULL AND received_us < ?"
        " AND gateway IN (SELECT gateway FROM member_exchange_boxes WHERE region = ? AND version = ?)"
    )
    uncredited = db.execute(late, (held.begun_us, region, held.version)).rowcount
    done = "UPDATE member_exchanges SET finished_us = ?, uncredited = ?, unheard = ? WHERE region = ? AND version = ?"
    db.execute(done, (now_us, uncredited, msgspec.json.encode(held.unheard).decode(), region, held.version))
    return next(one for one in journal(db) if (one.region, one.version) == (region, held.version))


def due(db: Connection, now_us: int) -> list[str]:
    """Regions whose overlap is over."""
    found = db.execute("SELECT region FROM member_exchanges WHERE finished_us = 0 AND until_us <= ?", (now_us,)).fetchall()
    return [str(region) for (region,) in found]


def scrubbed(db: Connection) -> None:
    """The files were scrubbed after the last exchange had ended."""
    db.execute("UPDATE member_exchanges SET scrubbed = 1 WHERE finished_us > 0")


def journal(db: Connection) -> list[Exchange]:
    """Every exchange there was, the newest last."""
    found = db.execute(
        "SELECT region, version, begun_us, until_us, members, cards, finished_us, uncredited, unheard, scrubbed FROM member_exchanges"
        " ORDER BY begun_us, region"
    ).fetchall()
    boxes = db.execute("SELECT region, version, gateway, applied_us FROM member_exchange_boxes ORDER BY gateway").fetchall()
    told = []
    for *said, unheard, scrubbed in found:
        of = [(gateway, applied_us) for region, version, gateway, applied_us in boxes if [region, version] == said[:2]]
        waiting = [gateway for gateway, applied_us in of if not applied_us]
        unheard_of = msgspec.json.decode(unheard, type=list[str]) if said[6] else waiting
        told.append(Exchange(*said, unheard_of, len(of), bool(scrubbed)))  # type: ignore[call-arg]
    return told


# ---------------------------------------------------------------- backups


def bring_up(copy: Any, secrets: Mapping[str, tuple[int, str]], chain_of: Callable[[str], bytes]) -> None:
    """Move a backup's keys on to the secrets in force, and take older ones out of it.

    Args:
        copy: A backup's SQLite connection, inside a transaction, with this release's tables of members.
        secrets: By region, the version and nonce in force here.
        chain_of: `phones.region_secrets`.
    """
    for region, (version, nonce) in sorted(secrets.items()):
        if version_of(copy, region) < version:
            old, new = secret(copy, region, chain_of(region)), _secret(chain_of(region), [bytes.fromhex(nonce)])
            _move_on(copy, region, phones.mover(old, new))
            copy.execute("INSERT INTO member_secrets VALUES (?, ?, ?)", (region, version, nonce))
        copy.execute("DELETE FROM member_secrets WHERE region = ? AND version < ?", (region, version))
        copy.execute("DELETE FROM member_keys_before WHERE region = ?", (region,))


def in_force(db: Connection) -> dict[str, tuple[int, str]]:
    """By region, the version and nonce in force."""
    found = db.execute("SELECT region, version, nonce FROM member_secrets ORDER BY version").fetchall()
    return {region: (version, nonce) for region, version, nonce in found}


def version_of(db: Any, region: str) -> int:
    """Which secret is in force; 0: it was never exchanged."""
    return int(db.execute("SELECT coalesce(max(version), 0) FROM member_secrets WHERE region = ?", (region,)).fetchone()[0])


# ---------------------------------------------------------------- inside


def _keys(db: Connection, region: str) -> list[str]:
    numbers = db.execute("SELECT phone_key FROM members WHERE region = ? AND phone_key IS NOT NULL", (region,)).fetchall()
    cards = db.execute("SELECT card_key FROM member_cards WHERE region = ?", (region,)).fetchall()
    return [key for (key,) in [*numbers, *cards]]


def _move_on(db: Any, region: str, move: Callable[[str], str]) -> tuple[int, int]:
    """Phone keys and card keys; how many."""
    found = db.execute("SELECT phone_key, member_ref FROM members WHERE region = ? AND phone_key IS NOT NULL", (region,)).fetchall()
    cards = db.execute("SELECT card_key FROM member_cards WHERE region = ?", (region,)).fetchall()
    db.executemany("UPDATE members SET phone_key = ? WHERE member_ref = ?", [(move(key), ref) for key, ref in found])
    db.executemany("UPDATE member_cards SET card_key = ? WHERE region = ? AND card_key = ?", [(move(key), region, key) for (key,) in cards])
    return len(found), len(cards)


def _keep(db: Connection, region: str, keys: list[tuple[str, str]]) -> None:
    rows: list[tuple[Any, ...]] = [(region, key, ref) for key, ref in dict(keys).items()]
    db.put("member_keys_before", rows, "(region, phone_key) DO NOTHING")
