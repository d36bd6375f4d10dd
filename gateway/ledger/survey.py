"""Looking through the whole file at a start: every record under its hash, every lane without a hole from its begin to its end.

A record that is not what was written counts as absent, whatever it claims to be; what is missing is what the whole ones do not
cover. Where a lane must end is told by the child epoch's line, for the youngest epoch by the mark, and by headquarters' cursor.
"""

import sqlite3
from collections import deque
from typing import Final

import msgspec
from msgspec import Struct, field

from gateway.blocks import Local, Stored, StoredAnswer, is_whole, local_of
from gateway.chain import Epoch
from gateway.errors import MalformedFrame
from gateway.ledger.records import LANES, LOCAL_LANE, SELECT_BLOCK, Base, Cursor, bases, cursors, documents, epochs, kept, note

RECENT_SOURCES: Final = 20_000
NO_HEAD: Final = bytes(16)
TALLY: Final = "tally"


class Damage(Struct, frozen=True):
    """Rows that this start could not read back as they were written."""

    epoch: Epoch
    lane: int
    first: int
    last: int


class Span(Struct):
    """A whole block, by its place."""

    first: int
    last: int
    head: bytes
    id: int


class Claim(Struct, frozen=True):
    """What a damaged block says of itself; some of it may be right."""

    id: int
    epoch: object
    lane: object
    last: object
    head: object


class Survey(Struct):
    """What the file holds that is what was written, and what is not."""

    epochs: dict[int, Epoch] = field(default_factory=dict)
    spans: dict[tuple[int, int], list[Span]] = field(default_factory=dict)
    bases: dict[tuple[int, int], Base] = field(default_factory=dict)
    cursors: dict[tuple[int, int], Cursor] = field(default_factory=dict)
    remembered: dict[int, int] = field(default_factory=dict)  # epoch to how far its kept rows cover lane 0 without a hole
    claims: list[Claim] = field(default_factory=list)
    answers: dict[str, StoredAnswer] = field(default_factory=dict)
    sources: dict[int, deque[str]] = field(default_factory=dict)
    harmed: list[str] = field(default_factory=list)  # what is damaged beside rows
    lost_locals: list[int] = field(default_factory=list)  # blocks whose local part is not what was written
    lost_documents: list[str] = field(default_factory=list)
    lost_lines: list[int] = field(default_factory=list)
    lost_records: list[tuple[str, int, int]] = field(default_factory=list)  # (table, epoch, lane) of cursors and trimmings


class Corrupt(Exception):
    """The file's structure is not to be written on: what is readable has to move to a new one."""


def survey(connection: sqlite3.Connection, key: bytes) -> Survey:
    """Read everything once.

    Raises:
        Corrupt: Table and index do not agree, or pages are used twice.
        sqlite3.DatabaseError: SQLite cannot read it.
    """
    found = Survey()
    (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise Corrupt(str(said))
    _records(connection, key, found)
    places = set()
    for block in blocks(connection):
        places.add((block.id, block.epoch, block.lane, block.first))
        take(key, block, found)
    indexed = connection.execute("SELECT id, epoch, lane, first FROM block INDEXED BY block_place").fetchall()
    if set(indexed) != places or len(indexed) != len(places):
        raise Corrupt("the index names other blocks than there are")
    for spans in found.spans.values():
        spans.sort(key=lambda span: span.first)
    return found


def blocks(connection: sqlite3.Connection) -> "list[Stored] | map[Stored]":
    """All of them in the order of their writing, by the table alone."""
    return map(_block, connection.execute(f"{SELECT_BLOCK} NOT INDEXED ORDER BY id"))


def _block(values: tuple[object, ...]) -> Stored:
    return Stored(*values)  # type: ignore[arg-type]


def take(key: bytes, block: Stored, found: Survey) -> None:
    """Add one block, if it is what was written."""
    try:
        whole = block.lane in LANES and is_whole(key, block)
    except TypeError:  # a changed byte may make a text of a number
        whole = False
    if not whole:
        found.claims.append(Claim(block.id, block.epoch, block.lane, block.last, block.head))
        return
    found.spans.setdefault((block.epoch, block.lane), []).append(Span(block.first, block.last, block.head, block.id))
    try:
        local = local_of(key, block)
    except (MalformedFrame, msgspec.DecodeError, TypeError):
        local = Local()
        found.lost_locals.append(block.id)
        found.harmed.append(f"what stays on the box of {block.epoch}/{block.lane}/{block.first}")
    found.answers.update({answer.key: answer for answer in local.answers})
    if local.sources:
        found.sources.setdefault(block.lane, deque(maxlen=RECENT_SOURCES)).extend(local.sources.values())


def _records(connection: sqlite3.Connection, key: bytes, found: Survey) -> None:
    found.epochs = {epoch.number: epoch for epoch in epochs(connection, key)}
    numbers = [number for (number,) in connection.execute("SELECT number FROM epoch")]
    found.lost_lines = [number for number in numbers if number not in found.epochs]
    found.bases = bases(connection, key)
    found.cursors = {(cursor.epoch, cursor.lane): cursor for cursor in cursors(connection, key)}
    for table, whole in (("trimmed", found.bases), ("cursor", found.cursors)):
        held = connection.execute(f"SELECT epoch, lane FROM {table}").fetchall()  # noqa: S608 - one of two
        found.lost_records += [(table, *place) for place in held if place not in whole]
    found.harmed += [f"a record of {table} {epoch}/{lane}" for table, epoch, lane in found.lost_records]
    for name, document in documents(connection, key):
        if document is None:
            found.lost_documents.append(name)
    for piece in kept(connection, key):
        if piece.first == found.remembered.get(piece.epoch, 0) + 1:
            found.remembered[piece.epoch] = piece.last
    found.harmed += [f"document {name}" for name in found.lost_documents] + [f"the line of epoch {number}" for number in found.lost_lines]
    tally = note(connection, key, TALLY)
    if tally is None and connection.execute("SELECT 1 FROM note WHERE name=?", (TALLY,)).fetchone():
        found.harmed.append("the count of trimmed rows")


def ends(found: Survey, number: int, lane: int, marked: dict[int, tuple[int, bytes]] | None) -> tuple[int, bytes]:
    """Where a lane of an epoch must end: (seq, head) by its child's word, the mark's, or headquarters' cursor."""
    child = found.epochs.get(number + 1)
    seq, head = 0, NO_HEAD
    if child is not None and lane in child.parent_heads and lane != LOCAL_LANE:
        seq, text = child.parent_heads[lane]
        head = bytes.fromhex(text) if len(text) == 2 * len(NO_HEAD) else NO_HEAD
    if marked is not None and marked.get(lane, (0, NO_HEAD))[0] > seq:
        seq, head = marked[lane]
    cursor = found.cursors.get((number, lane))
    if cursor is not None and cursor.seq > seq:
        seq, head = cursor.seq, NO_HEAD
    return seq, head
