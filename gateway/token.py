"""The signed token: what a voucher or a pickup QR says, and that HQ said it.

Text: `V1:` and the base45 (RFC 9285) of claims and an Ed25519 signature over them. 36 bytes of claims and 64 of signature
make 153 characters, a QR code of version 6 at level M that any cheap phone shows and any camera reads.

Claims, big-endian::

    kind u8 | key id u16 | issuer u16 | id u64 (60 bits used) | campaign u32 | store u32 | not before u32 | not after u32
    | class u8 | uses u8 | value u32 (minor units) | flags u8

`kind` 0x11 is a voucher, 0x21 a pickup, 0x31 a member. Times are seconds since 1970 UTC. Store 0 means any. A signature proves issue, never
that a voucher is unused: that only the ledger knows.
"""

import hashlib
import re
import struct
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Final

import base45
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from gateway.base45 import from_base45
from gateway.errors import MalformedFrame

PREFIX: Final = "V1:"
CLAIMS: Final = struct.Struct(">BHHQIIIIBBIB")
SIGNATURE_B: Final = 64
TEXT_LETTERS: Final = len(PREFIX) + (CLAIMS.size + SIGNATURE_B) * 3 // 2
MAX_IDENTIFIER: Final = (1 << 60) - 1
HOME_ISSUER: Final = 1  # the chain's own headquarters
NUMBERED: Final = re.compile(rb"[0-9a-f]{15}")


class TokenKind(IntEnum):
    """What the token is good for."""

    VOUCHER = 0x11
    PICKUP = 0x21
    MEMBER = 0x31  # names a member: `identifier` is the code's own number, which headquarters' list joins to the member


class VoucherClass(IntEnum):
    """Who may decide; the promise of each is in DESIGN section 3."""

    STORE_BOUND = 1
    GRANTED = 2
    HQ_LIVE = 3
    BOUNDED_RISK = 4
    LEASED = 5
    OPEN_CODE = 6


class Flag(IntFlag):
    """Bits of `Claims.flags`."""

    PARTIAL = 0x01  # a face value that is spent in parts; `uses` says nothing then
    POINTS = 0x02  # of class leased: a member's points account, not money; `value_minor` says nothing then
    PRACTICE = 0x80  # for training: everything happens, nothing counts


class Claims(Struct, frozen=True, kw_only=True):
    """What a token says."""

    kind: TokenKind
    key_id: int
    issuer: int
    identifier: int
    campaign: int = 0
    store: int = 0
    not_before_s: int = 0
    not_after_s: int
    voucher_class: VoucherClass = VoucherClass.STORE_BOUND
    uses: int = 1
    value_minor: int = 0
    flags: int = 0


class BadSignature(MalformedFrame):
    """Shaped like a token, but the named key did not sign it."""


class UnknownKey(MalformedFrame):
    """Shaped like a token, signed with a key nobody here has heard of."""


def voucher_ref(issuer: int, identifier: int) -> str:
    """How a voucher is written in rows and on screens: 15 hex digits, after `ISSUER-` unless the chain itself issued it.

    So equal numbers of two issuers are two vouchers, and what was written when there was one issuer stays as it is.
    """
    return f"{identifier:015x}" if issuer == HOME_ISSUER else f"{issuer}-{identifier:015x}"


def points_ref(member_ref: str) -> str:
    """The voucher reference of a member's points account: of 60 bits, so that a token of ours can name it, too.

    Args:
        member_ref: The member's random reference, never a phone number.
    """
    return hashlib.sha256(b"SGP1 points\n" + member_ref.encode("utf-8", "surrogatepass")).hexdigest()[:15]


def named_ref(issuer: int, name: bytes) -> str:
    """How a voucher is written whose issuer gave it a name (`jti`, `cti`, a seed): by 128 bits of the name's hash.

    A name of 15 hex digits is the voucher of that number, so an issuer may give out one voucher in several formats.
    """
    if NUMBERED.fullmatch(name):
        return voucher_ref(issuer, int(name, 16))
    return f"{issuer}-{hashlib.sha256(name).hexdigest()[:32]}"


def qualified(voucher_id: str, issuer: int) -> str:
    """The reference in a row, as `voucher_ref` writes it now: rows of old wrote every issuer's bare."""
    return voucher_id if issuer == HOME_ISSUER or "-" in voucher_id else f"{issuer}-{voucher_id}"


def sign(claims: Claims, key: Ed25519PrivateKey) -> str:
    """The text of a token, for its QR code."""
    packed = _pack(claims)
    return PREFIX + str(base45.b45encode(packed + key.sign(packed)), "ascii")


def unpack(text: str) -> tuple[Claims, bytes, bytes]:
    """Claims, the signed bytes and the signature of a token's text, nothing verified.

    Raises:
        MalformedFrame: Not the shape of a token. Happens with every other QR code of the world: count it, never log it.
    """
    if len(text) != TEXT_LETTERS or not text.startswith(PREFIX):
        raise MalformedFrame("not a token of this chain")
    raw = from_base45(text[len(PREFIX) :])
    if len(raw) != CLAIMS.size + SIGNATURE_B:
        raise MalformedFrame("a token of the wrong length")
    return _unpack(raw[: CLAIMS.size]), raw[: CLAIMS.size], raw[CLAIMS.size :]


def verify(text: str, keys: Mapping[int, Ed25519PublicKey]) -> Claims:
    """The claims of a token signed by one of `keys` (key id to key).

    Raises:
        UnknownKey: No such key id.
        BadSignature: The key did not sign these claims: forged or damaged.
        MalformedFrame: Not the shape of a token.
    """
    claims, signed, signature = unpack(text)
    key = keys.get(claims.key_id)
    if key is None:
        raise UnknownKey(f"no key {claims.key_id}")
    check(key, signature, signed)
    return claims


def check(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> None:
    """Look whether a key signed.

    Raises:
        BadSignature: It did not: forged or damaged.
    """
    try:
        key.verify(signature, signed)
    except InvalidSignature as error:
        raise BadSignature("the signature does not fit") from error


def _pack(claims: Claims) -> bytes:
    return CLAIMS.pack(
        claims.kind, claims.key_id, claims.issuer, claims.identifier, claims.campaign, claims.store,
        claims.not_before_s, claims.not_after_s, claims.voucher_class, claims.uses, claims.value_minor, claims.flags,
    )  # fmt: skip


def _unpack(packed: bytes) -> Claims:
    kind, key_id, issuer, identifier, campaign, store, not_before_s, not_after_s, voucher_class, uses, value, flags = CLAIMS.unpack(packed)
    if identifier > MAX_IDENTIFIER:
        raise MalformedFrame("an identifier of more than 60 bits")
    try:
        return Claims(
            kind=TokenKind(kind), key_id=key_id, issuer=issuer, identifier=identifier, campaign=campaign, store=store,
            not_before_s=not_before_s, not_after_s=not_after_s, voucher_class=VoucherClass(voucher_class), uses=uses,
            value_minor=value, flags=flags,
        )  # fmt: skip
    except ValueError as error:
        raise MalformedFrame(f"a token nobody knows: {error}") from error
