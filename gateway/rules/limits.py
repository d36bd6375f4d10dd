"""How often a campaign may be used: its limits against what was counted. Pure.

What is counted of a member is exact in this shop, whatever its disk forgot, since headquarters' opening brings that back; of the other
shops it is what headquarters knew when it spoke last. So in the whole chain a limit holds up to that delay, and no better.
"""

from collections.abc import Callable, Iterable
from typing import Final

from gateway.rules.basket import Count
from gateway.rules.definitions import Limits
from gateway.signed import Elsewhere

NOWHERE_ELSE: Final = Elsewhere(0, "", 0, "", 0)


def limited(limits: Limits, count: Count, member: bool, day_unknown: Callable[[], bool], more: int = 1) -> str | None:
    """Why it may not be used `more` times, a reason; None: it may.

    Args:
        count: Uses so far.
        member: Whether somebody is known, so that the counts are theirs.
        day_unknown: Whether it may be more than one of the shop's days now.
    """
    if of_members(limits) and not member:
        return "member_missing"
    if _passed(limits.per_member, count.member + more):
        return "limit_member"
    if (limits.per_day is not None or limits.per_member_day is not None) and day_unknown():
        return "time_untrusted"
    if _passed(limits.per_member_day, count.member_today + more):
        return "limit_member_day"
    return "limit_day" if _passed(limits.per_day, count.today + more) else None


def of_members(limits: Limits) -> bool:
    """Whether they limit what one member may do."""
    return limits.per_member is not None or limits.per_member_day is not None


def elsewhere_of(found: Iterable[Elsewhere], campaign: int, code: str = "") -> Elsewhere:
    """What is told of a member's uses of a campaign, or of an open code, in other shops."""
    return next((one for one in found if (one.campaign, one.code) == (0 if code else campaign, code)), NOWHERE_ELSE)


def today_elsewhere(told: Elsewhere, day: str) -> int:
    """Uses there on a day of this shop; of a day nobody knows (empty) all that may be on it."""
    return told.undated + (told.on_day if not day or told.day == day else 0)


def _passed(limit: int | None, count: int) -> bool:
    return limit is not None and count > limit
