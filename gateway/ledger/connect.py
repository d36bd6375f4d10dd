"""How the file is opened: the one writer's lock, what durability rests on, and the file put aside when SQLite cannot read it."""

import contextlib
import fcntl
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from gateway.chain import mac
from gateway.errors import LedgerError
from gateway.schema import VERSION

DAMAGED_HINT: Final = "Look at the disk (`store-gateway doctor`); headquarters holds every acknowledged row"
MIGRATE_HINT: Final = "Run `store-gateway migrate` first"
CHECKPOINT_PAGES: Final = 3_500  # SQLite's own, as a backstop; above 4,096 its index would need a second piece of memory


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open the file, set what durability rests on, and look whether it took.

    Raises:
        LedgerError: No file, a file of another release, or a setting that did not take.
    """
    if not path.exists():
        raise LedgerError(f"there is no ledger at {path}", MIGRATE_HINT)
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    with contextlib.ExitStack() as undo:
        try:
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            undo.callback(connection.close)
            _prepare(connection, read_only)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: SQLite quotes the damage it complains of
            raise LedgerError(f"the ledger at {path} cannot be read: {error}", DAMAGED_HINT) from error
        undo.pop_all()
    return connection


def _prepare(connection: sqlite3.Connection, read_only: bool) -> None:
    connection.text_factory = _text
    if not read_only:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute("PRAGMA secure_delete=OFF")  # Debian's default writes every freed page once more
        mode, sync = connection.execute("PRAGMA journal_mode").fetchone()[0], connection.execute("PRAGMA synchronous").fetchone()[0]
        if mode != "wal" or sync != 2:
            raise LedgerError(f"the ledger runs with journal {mode}, synchronous {sync}", MIGRATE_HINT)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < VERSION:
        raise LedgerError(f"the ledger has tables of version {version}, this release needs {VERSION}", MIGRATE_HINT)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")  # a changed byte is found by its record's hash, not by an exception


def read_key(connection: sqlite3.Connection) -> bytes | None:
    """The key made with the file; None: none yet, or not the one that was written."""
    found = connection.execute("SELECT chain_key, key_mac FROM file").fetchone()
    if found is None or not isinstance(found[0], bytes) or len(found[0]) != 32 or mac(found[0], "file") != found[1]:
        return None
    return found[0]


def lock(path: Path) -> int:
    """Be the one writer; the descriptor holds it.

    Raises:
        LedgerError: Another process is.
    """
    try:
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LedgerError(f"there is no ledger at {path}: {error.strerror}", MIGRATE_HINT) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise LedgerError("another process writes this ledger", "Stop the other core; one ledger has one writer") from error
    return descriptor


def set_aside(path: Path, replacement: Path) -> Path:
    """Keep a file that cannot be used under a name with its time, and put another in its place.

    The log goes first: SQLite would read it into whatever file has its name.
    """
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        path.with_name(f"{path.name}-wal").rename(f"{aside}-wal")
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    with contextlib.suppress(FileExistsError):
        os.link(path, aside)
    replacement.rename(path)
    sync_folder(path.parent)
    return aside


def sync_folder(folder: Path) -> None:
    """Names in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def were_set_aside(path: Path) -> list[Path]:
    """Files that were put aside here, ever."""
    return sorted(one for one in path.parent.glob(f"{path.name}.damaged-*") if not one.name.endswith("-wal"))
