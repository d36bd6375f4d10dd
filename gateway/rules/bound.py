"""How often each member used each campaign's vouchers in this shop. Pure; rebuilt from the rows that joined members to redemptions.

A redemption that was reversed counts no more; a hold counts while it lives. The counts are this shop's: a limit is exact where one shop
owns it, as with vouchers bound to a shop; how often a member used a campaign elsewhere only headquarters knows.
"""

import datetime
from typing import Final

from gateway.events import AuthorizationEnded, Instant, MemberBound, RedemptionReversed
from gateway.rules.basket import Count
from gateway.rules.marks import NOWHERE, RowPlace
from gateway.rules.uses import ANY_DAY, day_of

MOST_HOLDS: Final = 10_000  # that still say whose they were

Counted = MemberBound | RedemptionReversed | AuthorizationEnded


class BoundUses:
    """What members used here.

    Args:
        zone: The shop's; its days begin there.
    """

    def __init__(self, zone: datetime.tzinfo = datetime.UTC) -> None:
        self._zone = zone
        self._by_member: dict[tuple[str, int], dict[str, MemberBound]] = {}  # member and campaign to act to row
        self._by_act: dict[str, MemberBound] = {}
        self._holds: dict[str, MemberBound] = {}

    def fold(self, event: Counted, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        match event:
            case MemberBound():
                act = event.redemption_id or event.authorization_id or ""
                self._by_act[act] = event
                self._by_member.setdefault((event.member_ref, event.campaign), {})[act] = event
                if event.redemption_id is None:
                    self._hold(act, event)
            case RedemptionReversed():
                self._drop(event.redemption_id)
            case AuthorizationEnded():
                self._drop(event.authorization_id)

    def count(self, member_ref: str | None, campaign: int, now: Instant, today: int = 0) -> Count:
        """Of one member and campaign. A use whose day nobody knows counts on every day."""
        used = self._by_member.get((member_ref or "", campaign), {}).values()
        day = day_of(now, self._zone)
        same = [one for one in used if ANY_DAY in (day, of := day_of(one.event_time, self._zone)) or of == day]
        return Count(campaign, sum(one.units for one in used), sum(one.units for one in same), today)

    def of_hold(self, authorization_id: str) -> MemberBound | None:
        """Whose a hold is or was."""
        return self._holds.get(authorization_id)

    def is_live(self, authorization_id: str) -> bool:
        """Whether a member's hold counts now."""
        return authorization_id in self._by_act

    def _hold(self, authorization_id: str, event: MemberBound) -> None:
        self._holds[authorization_id] = event
        if len(self._holds) > MOST_HOLDS:
            del self._holds[next(iter(self._holds))]

    def _drop(self, act: str) -> None:
        held = self._by_act.pop(act, None)
        if held is None:
            return
        of_member = self._by_member[held.member_ref, held.campaign]
        del of_member[act]
        if not of_member:
            del self._by_member[held.member_ref, held.campaign]
