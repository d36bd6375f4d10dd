"""What becomes of rows later: merged while they wait for a line, trimmed once headquarters has them, forgotten after their time.

Each slice is one small transaction, taken only while nobody waits for the writing thread. Lanes 1 and 2 go behind
headquarters' cursor. Lane 0 goes behind the mark of the oldest backup headquarters may be restored from, and after three
days; rows of it that still decide something are kept for good, since the used-set is rebuilt from them.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from gateway.blocks import (
    Stored,
    compressed,
    decompressed,
    kinds_of,
    made_tombstone,
    merged,
    pack_numbered,
    rows_of,
    type_of,
    unpack_numbered,
)
from gateway.clock import Clock
from gateway.columns import Tombstone
from gateway.events import (
    ActionDenied,
    AuthorizationEnded,
    EpochOpened,
    Lane,
    MemberLookedUp,
    MemberRecognised,
    RedemptionRefused,
    VoucherAuthorized,
)  # fmt: skip
from gateway.ledger import records
from gateway.ledger.records import LANES, LOCAL_LANE, SELECT_BLOCK, Base, Kept
from gateway.ledger.room import rolled_up
from gateway.ledger.survey import TALLY

ANSWERS_US: Final = 72 * 3600 * 1_000_000  # a request may be asked again for so long
HOUR_US: Final = 3600 * 1_000_000
SEAL_ROWS: Final = 500  # packing them takes a PC 10 ms; more would pack little better
SMALL_ROWS: Final = SEAL_ROWS // 2  # a block of fewer may be merged
TRIM_BLOCKS: Final = 64  # of one slice
TRIM_FROM_BLOCKS: Final = 16  # fewer wait for company, or for `PATIENCE` looks
PATIENCE: Final = 12
KEPT_TOGETHER: Final = 400  # rows of one kept piece
# Nothing is decided from these; a hold is over long before its row is three days old, and what it captured is a row of its own.
FORGOTTEN: Final = frozenset(
    kind.__name__
    for kind in (
        RedemptionRefused,
        EpochOpened,
        VoucherAuthorized,
        AuthorizationEnded,
        ActionDenied,
        MemberRecognised,
        MemberLookedUp,
    )
)
SLICE_B: Final = 8 * 1024  # what a slice writes beside its blocks, about


class Line(Struct, frozen=True):
    """How far a lane of an epoch may be trimmed, as the loop's thread last said."""

    cursor: int = 0
    backed_up: int = 0
    reach: int = 0


class Keeping:
    """Used by the writing thread only, but for `lines`, whose values are replaced whole.

    Args:
        shrunk: Called on the writing thread with the number of an epoch of which only its line is left.
    """

    def __init__(self, connection: sqlite3.Connection, key: bytes, clock: Clock, shrunk: Callable[[int], None]) -> None:
        self._connection = connection
        self._shrunk = shrunk
        self._key = key
        self._clock = clock
        self.lines: dict[tuple[int, int], Line] = {}
        self._seen: tuple[dict[tuple[int, int], Line], bool, int] | None = None
        self._idle = 0  # looks since then that found nothing to do
        self._sealed: dict[tuple[int, int], int] = {}
        self._rolled: dict[tuple[int, int], int] = {}
        self._looks: Counter[tuple[int, int]] = Counter()

    def slice(self, full: bool) -> int:
        """One small piece of work, if any is due; returns about how many bytes it wrote."""
        old_us = self._clock.bounds_us()[0] - ANSWERS_US
        lines = dict(self.lines)
        if (lines, full, old_us // HOUR_US) != self._seen:
            self._seen, self._idle = (lines, full, old_us // HOUR_US), 0
        elif self._idle > PATIENCE:
            return 0
        for place in sorted(lines):
            written_b = self._trim(place, old_us) or self._roll_up(place, full) or self._seal(place, old_us)
            if written_b:
                return written_b + SLICE_B
        written_b = self._shrink()
        self._idle += not written_b
        return written_b

    def _found(self, place: tuple[int, int], after: int, upto: int, limit: int) -> list[Stored]:
        sql = f"{SELECT_BLOCK} WHERE epoch=? AND lane=? AND first>? AND first<=? ORDER BY first LIMIT ?"
        return [Stored(*values) for values in self._connection.execute(sql, (*place, after, upto, limit))]

    # ------------------------------------------------------------ trimming

    def _trim(self, place: tuple[int, int], old_us: int) -> int:
        line, lane = self.lines[place], place[1]
        upto = line.reach if lane == LOCAL_LANE else min(line.cursor, line.backed_up) if lane == Lane.MONEY else line.cursor
        found = []
        for block in self._found(place, 0, upto, TRIM_BLOCKS):
            if block.last > upto or (lane in (Lane.MONEY, LOCAL_LANE) and block.until_us >= old_us):
                break
            found.append(block)
        self._looks[place] += 1
        if not found or (len(found) < TRIM_FROM_BLOCKS and self._looks[place] < PATIENCE and len(found[0].body) < 4096):
            return 0
        self._looks[place] = 0
        self._take_away(place, found)
        return 1

    def _take_away(self, place: tuple[int, int], found: list[Stored]) -> None:
        kinds: Counter[str] = Counter()
        for block in found:
            kinds.update(kinds_of(block))
        self._connection.execute("BEGIN IMMEDIATE")
        if place[1] == Lane.MONEY:
            self._keep(place[0], found)
        self._connection.executemany("DELETE FROM block WHERE id=?", [(block.id,) for block in found])
        records.set_base(self._connection, self._key, *place, Base(found[-1].last, found[-1].head))
        if kinds:
            tally = Counter(msgspec.json.decode(records.note(self._connection, self._key, TALLY) or b"{}", type=dict[str, int]))
            tally.update(kinds)
            records.set_note(self._connection, self._key, TALLY, msgspec.json.encode(tally))
        self._connection.execute("COMMIT")

    def _keep(self, epoch: int, found: list[Stored]) -> None:
        """Hold on to what still counts of lane 0, and say that the rest was looked at."""
        rows: list[tuple[int, int, bytes]] = []
        for block in found:
            held = rows_of(block)
            if not isinstance(held, Tombstone):
                rows += [(seq, us, event) for seq, (us, event) in enumerate(held, block.first) if type_of(event) not in FORGOTTEN]
        first = found[0].first
        before = [piece for piece in records.kept(self._connection, self._key) if piece.epoch == epoch and piece.last == first - 1]
        if before and len(together := unpack_numbered(decompressed(before[0].body)) + rows) <= KEPT_TOGETHER:
            self._connection.execute("DELETE FROM kept WHERE id=?", (before[0].id,))
            first, rows = before[0].first, together
        records.add_kept(self._connection, self._key, Kept(epoch, first, found[-1].last, compressed(pack_numbered(rows))))

    def _shrink(self) -> int:
        """An epoch that headquarters and its backups have becomes one line; its child's line knows how far it had come."""
        lines = dict(self.lines)
        waiting = {number for (number, lane), line in lines.items() if lane != LOCAL_LANE and line.cursor < line.reach}
        current = max((number for number, _ in lines), default=0)
        candidates = {number for number in {number for number, _ in lines} - waiting - {current} if not self._holds(number)}
        ends = {epoch.number - 1: epoch.parent_heads for epoch in records.epochs(self._connection, self._key)} if candidates else {}
        bases = records.bases(self._connection, self._key) if candidates else {}
        for number in sorted(candidates & ends.keys()):
            done = all(bases.get((number, lane), Base(0, b"")).seq == seq for lane, (seq, _) in ends[number].items())
            if done and Lane.MONEY in ends[number]:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute("DELETE FROM trimmed WHERE epoch=?", (number,))
                self._connection.execute("DELETE FROM cursor WHERE epoch=?", (number,))
                self._connection.execute("COMMIT")
                for lane in LANES:
                    self.lines.pop((number, lane), None)
                self._shrunk(number)
                return 1
        return 0

    def _holds(self, number: int) -> bool:
        return self._connection.execute("SELECT 1 FROM block WHERE epoch=?", (number,)).fetchone() is not None

    # ------------------------------------------------------------ merging

    def _seal(self, place: tuple[int, int], old_us: int) -> int:
        """Merge small blocks that wait for a line. The youngest stay as they are: they may be on their way."""
        line, after = self.lines[place], self._sealed.get(place, 0)
        if line.reach - max(after, line.cursor) < 2 * SEAL_ROWS and not (place[1] == Lane.MONEY and line.reach - after >= SEAL_ROWS):
            return 0
        found: list[Stored] = []
        rows = 0
        for block in self._found(place, after, line.reach - (0 if place[1] == Lane.MONEY else SEAL_ROWS), SEAL_ROWS):
            held = block.last - block.first + 1
            if place[1] == Lane.MONEY and block.until_us >= old_us:
                break
            if held >= SMALL_ROWS or isinstance(rows_of(block), Tombstone):
                if found:
                    break
                self._sealed[place] = block.last
                continue
            found.append(block)
            rows += held
            if rows >= SEAL_ROWS:
                break
        if rows < SEAL_ROWS and not (found and rows >= SMALL_ROWS):
            return 0
        return self._merge(place, found, keep_local=place[1] == Lane.MONEY and found[-1].last > line.cursor)

    def _merge(self, place: tuple[int, int], found: list[Stored], *, keep_local: bool) -> int:
        block = merged(self._key, found, keep_local=keep_local)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("DELETE FROM block WHERE id=?", [(one.id,) for one in found])
        records.add_block(self._connection, block)
        self._connection.execute("COMMIT")
        self._sealed[place] = block.last
        return len(block.body) + len(block.local or b"")

    # ------------------------------------------------------------ a disk without room

    def _roll_up(self, place: tuple[int, int], full: bool) -> int:
        """On a nearly full disk foot traffic is only summed up, block by block: its pages serve money."""
        if not full or place[1] != Lane.TRAFFIC:
            return 0
        line, after = self.lines[place], self._rolled.get(place, 0)
        stones = []
        for block in self._found(place, max(after, line.cursor - 1), line.reach, TRIM_BLOCKS):
            rows = rows_of(block)
            if not isinstance(rows, Tombstone):
                stones.append((block, made_tombstone(self._key, place, rolled_up(block.first, rows), block.until_us, block.head)))
            self._rolled[place] = block.last
        if not stones:
            return 0
        self._connection.execute("BEGIN IMMEDIATE")
        for block, stone in stones:
            self._connection.execute("DELETE FROM block WHERE id=?", (block.id,))
            records.add_block(self._connection, stone)
        self._connection.execute("COMMIT")
        return len(stones) * 300
