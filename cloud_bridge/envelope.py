"""Batches of rows, as they travel: one header, whole blocks of one lane as they lie on the disk, zstd, signed by the box.

The bridge passes sections (`gateway.columns`) on and reads no row of them. A sealed message is::

    "SGR2" | Ed25519 signature, 64 B | zstd( u32 length | header, JSON | sections: u32 length | u64 first | u64 last | bytes )

with numbers big-endian. The signature covers tag and compressed bytes, so nothing is unpacked before it is verified, and
unpacking stops at a limit. HQ can read a batch without anything it was told before: its header names its epoch, that epoch's
parent and how far each lane of the parent had come, the chain head of its last row, and where the ledger stands now.
"""

import struct
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from backports import zstd
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from gateway.columns import COLUMNS, MAX_EVENTS_B, Rows, Tombstone, unpack
from gateway.errors import MalformedFrame
from gateway.events import Row
from gateway.signed import BATCH_TAG, SIGNATURE_B, TAG_B, unpack_limited

MAX_BATCH_B: Final = 262_144  # a message; larger ones are refused before they are unpacked
MAX_BATCH_UNPACKED_B: Final = 4 * 1024 * 1024
MAX_BATCH_ROWS: Final = 2_000
MAX_HEADER_B: Final = 16_384
CHUNK_B: Final = 65_536
# Measured on a shop's traffic, µs and bytes a row: columns 0.28 and 19.2 at level 3, 0.9 and 17.5 at 12, 4.1 and 17.1 at 19;
# plain rows 0.9 and 34 at 3, 3.2 and 29.1 at 6, 9.6 and 29.2 at 12.
COLUMNS_LEVEL: Final = 12
PLAIN_LEVEL: Final = 6

_length = struct.Struct(">I")
_place = struct.Struct(">IQQ")
_encode = msgspec.json.Encoder().encode
_row: msgspec.json.Decoder[Row] = msgspec.json.Decoder(Row)


class Header(Struct, frozen=True, kw_only=True):
    """What a batch says about itself and its box."""

    gateway: str
    epoch: str  # "NUMBER-NONCE"
    proven: bool  # this epoch has been admitted
    parent: str | None
    parent_heads: dict[int, tuple[int, str]]
    lane: int
    first: int
    last: int
    head: str  # chain head of the row `last`, hex
    current: str  # the epoch that is alive
    last_seqs: dict[int, int]  # last seq of each lane of the current epoch
    cursors: dict[int, int]  # how far HQ has acknowledged each lane of the current epoch
    sent_us: int
    before: str = ""  # chain head before `first`, hex; empty: the lane begins there, or the box knows it no more


_header: msgspec.json.Decoder[Header] = msgspec.json.Decoder(Header)


class Sendable(Protocol):
    """A block as `LedgerReader.blocks` gives it."""

    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def section(self) -> bytes: ...


class Piece(Struct, frozen=True):
    """One block of a batch, unpacked: its rows, or the tombstone in their place."""

    first: int
    last: int
    content: Rows | Tombstone


class Batch(Struct, frozen=True):
    """Blocks of one lane of one epoch, in order and without a gap."""

    header: Header
    pieces: list[Piece]


class Want(Struct, frozen=True):
    """The bridge asks for a piece of a document."""

    name: str
    version: int
    offset: int


class Chunk(Struct, frozen=True):
    """A piece of a sealed document."""

    name: str
    version: int
    offset: int
    size_b: int
    data: bytes


def read_row(event: bytes) -> Row:
    """The event of a row.

    Raises:
        msgspec.DecodeError: Not an event this release knows: it belongs into quarantine, not into the bin.
    """
    return _row.decode(event)


def seal_blocks(header: Header, blocks: Sequence[Sendable], key: Ed25519PrivateKey) -> bytes:
    """The message of consecutive blocks; `header.first` and `header.last` are theirs.

    The caller sees to the limits: a message above `MAX_BATCH_B`, or of more than `MAX_BATCH_ROWS` rows, is refused by HQ.
    """
    text = _encode(header)
    parts = [_length.pack(len(text)), text]
    for block in blocks:
        parts += [_place.pack(len(block.section), block.first, block.last), block.section]
    in_columns = all(block.section[:1] == COLUMNS for block in blocks)
    body = zstd.compress(b"".join(parts), COLUMNS_LEVEL if in_columns else PLAIN_LEVEL)
    return BATCH_TAG + key.sign(BATCH_TAG + body) + body


def unseal_batch(message: bytes, key: Ed25519PublicKey) -> Batch:
    """The batch of a message, if that box signed it.

    Raises:
        MalformedFrame: Too large, not signed by that key, no batch, empty, or its numbers are not in order.
    """
    if len(message) > MAX_BATCH_B:
        raise MalformedFrame(f"a batch of {len(message)} bytes")
    if message[:TAG_B] != BATCH_TAG:
        raise MalformedFrame("not a batch of this version", "Check that box and headquarters run compatible releases")
    signature, body = message[TAG_B : TAG_B + SIGNATURE_B], message[TAG_B + SIGNATURE_B :]
    try:
        key.verify(signature, BATCH_TAG + body)
    except InvalidSignature as error:
        raise MalformedFrame("nobody known signed this message", "Check that box and headquarters are enrolled with each other") from error
    unpacked = memoryview(unpack_limited(body, MAX_BATCH_UNPACKED_B))
    try:
        (size,) = _length.unpack_from(unpacked)
        if size > MAX_HEADER_B:
            raise MalformedFrame("a batch whose header is too long")
        header = _header.decode(unpacked[_length.size : _length.size + size])
        pieces = _pieces(header, unpacked[_length.size + size :])
    except (msgspec.DecodeError, ValueError, RecursionError, struct.error) as error:
        raise MalformedFrame(f"a signed batch of another shape: {error}") from error
    return Batch(header, pieces)


def _pieces(header: Header, unpacked: memoryview) -> list[Piece]:
    pieces: list[Piece] = []
    following, rows, events_b = header.first, 0, 0
    while unpacked:
        size, first, last = _place.unpack_from(unpacked)
        section, unpacked = unpacked[_place.size : _place.size + size], unpacked[_place.size + size :]
        if len(section) != size or first != following or not 1 <= first <= last:
            raise MalformedFrame("a batch whose blocks are not in order")
        content = unpack(bytes(section), first, MAX_BATCH_ROWS - rows)
        if isinstance(content, Tombstone):
            count = content.last - content.first + 1
        else:
            count = len(content)
            rows += count
            events_b += sum([len(event) for _, event in content])
        if count != last - first + 1 or events_b > MAX_EVENTS_B:
            raise MalformedFrame("a batch whose blocks hold other rows, or too much")
        pieces.append(Piece(first, last, content))
        following = last + 1
    if not pieces or following != header.last + 1:
        raise MalformedFrame("a batch without rows, or with others than it says")
    return pieces
