"""Rows as the disk holds them, and the chain that shows they are what was written. Pure.

Each row of a lane carries a keyed hash over the row before it and everything in itself; each epoch's first row names its
parent and how far that had come. So a row that was changed, moved or taken away is found, as is the lost tail of every epoch
that has a child. The tail of the youngest epoch has no witness in the file.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from gateway.errors import LedgerError
from gateway.events import EpochOpened, Lane, Row

CHAIN_START: Final = bytes(16)
PLACE: Final = struct.Struct(">IBQQ")  # epoch, lane, seq, record_us

encode_event = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(Row).decode


class Epoch(Struct, frozen=True):
    """One start of the box."""

    number: int
    nonce: str
    parent: str | None
    parent_heads: dict[int, tuple[int, str]]

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


def chain(key: bytes, previous: bytes, row: tuple[int, int, int, int], kind: str, event: bytes, source_id: str) -> bytes:
    """The link of a row: a keyed hash over the row before and everything in this one."""
    head = hashlib.blake2b(previous + PLACE.pack(*row), key=key, digest_size=16)
    for part in (kind.encode(), event, source_id.encode()):
        head.update(len(part).to_bytes(4, "big"))
        head.update(part)
    return head.digest()


def checked(rows: Iterable[StoredRow], epochs: Iterable[Epoch], key: bytes) -> Iterator[tuple[StoredRow, Row]]:
    """Rows of lane 0 in the order of their epochs, each link looked at before its row is given out.

    Raises:
        LedgerError: A row is not what was written, or rows are missing.
    """
    names = {epoch.number: epoch.name for epoch in epochs}
    before: StoredRow | None = None
    for stored in rows:
        first = before is None or before.epoch != stored.epoch
        _check_link(stored, CHAIN_START if before is None or first else before.mac, key)
        try:
            event = decode_event(stored.event)
        except msgspec.DecodeError as error:
            raise LedgerError(f"row {_place(stored)} is of a kind this release does not know", "Install the newer release again") from error
        if first and (not isinstance(event, EpochOpened) or _claim(event) != _end(before, names)):
            raise _damaged(stored)
        before = stored
        yield stored, event


def _check_link(stored: StoredRow, previous: bytes, key: bytes) -> None:
    place = (stored.epoch, stored.lane, stored.seq, stored.record_us)
    try:
        expected = chain(key, previous, place, stored.type, stored.event, stored.source_id)
    except struct.error as error:
        raise _damaged(stored) from error
    if expected != stored.mac:
        raise _damaged(stored)


def _claim(opened: EpochOpened) -> tuple[str | None, tuple[int, str] | None]:
    return opened.parent, opened.parent_heads.get(Lane.MONEY)


def _end(last: StoredRow | None, names: dict[int, str]) -> tuple[str | None, tuple[int, str] | None]:
    return (None, None) if last is None else (names.get(last.epoch), (last.seq, last.mac.hex()))


def _place(stored: StoredRow) -> str:
    return f"{stored.epoch}/{stored.lane}/{stored.seq}"


def _damaged(stored: StoredRow) -> LedgerError:
    return LedgerError(
        f"row {_place(stored)} is damaged, or rows before it are missing",
        "Stop serving from this disk; call headquarters, which holds every acknowledged row",
    )
