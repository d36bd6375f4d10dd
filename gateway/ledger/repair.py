"""What a start does about damage: set it aside, put a tombstone in its place, and name it. The rest goes on serving.

All of it happens in the transaction that opens the new epoch, so no start can take over a mended ledger without having seen
that it was mended.
"""

import contextlib
import sqlite3
import struct
from typing import Final

from msgspec import Struct, field

from gateway.blocks import Stored, compressed, head_of, made_tombstone, pack_numbered, rows_of
from gateway.chain import Epoch, decode_event, parse_name
from gateway.columns import Tombstone
from gateway.errors import MalformedFrame
from gateway.events import EpochOpened, Lane
from gateway.ledger.mark import Mark
from gateway.ledger.records import LANES, LOCAL_LANE, SELECT_BLOCK, Base, Kept, add_block, add_epoch, add_kept, set_base
from gateway.ledger.survey import NO_HEAD, Damage, Span, Survey, ends

DAMAGED: Final = "damaged"
MOVE: Final = (
    "INSERT INTO damaged (found_us, epoch, lane, first, last, until_us, kinds, head, body, local, mac) "
    "SELECT ?, epoch, lane, first, last, until_us, kinds, head, body, local, mac FROM block WHERE id=?"
)


class Mending(Struct):
    """What is done in one transaction."""

    connection: sqlite3.Connection
    key: bytes
    found: Survey
    mark: Mark | None
    now_us: int
    damage: list[Damage] = field(default_factory=list)
    stones: list[Stored] = field(default_factory=list)


def mend(connection: sqlite3.Connection, key: bytes, found: Survey, mark: Mark | None, now_us: int) -> list[Damage]:
    """Inside a transaction: afterwards every lane of every epoch is whole, tombstones included. Returns what was lost."""
    work = Mending(connection, key, found, mark, now_us)
    _others(work)
    _lines(work)
    for number, lane in list(found.spans):
        if number not in found.epochs:
            _nameless(work, number, lane)
    for number in sorted(found.epochs):
        if not _is_shrunk(found, number):
            for lane in LANES:
                _lane(work, found.epochs[number], lane)
    for claim in found.claims:
        _quarantine(work, claim.id)
    for stone in work.stones:
        add_block(connection, stone)
    return work.damage


def _others(work: Mending) -> None:
    """Drop what is damaged beside rows: it is asked for again, or sent again."""
    for number in work.found.lost_locals:
        work.connection.execute(MOVE, (work.now_us, number))
        work.connection.execute("UPDATE block SET local=NULL WHERE id=?", (number,))
    for name in work.found.lost_documents:
        work.connection.execute("DELETE FROM document WHERE name=?", (name,))
    for table, *place in work.found.lost_records:
        work.connection.execute(f"DELETE FROM {table} WHERE epoch=? AND lane=?", place)  # noqa: S608 - one of two names of ours


def _quarantine(work: Mending, number: int) -> None:
    work.connection.execute(MOVE, (work.now_us, number))
    work.connection.execute("DELETE FROM block WHERE id=?", (number,))


# ---------------------------------------------------------------- lines of epochs


def _lines(work: Mending) -> None:
    """Write lost lines of epochs anew, from what their children and the mark say of them."""
    found, mark = work.found, work.mark
    for number in found.lost_lines:
        work.connection.execute("DELETE FROM epoch WHERE number=?", (number,))
    youngest = max(found.epochs, default=0)
    if mark is not None and mark.number not in found.epochs and mark.number >= youngest:
        _restore(work, Epoch(mark.number, mark.nonce, mark.parent, mark.parent_heads))
    for number in sorted(found.epochs, reverse=True):
        child = found.epochs[number]
        while child.parent is not None and (parsed := parse_name(child.parent))[0] not in found.epochs:
            child = _restore(work, _of_parent(work, *parsed))


def _of_parent(work: Mending, number: int, nonce: str) -> Epoch:
    """From its first row; else only the name is known, and who came before it in this file."""
    opened = _opened(work, number)
    if opened is not None:
        return Epoch(number, nonce, opened.parent, opened.parent_heads, linked=False)
    before = work.found.epochs.get(number - 1)
    return Epoch(number, nonce, before.name if before else None, {}, linked=False)


def _opened(work: Mending, number: int) -> EpochOpened | None:
    values = work.connection.execute(f"{SELECT_BLOCK} WHERE epoch=? AND lane=? AND first=1", (number, Lane.MONEY)).fetchone()
    if values is None:
        return None
    try:
        rows = rows_of(Stored(*values))
        row = None if isinstance(rows, Tombstone) else decode_event(rows[0][1])
    except (MalformedFrame, ValueError):
        return None
    return row if isinstance(row, EpochOpened) else None


def _restore(work: Mending, epoch: Epoch) -> Epoch:
    work.found.epochs[epoch.number] = epoch
    add_epoch(work.connection, work.key, epoch, work.now_us)
    return epoch


def _nameless(work: Mending, number: int, lane: int) -> None:
    """Rows under a name that nobody knows cannot be sent, and another name would have headquarters count them twice."""
    for span in work.found.spans.pop((number, lane)):
        _quarantine(work, span.id)
    work.found.harmed.append(f"rows of epoch {number}, whose name is lost")


# ---------------------------------------------------------------- lanes


def _is_shrunk(found: Survey, number: int) -> bool:
    """Whether only the line is left, as it should be: acknowledged, backed up, and what still counts of lane 0 is kept."""
    held = any((number, lane) in table for lane in LANES for table in (found.spans, found.bases, found.cursors))
    child = found.epochs.get(number + 1)
    return not held and child is not None and child.parent_heads.get(Lane.MONEY, (0, ""))[0] == found.remembered.get(number, 0) > 0


def _lane(work: Mending, epoch: Epoch, lane: int) -> None:
    found, place = work.found, (epoch.number, lane)
    marked = work.mark.heads if work.mark is not None and work.mark.number == epoch.number else None
    end, end_head = ends(found, epoch.number, lane, marked)
    spans = found.spans.get(place, [])
    base = found.bases.get(place) or _begin(work, epoch, lane, spans[0].first - 1 if spans else end)
    if lane == Lane.MONEY and base.seq > found.remembered.get(epoch.number, 0):
        _lost(work, epoch, lane, found.remembered.get(epoch.number, 0) + 1, base.seq, tombstone=False)
    at, whole = base.seq, list[Span]()
    for span in spans:
        if span.last <= at or span.first <= at:  # older copies of what a merged block holds
            _quarantine(work, span.id)
            continue
        if span.first > at + 1:
            before = whole[-1].head if whole else base.head
            whole.append(_gap(work, epoch, lane, at + 1, span.first - 1, _head_of_gap(work, epoch, before, at + 1, span)))
        whole.append(span)
        at = span.last
    if end > at:
        whole.append(_gap(work, epoch, lane, at + 1, end, end_head))
    found.spans[place] = whole
    found.bases[place] = base


def _begin(work: Mending, epoch: Epoch, lane: int, before: int) -> Base:
    """Where a lane begins whose trimming left no record: at its first row, or it was trimmed and the record is lost."""
    cursor = work.found.cursors.get((epoch.number, lane))
    trimmed = work.found.remembered.get(epoch.number, 0) if lane == Lane.MONEY else cursor.seq if cursor is not None else 0
    if before < 1 or trimmed < before:
        return Base(0, NO_HEAD)
    base = Base(before, NO_HEAD)
    set_base(work.connection, work.key, epoch.number, lane, base)
    return base


def _gap(work: Mending, epoch: Epoch, lane: int, first: int, last: int, head: bytes) -> Span:
    """Put a tombstone over rows that are gone."""
    work.stones.append(made_tombstone(work.key, (epoch.number, lane), Tombstone(first, last, DAMAGED, []), work.now_us, head))
    _lost(work, epoch, lane, first, last, tombstone=True)
    return Span(first, last, head, 0)


def _head_of_gap(work: Mending, epoch: Epoch, before: bytes, first: int, after: Span) -> bytes:
    """The head at a gap's end, if a damaged block still has it, or its rows: it must lead to the block behind the gap."""
    found = work.connection.execute(f"{SELECT_BLOCK} WHERE id=?", (after.id,)).fetchone()
    behind = Stored(*found)
    for claim in work.found.claims:
        values = work.connection.execute(f"{SELECT_BLOCK} WHERE id=?", (claim.id,)).fetchone()
        claimed = Stored(*values)
        heads = [claimed.head]
        with contextlib.suppress(MalformedFrame, TypeError, ValueError, struct.error):
            heads.append(head_of(work.key, before, Stored(epoch.number, behind.lane, first, first, 0, "", b"", claimed.body, None, b"")))
        for head in heads:
            if len(head) == len(NO_HEAD) and head_of(work.key, head, behind) == behind.head:
                return head
    return NO_HEAD


def _lost(work: Mending, epoch: Epoch, lane: int, first: int, last: int, *, tombstone: bool) -> None:
    if lane == LOCAL_LANE:
        work.found.harmed.append(f"answers {epoch.name}/{first}-{last}")
    else:
        work.damage.append(Damage(epoch, lane, first, last))
    if not tombstone:  # nothing of it is left to be kept; said once
        add_kept(work.connection, work.key, Kept(epoch.number, first, last, compressed(pack_numbered([]))))
        work.found.remembered[epoch.number] = last
