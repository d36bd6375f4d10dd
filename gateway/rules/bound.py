"""How often each member used each campaign's vouchers in this shop. Pure; rebuilt from the rows that joined members to redemptions.

A redemption that was reversed counts no more; a hold counts while it lives. HQ's opening counts every row up to its marks, and each use
beyond them is added, so what an old disk forgot counts all the same. The counts are this shop's: of other shops HQ tells beside each
member what it has heard (`gateway.memberlist.Elsewhere`), and that is added here, never mixed.
"""

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from gateway.events import AuthorizationEnded, Instant, MemberBound, RedemptionReversed, VoucherAuthorized
from gateway.rules.basket import Count
from gateway.rules.limits import NOWHERE_ELSE, today_elsewhere
from gateway.rules.marks import NOWHERE, RowPlace, beyond
from gateway.rules.uses import ANY_DAY, day_of
from gateway.signed import Elsewhere, MemberUses

UNKNOWN: Final = "limit_unknown"  # an opening of an earlier release has not said how often members used what
MOST_HOLDS: Final = 10_000  # that still say whose they were

Counted = MemberBound | RedemptionReversed | VoucherAuthorized | AuthorizationEnded
Key = tuple[str, int]  # member and campaign
Days = dict[Key, Counter[str]]  # uses by day


class BoundUses:
    """What members used here.

    Args:
        zone: The shop's; its days begin there.
    """

    def __init__(self, zone: datetime.tzinfo = datetime.UTC) -> None:
        self._zone = zone
        self.is_unknown = False  # HQ's opening has not said what members used
        self._used: dict[str, tuple[MemberBound, RowPlace]] = {}  # by redemption; none that was reversed
        self._holds: dict[str, MemberBound] = {}
        self._asked = set[str]()  # holds whose own row is here: of one long ended only the member's row is kept
        self._live: dict[Key, dict[str, MemberBound]] = {}  # the holds that live
        self._own: Days = defaultdict(Counter)
        self._after: Days = defaultdict(Counter)  # the same, of uses beyond HQ's marks
        self._known: Days = {}
        self._marks: Mapping[int, int] = {}

    def fold(self, event: Counted, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        match event:
            case MemberBound(redemption_id=None):
                self._hold(event.authorization_id or "", event)
            case MemberBound():
                self._used[event.redemption_id or ""] = event, place
                self._move(event, event.units, place)
            case RedemptionReversed():
                back = self._used.pop(event.redemption_id, None)
                if back is not None:
                    self._move(back[0], -back[0].units, back[1])
            case VoucherAuthorized():
                self._asked.add(event.authorization_id)
            case AuthorizationEnded():
                self._asked.discard(event.authorization_id)
                self._let_go(event.authorization_id)

    def adopt(self, known: Iterable[MemberUses] | None, marks: Mapping[int, int]) -> None:
        """Take HQ's count, which holds every row of this ledger up to `marks`; it replaces an earlier one. None: HQ has not counted."""
        self.is_unknown, self._marks = known is None, marks
        self._known = defaultdict(Counter)
        for one in known or ():
            if not one.code:
                self._known[one.member_ref, one.campaign][one.day] += one.uses
        self._after = defaultdict(Counter)
        for used, place in self._used.values():
            if beyond(place, marks):
                self._after[_key(used)][day_of(used.event_time, self._zone)] += used.units

    def count(
        self, member_ref: str | None, campaign: int, now: Instant, today: int = 0, elsewhere: Elsewhere = NOWHERE_ELSE
    ) -> Count:  # fmt: skip
        """Of one member and campaign, here and as far as it is told elsewhere. A use whose day nobody knows counts on every day."""
        key, day = (member_ref or "", campaign), day_of(now, self._zone)
        holds = self._live.get(key, {}).values()
        held = sum(one.units for one in holds)
        held_today = sum(one.units for one in holds if ANY_DAY in (day, of := day_of(one.event_time, self._zone)) or of == day)
        return Count(
            campaign, self._sum(key, None) + held + elsewhere.uses,
            self._sum(key, day) + held_today + today_elsewhere(elsewhere, day), today,
        )  # fmt: skip

    def of_hold(self, authorization_id: str) -> MemberBound | None:
        """Whose a hold is or was."""
        return self._holds.get(authorization_id)

    def is_live(self, authorization_id: str) -> bool:
        """Whether a member's hold counts now."""
        held = self._holds.get(authorization_id)
        return held is not None and authorization_id in self._live.get((held.member_ref, held.campaign), {})

    # ------------------------------------------------------------ inside

    def _sum(self, key: Key, day: str | None) -> int:
        """Uses in all, or on a day. A count below what this disk knows itself is no count."""
        return max(0, _of(self._own.get(key), day), _of(self._known.get(key), day) + _of(self._after.get(key), day))

    def _move(self, event: MemberBound, units: int, place: RowPlace) -> None:
        """A use, or its reversal, at the use's own place: what HQ has counted comes back by HQ alone, since a start may reverse again what
        it has forgotten to have reversed."""
        key, day = _key(event), day_of(event.event_time, self._zone)
        self._own[key][day] += units
        if beyond(place, self._marks):
            self._after[key][day] += units

    def _hold(self, authorization_id: str, event: MemberBound) -> None:
        if authorization_id in self._asked:
            self._live.setdefault((event.member_ref, event.campaign), {})[authorization_id] = event
        self._holds[authorization_id] = event
        if len(self._holds) > MOST_HOLDS:
            oldest = next(iter(self._holds))
            self._let_go(oldest)
            del self._holds[oldest]

    def _let_go(self, authorization_id: str) -> None:
        held = self._holds.get(authorization_id)
        if held is None:
            return
        key = held.member_ref, held.campaign
        of_member = self._live.get(key, {})
        of_member.pop(authorization_id, None)
        if not of_member:
            self._live.pop(key, None)


def _key(event: MemberBound) -> Key:
    return event.member_ref, event.campaign


def _of(counts: Counter[str] | None, day: str | None) -> int:
    if counts is None:
        return 0
    return sum(units for of, units in counts.items() if day is None or ANY_DAY in (day, of) or of == day)
