"""Strangers are estimated, honestly, and nothing of them remains."""

import gc
import itertools
import random
import sys
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ble.footfall import CELLS, Estimate, Footfall, phones_behind

Stay = tuple[float, float, str]  # from, until, zone


def crowd(rng: random.Random, phones: int, dwell_s: float, until_s: float, zones: int) -> list[Stay]:
    """As many phones as that on average, coming and going, from the start on."""
    stays = [(0.0, rng.expovariate(1 / dwell_s), f"z{rng.randrange(zones)}") for _ in range(phones)]
    t_s = rng.expovariate(phones / dwell_s)
    while t_s < until_s:
        stays.append((t_s, t_s + rng.expovariate(1 / dwell_s), f"z{rng.randrange(zones)}"))
        t_s += rng.expovariate(phones / dwell_s)
    return stays


def advertisements(rng: random.Random, stays: list[Stay], until_s: float, loss: float) -> list[tuple[float, str, str]]:
    """Every phone at its own rate, with an address that changes every 15 minutes."""
    sent = []
    for from_s, to_s, zone in stays:
        interval_s, address, rotates_s = rng.uniform(0.3, 1.5), rng.randbytes(6).hex(), from_s + rng.uniform(0, 900)
        t_s = from_s + rng.random() * interval_s
        while t_s < min(to_s, until_s):
            if t_s > rotates_s:
                address, rotates_s = rng.randbytes(6).hex(), rotates_s + 900
            if rng.random() > loss:
                sent.append((t_s, zone, address))
            t_s += interval_s + rng.uniform(0, 0.01)
    return sorted(sent)


def estimated(
    rng: random.Random, phones: int, dwell_s: float, window_s: float, zones: int, loss: float = 0.3
) -> list[tuple[float, Estimate]]:
    """Truth (mean number of phones there) and estimate, for each zone and window."""
    until_s = 6 * window_s
    stays = crowd(rng, phones, dwell_s, until_s, zones)
    footfall = Footfall({f"z{at}": f"z{at}" for at in range(zones)}, window_s, lambda: rng.randbytes(32))
    footfall.tick(0.0)
    windows = []
    for t_s, zone, address in advertisements(rng, stays, until_s, loss):
        windows.append(footfall.tick(t_s))
        footfall.hear(t_s, zone, address, -60)
    windows.append(footfall.tick(until_s))
    pairs = []
    for at, estimates in enumerate(window for window in windows if window):
        start_s = at * window_s
        for estimate in estimates:
            there_s = sum(
                max(0.0, min(to_s, start_s + window_s) - max(from_s, start_s)) for from_s, to_s, zone in stays if zone == estimate.zone
            )
            pairs.append((there_s / window_s, estimate))
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize("window_s", [10.0, 60.0])
@pytest.mark.parametrize(("phones", "zones"), [(3, 1), (12, 1), (40, 2), (120, 3), (200, 1)])
def test_the_interval_covers_the_truth_most_of_the_time(phones: int, zones: int, window_s: float) -> None:
    pairs = [
        pair
        for seed, dwell_s in itertools.product(range(3), (300.0, 3600.0))
        for pair in estimated(random.Random(seed), phones, dwell_s, window_s, zones)
    ]
    covered = mean(estimate.low <= truth <= estimate.high for truth, estimate in pairs)
    assert len(pairs) >= 36
    assert covered >= 0.85


def test_the_estimate_is_near_the_truth_where_addresses_change() -> None:
    errors = []
    for seed in range(3):
        for truth, estimate in estimated(random.Random(seed), 60, 600.0, 60.0, 1):
            assert estimate.value is not None
            errors.append(abs(estimate.value / truth - 1))
            assert estimate.high - estimate.low < truth  # an interval that says something
    assert mean(errors) < 0.10


def test_lost_advertisements_are_made_up_for() -> None:
    pairs = estimated(random.Random(5), 80, 3600.0, 10.0, 1, loss=0.7)
    assert mean(estimate.value or 0 for _, estimate in pairs) == pytest.approx(mean(truth for truth, _ in pairs), rel=0.15)


def test_below_five_nothing_but_that_is_said() -> None:
    for seed in range(5):
        for _, estimate in estimated(random.Random(seed), 2, 3600.0, 10.0, 1):
            assert (estimate.value, estimate.low) == (None, 0.0)
            assert 5.0 <= estimate.high < 9


def test_an_empty_shop_is_below_five() -> None:
    footfall = Footfall({"a": "door", "b": "shelf"}, 10.0, lambda: b"salt")
    assert footfall.tick(0.0) == []
    assert footfall.tick(10.0) == [Estimate("door", None, 0.0, 5.0), Estimate("shelf", None, 0.0, 5.0)]


def test_a_phone_is_counted_where_it_is_loudest() -> None:
    footfall = Footfall({"a": "door", "b": "shelf"}, 10.0, lambda: b"salt")
    footfall.tick(0.0)
    rng = random.Random(1)
    addresses = [rng.randbytes(6).hex() for _ in range(20)]
    for at in range(1, 100):
        for address in addresses:
            footfall.hear(at / 10, "a", address, -80)
            footfall.hear(at / 10, "b", address, -60)
    door, shelf = footfall.tick(10.0)
    assert door.value is None
    assert shelf.value == pytest.approx(20, abs=2)


def test_each_window_has_a_salt_of_its_own_and_none_outlives_five_minutes() -> None:
    salts = (bytes([number]) * 16 for number in itertools.count(1))
    given_out = []

    def new_salt() -> bytes:
        given_out.append(next(salts))
        return given_out[-1]

    footfall = Footfall({"a": "door"}, 60.0, new_salt)
    for t_s in range(601):
        footfall.tick(float(t_s))
    assert len(given_out) == len(set(given_out)) == 11
    with pytest.raises(ValueError):
        Footfall({"a": "door"}, 301.0, new_salt)


def test_addresses_share_cells() -> None:
    """With 300 addresses in a window most cells stand for several: none can be turned back into one address."""
    footfall = Footfall({"a": "door"}, 10.0, lambda: b"salt")
    rng = random.Random(3)
    for _ in range(3 * CELLS):
        footfall.hear(1.0, "a", rng.randbytes(6).hex(), -60)
    slot = footfall._slots[0]
    assert set(slot) <= set(range(CELLS))
    assert len(slot) <= CELLS


def test_no_address_is_kept_anywhere() -> None:
    """Walks everything the estimator holds, with planted addresses of one distinctive form."""
    footfall = Footfall({"a": "door"}, 10.0, lambda: random.Random(1).randbytes(32))
    footfall.tick(0.0)
    for at in range(100):
        footfall.hear(at / 20, "a", f"DE:AD:BE:EF:00:{at:02X}", -60)
    held: list[object] = []
    queue: list[object] = [footfall.__dict__]
    seen: set[int] = set()
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        held.append(thing)
        if isinstance(thing, dict | list | tuple | set):
            queue.extend(gc.get_referents(thing))
    assert len(held) > 50
    texts = [repr(thing).upper() for thing in held]
    assert not [text for text in texts if "DE:AD" in text or "DEADBEEF" in text]
    assert sum(sys.getsizeof(thing) for thing in held) < 200_000


def test_a_machine_that_slept_makes_no_estimate_of_the_night() -> None:
    footfall = Footfall({"a": "door"}, 10.0, lambda: b"salt")
    footfall.tick(0.0)
    footfall.hear(1.0, "a", "x", -60)
    assert footfall.tick(5000.0) == []
    assert footfall.tick(5009.0) == []
    assert len(footfall.tick(5010.0)) == 1


@given(st.integers(0, CELLS))
def test_more_cells_are_more_phones(cells: int) -> None:
    assert phones_behind(cells) >= cells
    assert cells == 0 or phones_behind(cells) > phones_behind(cells - 1)


@given(st.lists(st.tuples(st.floats(0, 30), st.text(max_size=20), st.integers(-126, 20)), max_size=60))
def test_any_advertisements_give_an_interval_around_the_estimate(heard: list[tuple[float, str, int]]) -> None:
    footfall = Footfall({"a": "door"}, 10.0, lambda: b"salt")
    footfall.tick(0.0)
    estimates = []
    for t_s, address, rssi_dbm in sorted(heard, key=lambda entry: entry[0]):
        estimates += footfall.tick(t_s)
        footfall.hear(t_s, "a", address, rssi_dbm)
    for estimate in [*estimates, *footfall.tick(100.0)]:
        assert 0 <= estimate.low <= (estimate.value or 0) <= estimate.high
