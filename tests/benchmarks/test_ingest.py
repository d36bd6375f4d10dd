"""The benchmark of ingest: what it sums up, and that it runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import ingest
from tests.cloud_bridge.hq.cluster import BINARIES

ROOT = Path(__file__).parents[2]


def test_each_turn_is_held_against_its_own_yardstick() -> None:
    rates = ingest.Rates(copy=[100.0, 200.0, 1_000.0], db=[60.0, 120.0, 100.0], mqtt=[40.0, 80.0, 900.0], sqlite=[50.0, 100.0, 1_000.0])
    flat = ingest.summary(rates)
    assert (flat["db_over_copy"], flat["mqtt_over_copy"]) == (0.6, 0.4)
    assert (flat["copy_rows_per_s"], flat["turns"]) == (200, 3)
    assert ingest.AIMS.keys() <= flat.keys()
    assert "short" not in ingest.table(flat)
    assert ingest.table(flat | {"db_over_copy": 0.49}).count("short") == 1


@pytest.mark.slow
def test_the_program_measures_a_whole_headquarters() -> None:
    if not (BINARIES / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed (apt-get install postgresql-15)")
    options = ["--rows", "4000", "--turns", "1"]
    done = subprocess.run([sys.executable, "-m", "benchmarks.ingest", *options], cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    flat = json.loads(re.fullmatch(r"SUMMARY (\{.*\})", done.stdout.splitlines()[-1])[1])  # type: ignore[index]
    assert flat["db_over_copy"] > 0 and flat["mqtt_over_copy"] > 0
