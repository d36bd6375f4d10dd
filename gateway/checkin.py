"""What a kiosk shows to those who check in: an address at headquarters that says which shop, and when, signed by its box.

Made anew each half minute. The chain's app reads it; headquarters checks the box's signature, and the age by its own clock: how far the
box's clock is off it knows from the box's beats.

Address: `PAGE/c/` and the base32 of the bytes below, all upper case, which a QR code packs tighter than base64url. Bytes, big-endian::

    01 | gateway: n u8, n B | station: n u8, n B | made s u32 | Ed25519 signature 64 B over `SGC1` and all before
"""

import base64
import binascii
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from gateway.errors import MalformedFrame
from gateway.token import SIGNATURE_B, BadSignature, UnknownKey

TAG: Final = b"SGC1"
VERSION: Final = 1
PATH: Final = "/c/"
ROTATES_S: Final = 30
MAX_NAME_B: Final = 64
MAX_CHECKIN_B: Final = 1 + 2 * (1 + MAX_NAME_B) + 4 + SIGNATURE_B
MAX_TEXT: Final = -(-MAX_CHECKIN_B * 8 // 5)


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
    packed = pack(checkin)
    text = base64.b32encode(packed + key.sign(TAG + packed)).decode("ascii").rstrip("=")
    return f"{page.rstrip('/')}{PATH}{text}".upper()


def pack(checkin: CheckIn) -> bytes:
    """The bytes that are signed.

    Raises:
        ValueError: As `address`.
    """
    try:
        made = checkin.made_s.to_bytes(4, "big")
    except OverflowError as error:
        raise ValueError("a time beyond its field") from error
    return bytes([VERSION]) + _packed(checkin.gateway) + _packed(checkin.station) + made


def verify(text: str, key_of: Callable[[str], Ed25519PublicKey | None]) -> CheckIn:
    """Where and when, given an address or its last part, and each box's key (`key_of(gateway)`).

    Raises:
        UnknownKey: No such box.
        BadSignature: The box did not sign it.
        MalformedFrame: Not the shape of a check-in.
    """
    checkin, signed, signature = unpack(text)
    key = key_of(checkin.gateway)
    if key is None:
        raise UnknownKey("no box of that name")
    try:
        key.verify(signature, TAG + signed)
    except InvalidSignature as error:
        raise BadSignature("the box did not sign this check-in") from error
    return checkin


def unpack(text: str) -> tuple[CheckIn, bytes, bytes]:
    """A check-in, its signed bytes and the signature, nothing verified.

    Raises:
        MalformedFrame: Not the shape of a check-in.
    """
    raw = _decoded(text.rpartition("/")[2].upper())
    signed, signature = raw[:-SIGNATURE_B], raw[-SIGNATURE_B:]
    if signed[0] != VERSION:
        raise MalformedFrame("a check-in nobody knows", "Headquarters may have to be updated")
    gateway, at = _name(signed, 1)
    station, at = _name(signed, at)
    if len(signed) != at + 4:
        raise MalformedFrame("a check-in cut short, or with something behind it")
    return CheckIn(gateway=gateway, station=station, made_s=int.from_bytes(signed[at:], "big")), signed, signature


def _name(raw: bytes, at: int) -> tuple[str, int]:
    length = raw[at] if at < len(raw) else MAX_NAME_B + 1
    end = at + 1 + length
    if length > MAX_NAME_B or end > len(raw):
        raise MalformedFrame("a check-in cut short, or a name of more than 64 bytes")
    try:
        return raw[at + 1 : end].decode("utf-8"), end
    except UnicodeDecodeError as error:
        raise MalformedFrame("a name that is not UTF-8") from error


def _decoded(text: str) -> bytes:
    if len(text) > MAX_TEXT:
        raise MalformedFrame(f"a check-in of more than {MAX_CHECKIN_B} bytes")
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise MalformedFrame("not base32") from error
    if base64.b32encode(raw).decode("ascii").rstrip("=") != text or len(raw) <= SIGNATURE_B:
        raise MalformedFrame("not the one spelling of a check-in")
    return raw


def _packed(name: str) -> bytes:
    encoded = name.encode("utf-8")
    if len(encoded) > MAX_NAME_B:
        raise ValueError(f"a name of more than {MAX_NAME_B} bytes")
    return bytes([len(encoded)]) + encoded
