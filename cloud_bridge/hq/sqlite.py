"""Headquarters' store: one SQLite file, one writer on a thread of its own, and the rule by which rows are taken.

Rows of a lane are taken only where they continue its mark, and the mark moves in their transaction: so a row is stored once,
however often and in whatever order batches come. A batch that starts beyond the mark waits (it is not stored; the answer
names the mark and the box rewinds). A row that cannot be read goes to quarantine and still moves the mark: the box must never
be stuck behind it. What was stored is compared when it comes again: other rows under the same numbers are a lie or a damaged
box, and are never acknowledged.

The reader is a second connection, read-only: SQLite before 3.51.3 may damage a WAL that two connections write.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from cloud_bridge.envelope import Batch, WireRow, read_row
from gateway.errors import ConfigError
from gateway.events import Row

log = logging.getLogger(__name__)

Connection = sqlite3.Connection
T = TypeVar("T")
Effect = Callable[[Connection, "StoredRow", Row], None]

# What binding a hostile but well-signed row to a statement may raise: text SQLite cannot hold, numbers beyond 64 bits.
UNFIT: Final = (UnicodeError, OverflowError, ValueError, sqlite3.Error)


class Verdict(StrEnum):
    """What became of a batch."""

    TAKEN = "taken"  # something new was stored
    REPEATED = "repeated"  # everything was there already
    GAP = "gap"  # rows before it are missing
    DIVERGED = "diverged"  # other rows are stored under its numbers


class StoredRow(Struct, frozen=True):
    """A row as headquarters keeps it."""

    id: int
    gateway: str
    epoch: str
    lane: int
    seq: int
    record_us: int
    received_us: int
    type: str
    event: str  # JSON


class Taken(Struct, frozen=True):
    """How a batch ended: `seq` and `head` may be acknowledged, `mark` is how far the lane has come."""

    verdict: Verdict
    seq: int
    head: str
    mark: int
    rows: list[StoredRow]
    quarantined: int = 0


class Store:
    """The file; `open` it, `close` it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = ThreadPoolExecutor(1, "hq-write")
        self._reading = ThreadPoolExecutor(1, "hq-read")
        self._writer: Connection | None = None
        self._reader: Connection | None = None

    async def open(self) -> None:
        """Make the file or bring it up to date.

        Raises:
            ConfigError: The file cannot be used.
        """
        loop = asyncio.get_running_loop()
        try:
            self._writer = await loop.run_in_executor(self._writing, _connect_writer, self._path)
            self._reader = await loop.run_in_executor(self._reading, _connect_reader, self._path)
        except sqlite3.Error as error:
            raise ConfigError(f"cannot use {self._path}: {error}", "Check the folder, or restore it from a backup") from error

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; it is on the disk when this returns."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, self._transaction, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on what is committed."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._snapshot, work)

    async def close(self) -> None:
        """Finish what is being written and close the file."""
        loop = asyncio.get_running_loop()
        for thread, connection in ((self._reading, self._reader), (self._writing, self._writer)):
            if connection is not None:
                await loop.run_in_executor(thread, connection.close)
            thread.shutdown(wait=False)

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        if self._writer is None:
            raise sqlite3.ProgrammingError("the store is not open")
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._writer)
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise
        self._writer.execute("COMMIT")
        return result

    def _snapshot(self, work: Callable[[Connection], T]) -> T:
        if self._reader is None:
            raise sqlite3.ProgrammingError("the store is not open")
        self._reader.execute("BEGIN")
        try:
            return work(self._reader)
        finally:
            self._reader.execute("ROLLBACK")


def take(db: Connection, batch: Batch, received_us: int, effect: Effect) -> Taken:
    """Take what is new in a batch, inside the caller's transaction."""
    _note_ledger(db, batch, received_us)
    mark, head = read_mark(db, batch.gateway, batch.epoch, batch.lane)
    if batch.first_seq > mark + 1:
        return Taken(Verdict.GAP, mark, head, mark, [])
    if not _same_as_stored(db, batch, mark):
        return Taken(Verdict.DIVERGED, mark, head, mark, [])
    fresh = batch.rows[max(0, mark + 1 - batch.first_seq) :]
    if not fresh:
        return Taken(Verdict.REPEATED, batch.last_seq, batch.head, mark, [])
    stored = _store_rows(db, batch, fresh, received_us, effect)
    db.execute(
        "UPDATE marks SET mark = ?, head = ? WHERE gateway = ? AND epoch = ? AND lane = ?",
        (batch.last_seq, batch.head, batch.gateway, batch.epoch, batch.lane),
    )
    return Taken(Verdict.TAKEN, batch.last_seq, batch.head, batch.last_seq, stored, len(fresh) - len(stored))


def read_mark(db: Connection, gateway: str, epoch: str, lane: int) -> tuple[int, str]:
    """How far a lane has come, and the chain head there."""
    found = db.execute("SELECT mark, head FROM marks WHERE gateway = ? AND epoch = ? AND lane = ?", (gateway, epoch, lane)).fetchone()
    return (found[0], found[1]) if found else (0, "")


def note_produced(db: Connection, gateway: str, epoch: str, last: dict[int, int]) -> None:
    """Remember the highest number a box said it has written, lane by lane: the other side of the books."""
    db.executemany(
        "INSERT INTO marks (gateway, epoch, lane, mark, head, produced) VALUES (?, ?, ?, 0, '', ?)"
        " ON CONFLICT DO UPDATE SET produced = max(produced, excluded.produced)",
        [(gateway, epoch, lane, seq) for lane, seq in last.items()],
    )


def _note_ledger(db: Connection, batch: Batch, received_us: int) -> None:
    db.execute(
        "INSERT OR IGNORE INTO epochs VALUES (?, ?, ?, ?, ?)",
        (batch.gateway, batch.epoch, batch.parent, msgspec.json.encode(batch.parent_heads).decode("ascii"), received_us),
    )
    note_produced(db, batch.gateway, batch.epoch, {batch.lane: batch.last_seq})
    note_produced(db, batch.gateway, batch.current, batch.last)
    if batch.parent is not None:
        note_produced(db, batch.gateway, batch.parent, {lane: seq for lane, (seq, _) in batch.parent_heads.items()})


def _same_as_stored(db: Connection, batch: Batch, mark: int) -> bool:
    again = {row.seq: bytes(row.event) for row in batch.rows if row.seq <= mark}
    if not again:
        return True
    where = "WHERE gateway = ? AND epoch = ? AND lane = ? AND seq BETWEEN ? AND ?"
    span = (batch.gateway, batch.epoch, batch.lane, batch.first_seq, min(mark, batch.last_seq))
    stored = {seq: event.encode() for seq, event in db.execute(f"SELECT seq, event FROM rows {where}", span)}  # noqa: S608 - constant text
    stored |= dict(db.execute(f"SELECT seq, event FROM quarantine {where}", span))  # noqa: S608 - constant text
    return again == stored


def _store_rows(db: Connection, batch: Batch, fresh: Sequence[WireRow], received_us: int, effect: Effect) -> list[StoredRow]:
    """Store rows and their effects; if one does not fit, find out which, row by row."""
    db.execute("SAVEPOINT whole")
    try:
        stored = [row for wire in fresh if (row := _store_row(db, batch, wire, received_us, effect)) is not None]
    except UNFIT:
        db.execute("ROLLBACK TO whole")
        stored = [row for wire in fresh if (row := _store_or_set_aside(db, batch, wire, received_us, effect)) is not None]
    db.execute("RELEASE whole")
    return stored


def _store_or_set_aside(db: Connection, batch: Batch, wire: WireRow, received_us: int, effect: Effect) -> StoredRow | None:
    db.execute("SAVEPOINT one")
    try:
        row = _store_row(db, batch, wire, received_us, effect)
    except UNFIT as error:
        db.execute("ROLLBACK TO one")
        _set_aside(db, batch, wire, received_us, type(error).__name__)
        row = None
    db.execute("RELEASE one")
    return row


def _store_row(db: Connection, batch: Batch, wire: WireRow, received_us: int, effect: Effect) -> StoredRow | None:
    try:
        event = read_row(wire)
        text = bytes(wire.event).decode("utf-8")
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        _set_aside(db, batch, wire, received_us, str(error))
        return None
    kind = type(event).__name__
    added = db.execute(
        "INSERT INTO rows (gateway, epoch, lane, seq, record_us, received_us, type, event) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (batch.gateway, batch.epoch, batch.lane, wire.seq, wire.record_us, received_us, kind, text),
    )
    number = added.lastrowid or 0
    row = StoredRow(number, batch.gateway, batch.epoch, batch.lane, wire.seq, wire.record_us, received_us, kind, text)
    effect(db, row, event)
    return row


def _set_aside(db: Connection, batch: Batch, wire: WireRow, received_us: int, why: str) -> None:
    db.execute(
        "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (batch.gateway, batch.epoch, batch.lane, wire.seq, wire.record_us, received_us, why[:200], bytes(wire.event)),
    )


def _connect_writer(path: Path) -> Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    path.chmod(0o600)
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA busy_timeout = 5000")
    if mode != "wal" or db.execute("PRAGMA synchronous").fetchone()[0] != 2:
        raise sqlite3.OperationalError("this disk does not do a write-ahead log with full synchronisation")
    db.executescript(Path(__file__).with_name("tables.sql").read_text(encoding="utf-8"))
    return db


def _connect_reader(path: Path) -> Connection:
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA query_only = ON")
    return db
