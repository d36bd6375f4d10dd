"""A minute of `python -m tests.faults`, and its failures of the past under their seeds."""

import json
import os
import subprocess
import sys

import pytest

from tests.faults.rounds import FAULTS, Tally

pytestmark = [pytest.mark.slow]


def test_a_minute_of_kills_loses_nothing_doubles_nothing_and_explains_everything() -> None:
    command = [sys.executable, "-m", "tests.faults", "--broker", "mosquitto", "--minutes", "0.8", "--seed", "2026"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=400, check=False, env=os.environ | {"COLUMNS": "120"})
    last = ran.stdout.splitlines()[-1]
    assert last.startswith("SUMMARY ")
    found = json.loads(last.removeprefix("SUMMARY "))
    assert found["all"]["cycles"] >= 3 and found["all"]["acked"] > 100
    assert {found["all"][key] for key in ("lost", "doubled", "unexplained")} == {0}
    assert ran.returncode == 0


@pytest.mark.parametrize(
    ("lost", "doubled", "unexplained", "clean"), [(0, 0, 0, True), (1, 0, 0, False), (0, 1, 0, False), (0, 0, 1, False)]
)
def test_a_broken_promise_is_not_clean(lost: int, doubled: int, unexplained: int, clean: bool) -> None:
    assert Tally(1, 10, lost, doubled, unexplained, 10, 1).clean is clean


def test_every_broker_has_core_bridge_broker_and_ingest_killed_and_the_database_is_too() -> None:
    assert "database" in FAULTS["postgres"]
    for faults in (faults for broker, faults in FAULTS.items() if broker != "postgres"):
        assert {"core", "bridge"} <= faults.keys()
        assert any("broker" in fault for fault in faults) and any("ingest" in fault for fault in faults)
