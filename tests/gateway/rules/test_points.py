"""Rates of points: any bytes are a rate or a reason, and on every day exactly one is in force."""

import datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import RateUsed
from gateway.rules.points import DEFAULTS, PointsRate, RateError, encode_rate, rate_on, read_rate, read_rates, stated, used

DAY = datetime.date(2027, 1, 1)
ROUNDINGS = {"down": ROUND_DOWN, "half_up": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN}
PLAIN: dict[str, Any] = {"version": 1, "currency": "TWD", "points": 3, "per_minor": 100, "first_day": "2027-01-01"}


def rate(version: int = 1, day: datetime.date = DAY, **more: Any) -> PointsRate:
    fields: dict[str, Any] = {"currency": "TWD", "points": 1, "per_minor": 50} | more
    return PointsRate(version=version, first_day=day, **fields)


@given(
    st.integers(0, 10**13),
    st.integers(0, 1000),
    st.integers(1, 10**9),
    st.sampled_from(sorted(ROUNDINGS)),
    st.none() | st.integers(1, 10**9),
)
def test_a_sum_earns_what_the_decimals_say(spent: int, points: int, per_minor: int, rounding: Any, most: int | None) -> None:
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(spent) * points / per_minor
        wanted = int(exact.quantize(Decimal(1), rounding=ROUNDINGS[rounding]))
    found = rate(points=points, per_minor=per_minor, rounding=rounding, most_points=most).earned(spent)
    assert found == (wanted if most is None else min(wanted, most))


def test_without_a_rate_it_is_a_point_for_each_full_hundred_and_each_ten_hong_kong_dollars() -> None:
    assert [rate_on((), "TWD", DAY).earned(one) for one in (0, 99, 100, 350)] == [0, 0, 1, 3]
    assert rate_on((), "HKD", DAY).earned(25_999) == 25
    assert rate_on((), "TWD", DAY).version == 0


def test_the_newest_day_that_has_come_counts_and_of_one_day_the_higher_version() -> None:
    later = DAY + datetime.timedelta(days=9)
    rates = (rate(3, DAY), rate(2, later), rate(4, DAY), rate(5, DAY, currency="HKD"))
    days = [DAY - datetime.timedelta(days=1), DAY, later, None]
    assert [rate_on(rates, "TWD", day).version for day in days] == [0, 4, 2, 0]


@given(st.binary(max_size=300) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(msgspec.json.encode))
def test_any_bytes_are_a_rate_or_a_reason(text: bytes) -> None:
    assert isinstance(read_rate(text), PointsRate | RateError)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bonus": 2}, {"version": 0}, {"points": -1}, {"points": 1001}, {"per_minor": 0}, {"rounding": "up"}, {"currency": "EUR"},
        {"first_day": "1999-12-31"}, {"first_day": "soon"}, {"most_points": 0}, {"points": True},
    ],
)  # fmt: skip
def test_what_nobody_here_knows_is_refused_and_the_rates_beside_it_are_served(wrong: dict[str, Any]) -> None:
    good, bad = read_rates([msgspec.json.encode(PLAIN | wrong), msgspec.json.encode(PLAIN)])
    assert ([one.version for one in good], len(bad)) == ([1], 1)
    assert bad[0].problem and bad[0].hint
    assert read_rate(encode_rate(good[0])) == good[0]


def test_a_row_states_its_rate_and_one_that_can_be_none_comes_to_the_default() -> None:
    known = rate(7, points=2, per_minor=30, rounding="half_up", most_points=9)
    assert stated(used(known), "TWD").earned(100) == known.earned(100) == 7
    for broken in (None, RateUsed(0, 5, 5, "down", None), RateUsed(3, 1, 0, "down", None), RateUsed(3, 1, 1, "sideways", None)):
        assert stated(broken, "TWD") == DEFAULTS["TWD"]
