"""Rows as the disk holds them, and the keyed hashes that show they are what was written. Pure.

Each row of a lane carries a hash over the row before it and everything in itself, so the head of a lane stands for all of it;
each epoch's first row names its parent and how far that had come. Only the last link of a block is stored, the others are
worked out again. Beside the chain every record of the file, a block too, carries a hash over itself and its place: what was
changed or moved is found, and found alone, so that what stands beside it still counts.
"""

import hashlib
import struct
from typing import Final

import msgspec
from msgspec import Struct

from gateway.events import Row

MAC_B: Final = 16
CHAIN_START: Final = bytes(MAC_B)
PLACE: Final = struct.Struct(">IBQQ")  # epoch, lane, seq, record_us

encode_event = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(Row).decode


class Epoch(Struct, frozen=True):
    """One start of the box."""

    number: int
    nonce: str
    parent: str | None
    parent_heads: dict[int, tuple[int, str]]
    linked: bool = True  # False: carried over from the first release, whose links were others

    @property
    def name(self) -> str:
        """`NUMBER-NONCE`: two starts from one restored image have the same number, never the same name."""
        return f"{self.number}-{self.nonce}"


class StoredRow(Struct, frozen=True):
    """A row as the disk holds it."""

    epoch: int
    lane: int
    seq: int
    record_us: int
    type: str
    event: bytes
    source_id: str
    mac: bytes


def chain(key: bytes, previous: bytes, row: tuple[int, int, int, int], event: bytes) -> bytes:
    """The link of a row: a keyed hash over the row before and everything in this one."""
    return hashlib.blake2b(previous + PLACE.pack(*row) + event, key=key, digest_size=MAC_B).digest()


def chain_on(key: bytes, previous: bytes, place: tuple[int, int, int], rows: list[tuple[int, bytes]]) -> bytes:
    """The head after some rows (record_us, event), of which the first stands at `place`: epoch, lane, seq."""
    epoch, lane, first = place
    for seq, (record_us, event) in enumerate(rows, first):
        previous = chain(key, previous, (epoch, lane, seq, record_us), event)
    return previous


def mac(key: bytes, *parts: bytes | str | int | None) -> bytes:
    """The hash of a record of the file; `parts` begin with what kind of record it is."""
    head = hashlib.blake2b(key=key, digest_size=MAC_B)
    for part in parts:
        raw = b"" if part is None else part if isinstance(part, bytes) else str(part).encode()
        head.update(len(raw).to_bytes(4, "big") + raw)
    return head.digest()


def parse_name(name: str) -> tuple[int, str]:
    """Number and nonce of an epoch's name.

    Raises:
        ValueError: No such name.
    """
    number, _, nonce = name.partition("-")
    return int(number), nonce
