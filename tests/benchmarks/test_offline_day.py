"""The day with an adversary finds nothing spent twice, and would find it if a rule were missing."""

import pytest

from benchmarks.offline_day import CLASSES, Day
from gateway.rules.assigning import Assigner
from gateway.rules.assignment import Book
from tests.models.careless import ASSIGNER, BOOK


def day(seed: int = 5, book: type[Book] = Book, rules: type[Assigner] = Assigner) -> dict[str, float]:
    one = Day(seed, 1_500, 20, book, rules)
    one.run(lambda done: None)
    return one.summary()


@pytest.mark.parametrize("seed", [5, 6])
def test_nothing_is_spent_twice_though_shops_apart_would(seed: int) -> None:
    found = day(seed)
    assert [found[f"double_spends_{kind}"] for kind in CLASSES] == [0, 0, 0, 0]
    assert found["alone_double_spends"] > 0 and found["exposed_units"] > 0 and found["exposure_over_cap"] <= 1
    assert found["honest_served"] > found["line_only_served"]


@pytest.mark.parametrize("clause", ["box_named", "exposure", "wish_waits"])
def test_without_a_clause_the_day_shows_it(clause: str) -> None:
    careless = dict([(BOOK | ASSIGNER)[clause]])
    book = type("CarelessBook", (Book,), careless) if clause in BOOK else Book
    rules = type("CarelessAssigner", (Assigner,), careless) if clause in ASSIGNER else Assigner
    found = day(5, book, rules)
    assert sum(found[f"double_spends_{kind}"] for kind in CLASSES) > 0
