"""The enrolment label: what one QR code tells a new box, so that one scan enrols it and nobody types anything.

Text: `SGE1:` and the base45 (RFC 9285) of::

    not after u32 | port u16 | authority 33 B | headquarters 32 B | secret 16 B | box: u8 length, name | host: the rest | CRC-32

`authority` is the P-256 key of headquarters' certificate authority, compressed; `headquarters` the Ed25519 key that signs its
word. A hash of both would save half their bytes, but then the first connection would have to be made unverified, to fetch
what was hashed. With the keys themselves every connection is verified, the first one too (ADR 8). The longest label is a QR
code of version 10 at level M; a usual one is version 7 or 8.

Whoever holds an unused label can enrol as its box, once, until it expires. So it is a secret until used, and never logged.
"""

import re
import struct
import zlib
from typing import Final

import base45
from msgspec import Struct

from gateway.errors import MalformedFrame

PREFIX: Final = "SGE1:"
FIXED: Final = struct.Struct(">IH33s32s16sB")
CRC: Final = struct.Struct(">I")
SECRET_B: Final = 16
MAX_BOX: Final = 40
MAX_HOST: Final = 72
MAX_LETTERS: Final = 311  # alphanumeric QR of version 10 at level M
_BOX: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,71}")


class Label(Struct, frozen=True, kw_only=True):
    """What a label says."""

    host: str  # name or address of headquarters' door, as its certificate bears it
    port: int
    box: str
    authority: bytes  # P-256, compressed point
    headquarters: bytes  # Ed25519
    secret: bytes
    not_after_s: int  # seconds since 1970 UTC

    def __repr__(self) -> str:
        return f"Label(box={self.box!r})"  # the secret must not reach a log by accident


def is_label(text: str) -> bool:
    """Whether a text claims to be a label."""
    return text.startswith(PREFIX)


def write_label(label: Label) -> str:
    """The text of a label.

    Raises:
        MalformedFrame: A host or box name that a label cannot carry.
    """
    if not _BOX.fullmatch(label.box) or not _HOST.fullmatch(label.host):
        raise MalformedFrame(f"a label cannot carry box {label.box!r} at {label.host!r}", f"At most {MAX_HOST} plain letters of host name")
    fixed = FIXED.pack(label.not_after_s, label.port, label.authority, label.headquarters, label.secret, len(label.box))
    body = fixed + label.box.encode("ascii") + label.host.encode("ascii")
    return PREFIX + str(base45.b45encode(body + CRC.pack(zlib.crc32(body))).decode("ascii"))


def read_label(text: str) -> Label:
    """Read a label's text; spaces and line ends around it, as a paste brings them, are no harm.

    Raises:
        MalformedFrame: Not a label, or not a whole one.
    """
    text = text.strip("\x00\r\n\t ")
    if not is_label(text) or len(text) > MAX_LETTERS:
        raise MalformedFrame("not an enrolment label")
    try:
        whole = bytes(base45.b45decode(text[len(PREFIX) :]))
    except ValueError as error:
        raise MalformedFrame("not a whole enrolment label") from error
    body, check = whole[: -CRC.size], whole[-CRC.size :]
    if len(body) < FIXED.size or check != CRC.pack(zlib.crc32(body)):
        raise MalformedFrame("not a whole enrolment label")
    not_after_s, port, authority, headquarters, secret, letters = FIXED.unpack_from(body)
    names = body[FIXED.size :].decode("latin-1")
    box, host = names[:letters], names[letters:]
    if not _BOX.fullmatch(box) or not _HOST.fullmatch(host) or not port:
        raise MalformedFrame("an enrolment label with impossible names")
    return Label(host=host, port=port, box=box, authority=authority, headquarters=headquarters, secret=secret, not_after_s=not_after_s)
