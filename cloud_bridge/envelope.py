"""Batches of rows, as they travel: header once, rows as JSON, zstd, signed by the box (`gateway.signed.seal`).

HQ can read a batch without anything it was told before: it names its epoch, that epoch's parent and how far each lane of the
parent had come, the chain head of its last row, and where the ledger stands now.
"""

from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from gateway.errors import MalformedFrame
from gateway.events import Row
from gateway.signed import BATCH_TAG, seal, unseal

MAX_BATCH_B: Final = 262_144  # a message; larger ones are refused before they are unpacked
MAX_BATCH_UNPACKED_B: Final = 4 * 1024 * 1024
MAX_BATCH_ROWS: Final = 1_000
CHUNK_B: Final = 65_536

_row: msgspec.json.Decoder[Row] = msgspec.json.Decoder(Row)


class WireRow(Struct, frozen=True, array_like=True):
    """One row: its number, when it was written (µs since 1970 UTC) and the event's JSON, unread."""

    seq: int
    record_us: int
    event: msgspec.Raw


class Batch(Struct, frozen=True):
    """Rows of one lane of one epoch, in order and without a gap."""

    gateway: str
    epoch: str  # "NUMBER-NONCE"
    parent: str | None
    parent_heads: dict[int, tuple[int, str]]
    lane: int
    rows: list[WireRow]
    head: str  # chain head of the last row, hex
    current: str  # the epoch that is alive
    last: dict[int, int]  # last seq of each lane of the current epoch
    cursor: dict[int, int]  # how far HQ has acknowledged each lane of the current epoch
    sent_us: int

    @property
    def first_seq(self) -> int:
        """Number of the first row."""
        return self.rows[0].seq

    @property
    def last_seq(self) -> int:
        """Number of the last row."""
        return self.rows[-1].seq


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


def read_row(row: WireRow) -> Row:
    """The event of a wire row.

    Raises:
        msgspec.DecodeError: Not an event this release knows: it belongs into quarantine, not into the bin.
    """
    return _row.decode(row.event)


def seal_batch(batch: Batch, key: Ed25519PrivateKey) -> bytes:
    """The message of a batch."""
    return seal(BATCH_TAG, batch, key)


def unseal_batch(message: bytes, key: Ed25519PublicKey) -> Batch:
    """The batch of a message, if that box signed it.

    Raises:
        MalformedFrame: Too large, not signed by that key, not a batch, empty, or its numbers are not in order.
    """
    if len(message) > MAX_BATCH_B:
        raise MalformedFrame(f"a batch of {len(message)} bytes")
    batch = unseal(BATCH_TAG, message, [key], Batch, MAX_BATCH_UNPACKED_B)
    numbers = [row.seq for row in batch.rows]
    if not numbers or len(numbers) > MAX_BATCH_ROWS or numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] < 1:
        raise MalformedFrame("a batch without rows, with too many, or with its numbers out of order")
    return batch
