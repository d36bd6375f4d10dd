"""Blocks: consecutive rows of one epoch and lane, as committed together or merged later. Pure but for zstd.

A block's body is a section (`gateway.columns`) under zstd. What never leaves the box goes into `local`: the drivers' event ids
behind the rows, and the answers that were given. Both carry a keyed hash, `local` one of its own, since it is dropped earlier.
"""

import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct, field

from gateway import columns
from gateway.chain import MAC_B, chain_on, mac
from gateway.columns import Tombstone
from gateway.errors import MalformedFrame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_BLOCK_ROWS: Final = 1_000  # of one commit and lane; more become several blocks
MAX_SECTION_B: Final = 2 * columns.MAX_EVENTS_B  # unpacked: a bomb is not what we wrote
FAST_LEVEL: Final = 1
SEALED_LEVEL: Final = 9

Rows = list[tuple[int, bytes]]


class StoredAnswer(Struct, frozen=True, array_like=True):
    """What was answered to a request, byte for byte, and which request it was."""

    key: str
    request: bytes
    answer: bytes


class Local(Struct, array_like=True):
    """What stays on the box."""

    sources: dict[int, str] = field(default_factory=dict)  # row's place in the block to its driver's event id
    answers: list[StoredAnswer] = field(default_factory=list)


class Typed(Struct, frozen=True):
    """What every event says first."""

    type: str


class Stored(Struct):
    """A block as its table holds it; `until_us` is when its last row was written, `kinds` counts its rows by type."""

    epoch: int
    lane: int
    first: int
    last: int
    until_us: int
    kinds: str
    head: bytes
    body: bytes
    local: bytes | None
    mac: bytes
    id: int = 0


FIELDS: Final = "epoch, lane, first, last, until_us, kinds, head, body, local, mac"
_local = msgspec.msgpack.Decoder(Local)
_numbered = msgspec.msgpack.Decoder(list[tuple[int, int, bytes]])
_kinds = msgspec.json.Decoder(dict[str, int])
_typed = msgspec.json.Decoder(Typed)


class Fast(threading.local):
    """Each thread's own compressor for what somebody waits for: making one takes eight times as long as its work."""

    def __init__(self) -> None:
        self.compressor = zstd.ZstdCompressor(FAST_LEVEL)


_fast = Fast()


def compressed(section: bytes, level: int = FAST_LEVEL) -> bytes:
    """A section as it is stored."""
    if level == FAST_LEVEL:
        return _fast.compressor.compress(section, zstd.ZstdCompressor.FLUSH_FRAME)
    return zstd.compress(section, level)


def decompressed(body: bytes) -> bytes:
    """The section of a body.

    Raises:
        MalformedFrame: No zstd, or more than a section may be.
    """
    try:
        section = zstd.ZstdDecompressor().decompress(body, MAX_SECTION_B)
    except zstd.ZstdError as error:
        raise MalformedFrame(f"a damaged body: {error}") from error
    return section


def type_of(event: bytes) -> str:
    """The type an event names."""
    return _typed.decode(event).type


def made(
    key: bytes, place: tuple[int, int, int], rows: Rows, head: bytes, kinds: Counter[str], local: Local, *, sealed: bool = False
) -> Stored:
    """The block of rows whose first stands at `place`: epoch, lane, seq."""
    packed = columns.pack_columns(rows) if sealed else columns.pack_plain(rows)  # columns cost some 20 µs a row: not while anybody waits
    body = compressed(packed, SEALED_LEVEL if sealed else FAST_LEVEL)
    return _stored(key, place, place[2] + len(rows) - 1, rows[-1][0], kinds, head, body, local)


def made_tombstone(key: bytes, place: tuple[int, int], tombstone: Tombstone, until_us: int, head: bytes) -> Stored:
    """The block that stands for rows which are gone."""
    body = compressed(columns.pack_tombstone(tombstone))
    return _stored(key, (*place, tombstone.first), tombstone.last, until_us, Counter(), head, body, Local())


def _stored(
    key: bytes, place: tuple[int, int, int], last: int, until_us: int, kinds: Counter[str], head: bytes, body: bytes, local: Local
) -> Stored:  # fmt: skip
    block = Stored(*place, last, until_us, msgspec.json.encode(kinds).decode(), head, body, None, b"")
    block.mac = block_mac(key, block)
    block.local = packed_local(key, place, local)
    return block


def block_mac(key: bytes, block: Stored) -> bytes:
    """Over everything but `local`."""
    return mac(key, "block", block.epoch, block.lane, block.first, block.last, block.until_us, block.kinds, block.head, block.body)


def is_whole(key: bytes, block: Stored) -> bool:
    """Whether a block, `local` aside, is what was written."""
    return block.last >= block.first and block_mac(key, block) == block.mac


def packed_local(key: bytes, place: tuple[int, int, int], local: Local) -> bytes | None:
    """As its column holds it; None if there is nothing to keep."""
    if not local.sources and not local.answers:
        return None
    packed = compressed(msgspec.msgpack.encode(local))
    return mac(key, "local", *place, packed) + packed


def local_of(key: bytes, block: Stored) -> Local:
    """What of a block stays on the box.

    Raises:
        MalformedFrame: It is not what was written.
    """
    if block.local is None:
        return Local()
    packed = block.local[MAC_B:]
    if mac(key, "local", block.epoch, block.lane, block.first, packed) != block.local[:MAC_B]:
        raise MalformedFrame("local parts that are not what was written")
    return _local.decode(decompressed(packed))


def rows_of(block: Stored) -> Rows | Tombstone:
    """The rows of a block that is whole, or its tombstone."""
    return columns.unpack(decompressed(block.body), block.first, columns.MAX_ROWS)


def kinds_of(block: Stored) -> dict[str, int]:
    """Its rows by type."""
    return _kinds.decode(block.kinds)


def head_of(key: bytes, previous: bytes, block: Stored) -> bytes:
    """The head that a block's rows lead to; of a tombstone, the one it carries."""
    rows = rows_of(block)
    return block.head if isinstance(rows, Tombstone) else chain_on(key, previous, (block.epoch, block.lane, block.first), rows)


def merged(key: bytes, blocks: Sequence[Stored], *, keep_local: bool) -> Stored:
    """Consecutive blocks, none of them a tombstone, as one in columns."""
    rows: Rows = []
    kinds: Counter[str] = Counter()
    local = Local()
    for block in blocks:
        found = rows_of(block)
        if isinstance(found, Tombstone):
            raise MalformedFrame("a tombstone among rows")
        if keep_local:
            held = local_of(key, block)
            local.sources.update({len(rows) + at: source for at, source in held.sources.items()})
            local.answers += held.answers
        rows += found
        kinds.update(kinds_of(block))
    first = blocks[0]
    return made(key, (first.epoch, first.lane, first.first), rows, blocks[-1].head, kinds, local, sealed=True)


def pack_numbered(rows: Sequence[tuple[int, int, bytes]]) -> bytes:
    """Single rows (seq, record_us, event), for those of a trimmed piece that still decide something."""
    return msgspec.msgpack.encode(rows)


def unpack_numbered(packed: bytes) -> list[tuple[int, int, bytes]]:
    """The rows that `pack_numbered` took."""
    return _numbered.decode(packed)
