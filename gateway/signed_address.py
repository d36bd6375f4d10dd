"""Addresses at headquarters that a box's screen shows as a QR code: the base32 of bytes that the box has signed.

All upper case, which a QR code packs tighter than base64url. What the bytes say is each kind's own: `asking`, `checkin`.
"""

import base64
import binascii
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.errors import MalformedFrame
from gateway.token import SIGNATURE_B, BadSignature, UnknownKey

MAX_NAME_B: Final = 64
NUMBER_B: Final = 4


def write(page: str, path: str, tag: bytes, packed: bytes, key: Ed25519PrivateKey) -> str:
    """The address of packed bytes, signed under a tag. `page` is headquarters' address as shoppers reach it."""
    text = base64.b32encode(packed + key.sign(tag + packed)).decode("ascii").rstrip("=")
    return f"{page.rstrip('/')}{path}{text}".upper()


def read(address: str, most_b: int) -> tuple[bytes, bytes]:
    """The packed bytes and the signature of an address, or of its last part; nothing is verified.

    Raises:
        MalformedFrame: More bytes than `most_b`, no base32, or another spelling of it.
    """
    text = address.rpartition("/")[2].upper()
    if len(text) > -(-most_b * 8 // 5):
        raise MalformedFrame(f"an address of more than {most_b} bytes")
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise MalformedFrame("not base32") from error
    if base64.b32encode(raw).decode("ascii").rstrip("=") != text or len(raw) <= SIGNATURE_B:
        raise MalformedFrame("not the one spelling of an address")
    return raw[:-SIGNATURE_B], raw[-SIGNATURE_B:]


def check(key: Ed25519PublicKey | None, tag: bytes, packed: bytes, signature: bytes) -> None:
    """Verify that a box signed it.

    Raises:
        UnknownKey: No such box.
        BadSignature: The box did not sign it.
    """
    if key is None:
        raise UnknownKey("no box of that name")
    try:
        key.verify(signature, tag + packed)
    except InvalidSignature as error:
        raise BadSignature("the box did not sign this address") from error


def name(text: str) -> bytes:
    """A name behind its length.

    Raises:
        ValueError: More than 64 bytes.
    """
    encoded = text.encode("utf-8")
    if len(encoded) > MAX_NAME_B:
        raise ValueError(f"a name of more than {MAX_NAME_B} bytes")
    return bytes([len(encoded)]) + encoded


def number(value: int) -> bytes:
    """A number of four bytes.

    Raises:
        ValueError: It is beyond its field.
    """
    try:
        return value.to_bytes(NUMBER_B, "big")
    except OverflowError as error:
        raise ValueError("a number beyond its field") from error


class Reader:
    """Takes bytes from the front; what is not there is a `MalformedFrame`."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._raw) - self._at

    def take(self, count: int) -> bytes:
        """So many bytes."""
        if count > self.left:
            raise MalformedFrame("an address cut short")
        self._at += count
        return self._raw[self._at - count : self._at]

    def number(self) -> int:
        """A number of four bytes."""
        return int.from_bytes(self.take(NUMBER_B), "big")

    def name(self) -> str:
        """A name behind its length."""
        count = self.take(1)[0]
        if count > MAX_NAME_B:
            raise MalformedFrame(f"a name of more than {MAX_NAME_B} bytes")
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedFrame("a name that is not UTF-8") from error
