"""The doctor says who has to speak before the shop redeems again."""

from pathlib import Path
from typing import Any

import pytest

from provisioning.checks.admission import WHY, admission
from provisioning.checks.outcome import Box, State

GOOD = {"admitted": True, "state": "admitted", "how": "inherited", "doubt": "", "since_us": 0, "awaited": []}


def looked_at(**changes: Any) -> Any:
    view = {"now_us": 180_000_000, "admission": GOOD | {"admitted": False, "state": "waiting"} | changes}
    (outcome,) = admission(Box(Path("x"), None, "", view, "", Path("/")))
    return outcome


def test_an_admitted_start_is_well() -> None:
    assert looked_at(**GOOD).state is State.OK


@pytest.mark.parametrize("doubt", WHY)
def test_a_doubted_start_is_told_to_see_to_its_line(doubt: str) -> None:
    outcome = looked_at(state="doubted", doubt=doubt)
    assert outcome.state is State.FAIL
    assert "3 min" in outcome.what.en and "`line`" in outcome.next_step.en


def test_awaited_devices_are_named() -> None:
    outcome = looked_at(awaited=["counter · tablet", "staff · 林怡君"])
    assert outcome.state is State.FAIL
    assert "counter · tablet" in outcome.what.zh and "林怡君" in outcome.what.en


def test_a_start_of_this_moment_is_no_failure() -> None:
    assert looked_at().state is State.WARN


def test_an_older_core_tells_nothing_of_it() -> None:
    (outcome,) = admission(Box(Path("x"), None, "", {"now_us": 0}, "", Path("/")))
    assert outcome.state is State.SKIPPED
