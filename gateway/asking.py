"""What a kiosk without a line shows a shopper's phone: an address at headquarters that says for which start a grant is needed.

The phone opens it; headquarters reads who asks (box, running epoch, the epochs since its last acknowledgement, when, for which
voucher), checks the box's signature and answers with a grant that names the epoch (DESIGN section 3, rule 2).

Address: `PAGE/g/` and the base32 of the bytes below, all upper case, which a QR code packs tighter than base64url. Bytes, big-endian::

    01 | gateway: n u8, n B | epoch: n u8, n B | voucher: n u8, n B | asked s u32
       | ancestors u8, each: epoch: n u8, n B; last row of lane 0 u32; its chain head 8 B
       | Ed25519 signature 64 B over `SGK1` and all before

Ancestors go back, youngest first, to the epoch of the last acknowledgement, which is among them.
"""

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from gateway import signed_address
from gateway.errors import MalformedFrame
from gateway.signed_address import Reader, name, number

TAG: Final = b"SGK1"
VERSION: Final = 1
PATH: Final = "/g/"
MAX_ANCESTORS: Final = 24  # starts without a word from headquarters; with more, staff must wait for the line
MAX_ASKING_B: Final = 2_048
HEAD_B: Final = 8


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
    return signed_address.write(page, PATH, TAG, pack(asking), key)


def pack(asking: Asking) -> bytes:
    """The bytes that are signed.

    Raises:
        ValueError: As `address`.
    """
    if len(asking.ancestors) > MAX_ANCESTORS:
        raise ValueError(f"more than {MAX_ANCESTORS} starts without a word from headquarters")
    names = b"".join(name(one) for one in (asking.gateway, asking.epoch, asking.voucher_id))
    ancestors = b"".join(name(one.epoch) + number(one.seq) + _head(one.head) for one in asking.ancestors)
    return bytes([VERSION]) + names + number(asking.asked_s) + bytes([len(asking.ancestors)]) + ancestors


def verify(text: str, key_of: Callable[[str], Ed25519PublicKey | None]) -> Asking:
    """Who asks, given an address or its last part, and each box's key (`key_of(gateway)`).

    Raises:
        UnknownKey: No such box.
        BadSignature: The box did not sign it.
        MalformedFrame: Not the shape of a request.
    """
    asking, signed, signature = unpack(text)
    signed_address.check(key_of(asking.gateway), TAG, signed, signature)
    return asking


def unpack(text: str) -> tuple[Asking, bytes, bytes]:
    """A request, its signed bytes and the signature, nothing verified.

    Raises:
        MalformedFrame: Not the shape of a request.
    """
    signed, signature = signed_address.read(text, MAX_ASKING_B)
    reader = Reader(signed)
    if reader.take(1)[0] != VERSION:
        raise MalformedFrame("a request nobody knows", "Headquarters may have to be updated")
    asking = Asking(
        gateway=reader.name(), epoch=reader.name(), voucher_id=reader.name(), asked_s=reader.number(), ancestors=_ancestors(reader)
    )
    if reader.left:
        raise MalformedFrame("a request with something behind it")
    return asking, signed, signature


def _ancestors(reader: Reader) -> tuple[Ancestor, ...]:
    count = reader.take(1)[0]
    if count > MAX_ANCESTORS:
        raise MalformedFrame(f"more than {MAX_ANCESTORS} ancestors")
    return tuple(Ancestor(reader.name(), reader.number(), reader.take(HEAD_B).hex()) for _ in range(count))


def _head(head: str) -> bytes:
    raw = bytes.fromhex(head)
    if len(raw) != HEAD_B:
        raise ValueError("a chain head is cut to 16 hex digits")
    return raw
