"""What a box may honour of the vouchers that headquarters assigns: its book of numbered assignments.

Pure. Rules of the book (DESIGN section 3). 1. An assignment is honoured only by the box, and on the line of starts, that it names,
under a number above every one this box has released, and only if it ends above the settled mark; a number below one that is known
to be this box's is dead, too.
2. A start that is not proven honours only what names that very start: what it has forgotten, headquarters has taken off of that
already. Whoever decides counts what was spent along the whole chain, and by headquarters' opening: a row of the chain that
headquarters has, too, is then taken off twice, which may refuse a second use until the opening is here, and never allows one.
3. A number is released only while nothing was spent under it, a settled mark only rises, and both are written by proven starts
alone, with the opening they were written under; what a reversal took back counts as unspent, but for what headquarters had counted in
its opening: a start may reverse again what it has forgotten to have reversed, so such units come back by headquarters alone.
4. Clocks serve punctual expiry only: an end is past if even the earliest
possible time is. An amount is counted in minor units, a use is one unit; nothing else is different about a lease.

Small predicates, each one clause: `tests/models/assignments.py` leaves each out and shows what breaks.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from gateway.events import AssignmentTaken, EpochAdmitted, RedemptionReversed, Released, SettledThrough, VoucherRedeemed
from gateway.rules.marks import NOWHERE, RowPlace, beyond
from gateway.signed import AssignmentStand, Grant

NOTHING_DEAD: Final = -1
Kind = AssignmentTaken | Released | SettledThrough | VoucherRedeemed | RedemptionReversed | EpochAdmitted


class Running(Struct, frozen=True):
    """The start that decides."""

    epoch: str
    number: int
    proven: bool
    line: frozenset[str] = frozenset()  # names of the starts it continues


class _Held(Struct, frozen=True):
    units: int
    not_after_s: int
    issued_s: int


class _Spend(Struct, gc=False):
    redemption_id: str
    place: RowPlace
    units: int
    back: RowPlace | None = None  # where it was reversed


class Book:
    """Of one box. Rebuilt by folding its rows; `adopt` takes what headquarters' opening adds."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._held: dict[str, dict[tuple[int, str | None], _Held]] = {}  # voucher to (number, named start)
        self._spent: dict[tuple[str, int], list[_Spend]] = {}
        self._released: dict[str, tuple[int, int]] = {}  # voucher to (number, under which opening)
        self._settled: tuple[int, int] = (0, 0)
        self._known: dict[tuple[str, int], int] = {}  # what headquarters has counted as spent
        self._dead: dict[str, int] = {}  # what headquarters knows to be over
        self._marks: Mapping[int, int] = {}
        self.opening = 0
        self.newest_issue_s = 0

    # ------------------------------------------------------------ what has happened

    def fold(self, row: Kind, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        if isinstance(row, AssignmentTaken):
            self._take(row)
        elif isinstance(row, Released):
            self._released[row.voucher_id] = max((row.number, row.opening), self._released.get(row.voucher_id, (0, 0)))
        elif isinstance(row, SettledThrough):
            self._settled = max(self._settled, (row.through_s, row.opening))
        elif isinstance(row, EpochAdmitted):
            self.opening = max(self.opening, row.opening or 0)
        elif isinstance(row, VoucherRedeemed):
            if row.number:
                self._spent.setdefault((row.voucher_id, row.number), []).append(_Spend(row.redemption_id, place, row.spent))
        else:
            for one in self._spent.get((row.voucher_id, row.number), ()):
                one.back = place if one.redemption_id == row.redemption_id and one.back is None else one.back

    def adopt(self, stands: Iterable[AssignmentStand], settled_s: int, marks: Mapping[int, int]) -> None:
        """Take headquarters' word, which counts every row of this box up to `marks` (epoch number to seq). It replaces an earlier one."""
        self._marks, self._known, self._dead = marks, {}, {}
        self._settled = max(self._settled, (settled_s, 0))
        for stand in stands:
            if stand.live:
                self._hold(stand.voucher_id, stand.number, None, _Held(stand.units, stand.not_after_s, 0))
                self._known[stand.voucher_id, stand.number] = stand.spent
            else:
                self._dead[stand.voucher_id] = max(stand.number, self._dead.get(stand.voucher_id, NOTHING_DEAD))

    def _take(self, row: AssignmentTaken) -> None:
        self.newest_issue_s = max(self.newest_issue_s, row.issued_s)
        self._hold(row.voucher_id, row.number, row.epoch, _Held(row.units, row.not_after_s, row.issued_s))

    def _hold(self, voucher_id: str, number: int, epoch: str | None, new: _Held) -> None:
        held = self._held.setdefault(voucher_id, {})
        if number < self.number(voucher_id):
            return
        for lower in [key for key in held if key[0] < number]:
            del held[lower]
        old = held.get((number, epoch), new)
        held[number, epoch] = _Held(max(old.units, new.units), max(old.not_after_s, new.not_after_s), max(old.issued_s, new.issued_s))

    # ------------------------------------------------------------ looking

    @property
    def settled_s(self) -> int:
        """Nothing that ends at or before this is honoured, ever."""
        return self._settled[0]

    def number(self, voucher_id: str) -> int:
        """The highest number this box was given for a voucher; 0: none."""
        return max((number for number, _ in self._held.get(voucher_id, ())), default=0)

    def ends_s(self) -> list[int]:
        """When what this box holds and has not settled ends, each once, ascending."""
        return sorted({one.not_after_s for held in self._held.values() for one in held.values() if one.not_after_s > self.settled_s})

    def spent(self, voucher_id: str, number: int) -> int:
        """Units spent under a number and not taken back, along the chain and as headquarters has counted."""
        own = [one for one in self._spent.get((voucher_id, number), ()) if one.back is None]
        known = self._known.get((voucher_id, number), 0)
        return max(sum(one.units for one in own), known + sum(one.units for one in own if beyond(one.place, self._marks)))

    def uncounted(self, voucher_id: str, number: int, is_there: Callable[[RowPlace], bool]) -> int:
        """Units spent under a number in rows that headquarters does not have yet."""
        return sum(one.units for one in self._spent.get((voucher_id, number), ()) if one.back is None and not is_there(one.place))

    def room(self, grant: Grant) -> int:
        """Units that may still be spent on the strength of a grant."""
        return grant.units - self.spent(grant.voucher_id, grant.number)

    # ------------------------------------------------------------ deciding

    def refusal(self, grant: Grant, units: int, running: Running, earliest_us: int) -> str | None:
        """Why a grant may not be honoured for so many units now; None: it may."""
        if not self._is_mine(grant) or not self._is_of_line(grant, running):
            return "assigned_elsewhere"
        if self._is_over(grant) or self._is_settled(grant):
            return "grant_stale"
        if not self._may_speak(grant, running):
            return "needs_grant"
        if earliest_us > grant.not_after_s * 1_000_000:
            return "grant_expired"
        if self.room(grant) < units:
            return "already_redeemed"
        return None

    def usable(self, voucher_id: str, units: int, running: Running, earliest_us: int) -> tuple[Grant | None, str]:
        """The assignment that allows so many units now, and why there is none: "" if nothing is held."""
        why = ""
        for grant in self.held(voucher_id):
            refused = self.refusal(grant, units, running, earliest_us)
            if refused is None:
                return grant, ""
            why = refused if not why or refused == "already_redeemed" else why
        return None, why

    def held(self, voucher_id: str) -> list[Grant]:
        """What this box was given for a voucher under its highest number, the latest end first."""
        found = [
            Grant(
                voucher_id=voucher_id, number=number, gateway=self._gateway, epoch=epoch, units=one.units, not_after_s=one.not_after_s,
                issued_s=one.issued_s,
            )
            for (number, epoch), one in self._held.get(voucher_id, {}).items()
        ]  # fmt: skip
        return sorted(found, key=lambda grant: (-grant.not_after_s, grant.epoch or ""))

    def may_release(self, voucher_id: str, number: int, running: Running) -> bool:
        """Whether a number may be given back now, and has not been under the opening in force."""
        if not running.proven or number < self.number(voucher_id):
            return False
        return self._is_unused(voucher_id, number) and (number, self.opening) > self._released.get(voucher_id, (0, -1))

    def may_settle(self, through_s: int, running: Running) -> bool:
        """Whether a settled mark may be written: it rises, or headquarters has to hear it again."""
        return running.proven and (through_s, self.opening) > self._settled and through_s >= self._settled[0]

    # ------------------------------------------------------------ clauses

    def _is_mine(self, grant: Grant) -> bool:
        return grant.gateway == self._gateway

    def _is_of_line(self, grant: Grant, running: Running) -> bool:
        """A start that is named is one of this ledger's: a box that was swapped has its name from the one before, and not its line."""
        return grant.epoch is None or grant.epoch == running.epoch or grant.epoch in running.line

    def _is_over(self, grant: Grant) -> bool:
        """Released by this box, known to headquarters as over, or followed by a higher number."""
        voucher_id, number = grant.voucher_id, grant.number
        return self._was_released(voucher_id, number) or self._was_ended(voucher_id, number) or number < self.number(voucher_id)

    def _was_released(self, voucher_id: str, number: int) -> bool:
        return number <= self._released.get(voucher_id, (0, 0))[0]

    def _was_ended(self, voucher_id: str, number: int) -> bool:
        return number <= self._dead.get(voucher_id, NOTHING_DEAD)

    def _is_settled(self, grant: Grant) -> bool:
        return grant.not_after_s <= self.settled_s

    def _may_speak(self, grant: Grant, running: Running) -> bool:
        return running.proven or self._names(grant, running)

    def _names(self, grant: Grant, running: Running) -> bool:
        return grant.epoch == running.epoch

    def _is_unused(self, voucher_id: str, number: int) -> bool:
        return self.spent(voucher_id, number) == 0
