"""What is left of this shop's allotment of an open code, and how often a member has used it here. Class `open_code`.

Pure. Headquarters holds the quota and assigns each shop an allotment under a number, as it assigns any balance; so all allotments
together never exceed it, whatever is lost on the way. Uses count under their number, along the chain and by headquarters' opening; a
reversal returns to the allotment its use came from, but for what headquarters' opening had counted: that comes back by headquarters
alone. A member is counted in this shop, what an old disk forgot by headquarters' opening; what they used elsewhere headquarters tells
beside them.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from gateway.events import OpenCodeHeld, OpenCodeUsed, RedemptionReversed
from gateway.rules.marks import NOWHERE, RowPlace, beyond
from gateway.signed import AssignmentStand, MemberUses

Kind = OpenCodeUsed | OpenCodeHeld | RedemptionReversed


class _Use(Struct):
    row: OpenCodeUsed
    place: RowPlace
    is_reversed: bool = False


class Allotments:
    """Of one shop, folded from its rows; `adopt` takes what headquarters' opening adds."""

    def __init__(self) -> None:
        self._uses: dict[str, _Use] = {}  # by redemption
        self._holds: dict[str, OpenCodeHeld] = {}
        self._own: dict[tuple[str, int], int] = {}  # net, by voucher and number
        self._after: dict[tuple[str, int], int] = {}  # the same, of uses beyond headquarters' marks
        self._known: dict[tuple[str, int], int] = {}
        self._marks: Mapping[int, int] = {}
        self.is_unknown = False  # headquarters' opening has not said what members used
        self._members: dict[tuple[str, str], int] = {}
        self._members_after: dict[tuple[str, str], int] = {}
        self._members_known: dict[tuple[str, str], int] = {}

    def fold(self, row: Kind, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        if isinstance(row, OpenCodeHeld):
            self._holds[row.authorization_id] = row
        elif isinstance(row, OpenCodeUsed):
            use = self._uses[row.redemption_id] = _Use(row, place)
            self._move(use, row.units)
        elif (found := self._uses.get(row.redemption_id)) is not None and not found.is_reversed:
            found.is_reversed = True
            self._move(found, -found.row.units)

    def _move(self, use: _Use, units: int) -> None:
        """A use, or its reversal. What headquarters has counted comes back by headquarters alone: a start may reverse again what it has
        forgotten to have reversed, as `gateway.rules.assignment` has it."""
        _add(self._own, self._members, use.row, units)
        if beyond(use.place, self._marks):
            _add(self._after, self._members_after, use.row, units)

    def adopt(self, stands: Iterable[AssignmentStand], marks: Mapping[int, int], members: Iterable[MemberUses] | None = ()) -> None:
        """Take headquarters' word, which counts every row of this box up to `marks`. It replaces an earlier one.

        Args:
            stands: What it has of this box's numbers.
            members: How often members used which code; None: headquarters has not counted that.
        """
        self.is_unknown, self._marks = members is None, marks
        self._known = {(one.voucher_id, one.number): one.spent for one in stands if one.live}
        self._members_known = {}
        for one in members or ():
            member = one.code, one.member_ref
            self._members_known[member] = self._members_known.get(member, 0) + one.uses
        self._after, self._members_after = {}, {}
        for use in self._uses.values():
            if beyond(use.place, marks) and not use.is_reversed:
                _add(self._after, self._members_after, use.row, use.row.units)

    # ------------------------------------------------------------ looking

    def spent(self, voucher_id: str, number: int) -> int:
        """Uses under a number, less what was reversed."""
        key = voucher_id, number
        own = self._own.get(key, 0)
        return own if key not in self._known else max(own, self._known[key] + self._after.get(key, 0))

    def room(self, voucher_id: str, number: int, units: int, held: int = 0) -> int:
        """Uses left of an allotment of so many units, of which some are held for sales."""
        return units - self.spent(voucher_id, number) - held

    def of_member(self, voucher_id: str, member_ref: str, live: Iterable[str] = ()) -> int:
        """Uses of a member in this shop, less what was reversed; `live`: authorizations that count, too."""
        holds = (self._holds.get(name) for name in live)
        held = sum(one.units for one in holds if one is not None and (one.voucher_id, one.member_ref) == (voucher_id, member_ref))
        member = voucher_id, member_ref
        known = self._members_known.get(member, 0) + self._members_after.get(member, 0)
        return max(self._members.get(member, 0), known) + held

    def held(self, authorization_id: str) -> OpenCodeHeld | None:
        """A hold of an open code."""
        return self._holds.get(authorization_id)


def _add(numbers: dict[tuple[str, int], int], members: dict[tuple[str, str], int], row: OpenCodeUsed, units: int) -> None:
    key, member = (row.voucher_id, row.number), (row.voucher_id, row.member_ref)
    numbers[key] = numbers.get(key, 0) + units
    if row.member_ref:
        members[member] = members.get(member, 0) + units
