"""What a kiosk without a line shows a shopper's phone: an address at headquarters that says for which start a grant is needed.

The phone opens it; headquarters reads who asks (box, running epoch, the epochs since its last acknowledgement, when, for which
voucher), checks the box's signature and answers with a grant that names the epoch (DESIGN section 3, rule 2).

Address: `PAGE/g/` and the base32 of the bytes below, all upper case, which a QR code packs tighter than base64url. Bytes, big-endian::

    01 | gateway: n u8, n B | epoch: n u8, n B | voucher: n u8, n B | asked s u32
       | ancestors u8, each: epoch: n u8, n B; last row of lane 0 u32; its chain head 8 B
       | Ed25519 signature 64 B over `SGK1` and all before

Ancestors go back, youngest first, to the epoch of the last acknowledgement, which is among them.
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

TAG: Final = b"SGK1"
VERSION: Final = 1
PATH: Final = "/g/"
MAX_NAME_B: Final = 64
MAX_ANCESTORS: Final = 24  # starts without a word from headquarters; with more, staff must wait for the line
MAX_ASKING_B: Final = 2_048
HEAD_B: Final = 8
SECONDS_B: Final = 4


class Ancestor(Struct, frozen=True):
    """An earlier start: how far its lane 0 came, and the first 64 bits of the chain's head there."""

    epoch: str
    seq: int
    head: str  # 16 hex digits


class Asking(Struct, frozen=True, kw_only=True):
    """Who asks for a grant."""

    gateway: str
    epoch: str  # the start that runs now
    voucher_id: str = ""  # which one the shopper wants to use; "" not said
    asked_s: int  # by the box's clock, which may be wrong
    ancestors: tuple[Ancestor, ...] = ()


def address(page: str, asking: Asking, key: Ed25519PrivateKey) -> str:
    """What the QR code says, signed with the box's key. `page` is headquarters' address as shoppers reach it.

    Raises:
        ValueError: A name of more than 64 bytes, more than 24 ancestors, or a number beyond its field.
    """
    packed = pack(asking)
    text = base64.b32encode(packed + key.sign(TAG + packed)).decode("ascii").rstrip("=")
    return f"{page.rstrip('/')}{PATH}{text}".upper()


def pack(asking: Asking) -> bytes:
    """The bytes that are signed.

    Raises:
        ValueError: As `address`.
    """
    if len(asking.ancestors) > MAX_ANCESTORS:
        raise ValueError(f"more than {MAX_ANCESTORS} starts without a word from headquarters")
    names = b"".join(_packed(name) for name in (asking.gateway, asking.epoch, asking.voucher_id))
    ancestors = b"".join(_packed(one.epoch) + _number(one.seq) + _head(one.head) for one in asking.ancestors)
    return bytes([VERSION]) + names + _number(asking.asked_s) + bytes([len(asking.ancestors)]) + ancestors


def verify(text: str, key_of: Callable[[str], Ed25519PublicKey | None]) -> Asking:
    """Who asks, given an address or its last part, and each box's key (`key_of(gateway)`).

    Raises:
        UnknownKey: No such box.
        BadSignature: The box did not sign it.
        MalformedFrame: Not the shape of a request.
    """
    asking, signed, signature = unpack(text)
    key = key_of(asking.gateway)
    if key is None:
        raise UnknownKey("no box of that name")
    try:
        key.verify(signature, TAG + signed)
    except InvalidSignature as error:
        raise BadSignature("the box did not sign this request") from error
    return asking


def unpack(text: str) -> tuple[Asking, bytes, bytes]:
    """A request, its signed bytes and the signature, nothing verified.

    Raises:
        MalformedFrame: Not the shape of a request.
    """
    raw = _decoded(text.rpartition("/")[2].upper())
    signed, signature = raw[:-SIGNATURE_B], raw[-SIGNATURE_B:]
    reader = _Reader(signed)
    if reader.take(1)[0] != VERSION:
        raise MalformedFrame("a request nobody knows", "Headquarters may have to be updated")
    asking = Asking(
        gateway=reader.name(), epoch=reader.name(), voucher_id=reader.name(), asked_s=reader.number(), ancestors=_ancestors(reader)
    )
    if reader.left:
        raise MalformedFrame("a request with something behind it")
    return asking, signed, signature


def _ancestors(reader: "_Reader") -> tuple[Ancestor, ...]:
    count = reader.take(1)[0]
    if count > MAX_ANCESTORS:
        raise MalformedFrame(f"more than {MAX_ANCESTORS} ancestors")
    return tuple(Ancestor(reader.name(), reader.number(), reader.take(HEAD_B).hex()) for _ in range(count))


def _decoded(text: str) -> bytes:
    if len(text) > MAX_ASKING_B * 8 // 5:
        raise MalformedFrame(f"a request of more than {MAX_ASKING_B} bytes")
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise MalformedFrame("not base32") from error
    if base64.b32encode(raw).decode("ascii").rstrip("=") != text or len(raw) <= SIGNATURE_B:
        raise MalformedFrame("not the one spelling of a request")
    return raw


def _packed(name: str) -> bytes:
    encoded = name.encode("utf-8")
    if len(encoded) > MAX_NAME_B:
        raise ValueError(f"a name of more than {MAX_NAME_B} bytes")
    return bytes([len(encoded)]) + encoded


def _number(number: int) -> bytes:
    try:
        return number.to_bytes(SECONDS_B, "big")
    except OverflowError as error:
        raise ValueError("a number beyond its field") from error


def _head(head: str) -> bytes:
    raw = bytes.fromhex(head)
    if len(raw) != HEAD_B:
        raise ValueError("a chain head is cut to 16 hex digits")
    return raw


class _Reader:
    """Takes bytes from the front."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._raw) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise MalformedFrame("a request cut short")
        self._at += count
        return self._raw[self._at - count : self._at]

    def number(self) -> int:
        return int.from_bytes(self.take(SECONDS_B), "big")

    def name(self) -> str:
        count = self.take(1)[0]
        if count > MAX_NAME_B:
            raise MalformedFrame(f"a name of more than {MAX_NAME_B} bytes")
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedFrame("a name that is not UTF-8") from error
