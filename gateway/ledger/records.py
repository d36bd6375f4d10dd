"""The records of the file beside blocks, each under its hash: epochs, cursors, documents, where trimmed lanes begin, notes."""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from gateway.blocks import FIELDS, Stored
from gateway.chain import Epoch, mac
from gateway.events import Lane

LOCAL_LANE: Final = 3  # what headquarters never reads: answers that were given without a row
LANES: Final = (*map(int, Lane), LOCAL_LANE)


class Base(Struct, frozen=True):
    """Where what is left of a lane begins: after row `seq`, whose head is `head`."""

    seq: int
    head: bytes


class StoredDocument(Struct, frozen=True):
    """A sealed document of HQ, in force."""

    name: str
    version: int
    sealed: bytes


class Cursor(Struct, frozen=True):
    """How far headquarters has a lane, and how far its oldest backup has it."""

    epoch: int
    lane: int
    seq: int
    backed_up: int


class Kept(Struct, frozen=True):
    """Rows of a trimmed piece of lane 0 that still decide something."""

    epoch: int
    first: int
    last: int
    body: bytes
    id: int = 0


INSERT_BLOCK: Final = f"INSERT INTO block ({FIELDS}) VALUES (?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant text
SELECT_BLOCK: Final = f"SELECT {FIELDS}, id FROM block "  # noqa: S608 - constant text


def add_block(connection: sqlite3.Connection, block: Stored) -> None:
    """Store a block."""
    values = (block.epoch, block.lane, block.first, block.last, block.until_us, block.kinds, block.head, block.body, block.local, block.mac)
    connection.execute(INSERT_BLOCK, values)


def epoch_values(key: bytes, epoch: Epoch, opened_us: int) -> tuple[Any, ...]:
    """As the table's columns hold it."""
    line = (epoch.number, epoch.nonce, epoch.parent, json.dumps(epoch.parent_heads), opened_us, int(epoch.linked))
    return (*line, mac(key, "epoch", *line))


def add_epoch(connection: sqlite3.Connection, key: bytes, epoch: Epoch, opened_us: int) -> None:
    """Store an epoch's line, anew if it is there."""
    sql = "INSERT OR REPLACE INTO epoch (number, nonce, parent, parent_heads, opened_us, linked, mac) VALUES (?,?,?,?,?,?,?)"
    connection.execute(sql, epoch_values(key, epoch, opened_us))


def epochs(connection: sqlite3.Connection, key: bytes | None) -> Iterator[Epoch]:
    """Oldest first. With a key only those that are what was written."""
    sql = "SELECT number, nonce, parent, parent_heads, opened_us, linked, mac FROM epoch ORDER BY number"
    for *line, held in connection.execute(sql):
        if key is None or mac(key, "epoch", *line) == held:
            heads = {int(lane): (seq, head) for lane, (seq, head) in json.loads(line[3]).items()}
            yield Epoch(line[0], line[1], line[2], heads, bool(line[5]))


def set_cursor(connection: sqlite3.Connection, key: bytes, cursor: Cursor) -> None:
    """Store how far headquarters has a lane."""
    values = (cursor.epoch, cursor.lane, cursor.seq, cursor.backed_up)
    sql = "INSERT OR REPLACE INTO cursor (epoch, lane, seq, backed_up, mac) VALUES (?,?,?,?,?)"
    connection.execute(sql, (*values, mac(key, "cursor", *values)))


def cursors(connection: sqlite3.Connection, key: bytes) -> Iterator[Cursor]:
    """Those that are what was written."""
    for *values, held in connection.execute("SELECT epoch, lane, seq, backed_up, mac FROM cursor"):
        if mac(key, "cursor", *values) == held:
            yield Cursor(*values)


def set_document(connection: sqlite3.Connection, key: bytes, document: StoredDocument, since_us: int) -> None:
    """Put a document in force.

    With the whole list of members the table is made anew, from pages that are zeroed first if `secure_delete` is on: where pages were
    rearranged, copies of an older list lie between their cells.
    """
    if document.name == "members":
        others = connection.execute("SELECT name, version, sealed, since_us, mac FROM document WHERE name<>?", (document.name,)).fetchall()
        connection.execute("DELETE FROM document")
        connection.executemany("INSERT INTO document (name, version, sealed, since_us, mac) VALUES (?,?,?,?,?)", others)
    values = (document.name, document.version, document.sealed, since_us)
    sql = "INSERT OR REPLACE INTO document (name, version, sealed, since_us, mac) VALUES (?,?,?,?,?)"
    connection.execute(sql, (*values, mac(key, "document", *values)))


def documents(connection: sqlite3.Connection, key: bytes) -> Iterator[tuple[str, StoredDocument | None]]:
    """By name; None for one that is not what was written."""
    for *values, held in connection.execute("SELECT name, version, sealed, since_us, mac FROM document"):
        yield values[0], StoredDocument(*values[:3]) if mac(key, "document", *values) == held else None


def set_base(connection: sqlite3.Connection, key: bytes, epoch: int, lane: int, base: Base) -> None:
    """Store where what is left of a lane begins."""
    values = (epoch, lane, base.seq, base.head)
    sql = "INSERT OR REPLACE INTO trimmed (epoch, lane, seq, head, mac) VALUES (?,?,?,?,?)"
    connection.execute(sql, (*values, mac(key, "trimmed", *values)))


def bases(connection: sqlite3.Connection, key: bytes | None) -> dict[tuple[int, int], Base]:
    """By epoch and lane; with a key only those that are what was written."""
    found = connection.execute("SELECT epoch, lane, seq, head, mac FROM trimmed").fetchall()
    return {(line[0], line[1]): Base(line[2], line[3]) for *line, held in found if key is None or mac(key, "trimmed", *line) == held}


def add_kept(connection: sqlite3.Connection, key: bytes, kept: Kept) -> None:
    """Keep the rows of a piece that is trimmed."""
    values = (kept.epoch, kept.first, kept.last, kept.body)
    connection.execute("INSERT INTO kept (epoch, first, last, body, mac) VALUES (?,?,?,?,?)", (*values, mac(key, "kept", *values)))


def kept(connection: sqlite3.Connection, key: bytes) -> Iterator[Kept]:
    """In order; those that are what was written."""
    for *values, held, number in connection.execute("SELECT epoch, first, last, body, mac, id FROM kept ORDER BY epoch, first"):
        if mac(key, "kept", *values) == held:
            yield Kept(values[0], values[1], values[2], values[3], number)


def set_note(connection: sqlite3.Connection, key: bytes, name: str, value: bytes) -> None:
    """Store something small."""
    sql = "INSERT OR REPLACE INTO note (name, value, mac) VALUES (?,?,?)"
    connection.execute(sql, (name, value, mac(key, "note", name, value)))


def note(connection: sqlite3.Connection, key: bytes, name: str) -> bytes | None:
    """What was stored; None: nothing, or not what was written."""
    found = connection.execute("SELECT value, mac FROM note WHERE name=?", (name,)).fetchone()
    return found[0] if found and mac(key, "note", name, found[0]) == found[1] else None
