"""What a kiosk shows to those who check in: an address at headquarters that says which shop, and when, signed by its box.

Made anew each half minute. The chain's app reads it; headquarters checks the box's signature, and the age by its own clock: how far the
box's clock is off it knows from the box's beats.

Address: `PAGE/c/` and the base32 of the bytes below, all upper case, which a QR code packs tighter than base64url. Bytes, big-endian::

    01 | gateway: n u8, n B | station: n u8, n B | made s u32 | Ed25519 signature 64 B over `SGC1` and all before
"""

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from gateway import signed_address
from gateway.errors import MalformedFrame
from gateway.signed_address import MAX_NAME_B, Reader
from gateway.token import SIGNATURE_B

TAG: Final = b"SGC1"
VERSION: Final = 1
PATH: Final = "/c/"
ROTATES_S: Final = 30
MAX_CHECKIN_B: Final = 1 + 2 * (1 + MAX_NAME_B) + 4 + SIGNATURE_B
MAX_TEXT: Final = -(-MAX_CHECKIN_B * 8 // 5)  # letters


class CheckIn(Struct, frozen=True, kw_only=True):
    """Where and when somebody stood before a screen."""

    gateway: str
    station: str
    made_s: int  # seconds since 1970 UTC, by the box's clock


def address(page: str, checkin: CheckIn, key: Ed25519PrivateKey) -> str:
    """What the QR code says, signed with the box's key. `page` is headquarters' address as shoppers reach it.

    Raises:
        ValueError: A name of more than 64 bytes, or a time beyond its field.
    """
    return signed_address.write(page, PATH, TAG, pack(checkin), key)


def pack(checkin: CheckIn) -> bytes:
    """The bytes that are signed.

    Raises:
        ValueError: As `address`.
    """
    names = signed_address.name(checkin.gateway) + signed_address.name(checkin.station)
    return bytes([VERSION]) + names + signed_address.number(checkin.made_s)


def verify(text: str, key_of: Callable[[str], Ed25519PublicKey | None]) -> CheckIn:
    """Where and when, given an address or its last part, and each box's key (`key_of(gateway)`).

    Raises:
        UnknownKey: No such box.
        BadSignature: The box did not sign it.
        MalformedFrame: Not the shape of a check-in.
    """
    checkin, signed, signature = unpack(text)
    signed_address.check(key_of(checkin.gateway), TAG, signed, signature)
    return checkin


def unpack(text: str) -> tuple[CheckIn, bytes, bytes]:
    """A check-in, its signed bytes and the signature, nothing verified.

    Raises:
        MalformedFrame: Not the shape of a check-in.
    """
    signed, signature = signed_address.read(text, MAX_CHECKIN_B)
    reader = Reader(signed)
    if reader.take(1)[0] != VERSION:
        raise MalformedFrame("a check-in nobody knows", "Headquarters may have to be updated")
    checkin = CheckIn(gateway=reader.name(), station=reader.name(), made_s=reader.number())
    if reader.left:
        raise MalformedFrame("a check-in with something behind it")
    return checkin, signed, signature
