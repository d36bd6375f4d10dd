"""Headquarters' store as one SQLite file: one writer on a thread of its own, one reader on another.

The reader is a second connection, read-only: SQLite before 3.51.3 may damage a WAL that two connections write.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from cloud_bridge.hq.store import SCHEMA, Connection, Run, T
from gateway.errors import ConfigError

BUSY_MS: Final = 5_000
LOG_TRIES: Final = 6  # of `BUSY_MS` each
ARRIVALS: Final = """
CREATE TABLE IF NOT EXISTS arrivals (
    id INTEGER PRIMARY KEY,              -- order of arrival
    stream INTEGER NOT NULL,             -- of `marks`
    received_us INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    record_us INTEGER NOT NULL,
    type TEXT NOT NULL,
    event TEXT NOT NULL,
    UNIQUE (stream, seq)
);
"""


class SqliteConnection(sqlite3.Connection):
    """A connection that stores rows by the thousand."""

    # Text SQLite cannot hold, numbers beyond 64 bits.
    unfit = (UnicodeError, OverflowError, ValueError, sqlite3.Error)

    def put(self, table: str, rows: list[tuple[Any, ...]], conflict: str) -> None:
        """Insert whole rows."""
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self.executemany(f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT {conflict}", rows)  # noqa: S608 - our own names

    def remove(self, table: str, gateway: str, column: str, keys: list[str]) -> None:
        """Delete a box's rows by one column."""
        self.executemany(f"DELETE FROM {table} WHERE gateway = ? AND {column} = ?", [(gateway, key) for key in keys])  # noqa: S608 - as above

    def add(self, runs: list[Run]) -> None:
        """Store rows."""
        for run in runs:
            stream, received_us = run.stream, run.received_us
            numbered = enumerate(run.rows, run.first_id)
            self.executemany("INSERT INTO arrivals VALUES (?, ?, ?, ?, ?, ?, ?)", [(at, stream, received_us, *row) for at, row in numbered])

    def stored(self, stream: int, first: int, last: int) -> list[tuple[int, int, str]]:
        """What is stored of some rows."""
        found = "SELECT seq, record_us, event FROM arrivals WHERE stream = ? AND seq BETWEEN ? AND ? ORDER BY seq"
        return self.execute(found, (stream, first, last)).fetchall()


class SqliteStore:
    """The file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = ThreadPoolExecutor(1, "hq-write")
        self._reading = ThreadPoolExecutor(1, "hq-read")
        self._writer: SqliteConnection | None = None
        self._reader: SqliteConnection | None = None

    async def open(self) -> None:
        """Make the file, or look whether it is this release's.

        Raises:
            ConfigError: The file cannot be used.
        """
        loop = asyncio.get_running_loop()
        try:
            self._writer = await loop.run_in_executor(self._writing, connect_writer, self._path)
            self._reader = await loop.run_in_executor(self._reading, _connect_reader, self._path)
        except sqlite3.Error as error:
            raise ConfigError(f"cannot use {self._path}: {error}", "Check the folder, or restore it from a backup") from error

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; it is on the disk when this returns."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, self._transaction, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on what is committed."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._snapshot, work)

    async def scrub(self) -> None:
        """Write the file anew and empty its log: a page that was rearranged keeps copies of what stood in it. Rows wait meanwhile."""
        await asyncio.get_running_loop().run_in_executor(self._writing, self._write_anew)

    def _write_anew(self) -> None:
        if self._writer is not None:
            self._writer.execute("VACUUM")
        for _ in range(LOG_TRIES):  # a reader of an older moment, such as a backup being made, keeps the log
            if self._writer is None or self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0:
                return

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


def connect_writer(path: Path | str) -> SqliteConnection:
    """The connection that writes, tables made.

    Raises:
        ConfigError: Tables of another shape are in it.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=SqliteConnection)
    if isinstance(path, Path):
        path.chmod(0o600)
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    db.execute("PRAGMA secure_delete = ON")  # what is erased is gone from the file; rows of shops are never deleted
    if mode not in ("wal", "memory") or db.execute("PRAGMA synchronous").fetchone()[0] != 2:
        raise sqlite3.OperationalError("this disk does not do a write-ahead log with full synchronisation")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    made = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'boxes'").fetchone() is not None
    if made and version != SCHEMA:
        raise ConfigError(
            f"{path} has tables of version {version}, this release needs {SCHEMA}",
            "Start with a new data folder (`make store ARGS=--fresh` for the demo)",
        )
    db.executescript(ARRIVALS + tables())
    db.execute(f"PRAGMA user_version = {SCHEMA}")
    return db


def tables() -> str:
    """The statements that make the tables, as SQLite takes them."""
    return Path(__file__).with_name("tables.sql").read_text(encoding="utf-8")


def _connect_reader(path: Path) -> SqliteConnection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, factory=SqliteConnection)
    db.execute("PRAGMA query_only = ON")
    return db
