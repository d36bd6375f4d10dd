"""How often a campaign may be used: its limits against what was counted. Pure."""

from collections.abc import Callable

from gateway.rules.basket import Count
from gateway.rules.definitions import Limits


def limited(limits: Limits, count: Count, member: bool, day_unknown: Callable[[], bool], more: int = 1) -> str | None:
    """Why it may not be used `more` times, a reason; None: it may.

    Args:
        count: Uses so far.
        member: Whether somebody is known, so that the counts are theirs.
        day_unknown: Whether it may be more than one of the shop's days now.
    """
    of_member = limits.per_member is not None or limits.per_member_day is not None
    if of_member and not member:
        return "member_missing"
    if _passed(limits.per_member, count.member + more):
        return "limit_member"
    if (limits.per_day is not None or limits.per_member_day is not None) and day_unknown():
        return "time_untrusted"
    if _passed(limits.per_member_day, count.member_today + more):
        return "limit_member_day"
    return "limit_day" if _passed(limits.per_day, count.today + more) else None


def _passed(limit: int | None, count: int) -> bool:
    return limit is not None and count > limit
