"""The one writer's outside: what core reads at its start, appends, and is told of headquarters."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gateway.blocks import StoredAnswer
from gateway.chain import StoredRow, parse_name
from gateway.clock import Clock
from gateway.errors import LedgerError
from gateway.events import LANE_OF, Lane, Row
from gateway.ledger.connect import lock
from gateway.ledger.keeping import Keeping, Line
from gateway.ledger.mark import MarkFile
from gateway.ledger.reader import LedgerReader
from gateway.ledger.records import LANES, LOCAL_LANE, Base, Cursor, StoredDocument
from gateway.ledger.room import Limits, Room
from gateway.ledger.start import MARK_SUFFIX, Started, first_mark, is_lost, start
from gateway.ledger.survey import Damage
from gateway.ledger.writer import Work, Writer
from gateway.meters import Histogram

URGENT = frozenset(kind for kind, lane in LANE_OF.items() if lane is Lane.MONEY)


class Ledger:
    """Made on the loop's thread; a thread of its own commits.

    Args:
        committed: Called on the loop after each commit.
        failed: Called on the loop once, when a commit failed: the process must end.
        limits: When the disk counts as nearly full.

    Raises:
        LedgerError: No file, another release's, another writer, or the disk does not let us. Never for damage: see `damage`.
    """

    def __init__(
        self, path: Path, clock: Clock, software: str, committed: Callable[[], None], failed: Callable[[LedgerError], None],
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Work] = []
        with contextlib.ExitStack() as undo:
            self._lock = lock(path)
            undo.callback(os.close, self._lock)
            self._room = Room(path, limits or Limits())
            started = self._start(path, clock, software)
            undo.callback(started.connection.close)
            self._connection = started.connection
            self.reader = LedgerReader(path)
            undo.callback(self.reader.close)
            self._mark_file = MarkFile(path.with_suffix(MARK_SUFFIX), started.key)
            undo.callback(self._mark_file.close)
            mark = first_mark(started)
            self._mark_file.write(mark)
            undo.pop_all()
        self.epoch = started.epoch
        self.damage: list[Damage] = started.damage
        self.harmed: list[str] = started.found.harmed
        self.set_aside = started.set_aside
        self.lost = is_lost(path, started.epoch)
        self._take_over(started)
        self._keeping = Keeping(started.connection, started.key, clock, self._shrunk)
        self._tell_keeping(self.reach)
        self._writer = Writer(
            started.connection, started.key, clock, mark, self._mark_file, self._room, self._keeping, self._settle, failed
        )

    def _start(self, path: Path, clock: Clock, software: str) -> Started:
        try:
            return start(path, clock, software)
        except LedgerError:
            # Nothing was answered yet, so beginning once more is no second try of a commit. SQLite's index needs room even to read.
            if not self._room.full or not self._room.give_up():
                raise
            return start(path, clock, software)

    def _take_over(self, started: Started) -> None:
        found, current = started.found, started.epoch.number
        self._answers = found.answers
        self._numbers = {epoch.name: epoch.number for epoch in (*found.epochs.values(), started.epoch)}
        self._sources = {lane: list(sources) for lane, sources in found.sources.items()}
        self._local_reach: dict[int, int] = {}
        self.reach: dict[int, dict[int, int]] = {current: {int(Lane.MONEY): 1}}
        for (epoch, lane), base in found.bases.items():
            spans = found.spans.get((epoch, lane))
            if last := spans[-1].last if spans else base.seq:
                self._local_reach[epoch] = last if lane == LOCAL_LANE else self._local_reach.get(epoch, 0)
                if lane != LOCAL_LANE:
                    self.reach.setdefault(epoch, {})[lane] = last
        self.cursors: dict[int, dict[int, int]] = {}
        self._backed_up: dict[tuple[int, int], int] = {}
        for (epoch, lane), cursor in found.cursors.items():
            self.cursors.setdefault(epoch, {})[lane] = cursor.seq
            self._backed_up[epoch, lane] = cursor.backed_up

    # ------------------------------------------------------------ reading

    def history(self) -> Iterator[tuple[StoredRow, Row]]:
        """Every row of lane 0 that is left, oldest first; lost ranges are passed over (they are in `damage` once).

        Raises:
            LedgerError: A row is of a kind this release does not know.
        """
        return self.reader.history()

    def recent_sources(self, limit: int = 20_000) -> list[str]:
        """Identifiers of the events behind the latest rows of the slow lanes: a driver may state them again."""
        return [source for lane in (Lane.TRAFFIC, Lane.HEALTH) for source in self._sources.get(lane, [])[-limit:]]

    def answers(self) -> dict[str, StoredAnswer]:
        """All answers of earlier lives that may still be asked for, by key."""
        return dict(self._answers)

    def documents(self) -> list[StoredDocument]:
        """HQ's documents in force."""
        return self.reader.documents()

    def counts(self) -> dict[str, int]:
        """Rows by type."""
        return self.reader.counts()

    def head_at(self, epoch: int, lane: int, seq: int) -> str | None:
        """The chain head at a row, in hex; None if there is no such row, or nothing of it is left."""
        found = self.reader.head_at(epoch, lane, seq)
        return found.hex() if found is not None else None

    def epoch_number(self, name: str) -> int | None:
        """The number of an epoch of this ledger by its full name."""
        return self._numbers.get(name)

    @property
    def head(self) -> dict[int, tuple[int, bytes]]:
        """Of each lane of this epoch the last committed row and its head."""
        return {lane: head for lane, head in self._writer.heads.items() if lane != LOCAL_LANE}

    @property
    def commits(self) -> Histogram:
        """How long commits took."""
        return self._writer.commits

    @property
    def full(self) -> bool:
        """The disk is nearly full: foot traffic is being rolled up."""
        return self._room.full

    @property
    def waiting(self) -> int:
        """Committed rows that HQ has not acknowledged."""
        return sum(last - self.cursors.get(epoch, {}).get(lane, 0) for epoch, lanes in self.reach.items() for lane, last in lanes.items())

    async def prove(self) -> None:
        """A real round trip of both connections, through the writing thread: nothing is written.

        Raises:
            LedgerError: The file cannot be read.
        """
        self.reader.prove()
        await asyncio.shield(self._put(Work(self._loop.create_future(), proof=True, urgent=True)))

    # ------------------------------------------------------------ writing

    def append(
        self,
        rows: list[Row],
        *,
        source_id: str = "",
        answer: StoredAnswer | None = None,
        document: StoredDocument | None = None,
    ) -> "asyncio.Future[None]":
        """Commit as one; the future is done after the fsync. Calls keep their order within a durability class.

        Args:
            source_id: The driver's event this comes from; kept with the first row.
        """
        urgent = answer is not None or document is not None or any(type(row) in URGENT for row in rows)
        return self._put(Work(self._loop.create_future(), rows, source_id, answer, document, urgent=urgent))

    def move_cursor(self, epoch: int, lane: int, seq: int) -> None:
        """HQ has committed this lane up to `seq`. In memory at once, on disk within the second: lost, it costs a resend."""
        if seq > self.cursors.setdefault(epoch, {}).get(lane, 0):
            self.cursors[epoch][lane] = seq
            self._write_cursors([(epoch, lane)])

    def backed_up(self, epoch_name: str, lane: int, seq: int) -> None:
        """HQ's oldest backup holds this lane up to `seq`: that much need never be sent again."""
        number = self.epoch_number(epoch_name)
        if number is not None and seq > self._backed_up.get((number, lane), 0):
            self._backed_up[number, lane] = seq
            self._write_cursors([(number, lane)])

    def ask_back(self, epoch_name: str, lane: int, from_seq: int) -> bool:
        """HQ no longer has what comes after `from_seq`: the cursor goes back there, never forward. False: no such rows here."""
        number = self.epoch_number(epoch_name)
        if number is None or lane not in map(int, Lane) or from_seq < 0:
            return False
        bases = [] if number in self.reach else self._unshrink(number)
        if from_seq >= self.cursors.get(number, {}).get(lane, 0):
            return False
        self.cursors[number][lane] = from_seq
        self._backed_up[number, lane] = min(from_seq, self._backed_up.get((number, lane), 0))
        self._write_cursors([(number, of) for of in self.cursors[number]], bases)
        return True

    def _unshrink(self, number: int) -> list[tuple[int, int, Base]]:
        """An epoch of which only the line was left has lanes again: trimmed to their ends, and acknowledged."""
        child = next((epoch for epoch in self.reader.epochs() if epoch.number == number + 1), None)
        ends = child.parent_heads if child is not None and parse_name(child.parent or "0")[0] == number else {}
        self.reach[number] = {lane: seq for lane, (seq, _) in ends.items()}
        self.cursors[number] = dict(self.reach[number])
        return [(number, lane, Base(seq, bytes.fromhex(head))) for lane, (seq, head) in ends.items()]

    def close(self) -> None:
        """Commit what waits and end the thread."""
        self._hand_over()
        self._writer.close()
        self.reader.close()
        self._connection.close()  # last: it may fold the log into the file
        self._mark_file.close()
        os.close(self._lock)

    def _write_cursors(self, places: Iterable[tuple[int, int]], bases: list[tuple[int, int, Base]] | None = None) -> None:
        cursors = [Cursor(*place, self.cursors.get(place[0], {}).get(place[1], 0), self._backed_up.get(place, 0)) for place in places]
        self._put(Work(self._loop.create_future(), cursors=cursors, bases=bases or []))
        self._tell_keeping({epoch: self.reach.get(epoch, {}) for epoch, _ in places})

    def _put(self, work: Work) -> "asyncio.Future[None]":
        # Handed over at the end of the loop's turn: all who were answered by one commit are together in the next.
        if not self._waiting:
            self._loop.call_soon(self._hand_over)
        self._waiting.append(work)
        return work.done

    def _hand_over(self) -> None:
        if self._waiting:
            works, self._waiting = self._waiting, []
            self._writer.put(works)

    def _settle(self, works: list[Work], heads: dict[int, tuple[int, bytes]]) -> None:
        number = self.epoch.number
        self.reach[number] = {lane: seq for lane, (seq, _) in heads.items() if lane != LOCAL_LANE}
        self._local_reach[number] = heads.get(LOCAL_LANE, (0, b""))[0]
        for work in works:
            if not work.done.done():
                work.done.set_result(None)
        self._tell_keeping({number: self.reach[number]})
        self._committed()

    def _shrunk(self, number: int) -> None:
        self._loop.call_soon_threadsafe(self._forget, number)

    def _forget(self, number: int) -> None:
        """Only an epoch's line is left. If headquarters asked for its rows while that was done, it is asked for again."""
        reach, cursors = self.reach.pop(number, {}), self.cursors.pop(number, {})
        name = next((epoch.name for epoch in self.reader.epochs() if epoch.number == number), "")
        for lane, seq in cursors.items():
            if seq < reach.get(lane, 0):
                self.ask_back(name, lane, seq)

    def _tell_keeping(self, of: dict[int, dict[int, int]]) -> None:
        for epoch, lanes in of.items():
            cursors = self.cursors.get(epoch, {})
            for lane in LANES:
                reach = self._local_reach.get(epoch, 0) if lane == LOCAL_LANE else lanes.get(lane, 0)
                if reach:
                    self._keeping.lines[epoch, lane] = Line(cursors.get(lane, 0), self._backed_up.get((epoch, lane), 0), reach)
