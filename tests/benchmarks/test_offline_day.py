"""The day with an adversary finds nothing spent twice, and would find it if a rule were missing."""

from collections.abc import Callable

import pytest

from benchmarks import offline_day
from benchmarks.offline_day import CLASSES, Day, by_class
from gateway.rules import risk
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
    assert by_class(found)["double_spends"] == dict.fromkeys(CLASSES, 0) | {"bounded_risk": found["risk_double_spends"]}


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, float]]:
    """A day on which half of the codes are copied and every shop loses its line for two hours, on trust alone."""
    for name, value in {"COPIED": 0.5, "OFFLINE": 0.2, "SHARES": (0.05, 0.05, 0.0, 0.05, 0.85)}.items():
        monkeypatch.setattr(offline_day, name, value)

    def run() -> dict[str, float]:
        one = Day(5, 1_500, 8)
        one.run(lambda done: None)
        return one.summary()

    return run


def test_what_is_taken_on_trust_is_booked_to_the_last_use_and_below_the_cap(copied: Callable[[], dict[str, float]]) -> None:
    found = copied()
    assert found["risk_double_spends"] > 20, "copies are taken on trust"
    assert (found["risk_unbooked"], found["risk_loss_over_cap"] <= 1) == (0, True)


def test_a_headquarters_that_settles_nothing_leaves_losses_unbooked(
    copied: Callable[[], dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(risk, "settle", lambda rules, stand, gateway, epoch, units: risk.Settled(stand, units))
    assert copied()["risk_unbooked"] > 0


def test_a_shop_without_caps_loses_more_than_its_cap(copied: Callable[[], dict[str, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(risk.Exposure, "refusal", lambda self, terms, wanted: None)
    assert copied()["risk_loss_over_cap"] > 1


@pytest.mark.parametrize("clause", ["box_named", "exposure", "wish_waits"])
def test_without_a_clause_the_day_shows_it(clause: str) -> None:
    careless = dict([(BOOK | ASSIGNER)[clause]])
    book = type("CarelessBook", (Book,), careless) if clause in BOOK else Book
    rules = type("CarelessAssigner", (Assigner,), careless) if clause in ASSIGNER else Assigner
    found = day(5, book, rules)
    assert sum(found[f"double_spends_{kind}"] for kind in CLASSES) > 0
