"""Whole numbers: rounding as stated, shares that add up."""

from fractions import Fraction
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from gateway.rules.basket import allocate, divided, remaining
from gateway.rules.definitions import Rounding

MINOR = st.integers(0, 10**14)
WEIGHTS = st.lists(st.integers(0, 10**12), max_size=12)


@given(MINOR, st.integers(1, 1000))
def test_rounding_is_to_the_nearest_and_a_half_goes_where_it_is_said_to(number: int, divisor: int) -> None:
    exact = Fraction(number, divisor)
    half_up, down, half_even = (divided(number, divisor, mode) for mode in ("half_up", "down", "half_even"))
    assert down <= exact < down + 1
    assert -Fraction(1, 2) < half_up - exact <= Fraction(1, 2)
    assert half_even == round(exact)


@given(MINOR, st.integers(1, 100))
def test_what_remains_is_never_more_than_there_was(minor: int, percent_off: int) -> None:
    for mode in get_args(Rounding):
        assert 0 <= remaining(minor, percent_off, mode) <= minor
        assert remaining(minor, 100, mode) == 0


@given(WEIGHTS, st.data())
def test_shares_add_up_and_none_is_larger_than_its_weight(weights: list[int], data: st.DataObject) -> None:
    minor = data.draw(st.integers(0, sum(weights)))
    shares = allocate(minor, weights)
    assert sum(shares) == minor
    for share, weight in zip(shares, weights, strict=True):
        assert 0 <= share <= weight
        assert abs(share * sum(weights) - minor * weight) < max(1, sum(weights))


def test_of_equal_remainders_the_first_gets_more() -> None:
    assert allocate(100, [50, 50, 50]) == [34, 33, 33]
    assert allocate(2, [1, 1, 1]) == [1, 1, 0]
    assert allocate(0, []) == []
