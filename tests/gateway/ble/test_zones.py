"""Zones and visits, by numbers of time."""

import ast
import csv
import gzip
import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ble.zones import MAX_BACKDATING_S, STALE_S, Entered, Left, Tracker, Visits, tracker

SENSORS = {"a": "door", "b": "shelf", "c": "counter"}
TRACKS = Path(__file__).parents[4] / "shared" / "data" / "ble" / "tracks"


def names() -> Callable[[], str]:
    count = itertools.count(1)
    return lambda: f"v{next(count)}"


def walk(visits: Visits, subject: str, legs: list[tuple[str, float]], rng: random.Random, t_s: float = 0.0) -> list[Entered | Left]:
    """Stay near a receiver for some seconds each, 4 advertisements a second, a third of them lost, 4 dB of noise."""
    changes: list[Entered | Left] = []
    for near, seconds in legs:
        for _ in range(int(seconds * 4)):
            t_s += 0.25
            for sensor in SENSORS:
                if rng.random() > 0.3:
                    level_dbm = (-58 if sensor == near else -78) + rng.gauss(0, 4)
                    changes += visits.hear(t_s, subject, sensor, level_dbm)
            changes += visits.tick(t_s)
    return changes


def test_the_first_zone_is_the_loudest() -> None:
    one = tracker(SENSORS)
    assert one.feed(0.0, "a", -80) == "door"
    assert one.feed(0.1, "b", -60) == "shelf"


def test_a_little_louder_is_not_elsewhere() -> None:
    one = tracker(SENSORS)
    for at in range(50):
        one.feed(at / 5, "a", -60)
        assert one.feed(at / 5 + 0.1, "b", -58 if at > 3 else -70) == "door"


def test_clearly_louder_is_elsewhere() -> None:
    one = tracker(SENSORS)
    for at in range(20):
        one.feed(at / 5, "a", -60)
    for at in range(20, 60):
        one.feed(at / 5, "a", -70)
        one.feed(at / 5 + 0.1, "b", -55)
    assert one.zone == "shelf"


def test_a_silent_receiver_keeps_nobody() -> None:
    one = tracker(SENSORS)
    one.feed(0.0, "a", -40)
    for at in range(10):
        one.feed(5.0 + at, "b", -80)
    assert STALE_S < 15 and one.zone == "shelf"


def test_a_receiver_nobody_placed_is_not_listened_to() -> None:
    one = tracker(SENSORS)
    assert one.feed(0.0, "hci9", -20) is None
    assert Visits(SENSORS, 5.0, names()).hear(0.0, "tag", "hci9", -20) == []


def test_a_visit_ends_when_the_subject_was_last_near() -> None:
    visits = Visits(SENSORS, 5.0, names())
    changes = walk(visits, "tag", [("a", 30)], random.Random(1))
    assert visits.tick(34.0) == []
    changes += visits.tick(35.0 + 0.3)
    entered, left = changes
    assert isinstance(entered, Entered) and isinstance(left, Left)
    assert (entered.zone, left.zone, entered.visit_id) == ("door", "door", left.visit_id)
    assert 29 <= left.exit_s - left.enter_s <= 30
    assert len(visits) == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_walk_through_the_shop_is_one_visit_per_zone(seed: int) -> None:
    visits = Visits(SENSORS, 5.0, names())
    changes = walk(visits, "tag", [("a", 20), ("b", 40), ("c", 10)], random.Random(seed))
    changes += visits.tick(90.0)
    ended = [change for change in changes if isinstance(change, Left)]
    assert [(left.zone, left.visit_id) for left in ended] == [("door", "v1"), ("shelf", "v2"), ("counter", "v3")]
    for left, dwell_s in zip(ended, (20, 40, 10), strict=True):
        assert abs(left.exit_s - left.enter_s - dwell_s) < 2.5


def test_who_comes_back_starts_a_new_visit() -> None:
    visits = Visits({"a": "door"}, 5.0, names())
    first = visits.hear(0.0, "tag", "a", -60)
    again = visits.hear(6.0, "tag", "a", -60)
    assert [change.visit_id for change in first + again] == ["v1", "v1", "v2"]
    assert isinstance(again[0], Left) and again[0].exit_s == 0.0


def test_one_wrong_first_sample_starts_no_visit() -> None:
    visits = Visits(SENSORS, 5.0, names())
    changes = visits.hear(0.0, "tag", "a", -70) + visits.hear(0.01, "tag", "b", -50) + visits.tick(1.0)
    assert [(type(change), change.zone) for change in changes] == [(Entered, "shelf")]


def test_a_subject_heard_once_still_has_a_visit() -> None:
    visits = Visits(SENSORS, 5.0, names())
    assert visits.hear(0.0, "tag", "a", -70) == []
    assert [type(change) for change in visits.tick(60.0)] == [Entered, Left]


def test_a_crossing_is_not_dated_back_for_ever() -> None:
    visits = Visits({"a": "door", "b": "shelf"}, 60.0, names())
    changes: list[Entered | Left] = []
    for at in range(400):  # for 80 s the shelf is a little louder, never clearly
        changes += visits.hear(at / 5, "tag", "a", -60 if at > 4 else -50)
        changes += visits.hear(at / 5 + 0.1, "tag", "b", -58 if at > 4 else -75)
    for at in range(400, 500):
        changes += visits.hear(at / 5, "tag", "b", -45)
    left = next(change for change in changes if isinstance(change, Left))
    assert 80 - MAX_BACKDATING_S - 1 < left.exit_s < 85


def test_memory_is_bounded() -> None:
    visits = Visits(SENSORS, 5.0, names(), max_subjects=10)
    changes: list[Entered | Left] = []
    for at in range(1000):
        changes += visits.hear(at / 1000, f"tag-{at}", "a", -60)
    assert len(visits) == 10
    assert len([change for change in changes if isinstance(change, Left)]) == 990


STEPS = st.lists(
    st.tuples(st.floats(0, 20), st.sampled_from(["t1", "t2"]), st.sampled_from([*SENSORS, "hci9"]), st.integers(-126, 20), st.booleans()),
    max_size=80,
)


@given(STEPS)
def test_every_visit_starts_once_and_ends_at_most_once(steps: list[tuple[float, str, str, int, bool]]) -> None:
    visits = Visits(SENSORS, 5.0, names())
    changes: list[Entered | Left] = []
    t_s = 0.0
    for pause_s, subject, sensor, rssi_dbm, ticks in steps:
        t_s += pause_s
        changes += visits.hear(t_s, subject, sensor, rssi_dbm)
        changes += visits.tick(t_s) if ticks else []
    changes += visits.tick(t_s + 100)
    open_visits: dict[str, Entered] = {}
    for change in changes:
        if isinstance(change, Entered):
            assert change.visit_id not in open_visits
            open_visits[change.visit_id] = change
        else:
            started = open_visits.pop(change.visit_id)
            assert (started.subject, started.zone, started.enter_s) == (change.subject, change.zone, change.enter_s)
            assert change.exit_s >= change.enter_s
    assert not open_visits
    assert len({change.visit_id for change in changes}) == len([change for change in changes if isinstance(change, Entered)])


def zone_at(x_m: float, y_m: float) -> str:
    return ("1" if y_m < 9.0 else "2") if x_m < 10.2 else ("4" if y_m < 9.0 else "3")


def recorded_sensors() -> dict[str, str]:
    text = (TRACKS / "sensors.txt").read_text()
    sensors = ast.literal_eval(text.split("Dongles:")[1].split("Beacons:")[0].strip())
    return {name: place[2][6] for name, place in sensors.items()}


@pytest.mark.skipif(not TRACKS.is_dir(), reason="the recorded walks of ../shared/data are not here")
def test_recorded_walks_are_followed_at_least_as_well_as_by_the_yardstick() -> None:
    """84 % of the time in the right one of four zones; the scale is that of the shared scorer."""
    right_s = total_s = 0.0
    for path in sorted(TRACKS.glob("*.csv.gz")):
        one = Tracker(recorded_sensors())
        start_s, before_s, before_right = math.nan, math.nan, False
        with gzip.open(path, "rt") as rows:
            for row in csv.DictReader(rows):
                t_s = float(row["t"])
                start_s = t_s if math.isnan(start_s) else start_s
                if before_s >= start_s + 5:
                    total_s += t_s - before_s
                    right_s += (t_s - before_s) * before_right
                zone = one.feed(t_s, row["sensor"], int(row["rssi"]))
                before_s, before_right = t_s, zone == zone_at(float(row["x"]), float(row["y"]))
    assert total_s > 100
    assert right_s / total_s >= 0.84
