"""How long an answer takes and how much may be under way."""

from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.pace import (
    FIRST_PATIENCE_S,
    LEAST_WINDOW_B,
    LONGEST_TRIP_S,
    MOST_WINDOW_B,
    SHORTEST_PATIENCE_S,
    TARGET_S,
    RoundTrip,
    Window,
)


def test_before_anything_was_measured_a_second_is_waited() -> None:
    assert RoundTrip().patience_s == FIRST_PATIENCE_S


def test_a_steady_line_is_believed_and_one_fsync_is_not_silence() -> None:
    trip = RoundTrip()
    for _ in range(50):
        trip.measure(0.01)
    assert trip.patience_s == SHORTEST_PATIENCE_S
    for _ in range(50):
        trip.measure(0.8)
    assert 0.8 < trip.patience_s < 1.2


def test_a_line_that_wavers_is_waited_for_longer_than_a_steady_one_of_the_same_mean() -> None:
    steady, wavering = RoundTrip(), RoundTrip()
    for number in range(100):
        steady.measure(0.5)
        wavering.measure(0.1 if number % 2 else 0.9)
    assert wavering.patience_s > steady.patience_s * 1.8


@given(st.lists(st.floats(-1, 1e6), max_size=50))
def test_patience_is_bounded_whatever_was_measured(trips: list[float]) -> None:
    trip = RoundTrip()
    for took_s in trips:
        trip.measure(took_s)
    assert SHORTEST_PATIENCE_S <= trip.patience_s <= LONGEST_TRIP_S


def test_the_window_grows_while_answers_are_quick_and_halves_once_for_a_long_queue() -> None:
    window, now_s = Window(), 0.0
    for _ in range(100):
        window.answered(20_000, now_s, now_s + TARGET_S / 2)
        now_s += 0.1
    assert window.size_b == MOST_WINDOW_B
    for late in range(4):  # four batches of the same long queue
        window.answered(20_000, now_s, now_s + 2 * TARGET_S + late / 100)
    assert window.size_b == MOST_WINDOW_B // 2
    for _ in range(20):
        now_s += 10
        window.answered(20_000, now_s, now_s + 2 * TARGET_S)
    assert window.size_b == LEAST_WINDOW_B
