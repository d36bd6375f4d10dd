"""Backups of headquarters' database, and what shops may forget because of them.

A shop keeps its money rows until headquarters would still have them after a restore: until the *lowest* mark among all backups that
are kept and the database itself has passed them. Lowest, not oldest: after a restore an older backup may hold less than a younger
one, and the younger one's line is gone. Which backups there are is written beside the database, not in it, or a restored database
would not know those made since.

A restored database knows lower document versions than the shops hold; `restored.json` raises all that are pressed from then on.
"""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq.journal import position
from cloud_bridge.hq.sqlite import SqliteConnection
from cloud_bridge.hq.store import SCHEMA, Connection, Store
from gateway.errors import ConfigError
from gateway.events import Lane
from provisioning.authority import write_private

DATABASE: Final = "hq.db"
LISTED: Final = "backups.json"
RESTORED: Final = "restored.json"
PAGES_AT_ONCE: Final = 512
SINCE_S: Final = 1_767_225_600  # 2026-01-01: seconds since then outrun any count of documents
Marks = dict[str, dict[str, int]]  # box to epoch to the last row of lane 0


class Backup(Struct, frozen=True):
    """One that headquarters may be restored from."""

    file: str
    made_us: int
    marks: Marks
    journal: int = 0  # position of the journal of what had left headquarters, before it was made; 0: by an older release


class Progress(Struct, frozen=True):
    """How far a backup has come: pages of the database; of PostgreSQL's dump only whether it is done."""

    done: int
    all: int


class Restored(Struct, frozen=True):
    """When the database was last restored."""

    floor: int  # no document of before bears a version so high


class Backups:
    """The list, and what follows from it.

    Args:
        keep: How many of the latest are kept; the list forgets older ones. Their files stay: whoever restores from one of those
            loses what shops have forgotten since, and is told so by their books.
        database: PostgreSQL's address; empty: the SQLite file.
    """

    def __init__(self, data: Path, keep: int, database: str = "") -> None:
        self._data = data
        self._keep = keep
        self._database = database
        self._listed = read_list(data)
        self.making = asyncio.Lock()  # held while one is made, or rid of who was erased

    @property
    def is_file(self) -> bool:
        """Whether the database is a file that `restore` can put back."""
        return not self._database

    def reach(self, gateway: str, epoch: str, mark: int) -> int:
        """Up to which row of lane 0 nothing headquarters may be restored from would miss anything."""
        return min((mark, *(one.marks.get(gateway, {}).get(epoch, 0) for one in self._listed))) if self._listed else 0

    def journalled(self) -> int:
        """Up to which position of the journal every backup that is kept has what the lines tell; 0 without one."""
        return min((one.journal for one in self._listed), default=0)

    async def make(self, store: Store, file: Path, now_us: int) -> AsyncIterator[Progress]:
        """Make a backup, telling how far it has come; it counts once this ends.

        Raises:
            ConfigError: The file cannot be written, or the database not be read.
        """
        async with self.making:
            told: asyncio.Queue[Progress] = asyncio.Queue()
            journalled = await asyncio.to_thread(position, self._data)  # first: what those lines tell is committed
            loop = asyncio.get_running_loop()

            def tell(progress: Progress) -> None:
                loop.call_soon_threadsafe(told.put_nowait, progress)

            if self._database:
                marks = await store.read(read_marks)  # before the dump begins: it holds at least these
                work = asyncio.create_task(asyncio.to_thread(dump, self._database, file, marks))
            else:
                work = asyncio.create_task(asyncio.to_thread(copy, self._data / DATABASE, file, tell))
            while not work.done() or not told.empty():
                progress = asyncio.create_task(told.get())
                await asyncio.wait([work, progress], return_when=asyncio.FIRST_COMPLETED)
                if progress.done():
                    yield progress.result()
                else:
                    progress.cancel()
            self._listed = add(self._data, Backup(str(file), now_us, work.result(), journalled), self._keep)
            yield Progress(1, 1)


def read_marks(db: Connection) -> Marks:
    """How far the money lanes have come."""
    marks: Marks = {}
    for gateway, epoch, mark in db.execute("SELECT gateway, epoch, mark FROM marks WHERE lane = ? AND mark > 0", (int(Lane.MONEY),)):
        marks.setdefault(gateway, {})[epoch] = mark
    return marks


def copy(database: Path, file: Path, tell: Callable[[Progress], None]) -> Marks:
    """Copy an SQLite database that may be in use, page by page, all of one moment; the marks of that moment.

    Raises:
        ConfigError: It cannot be read, or the file not be written.
    """
    unfinished = file.with_name(file.name + ".unfinished")
    try:
        source = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, factory=SqliteConnection)
        unfinished.unlink(missing_ok=True)
        target = sqlite3.connect(unfinished, isolation_level=None)
        try:
            unfinished.chmod(0o600)
            source.execute("BEGIN")  # a copy whose source moves on would begin again for ever
            marks = read_marks(source)
            source.backup(target, pages=PAGES_AT_ONCE, progress=lambda _, left, all_: tell(Progress(all_ - left, all_)), sleep=0)
        finally:
            target.close()
            source.close()
        _sync(unfinished)
        unfinished.replace(file)
        _sync(file.parent)
    except (OSError, sqlite3.Error) as error:
        unfinished.unlink(missing_ok=True)
        raise ConfigError(f"no backup could be made at {file}: {error}", "Choose a folder with room, and start again") from error
    return marks


def dump(database: str, file: Path, marks: Marks) -> Marks:
    """Dump a PostgreSQL database with its own tool.

    Raises:
        ConfigError: The tool is missing, or fails.
    """
    tool = shutil.which("pg_dump")
    if tool is None:
        raise ConfigError("there is no pg_dump on this machine", "Install PostgreSQL's client (apt-get install postgresql-client)")
    asked = [tool, "--format=custom", f"--file={file}", f"--dbname={database}"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        file.unlink(missing_ok=True)
        raise ConfigError(f"pg_dump failed: {done.stderr.strip()[:300]}", "Look at the database, and start again")
    file.chmod(0o600)
    _sync(file)
    return marks


def restore(data: Path, file: Path, now_us: int) -> Marks:
    """Put a backup in the place of the SQLite database of a headquarters that does not run; what the backup holds.

    Raises:
        ConfigError: It is no backup, or cannot be put there.
    """
    target, unfinished = data / DATABASE, data / (DATABASE + ".restoring")
    marks = check(file)
    try:
        shutil.copyfile(file, unfinished)
        unfinished.chmod(0o600)
        _sync(unfinished)
        note_restored(data, now_us)
        for left in ("-wal", "-shm"):  # of the database that goes
            (data / (DATABASE + left)).unlink(missing_ok=True)
        unfinished.replace(target)
        _sync(data)
    except OSError as error:
        raise ConfigError(f"{file} could not be restored: {error}", "Make room in the data folder, and start again") from error
    return marks


def check(file: Path) -> Marks:
    """Whether a file is a whole backup of this release's database.

    Raises:
        ConfigError: It is not.
    """
    hint = "Name a file that `store-gateway hq backup` made"
    if not file.is_file():
        raise ConfigError(f"there is no {file}", hint)
    try:
        source = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None, factory=SqliteConnection)
        try:
            whole = source.execute("PRAGMA quick_check(1)").fetchone()[0]
            version = source.execute("PRAGMA user_version").fetchone()[0]
            marks = read_marks(source)
        finally:
            source.close()
    except sqlite3.Error as error:
        raise ConfigError(f"{file} is no backup: {error}", hint) from error
    if whole != "ok" or version != SCHEMA:
        raise ConfigError(f"{file} is damaged, or of another release", hint)
    return marks


def note_restored(data: Path, now_us: int) -> None:
    """Write down that the database was restored, by whatever means."""
    write_private(data / RESTORED, msgspec.json.encode(Restored(now_us // 1_000_000 - SINCE_S)))


def floor(data: Path) -> int:
    """The lowest version of documents from now on.

    Raises:
        ConfigError: The note cannot be read.
    """
    try:
        return msgspec.json.decode((data / RESTORED).read_bytes(), type=Restored).floor
    except FileNotFoundError:
        return 0
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"cannot read {data / RESTORED}: {error}", "Run `store-gateway hq restore --noted` again") from error


def read_list(data: Path) -> list[Backup]:
    """The backups that are kept, oldest first.

    Raises:
        ConfigError: The list cannot be read.
    """
    try:
        return msgspec.json.decode((data / LISTED).read_bytes(), type=list[Backup])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        hint = "Remove it and make a backup: until then shops keep what they have"
        raise ConfigError(f"cannot read {data / LISTED}: {error}", hint) from error


def add(data: Path, backup: Backup, keep: int) -> list[Backup]:
    """Write a backup into the list; the list, without those that are kept no longer."""
    listed = [*(one for one in read_list(data) if one.file != backup.file), backup][-keep:]
    write_private(data / LISTED, msgspec.json.encode(listed))
    return listed


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
