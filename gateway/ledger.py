"""The ledger: one SQLite file, one writer, append-only; what was answered is on the disk, and the road to HQ starts here.

A row is known by (epoch, lane, seq). Every start opens a new epoch that names its parent and how far each lane of it had
come. Rows are chained per lane by a keyed hash, so a changed or missing row is found before it is served. Writers share one
fsync (group commit): money rows are flushed at once, foot traffic and health at most once a second. A failed commit is never
tried again: after an fsync error nobody knows what the disk holds, so the process ends and starts from what it can prove.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import queue
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from gateway.chain import CHAIN_START, chain, checked, encode_event
from gateway.chain import Epoch as Epoch
from gateway.chain import StoredRow as StoredRow
from gateway.clock import Clock
from gateway.errors import LedgerError
from gateway.events import LANE_OF, EpochOpened, Lane, Row
from gateway.meters import Histogram
from gateway.schema import VERSION

DAMAGED_HINT: Final = "Look at the disk (`store-gateway doctor`); headquarters holds every acknowledged row"
SLOW_COMMIT_S: Final = 1.0  # the stated window of foot traffic and health
MAX_WORKS_A_COMMIT: Final = 512


class StoredAnswer(Struct, frozen=True):
    """What was answered to a request, byte for byte, and which request it was."""

    key: str
    request: bytes
    answer: bytes


class StoredDocument(Struct, frozen=True):
    """A sealed document of HQ, in force."""

    name: str
    version: int
    sealed: bytes


class Work(Struct):
    """What is to be committed as one."""

    rows: list[Row]
    source_id: str
    answer: StoredAnswer | None
    document: StoredDocument | None
    cursor: tuple[int, int, int] | None
    done: "asyncio.Future[None]"

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for the fsync."""
        return self.answer is not None or self.document is not None or any(LANE_OF[type(row)] is Lane.MONEY for row in self.rows)


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open the file, set what durability rests on, and look whether it took.

    Raises:
        LedgerError: No file, a file of another release, or a setting that did not take.
    """
    hint = "Run `store-gateway migrate` first"
    if not path.exists():
        raise LedgerError(f"there is no ledger at {path}", hint)
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    with contextlib.ExitStack() as undo:
        try:
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            undo.callback(connection.close)
            _prepare(connection, read_only, hint)
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger at {path} cannot be read: {error}", DAMAGED_HINT) from error
        undo.pop_all()
    return connection


def _prepare(connection: sqlite3.Connection, read_only: bool, hint: str) -> None:
    if not read_only:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=1000")
        mode, sync = connection.execute("PRAGMA journal_mode").fetchone()[0], connection.execute("PRAGMA synchronous").fetchone()[0]
        if mode != "wal" or sync != 2:
            raise LedgerError(f"the ledger runs with journal {mode}, synchronous {sync}", hint)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < VERSION:
        raise LedgerError(f"the ledger has tables of version {version}, this release needs {VERSION}", hint)


class LedgerReader:
    """Reading only: what the bridge uses, and core at its start."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path, read_only=True)

    def epochs(self) -> list[Epoch]:
        """All epochs, oldest first."""
        return list(_epochs(self._connection))

    def rows(self, epoch: int, lane: int, after: int, upto: int, limit: int = 1_000) -> list[StoredRow]:
        """Rows of a lane with after < seq <= upto, in order, at most `limit`."""
        return list(_rows(self._connection, "epoch=? AND lane=? AND seq>? AND seq<=?", (epoch, lane, after, upto), limit))

    def counts(self) -> dict[str, int]:
        """Rows by type."""
        return _counts(self._connection)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def _epochs(connection: sqlite3.Connection) -> Iterator[Epoch]:
    for number, nonce, parent, heads in connection.execute("SELECT number, nonce, parent, parent_heads FROM epoch ORDER BY number"):
        yield Epoch(number, nonce, parent, {int(lane): (seq, head) for lane, (seq, head) in json.loads(heads).items()})


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT type, COUNT(*) FROM row GROUP BY type"))


def _rows(connection: sqlite3.Connection, where: str, values: tuple[int, ...], limit: int = -1) -> Iterator[StoredRow]:
    columns = "epoch, lane, seq, record_us, type, event, source_id, mac"
    sql = f"SELECT {columns} FROM row WHERE {where} ORDER BY epoch, lane, seq LIMIT {limit}"  # noqa: S608 - no outside text in it
    for values_of_row in connection.execute(sql, values):
        yield StoredRow(*values_of_row)


class Ledger:
    """The one writer. Made on the loop's thread; its own thread commits.

    Args:
        committed: Called on the loop after each commit.
        failed: Called on the loop once, when a commit failed: the process must end.
    """

    def __init__(
        self, path: Path, clock: Clock, software: str, committed: Callable[[], None], failed: Callable[[LedgerError], None]
    ) -> None:
        self._clock = clock
        self._committed = committed
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._works: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self.reach: dict[int, dict[int, int]] = {}
        self.cursors: dict[int, dict[int, int]] = {}
        self._heads: dict[int, tuple[int, bytes]] = {}
        self.commits = Histogram()
        with contextlib.ExitStack() as undo:
            self._lock = _lock(path)
            undo.callback(os.close, self._lock)
            self._connection = connect(path, read_only=False)
            undo.callback(self._connection.close)
            self._reader = connect(path, read_only=True)
            undo.callback(self._reader.close)
            try:
                self._key = self._file_key()
                self._load_reach()
                self.epoch = self._open_epoch(software)
            except (sqlite3.Error, ValueError) as error:
                raise LedgerError(f"the ledger's tables cannot be read: {error}", DAMAGED_HINT) from error
            undo.pop_all()
        self._thread = threading.Thread(target=self._write_for_ever, name="ledger", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ reading

    def history(self) -> Iterator[tuple[StoredRow, Row]]:
        """Every row of lane 0 along the chain, oldest first, each link checked.

        Raises:
            LedgerError: A row is not what was written, or rows are missing.
        """
        try:
            yield from checked(_rows(self._reader, "lane=?", (Lane.MONEY,)), _epochs(self._reader), self._key)
        except (sqlite3.Error, ValueError) as error:
            raise LedgerError(f"the ledger's tables cannot be read: {error}", DAMAGED_HINT) from error

    def recent_sources(self, limit: int = 20_000) -> list[str]:
        """Identifiers of the events behind the latest rows of the slow lanes: a driver may state them again."""
        sql = "SELECT source_id FROM row WHERE lane=? AND source_id<>'' ORDER BY epoch DESC, lane DESC, seq DESC LIMIT ?"
        return [source for lane in (Lane.TRAFFIC, Lane.HEALTH) for (source,) in self._reader.execute(sql, (lane, limit))]

    def answers(self) -> dict[str, StoredAnswer]:
        """All stored answers by key."""
        return {
            key: StoredAnswer(key, request, answer)
            for key, request, answer in self._reader.execute("SELECT key, request, answer FROM answer")
        }

    def documents(self) -> list[StoredDocument]:
        """HQ's documents in force."""
        return [StoredDocument(*values) for values in self._reader.execute("SELECT name, version, sealed FROM document")]

    def counts(self) -> dict[str, int]:
        """Rows by type."""
        return _counts(self._reader)

    def head_at(self, epoch: int, lane: int, seq: int) -> str | None:
        """The chain head at a row, in hex; None if there is no such row."""
        found = self._reader.execute("SELECT mac FROM row WHERE epoch=? AND lane=? AND seq=?", (epoch, lane, seq)).fetchone()
        return found[0].hex() if found else None

    def epoch_number(self, name: str) -> int | None:
        """The number of an epoch of this ledger by its full name."""
        return next((epoch.number for epoch in _epochs(self._reader) if epoch.name == name), None)

    def move_cursor(self, epoch: int, lane: int, seq: int) -> None:
        """HQ has committed this lane up to `seq`. In memory at once, on disk within the second: lost, it costs a resend."""
        lanes = self.cursors.setdefault(epoch, {})
        if seq > lanes.get(lane, 0):
            lanes[lane] = seq
            self._works.put(Work([], "", None, None, (epoch, lane, seq), self._loop.create_future()))

    @property
    def waiting(self) -> int:
        """Committed rows that HQ has not acknowledged."""
        return sum(last - self.cursors.get(epoch, {}).get(lane, 0) for epoch, lanes in self.reach.items() for lane, last in lanes.items())

    # ------------------------------------------------------------ writing

    def append(
        self,
        rows: list[Row],
        *,
        source_id: str = "",
        answer: StoredAnswer | None = None,
        document: StoredDocument | None = None,
    ) -> "asyncio.Future[None]":
        """Commit as one; the future is done after the fsync. Calls keep their order within a durability class.

        Args:
            source_id: The driver's event this comes from; kept with the first row.
        """
        done = self._loop.create_future()
        self._works.put(Work(rows, source_id, answer, document, None, done))
        return done

    def close(self) -> None:
        """Commit what waits and end the thread."""
        self._works.put(None)
        self._thread.join(timeout=10)
        self._reader.close()
        self._connection.close()  # last: it may fold the WAL into the file
        os.close(self._lock)

    def _write_for_ever(self) -> None:
        slow: list[Work] = []
        slow_due_ns = 0
        open_ = True
        while open_:
            urgent, more, open_ = self._gather(slow_due_ns if slow else None)
            if more and not slow:
                slow_due_ns = self._clock.boottime_ns() + int(SLOW_COMMIT_S * 1e9)
            slow += more
            works = urgent
            if slow and (not open_ or self._clock.boottime_ns() >= slow_due_ns):
                works, slow = urgent + slow, []
            if works and not self._commit(works):
                return

    def _gather(self, slow_due_ns: int | None) -> tuple[list[Work], list[Work], bool]:
        """Wait for work, then take all that is there: (urgent, slow, whether more may come)."""
        urgent: list[Work] = []
        slow: list[Work] = []
        timeout_s = None if slow_due_ns is None else max(0.0, (slow_due_ns - self._clock.boottime_ns()) / 1e9)
        try:
            work = self._works.get(timeout=timeout_s)
            while work is not None:
                (urgent if work.urgent else slow).append(work)
                if len(urgent) >= MAX_WORKS_A_COMMIT:
                    return urgent, slow, True
                work = self._works.get_nowait()
            return urgent, slow, False
        except queue.Empty:
            return urgent, slow, True

    def _commit(self, works: list[Work]) -> bool:
        heads = dict(self._heads)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work in works:
                self._insert(work, heads)
            began_ns = self._clock.boottime_ns()
            self._connection.execute("COMMIT")
            self.commits.observe((self._clock.boottime_ns() - began_ns) / 1e9)
        except Exception as error:  # noqa: BLE001 - a thread that died unsaid would leave core mute
            failure = LedgerError(f"the ledger could not commit: {error}", "Look at the disk (`store-gateway doctor`), then start again")
            self._loop.call_soon_threadsafe(self._failed, failure)
            return False
        self._heads = heads
        self._loop.call_soon_threadsafe(self._settle, works, {lane: seq for lane, (seq, _) in heads.items()})
        return True

    def _insert(self, work: Work, heads: dict[int, tuple[int, bytes]]) -> None:
        record_us = self._clock.now().wall_us
        source_id = work.source_id
        for row in work.rows:
            lane = LANE_OF[type(row)]
            seq, previous = heads.get(lane, (0, CHAIN_START))
            event, kind = encode_event(row), type(row).__name__
            place = (self.epoch.number, int(lane), seq + 1, record_us)
            mac = chain(self._key, previous, place, kind, event, source_id)
            self._connection.execute("INSERT INTO row VALUES (?,?,?,?,?,?,?,?)", (*place, kind, event, source_id, mac))
            heads[lane] = (seq + 1, mac)
            source_id = ""
        if work.answer is not None:
            values = (work.answer.key, work.answer.request, work.answer.answer, record_us)
            self._connection.execute("INSERT INTO answer VALUES (?,?,?,?)", values)
        if work.document is not None:
            stored = work.document
            self._connection.execute("INSERT OR REPLACE INTO document VALUES (?,?,?)", (stored.name, stored.version, stored.sealed))
        if work.cursor is not None:
            self._connection.execute("INSERT INTO cursor VALUES (?,?,?) ON CONFLICT DO UPDATE SET seq=max(seq, excluded.seq)", work.cursor)

    def _settle(self, works: list[Work], reach: dict[int, int]) -> None:
        self.reach[self.epoch.number] = reach
        for work in works:
            if not work.done.done():
                work.done.set_result(None)
        self._committed()

    # ------------------------------------------------------------ start

    def _file_key(self) -> bytes:
        found = self._connection.execute("SELECT chain_key FROM file").fetchone()
        if found:
            return bytes(found[0])
        key = secrets.token_bytes(32)
        self._connection.execute("INSERT INTO file VALUES (1, ?)", (key,))
        return key

    def _load_reach(self) -> None:
        for epoch, lane, seq in self._connection.execute("SELECT epoch, lane, max(seq) FROM row GROUP BY epoch, lane"):
            self.reach.setdefault(epoch, {})[lane] = seq
        for epoch, lane, seq in self._connection.execute("SELECT epoch, lane, seq FROM cursor"):
            self.cursors.setdefault(epoch, {})[lane] = seq

    def _open_epoch(self, software: str) -> Epoch:
        epochs = list(_epochs(self._connection))
        parent = epochs[-1] if epochs else None
        number = parent.number + 1 if parent else 1
        heads = (
            {lane: (seq, self.head_at(parent.number, lane, seq) or "") for lane, seq in self.reach.get(parent.number, {}).items()}
            if parent
            else {}
        )
        epoch = Epoch(number, secrets.token_hex(4), parent.name if parent else None, heads)
        opened = EpochOpened(epoch.parent, heads, software, self._clock.now())
        event, place = encode_event(opened), (number, int(Lane.MONEY), 1, opened.event_time.wall_us)
        mac = chain(self._key, CHAIN_START, place, EpochOpened.__name__, event, "")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            values = (number, epoch.nonce, epoch.parent, json.dumps(heads), opened.event_time.wall_us)
            self._connection.execute("INSERT INTO epoch VALUES (?,?,?,?,?)", values)
            self._connection.execute("INSERT INTO row VALUES (?,?,?,?,?,?,?,?)", (*place, EpochOpened.__name__, event, "", mac))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise LedgerError(f"no new epoch could be opened: {error}", "Look at the disk (`store-gateway doctor`)") from error
        self._heads = {Lane.MONEY: (1, mac)}
        self.reach[number] = {int(Lane.MONEY): 1}
        return epoch


def _lock(path: Path) -> int:
    try:
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LedgerError(f"there is no ledger at {path}: {error.strerror}", "Run `store-gateway migrate` first") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise LedgerError("another process writes this ledger", "Stop the other core; one ledger has one writer") from error
    return descriptor
