"""What was used of every voucher, what is held, and what a campaign has given out here. Pure.

Rebuilt from lane 0 of the ledger along its chain and from HQ's opening, if there was one: the opening counts every row up to its
marks, and each row beyond them is added. "Unused" is answered from nothing else. A use that was reversed counts no more; a hold
counts against everybody else while it lives.
"""

import datetime
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from msgspec import Struct

from gateway.events import AuthorizationEnded, Instant, RedemptionReversed, TimeTrust, VoucherAuthorized, VoucherRedeemed
from gateway.rules.answers import Before
from gateway.rules.marks import NOWHERE, RowPlace, beyond
from gateway.signed import GivenOut, UsedVoucher
from gateway.token import qualified

ANY_DAY: Final = ""  # of a use whose clock was not believed: it counts on every day, so no day gives out too much
MOST_RECENT: Final = 50_000  # redemptions that can be found by their own identifier; older ones are past reversing
MOST_ENDED: Final = 10_000  # holds that are over and still say how they ended
QUARTER_US: Final = 900_000_000  # no zone's day begins within a quarter of an hour

Counted = VoucherRedeemed | RedemptionReversed | VoucherAuthorized | AuthorizationEnded


class Amount(Struct, frozen=True):
    """Of one voucher: uses, and minor units of a face value."""

    units: int = 0
    minor: int = 0


NOTHING: Final = Amount()


class Use(Struct, gc=False):  # kept by the ten thousand, and in no cycle
    """One redemption."""

    redemption_id: str
    voucher_id: str
    campaign: int
    units: int
    minor: int
    device: str | None
    before: Before
    at: Instant
    place: RowPlace
    is_reversed: bool = False
    number: int = 0  # of the assignment it was used under


class Hold(Struct):
    """One authorization. `state` is "live", or how it ended."""

    asked: VoucherAuthorized
    began_ns: int  # CLOCK_BOOTTIME
    state: str = "live"
    redemption_id: str = ""

    @property
    def ends_ns(self) -> int:
        """When it runs out."""
        return self.began_ns + self.asked.hold_s * 10**9


class Used:
    """Every use of every voucher this store has decided on, and those only HQ knows of.

    Args:
        zone: The shop's; its days begin there.
    """

    def __init__(self, zone: datetime.tzinfo = datetime.UTC) -> None:
        self._zone = zone
        self._uses: dict[str, list[Use]] = {}
        self._back: dict[str, list[tuple[RedemptionReversed, RowPlace]]] = {}  # reversals, by voucher
        self._recent: OrderedDict[str, Use] = OrderedDict()
        self._holds: OrderedDict[str, Hold] = OrderedDict()
        self._live: dict[str, dict[str, Hold]] = {}  # by voucher
        self._given: Counter[tuple[int, str]] = Counter()  # by campaign and day, of this ledger
        self._known: dict[str, UsedVoucher] = {}  # what HQ has counted
        self._known_given: dict[int, list[GivenOut]] = {}
        self._after: Counter[tuple[int, str]] = Counter()  # as `_given`, of rows beyond HQ's marks
        self._marks: Mapping[int, int] = {}

    # ------------------------------------------------------------ taking rows

    def fold(self, event: Counted, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        match event:
            case VoucherRedeemed():
                self._use(event, place)
            case RedemptionReversed():
                self._reverse(event, place)
            case VoucherAuthorized():
                hold = Hold(event, event.event_time.mono_ns)
                self._holds[event.authorization_id] = hold
                self._live.setdefault(event.voucher_id, {})[event.authorization_id] = hold
            case AuthorizationEnded():
                self._end(event.authorization_id, event.outcome)

    def _use(self, event: VoucherRedeemed, place: RowPlace) -> None:
        before = Before(event.event_time.wall_us, event.station, event.read_point, event.staff)
        use = Use(
            event.redemption_id, qualified(event.voucher_id, event.issuer), event.campaign, event.units, event.amount_minor, event.device,
            before, event.event_time, place, number=event.number,
        )  # fmt: skip
        self._uses.setdefault(use.voucher_id, []).append(use)
        self._recent[event.redemption_id] = use
        if len(self._recent) > MOST_RECENT:
            self._recent.popitem(last=False)
        self._give(use, use.units, place)
        if event.authorization_id is not None:
            self._end(event.authorization_id, "captured", event.redemption_id)

    def _reverse(self, event: RedemptionReversed, place: RowPlace) -> None:
        self._back.setdefault(event.voucher_id, []).append((event, place))
        use = next((one for one in self._uses.get(event.voucher_id, ()) if one.redemption_id == event.redemption_id), None)
        if use is not None and not use.is_reversed:
            use.is_reversed = True
            self._give(use, -use.units, place)
        elif use is None and beyond(place, self._marks):  # HQ has counted what is taken back; this ledger has forgotten it
            self._after[event.campaign, self.day_of(event.event_time)] -= event.units

    def _give(self, use: Use, units: int, place: RowPlace) -> None:
        key = (use.campaign, self.day_of(use.at))
        self._given[key] += units
        if beyond(place, self._marks):
            self._after[key] += units

    def _end(self, authorization_id: str, outcome: str, redemption_id: str = "") -> None:
        hold = self._holds.get(authorization_id)
        if hold is None:
            return
        if hold.state != "captured":
            hold.state = outcome
        hold.redemption_id = redemption_id or hold.redemption_id
        held = self._live.get(hold.asked.voucher_id, {})
        held.pop(authorization_id, None)
        if not held:
            self._live.pop(hold.asked.voucher_id, None)
        for old in list(self._holds)[: max(0, len(self._holds) - MOST_ENDED)]:
            if self._holds[old].state == "live":
                break
            del self._holds[old]

    def adopt(self, known: Iterable[UsedVoucher], marks: Mapping[int, int], given: Iterable[GivenOut] = ()) -> None:
        """Take HQ's count, which holds every row of this ledger up to `marks` (epoch number to seq). It replaces an earlier one."""
        self._known, self._marks = {one.voucher_id: one for one in known}, marks
        self._known_given = {}
        for one in given:
            self._known_given.setdefault(one.campaign, []).append(one)
        self._after = Counter()
        for uses in self._uses.values():
            for use in uses:
                if beyond(use.place, marks):
                    self._after[use.campaign, self.day_of(use.at)] += use.units
        for back in self._back.values():
            for event, place in back:
                if beyond(place, marks):
                    self._after[event.campaign, self.day_of(event.event_time)] -= event.units

    def restart(self, now_ns: int) -> None:
        """Core has started: the time of every hold that lives begins anew."""
        for held in self._live.values():
            for hold in held.values():
                hold.began_ns = now_ns

    # ------------------------------------------------------------ looking

    def spent(self, voucher_id: str) -> Amount:
        """What was used of it, less what was reversed."""
        own = self._uses.get(voucher_id)
        if own is None:
            own = []
            if voucher_id not in self._known:
                return NOTHING
        live = [use for use in own if not use.is_reversed]
        found = Amount(sum(use.units for use in live), sum(use.minor for use in live))
        known = self._known.get(voucher_id)
        if known is None:
            return found
        later = [use for use in own if beyond(use.place, self._marks)]
        back = [event for event, place in self._back.get(voucher_id, ()) if beyond(place, self._marks)]
        units = known.uses + sum(use.units for use in later) - sum(event.units for event in back)
        minor = known.spent_minor + sum(use.minor for use in later) - sum(event.amount_minor for event in back)
        return Amount(max(found.units, units), max(found.minor, minor))

    def uses(self, voucher_id: str) -> int:
        """How often it was used, less what was reversed."""
        return self.spent(voucher_id).units

    def held(self, voucher_id: str) -> Amount:
        """What other sales hold of it."""
        live = self._live.get(voucher_id)
        if not live:
            return NOTHING
        held = [hold.asked for hold in live.values()]
        return Amount(sum(one.units for one in held), sum(one.amount_minor for one in held))

    def held_under(self, voucher_id: str, number: int) -> int:
        """What sales hold of an assignment: uses, or of a lease minor units or points."""
        live = self._live.get(voucher_id, {}).values()
        return sum(hold.asked.amount_minor or hold.asked.units for hold in live if hold.asked.number == number)

    def times(self, voucher_id: str) -> int:
        """How many redemptions this ledger knows of."""
        return len(self._uses.get(voucher_id, ()))

    def last(self, voucher_id: str) -> Before | None:
        """The latest use that counts."""
        uses = [use.before for use in self._uses.get(voucher_id, ()) if not use.is_reversed][-1:]
        known = self._known.get(voucher_id)
        if known is not None and known.uses:
            uses.append(Before(known.at_us, known.station, "", known.staff))
        return max(uses, key=lambda before: before.at_us, default=None)

    def given(self, campaign: int, day: str | None = None) -> int:
        """How many uses of a campaign's vouchers count, and are held, on a day or in all."""
        held = sum(hold.asked.units for live in self._live.values() for hold in live.values() if hold.asked.campaign == campaign)
        own = self._sum(self._given, campaign, day)
        known = [one for one in self._known_given.get(campaign, ()) if day in (None, one.day)]
        return held + max(own, sum(one.uses for one in known) + self._sum(self._after, campaign, day))

    def _sum(self, counts: Counter[tuple[int, str]], campaign: int, day: str | None) -> int:
        if day is not None:
            return counts[campaign, day] + counts[campaign, ANY_DAY]
        return sum(units for (of, _), units in counts.items() if of == campaign)

    def redemption(self, redemption_id: str) -> Use | None:
        """A redemption by its own identifier, if it is not long past."""
        return self._recent.get(redemption_id)

    def hold(self, authorization_id: str) -> Hold | None:
        """An authorization, alive or not long over."""
        return self._holds.get(authorization_id)

    def run_out(self, now_ns: int) -> list[Hold]:
        """Holds that live although their time is over."""
        return [hold for held in self._live.values() for hold in held.values() if hold.ends_ns <= now_ns]

    def live_holds(self) -> list[Hold]:
        """All that live."""
        return [hold for held in self._live.values() for hold in held.values()]

    def day_of(self, at: Instant) -> str:
        """The shop's day of a use."""
        return day_of(at, self._zone)

    def day(self, wall_us: int) -> str:
        """The shop's day of a moment, such as `2026-11-22`."""
        return _quarter_day(wall_us // QUARTER_US, self._zone)


def day_of(at: Instant, zone: datetime.tzinfo) -> str:
    """A zone's day of something that happened; `ANY_DAY` if nobody knows."""
    return ANY_DAY if at.trust is TimeTrust.UNTRUSTED else _quarter_day(at.wall_us // QUARTER_US, zone)


@lru_cache(maxsize=4096)
def _quarter_day(quarter: int, zone: datetime.tzinfo) -> str:
    try:
        return datetime.datetime.fromtimestamp(quarter * 900, zone).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return ANY_DAY  # no calendar has that day
