"""How much one member has taken on trust lately, in this shop. Class `bounded_risk`; pure, folded from rows.

Beside the floor of a code and the caps of a device and of the shop, terms may cap what a known member takes without headquarters' word:
so many uses, and so much, within a window. What headquarters has answered since counts all the same: this is how fast somebody comes, not
what is open. A hold counts while it lives, a reversal gives back. A use counts in the window as long as nobody can say that it is older:
a clock that is not believed makes nothing old. Who is not known is under the code's floor alone; who declines is not known.

A shop sees its own uses. What an old disk forgot comes with headquarters' opening; who is over it across shops stands in its signals.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from gateway.anywhere import RiskTerms
from gateway.events import AuthorizationEnded, Instant, MemberBound, RedemptionReversed, RiskHeld, RiskTaken, TimeTrust
from gateway.rules.marks import NOWHERE, RowPlace
from gateway.signed import MemberTrust

MOST_HOLDERS: Final = 10_000
MOST_UNNAMED: Final = 1_000  # the member's row stands in the same commit, or there is none
Kind = RiskTaken | RiskHeld | MemberBound | AuthorizationEnded | RedemptionReversed


class Took(Struct, frozen=True):
    """Something taken or held on trust."""

    campaign: int  # of the terms
    exposure_minor: int
    at: Instant
    is_hold: bool = False


class Velocity:
    """Of one shop."""

    def __init__(self) -> None:
        self._unnamed: OrderedDict[str, Took] = OrderedDict()  # by redemption or authorization
        self._by_member: dict[str, dict[str, Took]] = {}
        self._member_of: dict[str, str] = {}
        self._holders: OrderedDict[str, str] = OrderedDict()  # of holds, over or not: they may still be captured

    def fold(self, row: Kind, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        match row:
            case RiskTaken():
                self._take(row.redemption_id, Took(row.campaign, row.exposure_minor, row.event_time))
            case RiskHeld():
                self._take(row.authorization_id, Took(row.campaign, row.exposure_minor, row.event_time, is_hold=True))
            case MemberBound():
                name = row.redemption_id or row.authorization_id or ""
                took = self._unnamed.pop(name, None)
                if took is not None:
                    self._name(name, row.member_ref, took)
                if row.redemption_id is None:
                    self._holders[name] = row.member_ref
                    if len(self._holders) > MOST_HOLDERS:
                        self._holders.popitem(last=False)
            case AuthorizationEnded():
                self._drop(row.authorization_id)
            case RedemptionReversed():
                self._drop(row.redemption_id)

    def adopt(self, known: Iterable[MemberTrust]) -> None:
        """Take what headquarters knows of this shop's: what is here already is counted once."""
        for one in known:
            if one.redemption_id not in self._member_of:
                at = Instant(one.at_us, 0, "", TimeTrust.HOLDOVER)  # of a boot that is nobody's: its wall clock says how old it is
                self._name(one.redemption_id, one.member_ref, Took(one.campaign, one.exposure_minor, at))

    def whose(self, authorization_id: str) -> str:
        """Whose a hold is or was; empty: nobody knows."""
        return self._holders.get(authorization_id, "")

    def refusal(
        self, terms: RiskTerms, member_ref: str, more_minor: int, age_s: Callable[[Instant], float], is_live: Callable[[str], bool]
    ) -> str | None:  # fmt: skip
        """Why a member may not take so much more on trust; None: they may.

        Args:
            terms: What holds now.
            member_ref: Who it is; empty: nobody knows.
            more_minor: What it would expose, in minor units.
            age_s: How long ago something was at least.
            is_live: Whether a hold lives.
        """
        if not member_ref or (terms.per_member_count is None and terms.per_member_minor is None):
            return None
        lately = [
            one.exposure_minor for name, one in self._by_member.get(member_ref, {}).items()
            if one.campaign == terms.campaign and age_s(one.at) < terms.per_member_window_s and (not one.is_hold or is_live(name))
        ]  # fmt: skip
        if terms.per_member_count is not None and len(lately) + 1 > terms.per_member_count:
            return "risk_member"
        return "risk_member" if terms.per_member_minor is not None and sum(lately) + more_minor > terms.per_member_minor else None

    # ------------------------------------------------------------ inside

    def _take(self, name: str, took: Took) -> None:
        if took.exposure_minor:
            self._unnamed[name] = took
            if len(self._unnamed) > MOST_UNNAMED:
                self._unnamed.popitem(last=False)

    def _name(self, name: str, member_ref: str, took: Took) -> None:
        self._by_member.setdefault(member_ref, {})[name] = took
        self._member_of[name] = member_ref

    def _drop(self, name: str) -> None:
        self._unnamed.pop(name, None)
        member_ref = self._member_of.pop(name, None)
        if member_ref is not None:
            took = self._by_member[member_ref]
            del took[name]
            if not took:
                del self._by_member[member_ref]
