"""How fast one member takes on trust: never more than the terms let them, whatever happens in between."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.anywhere import RiskTerms
from gateway.events import AuthorizationEnded, Instant, MemberBound, RedemptionReversed, RiskHeld, RiskTaken, TimeTrust
from gateway.rules.velocity import Velocity
from gateway.signed import MemberTrust

NOW_S = 1_800_000_000
TERMS = RiskTerms(
    campaign=5, version=1, currency="TWD", per_code_minor=300, per_device_minor=500, per_shop_minor=10**6, worth_minor=100,
    list_age_s=3_600, bearer="retailer", per_member_count=3, per_member_minor=700, per_member_window_s=600,
)  # fmt: skip


def at(age_s: float) -> Instant:
    return Instant(int((NOW_S - age_s) * 1_000_000), 1, "b", TimeTrust.HOLDOVER)


def age_s(moment: Instant) -> float:
    return NOW_S - moment.wall_us / 1_000_000


def live(name: str) -> bool:
    return True


def take(book: Velocity, name: str, minor: int = 200, age: float = 0, member: str | None = "anna", campaign: int = 5) -> None:
    book.fold(RiskTaken(name, f"v{name}", campaign, 1, 0, 1, minor, "d", at(age)))
    if member is not None:
        book.fold(MemberBound(name, None, f"v{name}", 5, 1, member, "code", "s", None, None, at(age)))


def hold(book: Velocity, name: str, minor: int = 200) -> None:
    book.fold(RiskHeld(name, f"v{name}", 5, 1, 0, 1, minor, minor, "d", at(0)))
    book.fold(MemberBound(None, name, f"v{name}", 5, 1, "anna", "code", "s", None, None, at(0)))


def refused(book: Velocity, minor: int = 1, member: str = "anna", terms: RiskTerms = TERMS, is_live: Any = live) -> str | None:
    return book.refusal(terms, member, minor, age_s, is_live)


@pytest.mark.parametrize(
    ("uses", "more", "said"),
    [
        ([], 700, None), ([], 701, "risk_member"), ([200, 200], 300, None), ([200, 200], 301, "risk_member"),
        ([1, 1, 1], 1, "risk_member"), ([1, 1], 1, None),
    ],
)  # fmt: skip
def test_count_and_value_each_stop_by_themselves(uses: list[int], more: int, said: str | None) -> None:
    book = Velocity()
    for number, minor in enumerate(uses):
        take(book, f"r{number}", minor)
    assert refused(book, more) == said
    assert refused(book, more, "bert") == (None if more <= 700 else said), "another member has a window of their own"
    assert refused(book, more, "") is None, "who is not known is under the code's floor"


def test_what_is_older_than_the_window_counts_no_more_and_what_nobody_can_date_does() -> None:
    book = Velocity()
    for number in range(3):
        take(book, f"r{number}", 1, age=600.0 - number)
    assert refused(book) is None, "the first has left it"
    take(book, "r9", 1)
    assert refused(book) == "risk_member"
    assert book.refusal(TERMS, "anna", 1, lambda moment: 0.0, live) == "risk_member"


def test_a_hold_counts_while_it_lives_and_a_reversal_gives_back() -> None:
    book = Velocity()
    hold(book, "h")
    take(book, "r1", 400)
    assert refused(book, 200) == "risk_member"
    assert refused(book, 200, is_live=lambda name: False) is None, "a hold long over, of which only this row is kept"
    book.fold(AuthorizationEnded("h", "vh", "voided", "s", None, None, at(0)))
    assert refused(book, 200) is None and book.whose("h") == "anna"
    assert refused(book, 400) == "risk_member"
    book.fold(RedemptionReversed("r1", "vr1", 5, 1, 0, "s", None, None, at(0)))
    assert refused(book, 700) is None


def test_what_was_assigned_or_of_nobody_or_of_other_terms_counts_for_no_member() -> None:
    book = Velocity()
    take(book, "assigned", 0)
    take(book, "nobody", member=None)
    take(book, "other", 700, campaign=-1)
    assert refused(book, 700) is None
    assert refused(book, 10**9, terms=msgspec.structs.replace(TERMS, per_member_count=None, per_member_minor=None)) is None


def test_what_headquarters_brings_back_counts_once() -> None:
    book = Velocity()
    take(book, "r1", 300)
    known = [MemberTrust(name, "anna", 5, 300, at(9).wall_us) for name in ("r1", "lost")]
    for _ in range(2):
        book.adopt(known)
    assert (refused(book, 100), refused(book, 101)) == (None, "risk_member")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 400), st.integers(0, 900)), max_size=30))
def test_in_no_window_is_more_taken_than_the_terms_say(wishes: list[tuple[str, int, int]]) -> None:
    book, clock, took = Velocity(), 0, list[tuple[str, int, int]]()
    for number, (member, minor, later_s) in enumerate(wishes):
        clock += later_s
        moment = clock

        def age(one: Instant, now: int = moment) -> float:
            return now - one.wall_us / 1_000_000

        if book.refusal(TERMS, member, minor, age, live) is None:
            when = Instant(clock * 1_000_000, 1, "b", TimeTrust.HOLDOVER)
            book.fold(RiskTaken(f"r{number}", "v", 5, 1, 0, 1, minor, "d", when))
            book.fold(MemberBound(f"r{number}", None, "v", 5, 1, member, "code", "s", None, None, when))
            took.append((member, minor, clock))
    for member, _, begin in took:
        window = [minor for of, minor, when in took if of == member and begin <= when < begin + 600]
        assert len(window) <= 3 and sum(window) <= 700
