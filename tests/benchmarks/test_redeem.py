"""The benchmark of redeeming measures what it says, through real doors, and counts what it was told against the ledger."""

import os
from pathlib import Path

import pytest

from benchmarks import redeem
from gateway.token import unpack


@pytest.mark.slow
def test_all_sides_are_measured_in_turns(tmp_path: Path) -> None:
    found = redeem.durability(tmp_path, rounds=1, seconds=0.4, environment=dict(os.environ))
    sides = {"raw", "raw_p99_ms", "rate_1", "p99_1_ms", "rate_16", "p99_16_ms", "noop", "bare_noop"}
    ratios = {"rate_1_over_raw", "rate_16_over_raw", "p99_16_over_raw_p99", "rate_16_over_noop", "rate_16_over_bare_noop"}
    assert set(found) == sides | ratios
    assert min(found.values()) > 0
    assert found["noop"] > found["rate_16"]


def test_every_aim_is_in_the_summary() -> None:
    ratios = {"rate_1_over_raw", "rate_16_over_raw", "p99_16_over_raw_p99", "rate_16_over_noop"}
    assert set(redeem.AIMS) <= {f"{key}_sd" for key in ratios} | ratios | {"verify_per_s"}


def test_every_code_is_shown_once() -> None:
    codes = redeem.Codes()
    codes.sign(20)
    shown = [unpack(next(codes))[0].identifier for _ in range(30)]
    assert len(set(shown)) == 30
