"""A start: look through the file, mend what is damaged, open the next epoch. Never refuse for ever: a file that SQLite cannot
read is put aside whole, and what of it is readable moves to a new one.

A power cut may legally leave: every commit whose fsync returned, none or all of the one that was under way, and a mark that is
older than the ledger. Anything else is damage, and is named.
"""

import logging
import secrets
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Final

from msgspec import Struct

from gateway.blocks import Local, made
from gateway.chain import CHAIN_START, Epoch, chain, encode_event, mac
from gateway.clock import Clock
from gateway.errors import LedgerError
from gateway.events import EpochOpened, Lane
from gateway.ledger.connect import DAMAGED_HINT, connect, read_key, set_aside, were_set_aside
from gateway.ledger.mark import Mark, read_marks
from gateway.ledger.records import Base, add_block, add_epoch, epochs
from gateway.ledger.repair import mend
from gateway.ledger.salvage import salvage
from gateway.ledger.survey import Corrupt, Damage, Survey, survey

log = logging.getLogger(__name__)

MARK_SUFFIX: Final = ".mark"
# Errors of the file's content. All others (full, busy, read-only, an I/O error) are the disk's or another process's.
OF_CONTENT: Final = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT)
SHORT_READ: Final = sqlite3.SQLITE_IOERR_SHORT_READ


class Started(Struct):
    """An open ledger with a new epoch."""

    connection: sqlite3.Connection
    key: bytes
    epoch: Epoch
    opened_us: int
    head: bytes  # of the epoch's first row
    damage: list[Damage]
    found: Survey
    set_aside: Path | None = None


def start(path: Path, clock: Clock, software: str) -> Started:
    """Open the ledger and its next epoch.

    Raises:
        LedgerError: No file, another release's, or the disk does not let us.
    """
    try:
        return _open_up(connect(path, read_only=False), path, clock, software)
    except LedgerError as error:
        if not isinstance(error.__cause__, sqlite3.DatabaseError | UnicodeDecodeError) or not _is_of_content(error.__cause__):
            raise
        why: Exception = error.__cause__
    except (Corrupt, UnicodeDecodeError) as error:
        why = error
    except sqlite3.DatabaseError as error:
        if not _is_of_content(error):
            raise LedgerError(f"the ledger cannot be read: {error}", DAMAGED_HINT) from error
        why = error
    log.error("the ledger's file is damaged (%s): it is put aside, and what is readable moves to a new one", why)
    return _move(path, clock, software)


def _is_of_content(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in OF_CONTENT or code == SHORT_READ


def _move(path: Path, clock: Clock, software: str) -> Started:
    new = path.with_name(f"{path.name}.new")
    key, _ = read_marks(path.with_suffix(MARK_SUFFIX), None)
    try:
        salvage(path, new, key)
        started = _open_up(connect(new, read_only=False), path, clock, software)
        started.connection.close()  # folds its log in
        aside = set_aside(path, new)
        started.connection = connect(path, read_only=False)
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger's file is damaged, and no new one could be made: {error}", DAMAGED_HINT) from error
    started.set_aside = aside
    return started


def _open_up(connection: sqlite3.Connection, path: Path, clock: Clock, software: str) -> Started:
    try:
        key, mark = read_marks(path.with_suffix(MARK_SUFFIX), read_key(connection))
        key = _key(connection, key)
        found = survey(connection, key)
        # What is in the log is now only what this epoch will write: a log with one bad frame cannot take older epochs along.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("BEGIN IMMEDIATE")
        now = clock.now()
        damage = mend(connection, key, found, mark, now.wall_us)
        epoch = _next(found)
        opened = EpochOpened(epoch.parent, epoch.parent_heads, software, now)
        head = _add_first(connection, key, epoch, opened)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    if found.harmed or damage:
        log.error("the ledger was damaged: %d ranges of rows are lost, and %s", len(damage), found.harmed or "nothing else")
    return Started(connection, key, epoch, now.wall_us, head, damage, found)


def _key(connection: sqlite3.Connection, key: bytes | None) -> bytes:
    """The file's key: the one that is whole, the copy beside the mark, or a new one in a new file."""
    held = connection.execute("SELECT chain_key FROM file").fetchone()
    if key is None and held is not None:
        key = held[0]
        if not isinstance(key, bytes) or not any(epochs(connection, key)):
            raise Corrupt("the file's key is not what was written")
    elif key is None and connection.execute("SELECT 1 FROM block UNION ALL SELECT 1 FROM epoch").fetchone():
        raise Corrupt("the file's key is gone")
    key = key or secrets.token_bytes(32)
    values = (key, mac(key, "file"))
    if connection.execute("SELECT chain_key, key_mac FROM file").fetchone() != values:
        connection.execute("INSERT OR REPLACE INTO file (one, chain_key, key_mac) VALUES (1, ?, ?)", values)
    return key


def _next(found: Survey) -> Epoch:
    parent = max(found.epochs.values(), key=lambda epoch: epoch.number, default=None)
    if parent is None:
        return Epoch(1, secrets.token_hex(4), None, {})
    heads = {}
    for lane in map(int, Lane):
        spans, base = found.spans.get((parent.number, lane)), found.bases.get((parent.number, lane), Base(0, b""))
        seq, head = (spans[-1].last, spans[-1].head) if spans else (base.seq, base.head)
        if seq:
            heads[lane] = (seq, head.hex())
    return Epoch(parent.number + 1, secrets.token_hex(4), parent.name, heads)


def _add_first(connection: sqlite3.Connection, key: bytes, epoch: Epoch, opened: EpochOpened) -> bytes:
    event, at_us = encode_event(opened), opened.event_time.wall_us
    head = chain(key, CHAIN_START, (epoch.number, Lane.MONEY, 1, at_us), event)
    add_epoch(connection, key, epoch, at_us)
    kinds = Counter([EpochOpened.__name__])
    add_block(connection, made(key, (epoch.number, int(Lane.MONEY), 1), [(at_us, event)], head, kinds, Local()))
    return head


def is_lost(path: Path, epoch: Epoch) -> bool:
    """Whether this ledger begins anew where another one was: it has no parent, and yet this box had a ledger."""
    return epoch.parent is None and bool(were_set_aside(path))


def first_mark(started: Started) -> Mark:
    """The mark of an epoch that has its first row."""
    epoch = started.epoch
    heads = {int(Lane.MONEY): (1, started.head)}
    return Mark(epoch.number, epoch.nonce, epoch.parent, epoch.parent_heads, started.opened_us, 0, heads)
