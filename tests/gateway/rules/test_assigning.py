"""Headquarters' side: whatever happens in whatever order, units are neither made nor lost, and two boxes never hold the same."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.rules.assigning import ENDED, Asked, Assigner, Given, Refused, Stand, Wish
from gateway.rules.reasons import REASONS

RULES = Assigner()
boxes = st.sampled_from(["a", "b", "c"])
steps = st.one_of(
    st.tuples(st.just("give"), boxes, st.integers(0, 4)),
    st.tuples(st.just("use"), boxes, st.integers(1, 3)),
    st.tuples(st.just("released"), boxes, st.integers(1, 5)),
    st.tuples(st.just("settled"), boxes, st.integers(1, 30)),
    st.tuples(st.just("destroyed"), boxes, st.just(0)),
    st.tuples(st.just("wished"), st.sampled_from([Wish.MOVE, Wish.CANCEL, Wish.REFUND]), st.just(0)),
)


def step(stand: Stand, what: str, who: Any, number: int, now_s: int, counts: bool = True) -> tuple[Stand, Given | Refused | None]:
    if what == "give":
        given = RULES.give(stand, Asked(who, None, number), now_s, now_s + 5)
        return (given.stand if isinstance(given, Given) else stand), given
    if what == "use":
        kept = stand.kept_by(who)
        room = kept.units - kept.total_spent if kept is not None else 0
        return (RULES.use(stand, who, kept.number, "1-a", min(number, room)) if kept is not None and room else stand), None
    if what == "released":
        return RULES.released(stand, who, number, counts), None
    if what == "settled":
        return RULES.settled(stand, who, number, counts), None
    return (RULES.destroyed(stand, who) if what == "destroyed" else RULES.wished(stand, who)), None


def spent_of(stand: Stand) -> int:
    return sum(kept.total_spent for kept in stand.kept)


@given(st.integers(1, 6), st.lists(steps, max_size=30))
def test_units_are_neither_made_nor_lost(units: int, taken: list[tuple[str, Any, int]]) -> None:
    stand, spent = Stand("v", units), 0
    for now_s, (what, who, number) in enumerate(taken):
        before, (stand, _) = stand, step(stand, what, who, number, now_s)
        spent += max(0, spent_of(stand) - spent_of(before)) if what == "use" else 0
        held = sum(kept.units - kept.total_spent for kept in stand.kept)
        assert stand.left + held + spent == units
        assert stand.left >= 0 and all(kept.units >= kept.total_spent for kept in stand.kept)
        assert len({kept.gateway for kept in stand.kept}) == len(stand.kept)
        assert stand.number >= before.number and stand.told >= before.told


@given(st.lists(steps, max_size=30))
def test_what_is_whole_lies_with_one_box_and_ends_only_when_nobody_holds_it(taken: list[tuple[str, Any, int]]) -> None:
    stand = Stand("v", 3)
    for now_s, (what, who, number) in enumerate(taken):
        stand, given = step(stand, what, who, 0 if what == "give" else number, now_s)
        assert len(stand.kept) <= 1
        assert not (stand.ended and stand.kept)
        assert not isinstance(given, Refused) or given.reason in REASONS
        if isinstance(given, Refused) and given.reason == "assigned_elsewhere":
            assert given.holder == stand.kept[0].gateway != who
    assert set(ENDED.values()) <= REASONS.keys()


@given(st.integers(1, 4), st.lists(steps, max_size=20))
def test_a_word_under_an_older_opening_frees_nothing(units: int, taken: list[tuple[str, Any, int]]) -> None:
    stand = Stand("v", units)
    for now_s, (what, who, number) in enumerate(taken):
        before, (stand, _) = stand, step(stand, what, who, number, now_s, counts=RULES.counts(1, 2, False))
        if what in ("released", "settled"):
            assert stand == before
    assert RULES.counts(2, 2, False) and RULES.counts(3, 2, False) and not RULES.counts(2, 2, True)


def test_a_restored_stand_takes_the_later_word_and_keeps_its_own_uses() -> None:
    given = RULES.give(Stand("v", 2), Asked("a"), 1, 6)
    assert isinstance(given, Given)
    backup = RULES.use(given.stand, "a", 1, "1-a", 1)
    again = RULES.give(backup, Asked("a"), 2, 9)
    assert isinstance(again, Given)
    journalled = RULES.use(again.stand, "a", 1, "1-a", 1)
    restored = RULES.recalled(backup, journalled)
    assert [(kept.latest_s, kept.total_spent) for kept in restored.kept] == [(9, 1)], "the second use comes again with its row"
    assert RULES.recalled(journalled, backup) == journalled


def test_points_that_rows_earned_are_put_in_once_even_if_the_rows_come_again_after_a_restore() -> None:
    backup = Stand("a", 0)
    earned = RULES.earn(backup, 12)
    assert (earned.left, earned.credited, RULES.earn(earned, 12)) == (12, 12, earned)
    given = RULES.give(earned, Asked("a", None, 5), 0, 100)
    assert isinstance(given, Given)
    restored = RULES.recalled(backup, given.stand)  # the backup knows neither; the journal has what left
    assert RULES.earn(restored, 12) == restored, "the same rows"
    later = RULES.earn(restored, 20)
    assert (later.left, later.kept[0].units) == (15, 5), "and what came after"
    ended = RULES.wished(RULES.earn(backup, 3), Wish.CANCEL)
    assert RULES.earn(ended, 9) == ended
