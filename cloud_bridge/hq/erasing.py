"""Erasing a member for good: the list of those who were erased, and what is left of them in files.

The list (`members.erased`: JSON lines of references and times) lies beside the database, not in it: after a restore it is applied again
before anything is served. It names nobody, since with the mapping gone a reference says nothing.

Backups of the SQLite file that the list of backups knows are opened and the member taken out of each, so restoring them brings nothing
back either. Files nobody has told headquarters of (older ones, copies elsewhere, dumps of PostgreSQL) keep what they hold until they
are deleted; what is restored from them is erased at the start.
"""

import asyncio
import logging
import os
import sqlite3
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq.backups import read_list
from cloud_bridge.hq.store import Store
from gateway.errors import ConfigError
from gateway.signed import MEMBER_NAMES

log = logging.getLogger(__name__)

NAME: Final = "members.erased"
TABLES: Final = ("members", "member_tags", "member_cards")


class Line(Struct, frozen=True):
    """One member who was erased."""

    at_us: int
    member_ref: str


class Erasing:
    """The list, and the backups.

    Args:
        making: Held while a backup is made.
    """

    def __init__(self, data: Path, making: asyncio.Lock) -> None:
        self._data = data
        self._making = making
        self._path = data / NAME
        self._turn = asyncio.Lock()
        self._wanted = self._done = 0  # how often it was asked, and up to which of those it is done

    def read(self) -> list[str]:
        """Everybody who was ever erased.

        Raises:
            ConfigError: A line before the last one cannot be read.
        """
        found: list[str] = []
        lines = self._path.read_bytes().split(b"\n") if self._path.exists() else []
        for number, text in enumerate(lines, 1):
            try:
                found += [msgspec.json.decode(text, type=Line).member_ref] if text else []
            except msgspec.DecodeError as error:
                if number == len(lines):  # no end of line: it was being written when the power went
                    break
                raise ConfigError(
                    f"{self._path}: line {number} cannot be read", "Put the file back from a copy, or call for help"
                ) from error
        return found

    async def note(self, refs: list[str], now_us: int) -> None:
        """Write members down as erased; on the disk when this returns."""
        async with self._turn:
            await asyncio.to_thread(self._append, b"".join(msgspec.json.encode(Line(now_us, ref)) + b"\n" for ref in refs))

    async def scrub(self, store: Store) -> None:
        """Take what was erased out of the database's own files and out of every backup that is kept.

        Raises:
            ConfigError: A backup that is there cannot be written.
        """
        self._wanted += 1
        wanted = self._wanted
        async with self._turn, self._making:  # a backup that is being made holds the database's log, and who was erased meanwhile
            if self._done >= wanted:
                return  # with somebody else's, who began after this was asked
            self._done = self._wanted
            await store.scrub()
            await asyncio.to_thread(self._scrub_backups)

    def _append(self, lines: bytes) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # cut short by a power cut
                os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)
            os.write(descriptor, lines)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _scrub_backups(self) -> None:
        refs = self.read()
        for backup in read_list(self._data):
            file = Path(backup.file)
            if not file.is_file() or file.read_bytes()[:16] != b"SQLite format 3\x00":
                continue
            try:
                _take_out(file, refs)
            except sqlite3.Error as error:
                raise ConfigError(
                    f"{file} could not be rid of an erased member: {error}", "Delete that backup, and make another"
                ) from error


def _take_out(file: Path, refs: list[str]) -> None:
    """Delete members from a backup, and the sealed lists they stood in: headquarters makes those anew when it is restored."""
    db = sqlite3.connect(file, isolation_level=None)
    try:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'members'").fetchone() is None:
            return
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA secure_delete = ON")
        db.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            db.executemany(f"DELETE FROM {table} WHERE member_ref = ?", [(ref,) for ref in refs])  # noqa: S608 - constant text
        db.executemany("DELETE FROM documents WHERE name = ?", [(name,) for name in MEMBER_NAMES])
        db.execute("DELETE FROM member_lists")
        db.execute("COMMIT")
        db.execute("VACUUM")
    finally:
        db.close()
