"""Shares of a balance: reversals and credits make nothing out of nothing, and no hold is spent by others."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.events import AssignmentTaken, Instant, RedemptionReversed, SettledThrough, TimeTrust, VoucherRedeemed
from gateway.rules.assigning import Asked, Assigner, Given, Stand
from gateway.rules.assignment import Book, Running
from gateway.rules.balance import NO_SHARE, ends_with, may_capture, share_of
from gateway.signed import AssignmentStand
from gateway.token import points_ref, voucher_ref

RULES = Assigner()
AT = Instant(0, 0, "", TimeTrust.HOLDOVER)
RUNNING = Running("2-b", 2, True, frozenset({"1-a"}))
boxes = st.sampled_from(["a", "b"])
steps = st.one_of(
    st.tuples(st.just("give"), boxes, st.integers(1, 9)),
    st.tuples(st.just("use"), boxes, st.integers(1, 9)),
    st.tuples(st.just("back"), boxes, st.integers(0, 50)),
    st.tuples(st.just("settled"), boxes, st.just(99)),
    st.tuples(st.just("credit"), boxes, st.integers(1, 5)),
)


@given(st.integers(0, 20), st.lists(steps, max_size=40))
def test_what_was_put_in_is_what_is_left_lent_and_spent_whatever_is_taken_back(put_in: int, taken: list[tuple[str, str, int]]) -> None:
    stand, live = Stand("v", put_in), list[tuple[str, int, int]]()  # box, number and units of each use not taken back
    for now_s, (what, box, units) in enumerate(taken):
        kept = stand.kept_by(box)
        if what == "give":
            said = RULES.give(stand, Asked(box, None, units), now_s, now_s + 5)
            stand = said.stand if isinstance(said, Given) else stand
        elif what == "use" and kept is not None and kept.total_spent + units <= kept.units:
            stand = RULES.use(stand, box, kept.number, "1-a", units)
            live.append((box, kept.number, units))
        elif what == "back" and live:
            who, number, gave = live.pop(units % len(live))
            stand = RULES.taken_back(stand, who, number, "1-a", gave)
        elif what == "settled":
            stand = RULES.settled(stand, box, units, True)
        elif what == "credit":
            stand, put_in = RULES.credit(stand, units), put_in + units
        lent = sum(one.units - one.total_spent for one in stand.kept)
        assert stand.left + lent + sum(units for _, _, units in live) == put_in
        assert stand.left >= 0 and all(0 <= one.total_spent <= one.units for one in stand.kept) and stand.late == 0


def book_with(units: int, *rows: Any) -> Book:
    book = Book("me")
    for seq, row in enumerate((AssignmentTaken("v", 3, units, 50, 0, None, None, AT), *rows), 1):
        book.fold(row, (2, seq))
    return book


def use(name: str, units: int) -> VoucherRedeemed:
    return VoucherRedeemed(name, "v", 0, 1, "", "", None, 1, AT, 1, units, number=3)


def back(name: str, units: int) -> RedemptionReversed:
    return RedemptionReversed(name, "v", 0, 1, units, "", None, None, AT, 3)


@given(st.integers(1, 100), st.lists(st.integers(1, 30), max_size=6), st.integers(0, 120), st.data())
def test_a_share_is_what_was_lent_less_what_is_spent_and_held(units: int, spends: list[int], held: int, data: st.DataObject) -> None:
    reversed_ = data.draw(st.sets(st.integers(0, len(spends)))) if spends else set()
    rows: list[Any] = [use(str(at), amount) for at, amount in enumerate(spends)]
    rows += [back(str(at), spends[at]) for at in sorted(reversed_) if at < len(spends)]
    book = book_with(units, *rows)
    spent = sum(amount for at, amount in enumerate(spends) if at not in reversed_)
    share = share_of(book, "v", RUNNING, 0, lambda number: held if number == 3 else 0)
    assert share.free == max(0, units - spent - held)
    assert (share.number, share.ends_s) == (3, 50) if units >= spent else share == NO_SHARE
    assert may_capture(book, "v", 3, held, RUNNING) is (units - spent >= held and units >= spent)


def test_a_share_that_has_ended_or_was_settled_is_none_but_a_live_hold_outlives_its_end() -> None:
    book = book_with(10)
    assert share_of(book, "v", RUNNING, 51_000_000, lambda _: 0) == NO_SHARE
    assert may_capture(book, "v", 3, 10, RUNNING) and not may_capture(book, "v", 2, 1, RUNNING)
    assert (ends_with(book, "v", 3), ends_with(book, "v", 9)) == (50, 0)
    book.fold(SettledThrough(50, 0, AT), (2, 9))
    assert not may_capture(book, "v", 3, 1, RUNNING)


def test_an_unproven_start_has_no_share_and_a_reversal_frees_nothing_that_headquarters_had_counted() -> None:
    unproven = Running("2-b", 2, False)
    assert share_of(book_with(10), "v", unproven, 0, lambda _: 0) == NO_SHARE
    book = book_with(10, use("r", 8))
    book.adopt([AssignmentStand("v", 3, 10, 8, 50, True)], 0, {2: 2})
    book.fold(back("r", 8), (2, 3))
    assert share_of(book, "v", RUNNING, 0, lambda _: 0).free == 2
    again = book_with(10, use("r", 8), back("r", 8))
    assert share_of(again, "v", RUNNING, 0, lambda _: 0).free == 10


def test_a_reversal_told_twice_frees_once_and_one_of_another_use_nothing() -> None:
    book = book_with(10, use("r", 4), use("s", 4), back("r", 4), back("r", 4), back("t", 4))
    assert book.spent("v", 3) == 4
    assert book.uncounted("v", 3, lambda place: place <= (2, 2)) == 4
    assert book.uncounted("v", 3, lambda place: place <= (2, 3)) == 0


@given(st.text(max_size=64), st.text(max_size=64))
def test_a_members_account_has_one_number_that_a_token_can_name(one: str, other: str) -> None:
    found = points_ref(one)
    assert voucher_ref(1, int(found, 16)) == found
    assert (points_ref(other) == found) is (one == other)
