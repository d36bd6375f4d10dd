"""What the wall clock is worth."""

import time

import pytest

from gateway.clock import BUILT_US, DISAGREEMENT_US, HOLDOVER_NS, SystemClock, read_boot_id
from gateway.events import TimeTrust

HOUR_US = 3600 * 10**6


class SettableClock(SystemClock):
    """The clock of a machine whose boot time is set by hand; its wall clock is patched in `time`."""

    boot_ns = 10**9

    def boottime_ns(self) -> int:
        return self.boot_ns


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    said = {"us": BUILT_US + 1000 * HOUR_US}
    monkeypatch.setattr(time, "time_ns", lambda: said["us"] * 1000)
    return said


def test_a_clock_nothing_contradicts_is_holdover(wall: dict[str, int]) -> None:
    assert SettableClock().now().trust is TimeTrust.HOLDOVER


def test_a_clock_before_its_own_software_is_not_believed(wall: dict[str, int]) -> None:
    wall["us"] = 0
    clock = SettableClock()
    assert clock.now().trust is TimeTrust.UNTRUSTED
    assert clock.bounds_us() == (BUILT_US, None)


def test_a_clock_before_something_that_happened_is_not_believed(wall: dict[str, int]) -> None:
    clock = SettableClock()
    clock.raise_floor(wall["us"] + 61_000_000)
    assert clock.now().trust is TimeTrust.UNTRUSTED
    assert clock.bounds_us() == (wall["us"] + 61_000_000, None)


def test_the_floor_has_a_minute_of_slack_and_never_sinks(wall: dict[str, int]) -> None:
    clock = SettableClock()
    clock.raise_floor(wall["us"] + 59_000_000)
    clock.raise_floor(0)
    assert clock.now().trust is TimeTrust.HOLDOVER
    assert clock.bounds_us() == (wall["us"], wall["us"])
    wall["us"] -= 2_000_000
    assert clock.now().trust is TimeTrust.UNTRUSTED


def test_the_floor_rises_with_the_boot_time_and_not_with_the_wall_clock(wall: dict[str, int]) -> None:
    clock = SettableClock()
    past_us = wall["us"]
    clock.raise_floor(past_us)
    clock.boot_ns += 2 * HOUR_US * 1000
    wall["us"] += HOUR_US  # it was set back an hour meanwhile
    assert clock.now().trust is TimeTrust.UNTRUSTED
    assert clock.bounds_us() == (past_us + 2 * HOUR_US, None)
    wall["us"] += 100 * HOUR_US  # a leap forward raises nothing
    assert clock.now().trust is TimeTrust.HOLDOVER
    wall["us"] = past_us + 2 * HOUR_US
    assert clock.now().trust is TimeTrust.HOLDOVER
    clock.raise_floor(past_us + HOUR_US)  # known later, but earlier than what has certainly passed
    clock.boot_ns += HOUR_US * 1000
    assert clock.bounds_us() == (past_us + 3 * HOUR_US, None)


@pytest.mark.parametrize(
    ("off_us", "trust"),
    [
        (0, TimeTrust.SYNCED),
        (DISAGREEMENT_US - 1, TimeTrust.SYNCED),
        (-DISAGREEMENT_US + 1, TimeTrust.SYNCED),
        (DISAGREEMENT_US, TimeTrust.UNTRUSTED),
        (-DISAGREEMENT_US, TimeTrust.UNTRUSTED),
    ],
)
def test_hqs_signed_word_decides_for_a_day(wall: dict[str, int], off_us: int, trust: TimeTrust) -> None:
    clock = SettableClock()
    clock.hear_signed_time(wall["us"] - off_us)
    assert clock.now().trust is trust


def test_after_a_day_without_a_word_the_clock_is_holdover_again(wall: dict[str, int]) -> None:
    clock = SettableClock()
    clock.hear_signed_time(wall["us"])
    clock.boot_ns += HOLDOVER_NS
    wall["us"] += HOLDOVER_NS // 1000
    assert clock.now().trust is TimeTrust.HOLDOVER


def test_the_boot_time_that_has_passed_counts_for_the_signed_time(wall: dict[str, int]) -> None:
    clock = SettableClock()
    clock.hear_signed_time(wall["us"])
    clock.boot_ns += 5 * HOUR_US * 1000
    assert clock.now().trust is TimeTrust.UNTRUSTED  # five hours have passed, and the wall clock has not moved
    wall["us"] += 5 * HOUR_US
    assert clock.now().trust is TimeTrust.SYNCED


def test_a_signed_time_that_lay_in_a_queue_does_not_shake_a_newer_one(wall: dict[str, int]) -> None:
    clock = SettableClock()
    clock.hear_signed_time(wall["us"])
    clock.hear_signed_time(wall["us"] - 5 * HOUR_US)
    assert clock.now().trust is TimeTrust.SYNCED


def test_a_newer_signed_time_replaces_an_older_one(wall: dict[str, int]) -> None:
    clock = SettableClock()
    clock.hear_signed_time(wall["us"] - 5 * HOUR_US)
    assert clock.now().trust is TimeTrust.UNTRUSTED
    clock.hear_signed_time(wall["us"])
    assert clock.now().trust is TimeTrust.SYNCED


def test_the_real_clock_names_its_boot_and_runs_on() -> None:
    clock = SystemClock()
    first, second = clock.now(), clock.now()
    assert first.boot_id == second.boot_id == read_boot_id()
    assert len(first.boot_id) == 8
    assert first.mono_ns < second.mono_ns
