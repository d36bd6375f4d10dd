"""Which rows to send next: pure bookkeeping over what core names and what HQ acknowledged.

Lane 0 goes first. Within a lane the epochs go oldest first, and an epoch's rows start only when its parent's are all
acknowledged, so no row overtakes an ancestor. A few batches may be under way; when HQ names a lower mark than we sent after,
or falls silent for longer than its answers have lately taken, sending starts again from the cursor: HQ drops what it has.
"""

from typing import Final

from msgspec import Struct

WINDOW_BATCHES: Final = 4
MIN_RESEND_S: Final = 1.0
MAX_RESEND_S: Final = 30.0
ANSWERS_PATIENCE: Final = 4.0  # times the usual answer
SMOOTHING: Final = 0.2


class Span(Struct, frozen=True):
    """Rows to send: after < seq <= upto."""

    epoch: int
    lane: int
    after: int
    upto: int


class Road(Struct):
    """One lane under way."""

    epoch: int = 0
    sent: int = 0
    stirred_s: float = 0.0  # when something was last sent into silence, or acknowledged
    patience: float = 1.0  # doubles with each resend that brought nothing


class Outbox:
    """Of one box."""

    def __init__(self, batch_rows: int) -> None:
        self._batch_rows = batch_rows
        self._reach: dict[int, dict[int, int]] = {}
        self._cursors: dict[int, dict[int, int]] = {}
        self._roads: dict[int, Road] = {}
        self._answer_s = 0.0
        self.resent_rows = 0

    def heed(self, reach: dict[int, dict[int, int]], cursors: dict[int, dict[int, int]], now_s: float) -> None:
        """Core names how far rows are on the disk and how far HQ has acknowledged them."""
        for road_lane, road in self._roads.items():
            moved = cursors.get(road.epoch, {}).get(road_lane, 0) - self._cursors.get(road.epoch, {}).get(road_lane, 0)
            if moved > 0:
                waited_s = now_s - road.stirred_s
                self._answer_s += SMOOTHING * (waited_s - self._answer_s)
                road.stirred_s, road.patience = now_s, 1.0
        self._reach, self._cursors = reach, cursors

    def rewind(self, epoch: int, lane: int, mark: int) -> None:
        """HQ says it has come to `mark` and no further: what was sent after it did not count."""
        road = self._roads.get(lane)
        if road is not None and road.epoch == epoch and mark < road.sent:
            self._restart(road, lane)

    def restart(self) -> None:
        """A new connection: nothing that was under way is."""
        for lane, road in self._roads.items():
            self._restart(road, lane)

    def next(self, now_s: float) -> Span | None:
        """What to send now, if anything; it counts as sent."""
        for lane in sorted({lane for lanes in self._reach.values() for lane in lanes}):
            epoch = next((number for number in sorted(self._reach) if self._waiting(number, lane)), None)
            if epoch is None:
                continue
            span = self._span(epoch, lane, now_s)
            if span is not None:
                return span
        return None

    def _span(self, epoch: int, lane: int, now_s: float) -> Span | None:
        cursor = self._cursor(epoch, lane)
        road = self._roads.setdefault(lane, Road())
        if road.epoch != epoch:
            road.epoch, road.sent, road.patience = epoch, cursor, 1.0
        road.sent = max(road.sent, cursor)
        if road.sent > cursor and now_s - road.stirred_s > self._resend_s(road):
            self.resent_rows += road.sent - cursor
            road.sent, road.patience = cursor, road.patience * 2
        upto = min(self._reach[epoch][lane], road.sent + self._batch_rows)
        if upto <= road.sent or road.sent - cursor >= WINDOW_BATCHES * self._batch_rows:
            return None
        if road.sent == cursor:
            road.stirred_s = now_s
        span = Span(epoch, lane, road.sent, upto)
        road.sent = upto
        return span

    def shorten(self, span: Span, upto: int) -> None:
        """Only rows up to `upto` of a span were sent, since a message has a size limit."""
        road = self._roads[span.lane]
        if road.epoch == span.epoch and upto < road.sent <= span.upto:
            road.sent = upto

    def _restart(self, road: Road, lane: int) -> None:
        cursor = self._cursor(road.epoch, lane)
        self.resent_rows += max(0, road.sent - cursor)
        road.sent = cursor

    def _waiting(self, epoch: int, lane: int) -> bool:
        return self._reach[epoch].get(lane, 0) > self._cursor(epoch, lane)

    def _cursor(self, epoch: int, lane: int) -> int:
        return self._cursors.get(epoch, {}).get(lane, 0)

    def _resend_s(self, road: Road) -> float:
        return min(MAX_RESEND_S, max(MIN_RESEND_S, self._answer_s * ANSWERS_PATIENCE) * road.patience)
