"""The grant: headquarters' leave, carried by the shopper's phone, to honour one voucher at one box (DESIGN section 3, rules 2-4).

Text: `G1:` and the base45 of 36 bytes of claims and an Ed25519 signature: 153 characters, a QR code of version 6 at level M.
The signature covers `SGG1` and the claims, so no grant passes for a token, which the same keys sign.

Claims, big-endian::

    key id u16 | issuer u16 | kind u4, identifier u60 | assignment u32 | box u40 | epoch u32 | left u32 | not after u32 | life u24

`kind` 0: `left` counts uses; 1: it is an amount in minor units. `box` and `epoch` are digests (below); epoch 0 names none. It was
issued `life` seconds before its end. Times are seconds since 1970 UTC.
"""

import hashlib
import struct
from collections.abc import Mapping
from typing import Final

import base45
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from gateway.base45 import from_base45
from gateway.errors import MalformedFrame
from gateway.token import MAX_IDENTIFIER, SIGNATURE_B, UnknownKey, check

PREFIX: Final = "G1:"
TAG: Final = b"SGG1"
CLAIMS: Final = struct.Struct(">HHQI5sIII3s")
TEXT_LETTERS: Final = len(PREFIX) + (CLAIMS.size + SIGNATURE_B) * 3 // 2
BOX_B: Final = 5  # of ten thousand boxes two are alike once in 20,000 chains; headquarters looks before it grants
MAX_LIFE_S: Final = (1 << 24) - 1  # 194 days
KIND_SHIFT: Final = 60
USES, AMOUNT = 0, 1


class Grant(Struct, frozen=True, kw_only=True):
    """What a grant says."""

    key_id: int
    issuer: int
    identifier: int  # of the voucher
    assignment: int  # number n of the assignment it is given under
    box: int  # `box_digest` of the one box it is for
    epoch: int = 0  # `epoch_digest` of the one start it is for; 0: any that is proven
    left: int = 1  # uses, or minor units
    is_amount: bool = False
    issued_s: int
    not_after_s: int


def box_digest(gateway: str) -> int:
    """What a grant calls a box: 40 bits."""
    return int.from_bytes(hashlib.sha256(b"SGG1 box\n" + gateway.encode("utf-8", "surrogatepass")).digest()[:BOX_B], "big")


def epoch_digest(epoch: str) -> int:
    """What a grant calls a start: 32 bits, never 0."""
    return int.from_bytes(hashlib.sha256(b"SGG1 epoch\n" + epoch.encode("utf-8", "surrogatepass")).digest()[:4], "big") or 1


def sign(grant: Grant, key: Ed25519PrivateKey) -> str:
    """The text of a grant, for its QR code.

    Raises:
        ValueError: A number beyond its field, or an end that is not after its issue.
    """
    packed = _pack(grant)
    return PREFIX + str(base45.b45encode(packed + key.sign(TAG + packed)), "ascii")


def unpack(text: str) -> tuple[Grant, bytes, bytes]:
    """Claims, the signed bytes and the signature of a grant's text, nothing verified.

    Raises:
        MalformedFrame: Not the shape of a grant.
    """
    if len(text) != TEXT_LETTERS or not text.startswith(PREFIX):
        raise MalformedFrame("not a grant of this chain")
    raw = from_base45(text[len(PREFIX) :])
    if len(raw) != CLAIMS.size + SIGNATURE_B:
        raise MalformedFrame("a grant of the wrong length")
    packed = raw[: CLAIMS.size]
    return _unpack(packed), TAG + packed, raw[CLAIMS.size :]


def verify(text: str, keys: Mapping[int, Ed25519PublicKey]) -> Grant:
    """What a grant says that one of `keys` (key id to key) signed.

    Raises:
        UnknownKey: No such key id.
        BadSignature: The key did not sign it: forged or damaged.
        MalformedFrame: Not the shape of a grant.
    """
    grant, signed, signature = unpack(text)
    key = keys.get(grant.key_id)
    if key is None:
        raise UnknownKey(f"no key {grant.key_id}")
    check(key, signature, signed)
    return grant


def _pack(grant: Grant) -> bytes:
    life_s = grant.not_after_s - grant.issued_s
    if not 0 <= grant.identifier <= MAX_IDENTIFIER or not 0 < life_s <= MAX_LIFE_S:
        raise ValueError("a grant holds an identifier of 60 bits and lives for up to 194 days")
    kind = AMOUNT if grant.is_amount else USES
    try:
        return CLAIMS.pack(
            grant.key_id, grant.issuer, kind << KIND_SHIFT | grant.identifier, grant.assignment, grant.box.to_bytes(BOX_B, "big"),
            grant.epoch, grant.left, grant.not_after_s, life_s.to_bytes(3, "big"),
        )  # fmt: skip
    except (struct.error, OverflowError) as error:
        raise ValueError(f"a number beyond its field: {error}") from error


def _unpack(packed: bytes) -> Grant:
    key_id, issuer, voucher, assignment, box, epoch, left, not_after_s, life = CLAIMS.unpack(packed)
    kind, life_s = voucher >> KIND_SHIFT, int.from_bytes(life, "big")
    if kind not in (USES, AMOUNT) or not 0 < life_s <= not_after_s:
        raise MalformedFrame("a grant nobody knows", "A newer release may know it")
    return Grant(
        key_id=key_id, issuer=issuer, identifier=voucher & MAX_IDENTIFIER, assignment=assignment, box=int.from_bytes(box, "big"),
        epoch=epoch, left=left, is_amount=kind == AMOUNT, issued_s=not_after_s - life_s, not_after_s=not_after_s,
    )  # fmt: skip
