"""Every class's promise, over any order of what shops, headquarters, the line, clocks and disks can do.

`python -m tests.models.test_classes --steps 100000` takes as many steps as it is told, each round from a seed it prints.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from benchmarks.chain import Headquarters, Opened, Start
from gateway.core.counter import Counter
from gateway.rules import risk, voucher
from gateway.rules.assigning import Assigner, Stand

from .careless import ASSIGNER, BOOK
from .chain_of_shops import Chain
from .classes import Office

# What some thousand random steps find if it is left out; `tests.models.assignments` finds them all, by walking through everything.
FOUND: Final = ("box_named", "exclusive", "same_number", "wish_waits")


def walk(examples: int, length: int, number: int, without: frozenset[str] = frozenset()) -> None:
    """Take about `examples * length` steps."""
    machine = seed(number)(type("Chain", (Chain,), {"without": without}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=length,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if without else list(Phase),
            report_multiple_bugs=not without,
        ),
    )


@pytest.mark.slow
def test_no_class_breaks_its_promise_whatever_happens() -> None:
    walk(300, 60, 20261122)
    assert all(Chain.did[one] for one in ("store_bound: redeem", "granted: grant", "hq_live: grant", "leased: grant", "disks put back"))
    assert all(Chain.did[f"open_code: {one}"] for one in ("redeem", "capture", "reverse")) and Chain.did["allotments arrived"]


@pytest.mark.slow
@pytest.mark.parametrize("clause", FOUND)
def test_a_clause_that_is_left_out_is_noticed(clause: str) -> None:
    with pytest.raises(AssertionError):
        for number in range(20):
            walk(100, 60, number, frozenset({clause}))


def _tells_nothing(self: Office, shop: str, start: Start) -> Opened:
    opened = Headquarters.opening(self, shop, start)
    opened.used = []
    return opened


def _all_good(rules: Assigner, stand: Stand, shop: str, epoch: str, units: int) -> risk.Settled:
    return msgspec.structs.replace(SETTLE(rules, stand, shop, epoch, units), good=units)


SETTLE: Final = risk.settle
CARELESS: Final[dict[str, tuple[Any, str, Any]]] = {
    "an opening tells what was used": (Office, "opening", _tells_nothing),
    "a hold that an old disk brought back asks again": (voucher, "is_left", lambda *_: True),
    "what is taken on trust stays below the cap": (risk.Exposure, "refusal", lambda *_: None),
    "what was taken too often is booked": (risk, "settle", _all_good),
    "a late capture asks whether it is still free": (Counter, "_refusal_of_late", lambda *_: None),
}


@pytest.mark.slow
@pytest.mark.parametrize("clause", CARELESS)
def test_a_counter_without_one_of_its_clauses_is_noticed(clause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*CARELESS[clause])
    with pytest.raises(AssertionError):
        for number in range(20):
            walk(200, 100, number, frozenset({"journal"}))  # a clause that nothing here has: only stops the shrinking


def main(show: Callable[[str], None] = print) -> int:
    """Entry of `python -m tests.models.test_classes`."""
    parser = argparse.ArgumentParser(prog="python -m tests.models.test_classes", description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drop", choices=sorted({*BOOK, *ASSIGNER}), help="leave a clause out: a counterexample must follow")
    options = parser.parse_args()
    without = frozenset({options.drop}) if options.drop else frozenset[str]()
    number = options.seed
    while Chain.steps < options.steps:
        walk(200, 100, number, without)
        show(f"seed {number}: {Chain.steps} steps")
        number += 1
    for what, times in sorted(Chain.did.items()):
        show(f"{times:8}  {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
