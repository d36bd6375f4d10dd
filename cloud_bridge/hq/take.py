"""The rule by which rows are taken, the same for every engine.

Rows of a stream are taken only where they continue its mark, and the mark moves in their transaction: so a row is stored once,
however often and in whatever order batches come. A batch that starts beyond the mark waits (it is not stored; the answer
names the mark and the box rewinds). So does the beginning of a stream while rows before it along its ancestry are missing: the
answer names the stream that has to come first.

A batch names the chain head it continues, and is taken only behind that: else rows could follow rows they never knew.

A row that cannot be read goes to quarantine and still moves the mark: the box must never be stuck behind it. Of a tombstone
counts what lies above the mark: those rows are declared, and their sums are added. What was stored is compared when it comes
again: other rows under the same numbers are a lie or a damaged box, and are never acknowledged.

A group of batches is taken as one: rows are added by one statement, counts by one for each day and type. Only if the database
finds something it cannot hold, the group is taken again batch by batch, and that batch row by row.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct

from cloud_bridge.envelope import Header, Piece
from cloud_bridge.hq.effects import Effects
from cloud_bridge.hq.ready import Ready, ReadyBatch, ReadyRow, Tally, ready
from cloud_bridge.hq.store import Connection, Run, StoredRow
from cloud_bridge.hq.streams import Place, Stream, Streams
from gateway.columns import Rows, Tombstone
from gateway.errors import MalformedFrame

MOST_WHY: Final = 200


class Verdict(StrEnum):
    """What became of a batch."""

    TAKEN = "taken"  # something new was stored
    REPEATED = "repeated"  # everything was there already
    GAP = "gap"  # rows before it are missing
    EARLY = "early"  # rows before it along its ancestry are missing
    DIVERGED = "diverged"  # other rows are stored under its numbers


class Taken(Struct, frozen=True):
    """How a batch ended: `seq` and `head` may be acknowledged, `mark` is how far the lane has come."""

    verdict: Verdict
    seq: int
    head: str
    mark: int
    rows: list[StoredRow] = []
    quarantined: int = 0
    declared: int = 0
    first: Place | None = None  # with EARLY: what has to come first
    lost: list[Place] = []  # the box believes these to be acknowledged further than they are here


def take(db: Connection, batches: Sequence[ReadyBatch], received_us: int, told: bool = True) -> list[Taken]:
    """Take what is new in some batches, inside the caller's transaction.

    Args:
        told: Whether anybody wants to see the rows.
    """
    db.execute("SAVEPOINT whole")
    try:
        taking = _Taking(db, received_us, told)
        taken = [taking.take(batch) for batch in batches]
        taking.write()
    except db.unfit:
        db.execute("ROLLBACK TO SAVEPOINT whole")
        taken = [_take_warily(db, batch, received_us, told) for batch in batches]
    db.execute("RELEASE SAVEPOINT whole")
    return taken


def _take_warily(db: Connection, batch: ReadyBatch, received_us: int, told: bool) -> Taken:
    """Take one batch; if something in it does not fit, find out which rows, one by one."""
    for taking in (_Taking(db, received_us, told), _OneByOne(db, received_us, told)):
        db.execute("SAVEPOINT batch")
        try:
            taken = taking.take(batch)
            taking.write()
        except db.unfit:
            db.execute("ROLLBACK TO SAVEPOINT batch")
            continue
        db.execute("RELEASE SAVEPOINT batch")
        return taken
    raise MalformedFrame("a batch that no store can hold")


class _Taking:
    """What one transaction takes."""

    def __init__(self, db: Connection, received_us: int, told: bool) -> None:
        self._db = db
        self._received_us = received_us
        self._told = told
        self._streams = Streams(db)
        self._effects = Effects(db, received_us)
        self._runs: list[Run] = []
        self._aside: list[tuple[object, ...]] = []
        self._quarantined = 0
        self._last_id = self._written_id = int(db.execute("SELECT last FROM arrived").fetchone()[0])

    def take(self, batch: ReadyBatch) -> Taken:
        """Judge a batch and gather what is new in it."""
        header = batch.header
        streams = self._streams
        stream = streams.get(header.gateway, header.epoch, header.lane)
        self._note(header, stream)
        lost = self._lost(header)
        if stream.mark == 0:
            before = streams.missing_before(header.gateway, header.parent, header.parent_heads, header.lane)
            if before is not None:
                return Taken(Verdict.EARLY, 0, "", 0, first=before.place, lost=lost)
        if header.first > stream.mark + 1:
            # The box may believe them to be here: it is asked, since an earlier start's cursors are in no header.
            return Taken(Verdict.GAP, stream.mark, stream.head, stream.mark, lost=[*lost, stream.place])
        if self._breaks(header, stream) or (header.first <= stream.mark and self._differs(batch, stream)):
            return Taken(Verdict.DIVERGED, stream.mark, stream.head, stream.mark, lost=lost)
        if header.last <= stream.mark:
            return Taken(Verdict.REPEATED, header.last, header.head, stream.mark, lost=lost)
        return self._take_new(batch, stream, lost)

    def write(self) -> None:
        """Write down what was gathered."""
        if self._runs:
            self._db.add(self._runs)
            self._runs = []
        if self._last_id != self._written_id:
            self._db.execute("UPDATE arrived SET last = ?", (self._last_id,))
            self._written_id = self._last_id
        if self._aside:
            self._db.executemany("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._aside)
            self._aside = []
        self._effects.write()
        self._streams.write()

    def _note(self, header: Header, stream: Stream) -> None:
        """Remember what the box says about its ledger."""
        self._streams.descend(header.gateway, header.epoch, header.parent, header.parent_heads, self._received_us)
        stream.say(header.last)
        self._streams.note(header.gateway, header.current, header.last_seqs)
        if header.parent is not None:
            self._streams.note(header.gateway, header.parent, {lane: seq for lane, (seq, _) in header.parent_heads.items()})

    def _lost(self, header: Header) -> list[Place]:
        """Rows that were acknowledged once, and are not here: this store was restored from a backup."""
        lanes = [(lane, seq, self._streams.get(header.gateway, header.current, lane)) for lane, seq in header.cursors.items() if seq > 0]
        return [stream.place for _, seq, stream in lanes if stream.mark < seq]

    def _take_new(self, batch: ReadyBatch, stream: Stream, lost: list[Place]) -> Taken:
        header, aside, declared = batch.header, self._quarantined, 0
        told: list[StoredRow] = []
        for piece, made in zip(batch.pieces, batch.ready, strict=True):
            if piece.last <= stream.mark:
                continue
            if isinstance(made, Tombstone) or isinstance(piece.content, Tombstone):
                declared += self._declare(piece, stream, batch.timezone)
            else:
                fresh = piece.content[max(0, stream.mark + 1 - piece.first) :]
                if len(fresh) < len(piece.content):
                    made = ready(stream.mark + 1, fresh, batch.timezone)
                told += self._rows(made, fresh, stream)
                stream.received += len(fresh)
            stream.mark = piece.last
        stream.head, stream.changed = header.head, True
        return Taken(Verdict.TAKEN, header.last, header.head, header.last, told, self._quarantined - aside, declared, lost=lost)

    def _rows(self, made: Ready, fresh: Rows, stream: Stream) -> list[StoredRow]:
        """Gather rows."""
        del fresh
        for seq, record_us, raw, why in made.aside:
            self._set_aside(stream, seq, record_us, raw, why)
        if not made.rows:
            return []
        run = Run(self._last_id + 1, stream.stream, self._received_us, made.rows)
        self._runs.append(run)
        self._last_id += len(made.rows)
        self._effects.add(stream.gateway, made.tally)
        self._effects.date_later(stream.gateway, stream.stream, made.undated)
        for row, event in made.rare:
            self._effects.later(self._shown(0, row, stream), event)
        return [self._shown(at, row, stream) for at, row in enumerate(made.rows, run.first_id)] if self._told else []

    def _shown(self, number: int, row: ReadyRow, stream: Stream) -> StoredRow:
        seq, record_us, kind, text = row
        return StoredRow(number, stream.gateway, stream.epoch, stream.lane, seq, record_us, self._received_us, kind, text)

    def _set_aside(self, stream: Stream, seq: int, record_us: int, raw: bytes, why: str) -> None:
        self._quarantined += 1
        place = stream.gateway, stream.epoch, stream.lane, seq
        self._aside.append((*place, record_us, self._received_us, why.replace("\0", "")[:MOST_WHY], raw))

    def _declare(self, piece: Piece, stream: Stream, timezone: str) -> int:
        tombstone = piece.content
        if not isinstance(tombstone, Tombstone):
            raise TypeError("rows are not declared")
        first = stream.mark + 1
        rollup = msgspec.json.encode(tombstone.rollup).decode("utf-8")
        place = stream.gateway, stream.epoch, stream.lane, first, tombstone.last
        self._db.execute("INSERT INTO declared VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*place, tombstone.reason, rollup, self._received_us))
        self.write()
        here = self._db.stored(stream.stream, tombstone.first, stream.mark) if tombstone.first < first else []
        tally = Tally(timezone)
        tally.add_sums(tombstone.rollup, [(record_us, event) for _, record_us, event in here])
        self._effects.add(stream.gateway, tally)
        count = tombstone.last - stream.mark
        stream.declared += count
        return count

    @staticmethod
    def _breaks(header: Header, stream: Stream) -> bool:
        """Whether a batch continues other rows than those that are stored: a running box was put back, memory and all."""
        return bool(header.first == stream.mark + 1 and header.before and stream.head and header.before != stream.head)

    def _differs(self, batch: ReadyBatch, stream: Stream) -> bool:
        """Whether other rows are stored under the batch's numbers."""
        self.write()
        for piece in batch.pieces:
            if piece.first > stream.mark or isinstance(piece.content, Tombstone):
                continue
            upto = min(stream.mark, piece.last)
            same = {seq: event.encode() for seq, _, event in self._db.stored(stream.stream, piece.first, upto)}
            aside = self._db.execute(
                "SELECT seq, event FROM quarantine WHERE gateway = ? AND epoch = ? AND lane = ? AND seq BETWEEN ? AND ?",
                (stream.gateway, stream.epoch, stream.lane, piece.first, upto),
            )
            same |= {seq: bytes(event) for seq, event in aside.fetchall()}
            if any(piece.content[seq - piece.first][1] != event for seq, event in same.items()):
                return True
        return False


class _OneByOne(_Taking):
    """The same, with each row tried by itself."""

    def _rows(self, made: Ready, fresh: Rows, stream: Stream) -> list[StoredRow]:
        told: list[StoredRow] = []
        for seq, row in enumerate(fresh, stream.mark + 1):
            self.write()
            self._db.execute("SAVEPOINT one")
            try:
                shown = super()._rows(ready(seq, [row], made.tally.timezone), [row], stream)
                self.write()
            except self._db.unfit as error:
                self._db.execute("ROLLBACK TO SAVEPOINT one")
                self._forget(stream)
                self._set_aside(stream, seq, *row, type(error).__name__)
            else:
                told += shown
            self._db.execute("RELEASE SAVEPOINT one")
        return told

    def _forget(self, stream: Stream) -> None:
        self._runs = []
        self._aside = []
        self._written_id = -1
        self._effects = Effects(self._db, self._received_us)
        stream.changed = True
