"""Campaigns that thank a member for a first visit in so many days: what a shop can say of it alone. Pure.

A shop knows its own visits only. If it has seen the member within the days, the answer is no; else it is `pending`, and headquarters,
which knows every shop, settles it. What lies less than `SAME_VISIT_US` back at this shop is the same visit.
"""

from collections.abc import Iterable, Iterator
from typing import Final
from zoneinfo import ZoneInfo

from gateway.events import MemberBound, MemberRecognised, RevisitAsked, SalePosted
from gateway.rules import windows
from gateway.rules.definitions import Campaign, Revisit
from gateway.rules.marks import NOWHERE, RowPlace

SAME_VISIT_US: Final = 4 * 3600 * 1_000_000
DAY_US: Final = 86_400 * 1_000_000
MOST_KEPT: Final = 64  # visits of one member; older ones are headquarters' to know

Seen = MemberRecognised | MemberBound | SalePosted | RevisitAsked


class Visits:
    """When this shop saw each member, and what it asked headquarters about."""

    def __init__(self) -> None:
        self._seen: dict[str, list[int]] = {}
        self._asked: dict[tuple[str, int], int] = {}

    def fold(self, row: Seen, place: RowPlace = NOWHERE) -> None:
        """Take a row that names a member."""
        if row.member_ref is None:
            return
        at_us = row.event_time.wall_us
        if isinstance(row, RevisitAsked):
            self._asked[row.member_ref, row.campaign] = at_us
            return
        seen = self._seen.setdefault(row.member_ref, [])
        seen.append(at_us)
        del seen[:-MOST_KEPT]

    def due(self, campaigns: Iterable[Campaign], member_ref: str, now_us: int) -> Iterator[tuple[Campaign, Revisit]]:
        """The campaigns whose answer this shop does not know: neither seen here within the days nor asked about this visit."""
        for campaign in campaigns:
            rule = campaign.rule
            if not isinstance(rule, Revisit):
                continue
            back_us = now_us - rule.days * DAY_US
            seen = any(back_us <= at_us <= now_us - SAME_VISIT_US for at_us in self._seen.get(member_ref, ()))
            asked_us = self._asked.get((member_ref, campaign.campaign))
            if not seen and (asked_us is None or asked_us < now_us - SAME_VISIT_US):
                yield campaign, rule


def is_open(campaign: Campaign, store: int, zone: ZoneInfo, earliest_us: int, latest_us: int | None) -> bool:
    """Whether a campaign is on in a shop now, as far as its clock knows."""
    if campaign.withdrawn or not campaign.is_for(store):
        return False
    return windows.closed(campaign.window, campaign.grace, zone, earliest_us, latest_us) is None
