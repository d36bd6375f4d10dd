"""The benchmark of campaigns: both opinions are really asked, and a wrong engine is found out."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import campaign_oracle, oracle, parity
from benchmarks.baskets import Found, Maker
from gateway.rules.pricing import MOST_ASKS

ROOT = Path(__file__).parents[2]


def test_engine_and_oracle_agree_and_every_kind_is_used() -> None:
    counted = campaign_oracle.compared(seed=11, baskets=150)
    assert (counted.baskets, counted.differences, counted.examples) == (150, 0, [])
    assert len(counted.used) == 6
    assert {"time_untrusted", "minimum_not_reached", "items_taken", "outside_window"} <= counted.refused.keys()


def test_an_engine_that_is_off_by_one_unit_once_in_a_while_is_found_out() -> None:
    def wrong(*asked: Any) -> Found:
        found = campaign_oracle.engine(*asked)
        return found | {"to_pay_minor": found["to_pay_minor"] + (found["off_minor"] > 99)}

    counted = campaign_oracle.compared(11, 100, wrong)
    assert counted.differences > 5
    assert len(counted.examples) == campaign_oracle.SHOWN
    assert json.loads(counted.examples[0]).keys() == {"asked", "engine", "oracle"}


def test_the_oracle_shares_no_code_with_the_engine() -> None:
    assert "gateway" not in Path(oracle.__file__).read_text(encoding="utf-8")


def test_the_oracle_tries_every_way_to_take_pieces() -> None:
    assert set(oracle.every_way([1, 1], 1, 1)) == {((1, 0), (0, 1)), ((0, 1), (1, 0))}
    assert list(oracle.every_way([2], 1, 2)) == []
    assert len(list(oracle.every_way([1] * 6, 2, 2))) == 90


def test_the_same_seed_makes_the_same_baskets() -> None:
    assert campaign_oracle.one_basket(Maker(3)) == campaign_oracle.one_basket(Maker(3))
    assert campaign_oracle.one_basket(Maker(3)) != campaign_oracle.one_basket(Maker(4))


def test_other_bytes_are_a_difference_even_if_they_mean_the_same() -> None:
    same, other = b'{"priced":[{"a":1}],"problems":[]}', b'{"priced":[{"a": 1}],"problems":[]}'
    assert list(parity.differing(same, same, [{}])) == []
    assert len(list(parity.differing(same, other, [{}]))) == 1
    assert len(list(parity.differing(same, b'{"priced":[{"a":2}],"problems":[]}', [{}]))) == 1


def test_batches_fit_both_doors() -> None:
    maker = Maker(5)
    made = list(parity.batches(maker, maker.campaigns(12), 700))
    assert sum(map(len, made)) == 700
    assert max(map(len, made)) <= MOST_ASKS
    assert max(len(json.dumps(batch)) for batch in made) <= parity.MOST_B + 2


@pytest.mark.slow
def test_the_program_compares_a_running_shop_with_a_running_headquarters() -> None:
    options = ["--baskets", "200", "--parity", "300", "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.campaign_oracle", *options], cwd=ROOT, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr[-3000:]
    flat = json.loads(re.fullmatch(r"SUMMARY (\{.*\})", done.stdout.splitlines()[-1])[1])  # type: ignore[index]
    assert (flat["differences"], flat["parity_differences"]) == (0, 0)
    assert (flat["baskets"], flat["parity_baskets"]) == (200, 300)
