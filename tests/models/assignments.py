"""Numbered assignments as a small machine, searched whole: `python -m tests.models.assignments`.

It drives the product's own rules (`gateway.rules.assignment.Book`, `gateway.rules.assigning.Assigner`); only the world around them is
made here. Whatever was ever signed may be shown at any box, at any time, again and again or never: grants and claim replies lost,
late, copied. Whatever row was ever written may arrive, in order along its line, also from a branch that is gone. Clocks are
left to the adversary altogether: no end is ever past by the clock, and a settled mark may be written at any time for any end.
Assumed, and shown elsewhere (`tests/models/road.py`): a start on a restored disk is not proven. Box `a` has all the faults, which
by symmetry loses nothing; a disk may be put back to any moment of its past.

A use that was reversed anywhere is no longer spent; what it returned may be spent again, at the box or, when headquarters has the
row, elsewhere.

The promise: units spent, and refunded, never exceed units issued plus what is booked. Booked is what destroyed boxes may have
spent, and what was spent on a branch that is gone before headquarters had received it.
"""

import sys
from functools import lru_cache
from typing import Final

from gateway.events import (
    AssignmentTaken,
    EpochAdmitted,
    RedemptionReversed,
    Released,
    Row,
    SettledThrough,
    VoucherRedeemed,
)
from gateway.rules.assigning import Asked, Assigner, Given, Stand
from gateway.rules.assignment import Book, Running
from gateway.signed import Grant
from tests.models.assignments_state import AT, BOXES, Budget, Hq, Opened, Scene, Start, State, V
from tests.models.careless import CLAUSES, SPARE, assigner_without, book_without

MOST_BOXES: Final = 32  # states whose boxes are at hand: those of the one that is looked at and of its neighbours


class Machine:
    """The world within the bounds of a scene; `dropped` names clauses that are left out."""

    def __init__(self, scene: Scene, dropped: frozenset[str] = frozenset(), *, lean: bool = True) -> None:
        unknown = dropped - CLAUSES.keys() - SPARE.keys()
        if unknown:
            raise ValueError(f"no such clause: {unknown}")
        self.scene = scene
        self.lean = lean  # whether what does not matter is left out (`assignments_lean`)
        self._dropped = dropped
        self.assigner: Assigner = assigner_without(dropped)
        self.book = lru_cache(200_000)(self._book)
        self._boxes: dict[int, tuple[object, object, dict[int, tuple[Book, Running]]]] = {}

    def keeps(self, clause: str) -> bool:
        """Whether a clause is in force."""
        return clause not in self._dropped

    def first(self) -> State:
        """Two boxes, one voucher."""
        left = Budget(*(getattr(self.scene, name) for name in Budget._fields))
        starts = (Start(0, -1, 0, True), Start(1, -1, 0, True))
        hq = Hq(Stand(V, self.scene.units), (0, 0))
        return State(starts, (0, 1), hq, None, None, frozenset(), frozenset(), frozenset(), left)

    # ------------------------------------------------------------ what a box knows

    def line(self, state: State, start: int) -> list[tuple[int, int]]:
        """A start and those it continues, oldest first, each with how many of its rows are on the disk."""
        found = [(start, len(state.starts[start].rows))]
        while (parent := state.starts[found[-1][0]].parent) >= 0:
            found.append((parent, state.starts[found[-1][0]].claimed))
        return found[::-1]

    def chain(self, state: State, start: int) -> tuple[tuple[int, tuple[Row | Opened, ...]], ...]:
        """The rows on a disk, by start."""
        return tuple((one, state.starts[one].rows[:upto]) for one, upto in self.line(state, start))

    def _book(self, box: int, chain: tuple[tuple[int, tuple[Row | Opened, ...]], ...]) -> Book:
        book = book_without(self._dropped, BOXES[box])
        for number, (_, rows) in enumerate(chain):
            for seq, row in enumerate(rows, 1):
                if isinstance(row, Opened):
                    book.fold(EpochAdmitted("", "opening", row.number, AT))
                    marks = {at: row.marks[start] for at, (start, _) in enumerate(chain) if start < len(row.marks)}
                    stands = row.stands if self.keeps("opening_tells_stands") else ()
                    book.adopt(stands, row.settled_s if self.keeps("opening_tells_settled") else 0, marks)
                elif isinstance(row, AssignmentTaken | Released | SettledThrough | VoucherRedeemed | RedemptionReversed | EpochAdmitted):
                    book.fold(row, (number, seq))
        return book

    def box(self, state: State, box: int) -> tuple[Book, Running]:
        """A box's book, and the start that decides."""
        starts, running, found = self._boxes.get(id(state.starts), (None, None, {}))
        if starts is not state.starts or running != state.running:
            found = {}
            if len(self._boxes) > MOST_BOXES:
                self._boxes.clear()
            self._boxes[id(state.starts)] = state.starts, state.running, found
        if box not in found:
            found[box] = self._decides(state, box)
        return found[box]

    def _decides(self, state: State, box: int) -> tuple[Book, Running]:
        start = state.running[box]
        chain = self.chain(state, start)
        line = frozenset(str(one) for one, _ in chain)
        return self.book(box, chain), Running(str(start), len(chain) - 1, self.proven(state, start), line)

    def proven(self, state: State, start: int) -> bool:
        """Whether a start was, or has been opened."""
        one = state.starts[start]
        return one.proven or any(isinstance(row, Opened) for row in one.rows)

    def write(self, state: State, box: int, *rows: Row | Opened) -> State:
        """Commit rows."""
        at = state.running[box]
        start = state.starts[at]
        return state._replace(starts=_put(state.starts, at, start._replace(rows=(*start.rows, *rows))))

    # ------------------------------------------------------------ headquarters

    def give(self, state: State, box: int, start: int) -> State | None:
        """A box, or a shopper for it, asks; what is given is on the line, or on a phone, for ever."""
        hq = state.hq
        if hq.fenced[box]:
            return None
        named = None if self.proven(state, start) and start == state.running[box] else str(start)
        end_s = hq.last_s + 1
        given = self.assigner.give(hq.stand, Asked(BOXES[box], named, self.scene.share), end_s, end_s)
        if not isinstance(given, Given):
            return None
        hq = hq._replace(stand=given.stand, last_s=end_s)
        if named is not None and hq.opened[box] != start and self.keeps("naming_opens"):
            state, hq = self._pressed(state, hq, box, start)
        return self._left(state._replace(hq=hq, grants=state.grants | {given.grant}))

    def press(self, state: State, box: int) -> State | None:
        """A start that is not proven, or is behind the newest opening, gets one."""
        start = state.running[box]
        book, running = self.box(state, box)
        if running.proven and book.opening >= state.hq.openings[box]:
            return None
        state, hq = self._pressed(state, state.hq, box, start)
        return self._left(state._replace(hq=hq))

    def _pressed(self, state: State, hq: Hq, box: int, start: int) -> tuple[State, Hq]:
        number = hq.openings[box] + 1
        stands = tuple(self.assigner.told(hq.stand, BOXES[box], hq.settled[box]))
        opened = Opened(number, start, stands, hq.settled[box], self._marks(state, hq))
        hq = hq._replace(openings=_put(hq.openings, box, number), opened=_put(hq.opened, box, start))
        return state._replace(openings=state.openings | {opened}), hq

    def _marks(self, state: State, hq: Hq) -> tuple[int, ...]:
        return (*hq.marks, *(0 for _ in range(len(hq.marks), len(state.starts))))

    def _left(self, state: State) -> State:
        """Something leaves headquarters: it is in the journal first."""
        return state._replace(journal=state.hq)

    def deliver(self, state: State, start: int, index: int) -> State | None:
        """A row arrives, after every row before it along its line."""
        one, hq = state.starts[start], state.hq
        marks = self._marks(state, hq)
        if self.keeps("in_order"):
            if index != marks[start] or any(marks[at] < upto for at, upto in self.line(state, start)[:-1]):
                return None
        elif index < marks[start]:
            return None
        row = one.rows[index]
        hq = self._took(hq._replace(marks=_put(marks, start, index + 1)), one.box, start, row)
        return state._replace(hq=hq)

    def _took(self, hq: Hq, box: int, start: int, row: Row | Opened) -> Hq:
        name, stand = BOXES[box], hq.stand
        if isinstance(row, VoucherRedeemed):
            return hq._replace(stand=self.assigner.use(stand, name, row.number, str(start), row.units))
        if isinstance(row, RedemptionReversed):
            again = row.redemption_id in hq.reversed and self.keeps("reversed_once")
            stand = stand if again else self.assigner.taken_back(stand, name, row.number, row.redemption_id.partition(".")[0], row.units)
            return hq._replace(stand=stand, reversed=hq.reversed | {row.redemption_id})
        if isinstance(row, Released):
            counts = self.assigner.counts(row.opening, hq.openings[box], False)
            return hq._replace(stand=self.assigner.released(stand, name, row.number, counts))
        if isinstance(row, SettledThrough):
            counts = self.assigner.counts(row.opening, hq.openings[box], False)
            settled = _put(hq.settled, box, max(hq.settled[box], row.through_s))
            return hq._replace(stand=self.assigner.settled(stand, name, row.through_s, counts), settled=settled)
        return hq

    def restore_hq(self, state: State) -> State | None:
        """Headquarters is put back to its backup, and to what its journal says has left it since."""
        if state.backup is None:
            return None
        hq, journal = state.backup._replace(last_s=state.hq.last_s), state.journal
        if journal is not None and self.keeps("journal"):
            stand = self.assigner.recalled(hq.stand, journal.stand)
            hq = hq._replace(stand=stand, openings=journal.openings, opened=journal.opened, fenced=journal.fenced)
        return state._replace(hq=hq)

    def wish(self, state: State) -> State | None:
        """Headquarters wants it back."""
        stand = self.assigner.wished(state.hq.stand, self.scene.wish)
        return None if stand == state.hq.stand else self._ended(state._replace(hq=state.hq._replace(stand=stand)), state)

    def destroy(self, state: State, box: int) -> State | None:
        """A box is declared destroyed; it may lie in a drawer all the same."""
        if state.hq.fenced[box]:
            return None
        stand = self.assigner.destroyed(state.hq.stand, BOXES[box])
        hq = state.hq._replace(stand=stand, fenced=_put(state.hq.fenced, box, True))
        return self._left(state._replace(hq=hq))

    def _ended(self, state: State, before: State) -> State:
        """A refund leaves headquarters, too."""
        return self._left(state) if state.hq.stand.ended != before.hq.stand.ended else state

    # ------------------------------------------------------------ boxes

    def spend(self, state: State, box: int, grant: Grant | None) -> State | None:
        """A shopper shows a grant, or a code whose assignment the box holds."""
        book, running = self.box(state, box)
        if grant is None:
            grant, _ = book.usable(V, 1, running, 0)
            rows: tuple[Row, ...] = ()
        else:
            held = [one for one in book.held(V) if (one.number, one.epoch) == (grant.number, grant.epoch)]
            known = any(one.not_after_s >= grant.not_after_s for one in held)
            taken = AssignmentTaken(V, grant.number, grant.units, grant.not_after_s, grant.issued_s, grant.epoch, None, AT)
            rows = () if known else (taken,)
        if grant is None or book.refusal(grant, 1, running, 0) is not None:
            return None
        at = state.running[box]
        redemption_id = f"{at}.{len(state.starts[at].rows) + len(rows)}"  # its start and place
        use = VoucherRedeemed(redemption_id, V, 0, 1, "", "", None, 1, AT, number=grant.number)
        return self.write(state, box, *rows, use)

    def reverse(self, state: State, box: int, use: VoucherRedeemed) -> State | None:
        """A till takes a redemption back that this disk knows and has not taken back."""
        chain = self.chain(state, state.running[box])
        back = RedemptionReversed(use.redemption_id, V, 0, use.units, 0, "", None, None, AT, use.number)
        if not self.box(state, box)[1].proven or any(back in rows for _, rows in chain):
            return None
        return self.write(state, box, back)

    def uses(self, state: State, box: int) -> list[VoucherRedeemed]:
        """What was redeemed, as far as a box's disk knows."""
        return [row for _, rows in self.chain(state, state.running[box]) for row in rows if isinstance(row, VoucherRedeemed)]

    def release(self, state: State, box: int, number: int) -> State | None:
        """Headquarters has asked, at some time, for a number back."""
        book, running = self.box(state, box)
        if not book.may_release(V, number, running):
            return None
        return self.write(state, box, Released(V, number, book.opening, AT))

    def settle(self, state: State, box: int, through_s: int) -> State | None:
        """A clock says that an end is past, rightly or not."""
        book, running = self.box(state, box)
        return self.write(state, box, SettledThrough(through_s, book.opening, AT)) if book.may_settle(through_s, running) else None

    def adopt(self, state: State, box: int, opened: Opened) -> State | None:
        """An opening arrives, at any time."""
        book, _ = self.box(state, box)
        if opened.epoch != state.running[box] or opened.number <= book.opening:
            return None
        return self.write(state, box, opened)

    def start(self, state: State, box: int, parent: int, rows: int, proven: bool) -> State:
        """The box starts, from whatever its disk says."""
        starts = (*state.starts, Start(box, parent, rows, proven))
        return state._replace(starts=starts, running=_put(state.running, box, len(starts) - 1))

    # ------------------------------------------------------------ the promise

    def noted(self, state: State) -> State:
        """With rows arrived that change nothing there, and what is spent, gone from the disk and unknown there written down."""
        state = self._harmless_arrived(state)
        on_disk = {box: dict(self.line(state, state.running[box])) for box in range(len(BOXES))}
        marks = self._marks(state, state.hq)
        lost = {
            (at, index)
            for at, start in enumerate(state.starts)
            for index, row in enumerate(start.rows)
            if isinstance(row, VoucherRedeemed) and index >= max(marks[at], on_disk[start.box].get(at, 0))
        }
        return state._replace(lost=state.lost | lost) if lost - state.lost else state

    def _harmless_arrived(self, state: State) -> State:
        marks = self._marks(state, state.hq)
        for at, start in enumerate(state.starts):
            if all(marks[before] >= upto for before, upto in self.line(state, at)[:-1]):
                while marks[at] < len(start.rows) and isinstance(start.rows[marks[at]], AssignmentTaken | Opened):
                    marks = _put(marks, at, marks[at] + 1)
        return state if marks == state.hq.marks else state._replace(hq=state.hq._replace(marks=marks))

    def spent(self, state: State) -> int:
        """Units spent and not taken back, on whatever branch, but for those that are booked as lost."""
        uses = sum(row.units for start in state.starts for row in start.rows if isinstance(row, VoucherRedeemed)) - len(state.lost)
        return uses - self._back(state) if self.scene.reverses else uses

    def _back(self, state: State) -> int:
        back = {row.redemption_id for start in state.starts for row in start.rows if isinstance(row, RedemptionReversed)}
        lost = {f"{at}.{index}" for at, index in state.lost}
        return len(back - lost)

    def wrong(self, state: State) -> str:
        """What is promised and is not so."""
        stand = state.hq.stand
        refunded = stand.left if stand.ended else 0
        if self.spent(state) + refunded <= self.scene.units + stand.exposed:
            return ""
        return f"{self.spent(state)} spent and {refunded} refunded of {self.scene.units} issued, {stand.exposed} booked"


def _put(values: tuple, at: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (*values[:at], value, *values[at + 1 :])


if __name__ == "__main__":
    from tests.models.assignments_explore import main

    sys.exit(main(sys.argv[1:]))
