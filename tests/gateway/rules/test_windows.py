"""Windows in the shop's own time, also where its clock is not sure."""

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rules.definitions import Grace, Window
from gateway.rules.windows import SPAN_US, US, closed, shows, zone_of
from tests.gateway.rules.offers import TAIPEI, at

WORKDAYS = {"weekdays": [1, 2, 3, 4, 5]}
NIGHT = {"hours": [{"begin": "22:00", "end": "02:00"}]}
HOUR_US = 3600 * US


def window(**fields: Any) -> Window:
    return msgspec.convert(fields, Window)


def judged(made: Window, when: str, until: str | None = "", timezone: str = TAIPEI, **grace: Any) -> str | None:
    latest_us = None if until is None else at(until or when, timezone)
    return closed(made, Grace(**grace), zone_of(timezone), at(when, timezone), latest_us)


def test_without_a_window_it_is_always_open() -> None:
    assert judged(window(), "2026-11-22 12:00") is None
    assert judged(window(), "2026-11-22 12:00", None) is None


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ("2026-10-31 23:59:59.999999", "campaign_not_begun"),
        ("2026-11-01 00:00", None),
        ("2026-11-30 23:59:59.999999", None),
        ("2026-12-01 00:00", "campaign_ended"),
    ],
)
def test_it_is_open_from_the_first_days_midnight_to_the_last_days(when: str, reason: str | None) -> None:
    assert judged(window(first_day="2026-11-01", last_day="2026-11-30"), when) == reason


def test_a_make_up_workday_counts_as_a_workday_and_a_holiday_does_not() -> None:
    made = window(**WORKDAYS, extra_days=["2026-11-21"], excluded_days=["2026-11-24"])
    assert judged(made, "2026-11-20 12:00") is None  # Friday
    assert judged(made, "2026-11-21 12:00") is None  # Saturday, made up
    assert judged(made, "2026-11-22 12:00") == "outside_window"  # Sunday
    assert judged(made, "2026-11-24 12:00") == "outside_window"  # Tuesday, excluded


def test_an_extra_day_lies_within_the_first_and_the_last() -> None:
    made = window(**WORKDAYS, last_day="2026-11-20", extra_days=["2026-11-21"])
    assert judged(made, "2026-11-21 12:00") == "campaign_ended"


def test_hours_over_midnight_belong_to_the_day_they_begin() -> None:
    friday = window(weekdays=[5], **NIGHT)
    assert judged(friday, "2026-11-20 21:59") == "outside_window"
    assert judged(friday, "2026-11-20 22:00") is None
    assert judged(friday, "2026-11-21 01:59:59.999999") is None
    assert judged(friday, "2026-11-21 02:00") == "outside_window"
    assert judged(friday, "2026-11-20 01:00") == "outside_window"  # that was Thursday's night
    last = window(last_day="2026-11-20", **NIGHT)
    assert judged(last, "2026-11-21 01:59") is None
    assert judged(last, "2026-11-21 02:00") == "campaign_ended"


def test_the_same_moment_is_another_day_elsewhere() -> None:
    sunday = window(weekdays=[7])
    moment_us = at("2026-11-22 01:00")
    assert closed(sunday, Grace(), zone_of(TAIPEI), moment_us, moment_us) is None
    assert closed(sunday, Grace(), zone_of("Europe/London"), moment_us, moment_us) == "outside_window"


# ---------------------------------------------------------------- not sure of the time


def test_a_window_that_holds_for_every_possible_moment_is_open() -> None:
    made = window(first_day="2026-11-01", last_day="2026-11-30", hours=[{"begin": "09:00", "end": "18:00"}])
    assert judged(made, "2026-11-22 09:00", "2026-11-22 17:59") is None
    assert judged(made, "2026-11-22 08:59", "2026-11-22 17:59") == "time_untrusted"
    assert judged(made, "2026-11-22 09:00", "2026-11-22 18:00") == "time_untrusted"
    assert judged(made, "2026-11-22 09:00", "2026-11-23 09:00") == "time_untrusted"  # the night lies between


def test_a_window_no_possible_moment_is_in_is_closed_for_sure() -> None:
    made = window(hours=[{"begin": "09:00", "end": "18:00"}])
    assert judged(made, "2026-11-22 18:00", "2026-11-23 08:59") == "outside_window"
    assert judged(window(last_day="2026-11-21"), "2026-11-22 00:00", None) == "campaign_ended"


def test_a_clock_without_an_upper_bound_opens_no_window_that_ends() -> None:
    assert judged(window(first_day="2026-11-01"), "2026-11-22 12:00", None) is None
    assert judged(window(first_day="2026-11-23"), "2026-11-22 12:00", None) == "time_untrusted"
    assert judged(window(last_day="2027-11-30"), "2026-11-22 12:00", None) == "time_untrusted"
    assert judged(window(**WORKDAYS), "2026-11-20 12:00", None) == "time_untrusted"


def test_unless_the_campaign_says_how_late_it_may_be_at_most() -> None:
    made = window(last_day="2026-11-30")
    assert judged(made, "2026-11-28 12:00", None, unknown_s=2 * 86_400) is None
    assert judged(made, "2026-11-29 12:00", None, unknown_s=2 * 86_400) == "time_untrusted"
    assert judged(window(**WORKDAYS), "2026-11-20 12:00", None, unknown_s=3600) is None


def test_grace_opens_what_cannot_be_decided_and_nothing_else() -> None:
    made = window(hours=[{"begin": "09:00", "end": "18:00"}])
    assert judged(made, "2026-11-22 17:50", "2026-11-22 18:09:59.999999", around_s=600) is None
    assert judged(made, "2026-11-22 17:50", "2026-11-22 18:10", around_s=600) == "time_untrusted"  # a microsecond too far
    assert judged(made, "2026-11-22 08:50", "2026-11-22 09:10", around_s=600) is None
    assert judged(made, "2026-11-22 08:49:59.999999", "2026-11-22 09:10", around_s=600) == "time_untrusted"
    assert judged(made, "2026-11-22 17:50", "2026-11-23 09:10", around_s=600) == "time_untrusted"  # the night lies between
    assert judged(made, "2026-11-22 18:00", around_s=600) == "outside_window"  # that is known


def test_bounds_far_apart_are_decided_by_first_and_last_day_only() -> None:
    every = window(hours=[{"begin": "00:00", "end": "24:00"}], first_day="2026-01-01")
    begin_us, zone = at("2026-03-01 00:00"), zone_of(TAIPEI)
    assert closed(every, Grace(), zone, begin_us, begin_us + SPAN_US) is None
    assert closed(every, Grace(), zone, begin_us, begin_us + SPAN_US + 1) == "time_untrusted"
    assert closed(window(first_day="2026-01-01"), Grace(), zone, begin_us, begin_us + 10 * SPAN_US) is None


# ---------------------------------------------------------------- clocks that are put forward or back


def test_in_the_hour_that_comes_twice_both_count() -> None:
    made, zone = window(hours=[{"begin": "01:00", "end": "02:00"}]), "America/New_York"
    begin_us = at("2026-11-01 00:59:59", zone) + US
    for hours, reason in ((0, None), (1, None), (1.999, None), (2, "outside_window")):
        moment_us = begin_us + int(hours * HOUR_US)
        assert closed(made, Grace(), zone_of(zone), moment_us, moment_us) == reason, hours
    assert closed(made, Grace(), zone_of(zone), begin_us, begin_us + 2 * HOUR_US - 1) is None
    assert closed(made, Grace(), zone_of(zone), begin_us, begin_us + 2 * HOUR_US) == "time_untrusted"


def test_an_edge_that_comes_twice_is_tried_twice() -> None:
    made, zone = window(hours=[{"begin": "01:30", "end": "02:00"}]), "America/New_York"
    second_us = at("2026-11-01 01:15", zone) + HOUR_US  # at 02:00 the clock went back to 01:00
    assert closed(made, Grace(), zone_of(zone), second_us, second_us + HOUR_US // 2) == "time_untrusted"
    assert closed(made, Grace(), zone_of(zone), second_us + HOUR_US // 4, second_us + HOUR_US // 2) is None
    assert closed(made, Grace(), zone_of(zone), second_us, second_us + HOUR_US // 4 - 1) == "outside_window"


def test_hours_that_a_clock_skips_are_no_moment_at_all() -> None:
    made, zone = window(hours=[{"begin": "02:00", "end": "03:00"}]), "America/New_York"
    before_us = at("2026-03-08 01:00", zone)
    assert closed(made, Grace(), zone_of(zone), before_us, before_us + 3 * HOUR_US) == "outside_window"


@pytest.mark.parametrize(
    ("zone", "until", "last_open_minute"),
    [
        ("Europe/London", "01:30", "2024-03-31 00:59"),  # 01:00 to 02:00 is skipped: found by the oracle, in a basket of seed 1
        ("Europe/London", "01:00", "2024-03-31 00:59"),
        ("Europe/London", "00:30", "2024-03-31 00:29"),
        ("America/Havana", "00:30", "2024-03-09 23:59"),  # midnight itself is skipped
    ],
)
def test_a_last_hour_that_is_skipped_ends_when_the_clock_is_put_forward(zone: str, until: str, last_open_minute: str) -> None:
    last_day = "2024-03-30" if zone == "Europe/London" else "2024-03-09"  # of years gone by: what is to come, a country may change
    made, last_us = window(last_day=last_day, hours=[{"begin": "12:00", "end": until}]), at(last_open_minute, zone)
    assert closed(made, Grace(), zone_of(zone), last_us, last_us) is None
    assert closed(made, Grace(), zone_of(zone), last_us + 60 * US, last_us + 60 * US) == "campaign_ended"


def test_days_begin_and_end_at_a_midnight_that_is_skipped_or_comes_twice() -> None:
    zone = "America/Havana"  # 2024-03-10 00:00 is 01:00; 2024-11-03 01:00 is 00:00 again
    before_us, twice_us = at("2024-03-09 23:59:59", zone), at("2024-11-02 23:59:59", zone)
    for made, moment_us, reasons in (
        (window(first_day="2024-03-10"), before_us, ("campaign_not_begun", None)),
        (window(last_day="2024-03-09"), before_us, (None, "campaign_ended")),
        (window(first_day="2024-11-03"), twice_us, ("campaign_not_begun", None)),
        (window(last_day="2024-11-02"), twice_us, (None, "campaign_ended")),
    ):
        assert tuple(closed(made, Grace(), zone_of(zone), us, us) for us in (moment_us, moment_us + US)) == reasons


def test_half_an_hour_put_back_is_seen() -> None:
    made, zone = window(hours=[{"begin": "01:45", "end": "02:00"}]), "Australia/Lord_Howe"
    first_us = at("2026-04-05 01:45", zone)  # at 02:00 the clock goes back to 01:30
    assert closed(made, Grace(), zone_of(zone), first_us, first_us + 900 * US - 1) is None
    assert closed(made, Grace(), zone_of(zone), first_us, first_us + 900 * US) == "time_untrusted"
    assert closed(made, Grace(), zone_of(zone), first_us + 1800 * US, first_us + 2700 * US - 1) is None


DAYS = st.dates(datetime.date(2026, 3, 5), datetime.date(2026, 3, 11)) | st.dates(datetime.date(2026, 10, 29), datetime.date(2026, 11, 3))
TIMES = st.sampled_from(["00:00", "01:00", "01:15", "01:30", "02:00", "02:30", "03:00", "12:00", "23:45"])


@given(
    st.sampled_from(["America/New_York", "America/Havana", "Asia/Taipei", "Pacific/Apia"]), DAYS, st.integers(0, 1439),
    st.integers(0, 300), st.lists(st.tuples(TIMES, TIMES).filter(lambda pair: pair[0] != pair[1]), max_size=2),
    st.sets(st.integers(1, 7)), st.integers(0, 40),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_trying_the_edges_is_trying_every_minute(
    name: str, day: datetime.date, minute: int, span: int, hours: list[tuple[str, str]], weekdays: set[int], around: int
) -> None:
    zone = ZoneInfo(name)
    made = window(hours=[{"begin": begin, "end": end} for begin, end in hours], weekdays=sorted(weekdays))
    earliest = int(datetime.datetime.combine(day, datetime.time(minute // 60, minute % 60), zone).timestamp()) // 60
    latest = earliest + span

    def is_open(at_minute: int) -> bool:
        return shows(made, datetime.datetime.fromtimestamp(at_minute * 60, zone))

    possible = [is_open(one) for one in range(earliest, latest + 1)]
    near = all(any(is_open(other) for other in range(one - around, one + around + 1)) for one in range(earliest, latest + 1))
    expected = None if all(possible) else "outside_window" if not any(possible) else None if near else "time_untrusted"
    assert closed(made, Grace(around_s=around * 60), zone, earliest * 60 * US, latest * 60 * US) == expected


@given(
    st.sampled_from(["America/New_York", "America/Havana", "Europe/London", "Asia/Taipei"]), st.booleans(), st.integers(-2, 2),
    st.integers(-2, 2), st.integers(0, 1439), st.lists(st.tuples(TIMES, TIMES).filter(lambda pair: pair[0] != pair[1]), max_size=2),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_first_and_last_day_say_what_the_wall_clock_says(
    name: str, spring: bool, away: int, length: int, minute: int, hours: list[tuple[str, str]]
) -> None:
    zone = ZoneInfo(name)
    shifts = {"Europe/London": ((3, 29), (10, 25))}.get(name, ((3, 8), (11, 1)))
    shift = datetime.date(2026, *shifts[not spring])
    made = window(
        hours=[{"begin": begin, "end": end} for begin, end in hours],
        first_day=(shift - datetime.timedelta(days=max(0, length))).isoformat(),
        last_day=(shift + datetime.timedelta(days=max(0, -length))).isoformat(),
    )
    moment = int(datetime.datetime.combine(shift, datetime.time(), zone).timestamp()) // 60 + away * 600 + minute - 720
    is_open = shows(made, datetime.datetime.fromtimestamp(moment * 60, zone))
    assert (closed(made, Grace(), zone, moment * 60 * US, moment * 60 * US) is None) == is_open


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "Asia", "a\0b", "/etc/localtime"])
def test_a_zone_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(Exception, match="time zone"):
        zone_of(name)
