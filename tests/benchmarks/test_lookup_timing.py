"""The benchmark of look-ups tells what can be told by time, and finds nothing where there is nothing."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import BENCHMARKS
from benchmarks.lookup_timing import KINDS, auc, judged, measure, number_of

times = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=12)


@given(times, times)
def test_the_rank_test_counts_pairs(several: list[float], others: list[float]) -> None:
    chance, z = auc(several, others)
    wins = sum((one > other) + (one == other) / 2 for one in several for other in others)
    assert chance == pytest.approx(wins / (len(several) * len(others)))
    assert (z > 0) == (chance > 0.5) and auc(others, several)[0] == pytest.approx(1 - chance)


def test_a_kind_that_answers_a_tenth_faster_is_found_out() -> None:
    dice = random.Random(7)
    took = {kind: [dice.gauss(4.0, 0.2) for _ in range(300)] for kind in KINDS}
    assert judged(took)["guess"] < 0.6
    took["locked"] = [value * 0.9 for value in took["locked"]]
    found = judged(took)
    assert found["guess"] == pytest.approx(1 - found["auc_locked"]) and found["guess"] > 0.8 and found["z_locked"] < -5
    assert found["guess_of_noise"] < 0.6


def test_each_kind_has_numbers_of_its_own_and_it_is_run_with_the_others() -> None:
    assert "lookup_timing" in BENCHMARKS
    assert len({number_of(kind, at) for kind in ("found", "no_consent", "unknown") for at in range(50)}) == 150


@pytest.mark.slow
def test_it_runs() -> None:
    found = measure(20)
    assert {f"{kind}_ms" for kind in KINDS} < set(found) and found["guess"] >= 0.5
