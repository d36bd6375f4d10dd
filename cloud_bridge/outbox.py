"""Which rows to send next: pure bookkeeping over what core names, what HQ answered and how long that took.

Lane 0 goes first. Within a lane the epochs go oldest first, and an epoch's rows start only when its parent's are all
acknowledged, so no row overtakes an ancestor. A few batches may be under way: by number, and in the slow lanes by bytes too,
so that money never waits long behind them.

Nothing is sent twice on a guess. A batch goes again when headquarters' answers show that it is missing (a later one was answered,
the same mark was named again), or when its answer is late *and* headquarters has shown a sign of life since: while it is away,
only beats knock. After a new connection one small batch asks for all; its answer names the mark, and what lies below is not sent again.
What is believed of headquarters' mark is a hint: two late answers in a row, and sending starts again from the cursor.
"""

from typing import Final

from msgspec import Struct, field

from cloud_bridge.pace import RoundTrip, Window

WINDOW_BATCHES: Final = 4
MIN_RESEND_S: Final = 1.0  # RFC 6298, 2.4
MIN_RESEND_SLOW_S: Final = 3.0  # in the slow lanes nobody waits, and a busy headquarters may take a while for large batches
MAX_RESEND_S: Final = 30.0  # also: how long to wait for a sign of life before trying without
AGE_S: Final = {0: 0.0, 1: 0.5, 2: 2.0}  # how long the first row of a batch that is not full waits for others
FIRST_ROW_B: Final = 60.0  # bytes a row takes in a message, until it was measured
ROW_WEIGHT: Final = 0.25
TOLD_S: Final = 3.0  # how long somebody else may take to tell core what HQ has
MARKS_KEPT: Final = 300
UNHEARD_TRIES: Final = 4
FORGET_TRIES: Final = 3  # sent so often without an answer: do not believe the mark

Marks = dict[int, dict[int, int]]


class Span(Struct, frozen=True):
    """Send rows with after < seq <= upto: whole blocks, about `rows` of them."""

    epoch: int
    lane: int
    after: int
    upto: int
    rows: int


class Flight(Struct):
    """One batch under way."""

    after: int
    upto: int
    size_b: int
    sent_s: float
    order: int  # of its last sending, among all
    tries: int = 1
    lost: bool = False  # known not to have counted
    answered: bool = False
    asks: bool = False  # goes again only to hear HQ's mark: as few rows as may be


class Road(Struct):
    """One lane under way."""

    epoch: int = 0
    flights: list[Flight] = field(default_factory=list)  # by `after`
    trip: RoundTrip = field(default_factory=RoundTrip)
    backoff: float = 1.0  # doubles with each late answer, until one comes to a batch that was sent once (Karn)
    row_b: float = FIRST_ROW_B
    since_s: float | None = None  # since when rows wait that were never sent
    told_s: float | None = None  # since when HQ has all rows and core does not know it


class Outbox:
    """Of one box."""

    def __init__(self, batch_rows: int) -> None:
        self._batch_rows = batch_rows
        self._reach: Marks = {}
        self._cursors: Marks = {}
        self._marks: dict[tuple[int, int], tuple[int, int]] = {}  # HQ's mark by epoch and lane, and when HQ said so
        self._roads: dict[int, Road] = {}
        self._window = Window()
        self._order = 0
        self._line_s = -MAX_RESEND_S  # when this connection began
        self._heard_s = -MAX_RESEND_S  # what was sent then was answered
        self.sent_rows = 0
        self.resent_rows = 0

    # ------------------------------------------------------------ what is heard

    def heed(self, reach: Marks, cursors: Marks, now_s: float) -> None:
        """Core names how far rows are on the disk and how far HQ has acknowledged them."""
        for lane, road in self._roads.items():
            if cursors.get(road.epoch, {}).get(lane, 0) < self._cursor(road.epoch, lane):  # core started anew
                road.flights = [flight for flight in road.flights if not flight.answered]
        self._reach, self._cursors = reach, cursors
        for place in sorted(self._marks)[:-MARKS_KEPT]:  # an epoch that was done may come back: core may have lost its cursor
            del self._marks[place]
        for lane in {lane for lanes in reach.values() for lane in lanes}:
            road = self._roads.setdefault(lane, Road())
            if road.since_s is None and (epoch := self._open_epoch(lane)) is not None and self._top(epoch, lane, road) < reach[epoch][lane]:
                road.since_s = now_s

    def answered(self, epoch: int, lane: int, seq: int, mark: int, at_us: int, now_s: float) -> None:
        """HQ acknowledged a batch that ends at `seq`, or names the mark after which rows are missing; HQ's clock said `at_us`."""
        known, said_us = self._marks.get((epoch, lane), (0, 0))
        if at_us >= said_us:
            self._marks[epoch, lane] = mark, at_us
        road = self._roads.get(lane)
        if road is None or road.epoch != epoch:
            return
        flight = next((flight for flight in road.flights if flight.upto == seq and not flight.answered), None)
        if flight is not None:
            self._measure(flight, road, lane, now_s)
            missing = [other for other in road.flights if other.upto > mark and other.order < flight.order]
        else:  # the same mark named again: something after it came, and did not fit
            gap = seq == mark == max(known, self._cursor(epoch, lane))
            missing = [other for other in road.flights if gap and other.upto > mark and other.tries == 1]
            missing = missing if mark == 0 or any(other.after > mark for other in missing) else []
        for other in road.flights:
            other.answered = other.answered or other.upto <= mark
            other.lost = (other.lost or other in missing) and not other.answered
            other.asks = other.asks and other not in missing

    def heard(self, sent_s: float) -> None:
        """HQ answered something that was sent then: it is there."""
        self._heard_s = max(self._heard_s, sent_s)

    def forget(self, epoch: int, lane: int, seq: int, at_us: int) -> None:
        """HQ's clock said `at_us` and HQ had no more than this: if it once had more, that is lost."""
        mark, said_us = self._marks.get((epoch, lane), (0, 0))
        if at_us < said_us or seq >= max(mark, self._cursor(epoch, lane)):
            return  # it asks for what is on its way
        self._marks[epoch, lane] = min(mark, seq), at_us
        if (road := self._roads.get(lane)) is not None and road.epoch == epoch:
            road.flights.clear()

    def restart(self, now_s: float) -> None:
        """A new connection: of what was under way, nobody knows how much arrived. One batch of each lane asks."""
        self._line_s = now_s
        for lane, road in self._roads.items():
            flight = self._unanswered(road, lane)
            if flight is not None:
                flight.lost = flight.asks = True

    # ------------------------------------------------------------ what to send

    def next(self, now_s: float, lanes: range = range(256)) -> Span | None:
        """What to send now of these lanes, if anything. It counts once `sent` is called."""
        for lane in sorted(set(self._roads).intersection(lanes)):
            epoch = self._open_epoch(lane)
            if epoch is not None and (span := self._span(epoch, lane, now_s)) is not None:
                return span
        return None

    def wait_s(self, now_s: float, lanes: range = range(256)) -> float | None:
        """How long until time alone may give something to send; None: not before something is heard."""
        waits = [wait_s for lane, road in self._roads.items() if lane in lanes for wait_s in self._waits(lane, road, now_s)]
        return max(0.0, min(waits)) if waits else None

    def is_unheard(self) -> bool:
        """Whether a batch was sent again and again without an answer, though HQ is there: the line may be deaf for answers."""
        found = (self._unanswered(road, lane) for lane, road in self._roads.items())
        return any(late is not None and late.tries >= UNHEARD_TRIES and self._heard_s >= late.sent_s for late in found)

    def sent(self, span: Span, upto: int, size_b: int, now_s: float) -> None:
        """A span's rows up to `upto` went, in a message of that size."""
        road = self._roads[span.lane]
        rows = upto - span.after
        if road.epoch != span.epoch or rows <= 0:
            return
        self._order += 1
        self.sent_rows += rows
        road.row_b += ROW_WEIGHT * (size_b / rows - road.row_b)
        again = next((flight for flight in road.flights if flight.after == span.after), None)
        if again is not None:
            self.resent_rows += min(upto, again.upto) - again.after
            self._send_again(road, again, upto, size_b, now_s)
        elif span.after == (top := self._top(span.epoch, span.lane, road)) or (not road.flights and span.after < top):
            road.flights.append(Flight(span.after, upto, size_b, now_s, self._order))
            road.since_s = now_s if upto < self._reach.get(span.epoch, {}).get(span.lane, 0) else None

    # ------------------------------------------------------------ inside

    def _span(self, epoch: int, lane: int, now_s: float) -> Span | None:
        road, cursor, reach = self._roads[lane], self._cursor(epoch, lane), self._reach[epoch][lane]
        if road.epoch != epoch:
            road.epoch, road.flights = epoch, []
        road.flights = [flight for flight in road.flights if flight.upto > cursor]
        mark, _ = self._marks.get((epoch, lane), (0, 0))
        if road.flights and road.flights[0].after > max(cursor, mark):
            road.flights.clear()  # HQ lost what was before them
        if not self._is_there(now_s):
            return None
        again = self._to_send_again(road, lane, now_s)
        if again is not None:
            return Span(epoch, lane, again.after, reach, 1 if again.asks else again.upto - again.after)
        top = self._top(epoch, lane, road)
        if top >= reach:
            return None if road.flights else self._last(epoch, lane, now_s)
        road.told_s = None
        rows = self._room(road, lane, now_s)
        if rows == 0 or (reach - top < rows and self._too_young(road, lane, now_s)):
            return None
        return Span(epoch, lane, top, reach, rows)

    def _last(self, epoch: int, lane: int, now_s: float) -> Span | None:
        """HQ has all rows and core does not know: the answer to the last one says so, if core does not learn it otherwise."""
        road, reach = self._roads[lane], self._reach[epoch][lane]
        road.told_s = now_s if road.told_s is None else road.told_s
        return Span(epoch, lane, reach - 1, reach, 1) if now_s - road.told_s >= TOLD_S else None

    def _to_send_again(self, road: Road, lane: int, now_s: float) -> Flight | None:
        lost = next((flight for flight in road.flights if flight.lost), None)
        if lost is not None:
            return lost
        late = self._unanswered(road, lane)
        if late is None or now_s < self._due_s(road, late):
            return None
        if late.tries >= FORGET_TRIES and late.after > self._cursor(road.epoch, lane):
            self._marks.pop((road.epoch, lane), None)
            road.flights.clear()
            return None
        return late

    def _due_s(self, road: Road, flight: Flight) -> float:
        """When an unanswered batch goes again: its answer is late and HQ has answered something younger, or far too late."""
        least_s = MIN_RESEND_S if road is self._roads.get(0) else MIN_RESEND_SLOW_S
        patience_s = max(least_s, road.trip.patience_s) * road.backoff
        if self._heard_s < flight.sent_s:
            return flight.sent_s + MAX_RESEND_S
        return flight.sent_s + min(MAX_RESEND_S, patience_s)

    def _room(self, road: Road, lane: int, now_s: float) -> int:
        """Rows that may be sent now, beyond what is under way."""
        open_ = [flight for flight in road.flights if not flight.answered]
        late = any(now_s - flight.sent_s > road.trip.patience_s or flight.sent_s < self._line_s for flight in open_)
        if late or len(open_) >= WINDOW_BATCHES:
            return 0
        if lane == 0:
            return self._batch_rows
        slow_b = sum(flight.size_b for number, one in self._roads.items() if number for flight in one.flights if not flight.answered)
        if slow_b >= self._window.size_b:
            return 0
        return max(1, min(self._batch_rows, int(self._window.size_b / 2 / road.row_b)))

    def _too_young(self, road: Road, lane: int, now_s: float) -> bool:
        return road.since_s is not None and now_s - road.since_s < AGE_S.get(lane, 0.0)

    def _waits(self, lane: int, road: Road, now_s: float) -> list[float]:
        if self._open_epoch(lane) is None:
            return []
        if not self._is_there(now_s):
            return [self._line_s + MAX_RESEND_S - now_s]
        late = self._unanswered(road, lane)
        waits = [] if late is None else [self._due_s(road, late) - now_s]
        if road.told_s is not None and not road.flights:
            waits.append(road.told_s + TOLD_S - now_s)
        if road.since_s is not None and (young_s := road.since_s + AGE_S.get(lane, 0.0) - now_s) > 0:
            waits.append(young_s)  # when it is past, only an answer makes room
        return waits

    def _unanswered(self, road: Road, lane: int) -> Flight | None:
        """The first batch that HQ is not known to have; if it has all, the last one, whose acknowledgement is missing."""
        mark, _ = self._marks.get((road.epoch, lane), (0, 0))
        return next((flight for flight in road.flights if flight.upto > mark), road.flights[-1] if road.flights else None)

    def _measure(self, flight: Flight, road: Road, lane: int, now_s: float) -> None:
        self.heard(flight.sent_s)
        if flight.tries == 1:
            road.trip.measure(now_s - flight.sent_s)
            road.backoff = 1.0
            if lane:
                self._window.answered(flight.size_b, flight.sent_s, now_s)

    def _send_again(self, road: Road, flight: Flight, upto: int, size_b: int, now_s: float) -> None:
        if not flight.lost:
            road.backoff = min(MAX_RESEND_S, road.backoff * 2)
        left = Flight(upto, flight.upto, flight.size_b, flight.sent_s, flight.order, flight.tries, lost=not flight.asks)
        flight.upto, flight.size_b, flight.sent_s, flight.order = upto, size_b, now_s, self._order
        flight.tries, flight.lost, flight.answered = flight.tries + 1, False, False
        if left.after < left.upto:
            road.flights.insert(road.flights.index(flight) + 1, left)
        # Blocks were merged meanwhile: others went along.
        road.flights = [other for other in road.flights if other is flight or other.after < flight.after or other.upto > upto]
        if road is not self._roads.get(0):
            self._window.narrow(now_s)

    def _open_epoch(self, lane: int) -> int | None:
        return next((number for number in sorted(self._reach) if self._reach[number].get(lane, 0) > self._cursor(number, lane)), None)

    def _top(self, epoch: int, lane: int, road: Road) -> int:
        """Up to where rows are under way, or HQ is believed to have them."""
        mark, _ = self._marks.get((epoch, lane), (0, 0))
        flown = road.flights[-1].upto if road.flights and road.epoch == epoch else 0
        return max(self._cursor(epoch, lane), mark, flown)

    def _is_there(self, now_s: float) -> bool:
        """Whether HQ has answered on this connection, or has kept us waiting for so long that we try."""
        return self._heard_s >= self._line_s or now_s - self._line_s >= MAX_RESEND_S

    def _cursor(self, epoch: int, lane: int) -> int:
        return self._cursors.get(epoch, {}).get(lane, 0)
