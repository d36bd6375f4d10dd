"""Whether a campaign's window is open, although the time may be known only within bounds. Pure; time zones by `zoneinfo`.

A window speaks of local dates and times of day, so a moment is in it or not by what the shop's wall clock shows then: in the hour
that a clock lives through twice both count. Between two of a window's edges nothing changes; so the edges that lie between the
earliest and the latest possible moment are tried, and that decides. Bounds further apart than `SPAN_US` decide only
what first and last day say.
"""

import datetime
from collections.abc import Iterator
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.errors import MalformedFrame
from gateway.rules.definitions import Grace, Hours, Window

US: Final = 1_000_000
DAY: Final = datetime.timedelta(days=1)
SPAN_US: Final = 31 * 86_400 * US
FOREVER: Final = 1 << 62  # nobody knows how late it is
NEVER: Final = FOREVER + 1  # a window that does not end
Stretch = tuple[int, int]  # of µs since 1970 UTC, the end not included


def zone_of(name: str) -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        MalformedFrame: There is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise MalformedFrame(f"there is no time zone {name}", "Use an IANA name such as Asia/Taipei") from error


def local_day(zone: ZoneInfo, earliest_us: int, latest_us: int | None) -> datetime.date | None:
    """The shop's date; None: it may be more than one."""
    day = _local(zone, earliest_us).date()
    return day if latest_us is not None and (latest_us == earliest_us or _local(zone, latest_us).date() == day) else None


def latest_of(grace: Grace, earliest_us: int, latest_us: int | None) -> int | None:
    """The latest moment a campaign reckons with."""
    if latest_us is not None or grace.unknown_s is None:
        return latest_us
    return earliest_us + grace.unknown_s * US


def closed(window: Window, grace: Grace, zone: ZoneInfo, earliest_us: int, latest_us: int | None) -> str | None:
    """Why a campaign is not open now, a reason; None: it is."""
    reckoned_us = latest_of(grace, earliest_us, latest_us)
    latest_us = FOREVER if reckoned_us is None else reckoned_us
    begin_us, end_us = _whole(window, zone)
    if latest_us < begin_us:
        return "campaign_not_begun"
    if earliest_us >= end_us:
        return "campaign_ended"
    if not (window.weekdays or window.hours or window.excluded_days):
        stretches = [(begin_us, end_us)]
    elif latest_us - earliest_us > SPAN_US:
        return "time_untrusted"
    else:
        around_us = grace.around_s * US
        stretches = list(_stretches(window, zone, max(0, earliest_us - around_us), latest_us + around_us))
    return _judged(stretches, grace.around_s * US, earliest_us, latest_us)


def shows(window: Window, local: datetime.datetime) -> bool:
    """Whether a window is open when the shop's wall clock shows that."""
    if not window.hours:
        return _is_day(window, local.date())
    minute = local.hour * 60 + local.minute
    return any(_in_hours(window, hours, local.date(), minute) for hours in window.hours)


def _in_hours(window: Window, hours: Hours, day: datetime.date, minute: int) -> bool:
    begin, end = _minutes(hours.begin), _minutes(hours.end)
    if begin < end:
        return begin <= minute < end and _is_day(window, day)
    return (minute >= begin and _is_day(window, day)) or (minute < end and _is_day(window, day - DAY))


def _is_day(window: Window, day: datetime.date) -> bool:
    if (window.first_day and day < window.first_day) or (window.last_day and day > window.last_day) or day in window.excluded_days:
        return False
    return not window.weekdays or day.isoweekday() in window.weekdays or day in window.extra_days


def _judged(stretches: list[Stretch], around_us: int, earliest_us: int, latest_us: int) -> str | None:
    if not any(begin <= latest_us and earliest_us < end for begin, end in stretches):
        return "outside_window"
    for wider_us in (0, around_us):
        reached_us = earliest_us  # every moment before this one is accounted for
        for begin, end in stretches:
            if begin - wider_us <= reached_us < end + wider_us:
                reached_us = end + wider_us
        if reached_us > latest_us:
            return None
    return "time_untrusted"


def _stretches(window: Window, zone: ZoneInfo, begin_us: int, end_us: int) -> Iterator[Stretch]:
    """When the window is open from `begin_us` to `end_us`, both included, in order."""
    if begin_us == end_us:
        if shows(window, _local(zone, begin_us)):
            yield begin_us, begin_us + 1
        return
    edges = sorted({begin_us, *(edge for edge in _edges(window, zone, begin_us, end_us) if begin_us < edge <= end_us)})
    opened_us: int | None = None
    for edge in edges:
        is_open = shows(window, _local(zone, edge))
        if is_open and opened_us is None:
            opened_us = edge
        elif not is_open and opened_us is not None:
            yield opened_us, edge
            opened_us = None
    if opened_us is not None:
        yield opened_us, end_us + 1


def _edges(window: Window, zone: ZoneInfo, begin_us: int, end_us: int) -> Iterator[int]:
    """Every moment at which anything may change, and some others."""
    minutes = sorted({0, *(_minutes(time) % 1440 for hours in window.hours for time in (hours.begin, hours.end))})
    day, last = _local(zone, begin_us).date() - DAY, _local(zone, end_us).date() + DAY
    before_us = begin_us
    while day <= last:
        for minute in minutes:
            for fold in (0, 1):
                yield _instant(zone, day, minute, fold)
        after_us = _instant(zone, day + DAY, 0, 0)
        yield from _shift(zone, before_us, after_us)
        before_us, day = after_us, day + DAY


def _shift(zone: ZoneInfo, before_us: int, after_us: int) -> Iterator[int]:
    """When the zone's clocks are put forward or back in between, if they are."""
    before, after = before_us // US, after_us // US
    offset = _local(zone, before * US).utcoffset()
    if after <= before or _local(zone, after * US).utcoffset() == offset:
        return
    while after - before > 1:
        middle = (before + after) // 2
        if _local(zone, middle * US).utcoffset() == offset:
            before = middle
        else:
            after = middle
    yield after * US


def _whole(window: Window, zone: ZoneInfo) -> Stretch:
    """From the first day's beginning to the last day's end, which hours may bring forward or carry over midnight."""
    begin_us = _passes(zone, window.first_day, 0, 0) if window.first_day else 0
    if window.last_day is None:
        return begin_us, NEVER
    ends = [_minutes(hours.end) + (0 if hours.begin < hours.end else 1440) for hours in window.hours]
    day, minute = divmod(max(ends, default=1440), 1440)
    return begin_us, _passes(zone, window.last_day + day * DAY, minute, 1)


def _passes(zone: ZoneInfo, day: datetime.date, minute: int, fold: int) -> int:
    """When the wall clock comes to a time of day: for the first time, or (`fold`) for good. One that is skipped comes with the shift."""
    first_us, last_us = _instant(zone, day, minute, 0), _instant(zone, day, minute, 1)
    if first_us > last_us:
        return next(_shift(zone, last_us, first_us))
    wanted = datetime.datetime(
        day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone
    )  # within one zone clocks are compared as read
    return last_us if fold and _local(zone, last_us - US) < wanted else first_us


def _minutes(time: str) -> int:
    return int(time[:2]) * 60 + int(time[3:])


def _local(zone: ZoneInfo, wall_us: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(wall_us // US, zone)


def _instant(zone: ZoneInfo, day: datetime.date, minute: int, fold: int) -> int:
    local = datetime.datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone, fold=fold)
    return int(local.timestamp()) * US
