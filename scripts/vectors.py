"""The published vectors of `contract/vectors/`: signed codes, byte for byte, as `scripts.contract` writes them.

Ed25519 signatures are the same in every run, so a file differs only if a format does. `token_v1.json` was published first and is
not written anew.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import asking, grant, holder, token
from gateway.asking import Ancestor, Asking
from gateway.codes import short_code
from gateway.errors import MalformedFrame
from gateway.grant import Grant
from gateway.phones import e164, phone_key
from gateway.signed import Document, IssuerKey, public_hex
from gateway.token import Claims, TokenKind
from gateway.verifiers import Keyring, cwt, jwt, opaque, pretix, reason_of, verify
from gateway.verifiers.pretix import Ticket

FOLDER: Final = Path(__file__).resolve().parents[1] / "contract" / "vectors"
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))  # published: never use it
STRANGER: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
START_S, END_S = 1_767_225_600, 1_798_761_600  # 2026
LARGEST: Final = Grant(
    key_id=2**16 - 1, issuer=2**16 - 1, identifier=2**60 - 1, assignment=2**32 - 1, box=2**40 - 1, epoch=2**32 - 1, left=2**32 - 1,
    is_amount=True, issued_s=2**32 - 2**24, not_after_s=2**32 - 1,
)  # fmt: skip
GRANTS: Final = {
    "one use, any start": Grant(
        key_id=1, issuer=1, identifier=42, assignment=7, box=grant.box_digest("box-7"), issued_s=START_S, not_after_s=START_S + 86_400
    ),
    "an amount, for one start": Grant(
        key_id=1, issuer=5, identifier=42, assignment=8, box=grant.box_digest("box-7"), epoch=grant.epoch_digest("12-00c0ffee"),
        left=32_000, is_amount=True, issued_s=START_S, not_after_s=START_S + 3_600,
    ),
    "the largest of everything": LARGEST,
}  # fmt: skip
ASKINGS: Final = {
    "a start HQ knows of": Asking(gateway="box-7", epoch="12-00c0ffee", asked_s=START_S),
    "two starts without a word from HQ": Asking(
        gateway="台北一店", epoch="14-5eed5eed", voucher_id="5-00000000000002a", asked_s=START_S,
        ancestors=(Ancestor("13-00c0ffee", 901, "00112233445566ff"), Ancestor("12-0badcafe", 0, "ffeeddccbbaa9988")),
    ),
}  # fmt: skip
CWT_KEY: Final = IssuerKey(format="cwt", issuer=5, public=public_hex(KEY.public_key()), key_id=b"k1".hex(), iss="https://b.example")
JWT_KEY: Final = IssuerKey(
    format="jwt", issuer=5, public=public_hex(KEY.public_key()), key_id="k1", iss="https://b.example", audience="shops"
)
PRETIX_KEY: Final = IssuerKey(
    format="pretix", issuer=6, public=public_hex(KEY.public_key()), store=7, campaigns={"3": 11, "4/2": 12, "5/0/9": 13}
)
CWT_CLAIMS: Final[dict[int, Any]] = {
    cwt.ISS: "https://b.example", cwt.EXP: END_S, cwt.NBF: START_S, cwt.IAT: START_S, cwt.CTI: b"ticket-1", cwt.CAMPAIGN: 9, cwt.STORE: 7,
}  # fmt: skip
JWT_CLAIMS: Final[dict[str, Any]] = {
    "iss": "https://b.example", "exp": END_S, "nbf": START_S, "iat": START_S, "jti": "ticket-1", "campaign": 9, "store": 7,
}  # fmt: skip
MEMBERS: Final = {
    "a member": Claims(kind=TokenKind.MEMBER, key_id=1, issuer=1, identifier=42, not_after_s=2**32 - 1),
    "the largest number, until the end of 2026": Claims(
        kind=TokenKind.MEMBER, key_id=2**16 - 1, issuer=1, identifier=2**60 - 1, not_before_s=START_S, not_after_s=END_S
    ),
}
PHONES: Final = (("0912-345-678", "TW"), ("＋８８６９１２３４５６７８", "HK"), ("9123 4567", "HK"), ("+85291234567", "TW"))
REGION_SECRET: Final = bytes(range(32))  # published: never use it
CODES: Final = ("WELCOME10", "welcome 10", "ＷＥＬＣＯＭＥ－１０", "8-900-12", "折扣碼")


def texts() -> Iterator[tuple[Path, str]]:
    """Every file and what belongs in it."""
    yield _file("grant_v1", "Grants: text is G1: and base45 of packed and an Ed25519 signature over SGG1 and packed", _grants())
    yield _file("asking_v1", "Requests for a grant: page /g/ base32 of packed and an Ed25519 signature over SGK1 and packed", _askings())
    yield _file("holder_v1", "Holders' secrets: the link a shopper gets, and what headquarters keeps", _holders())
    yield _file("member_v1", "Members' codes: tokens of kind 0x31; their identifier is looked up in the list of members", _members())
    yield _file("phone_v1", "Telephone numbers in E.164, and their keys under the secret 00 01 … 1f", [_phone(*one) for one in PHONES])
    yield _file("opaque_v1", "Codes without signature, and what a list holds of them", [_opaque(code) for code in CODES])
    yield _file("cwt_v1", "CWT in COSE_Sign1 (Ed25519), as CWT: and base45", _verified(CWT_KEY, _cwts()), CWT_KEY)
    yield _file("jwt_v1", "JWT in compact JWS (EdDSA)", _verified(JWT_KEY, _jwts()), JWT_KEY)
    yield _file("pretix_v1", "Tickets of pretix's signature scheme 1", _verified(PRETIX_KEY, _tickets()), PRETIX_KEY)


def _grants() -> list[dict[str, Any]]:
    signed = {about: grant.sign(one, KEY) for about, one in GRANTS.items()}
    return [
        {"about": about, "claims": _builtins(GRANTS[about]), "packed": grant.unpack(text)[1].removeprefix(grant.TAG).hex(), "text": text}
        for about, text in signed.items()
    ]


def _members() -> list[dict[str, Any]]:
    return [
        {"about": about, "claims": _builtins(one), "text": token.sign(one, KEY), "short_code": short_code(one.identifier)}
        for about, one in MEMBERS.items()
    ]


def _phone(typed: str, region: str) -> dict[str, Any]:
    number = e164(typed, region)
    return {"about": f"{typed} typed in {region}", "text": typed, "region": region, "e164": number, "key": phone_key(REGION_SECRET, number)}


def _askings() -> list[dict[str, Any]]:
    return [
        {
            "about": about, "claims": _builtins(one), "packed": asking.pack(one).hex(),
            "text": asking.address("https://hq.example", one, KEY),
        }
        for about, one in ASKINGS.items()
    ]  # fmt: skip


def _holders() -> list[dict[str, Any]]:
    found = []
    for voucher_id, secret in (("00000000000002a", bytes(range(16))), ("5-00000000000002a", bytes(range(16)))):
        link, kept = holder.link("https://hq.example", voucher_id, secret), holder.kept(voucher_id, secret).hex()
        found.append({"about": f"of {voucher_id}", "secret": secret.hex(), "text": link, "kept": kept})
    return found


def _opaque(code: str) -> dict[str, Any]:
    return {"about": code, "text": code, "digest": opaque.digest_of(code)}


def _cwts() -> dict[str, str]:
    long_life = CWT_CLAIMS | {cwt.EXP: 2**40, cwt.CTI: b"000000000000029", cwt.USES: 3}
    return {
        "bound to a shop": cwt.sign(CWT_CLAIMS, b"k1", KEY),
        "three uses, named by a number, beyond 2106": cwt.sign(long_life, b"k1", KEY),
        "bound to no shop": cwt.sign(CWT_CLAIMS | {cwt.STORE: 0}, b"k1", KEY),
        "signed by a stranger": cwt.sign(CWT_CLAIMS, b"k1", STRANGER),
        "of a key nobody knows": cwt.sign(CWT_CLAIMS, b"k2", KEY),
        "of another issuer": cwt.sign(CWT_CLAIMS | {cwt.ISS: "https://c.example"}, b"k1", KEY),
        "without an end": cwt.sign({key: value for key, value in CWT_CLAIMS.items() if key != cwt.EXP}, b"k1", KEY),
    }


def _jwts() -> dict[str, str]:
    return {
        "bound to a shop": jwt.sign(JWT_CLAIMS, "k1", KEY),
        "for this audience among others": jwt.sign(JWT_CLAIMS | {"aud": ["web", "shops"]}, "k1", KEY),
        "for another audience": jwt.sign(JWT_CLAIMS | {"aud": "web"}, "k1", KEY),
        "bound to no shop": jwt.sign(JWT_CLAIMS | {"store": 0}, "k1", KEY),
        "signed by a stranger": jwt.sign(JWT_CLAIMS, "k1", STRANGER),
        "of a key nobody knows": jwt.sign(JWT_CLAIMS, "k2", KEY),
        "with its time as text": jwt.sign(JWT_CLAIMS | {"exp": str(END_S)}, "k1", KEY),
    }


def _tickets() -> dict[str, str]:
    return {
        "an item": pretix.sign(Ticket(seed=b"x7Kq0Zp1w", item=3), KEY),
        "a variation, with times": pretix.sign(
            Ticket(seed=b"aaaaaaaaa", item=4, variation=2, valid_from_s=START_S, valid_until_s=END_S), KEY
        ),
        "one date of a series": pretix.sign(Ticket(seed=b"bbbbbbbbb", item=5, subevent=9), KEY),
        "another date of the series": pretix.sign(Ticket(seed=b"ccccccccc", item=5, subevent=10), KEY),
        "an item nobody mapped": pretix.sign(Ticket(seed=b"ddddddddd", item=8), KEY),
        "signed by a stranger": pretix.sign(Ticket(seed=b"eeeeeeeee", item=3), STRANGER),
    }


def _verified(key: IssuerKey, signed: dict[str, str]) -> list[dict[str, Any]]:
    keys = Keyring(Document("box-7", "keys", 1, 0, issuer_keys=[key]))
    return [{"about": about, "text": text} | outcome(text, keys) for about, text in signed.items()]


def outcome(text: str, keys: Keyring) -> dict[str, Any]:
    """What a shop makes of a code: its class and terms, or why it is refused."""
    try:
        shown = verify(text, keys)
    except MalformedFrame as error:
        return {"refused": reason_of(error)}
    return {"class": shown.voucher_class.name.lower(), "terms": _builtins(shown.terms)}


def _file(name: str, note: str, vectors: list[dict[str, Any]], key: IssuerKey | None = None) -> tuple[Path, str]:
    secret = KEY.private_bytes_raw().hex()
    whole = {"note": note, "private_key": secret, "public_key": public_hex(KEY.public_key())}
    listed = {"issuer_key": _builtins(key)} if key else {}
    return FOLDER / f"{name}.json", json.dumps(whole | listed | {"vectors": vectors}, indent=2, ensure_ascii=False) + "\n"


def _builtins(value: Any) -> Any:
    return msgspec.to_builtins(value)
