"""The box's book: whatever it was given, told and asked for, it honours no number it gave back and nothing it settled."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.events import AssignmentTaken, EpochAdmitted, Instant, Released, SettledThrough, TimeTrust, VoucherRedeemed
from gateway.rules.assignment import Book, Running
from gateway.rules.reasons import REASONS
from gateway.signed import AssignmentStand, Grant

AT = Instant(0, 0, "", TimeTrust.HOLDOVER)
PROVEN, UNPROVEN = Running("3-c", 3, True), Running("3-c", 3, False)

grants = st.builds(
    Grant,
    voucher_id=st.sampled_from("vw"),
    number=st.integers(1, 4),
    gateway=st.sampled_from(["me", "me", "me", "other"]),
    units=st.integers(1, 3),
    not_after_s=st.integers(1, 9),
    issued_s=st.just(0),
    epoch=st.sampled_from([None, "2-b", "3-c"]),
)
wishes = st.one_of(
    st.tuples(st.just("show"), grants),
    st.tuples(st.just("release"), st.tuples(st.sampled_from("vw"), st.integers(1, 4))),
    st.tuples(st.just("settle"), st.integers(1, 9)),
    st.tuples(st.just("open"), st.integers(1, 3)),
)


def taken(grant: Grant) -> AssignmentTaken:
    return AssignmentTaken(grant.voucher_id, grant.number, grant.units, grant.not_after_s, grant.issued_s, grant.epoch, None, AT)


def use(grant: Grant) -> VoucherRedeemed:
    return VoucherRedeemed("", grant.voucher_id, 0, 1, "", "", None, 1, AT, number=grant.number)


def do(book: Book, rows: list[Any], step: tuple[str, Any], running: Running) -> Grant | None:
    """Take a step as core would, and write down what came of it; what was honoured."""
    what, said = step
    fresh: list[Any] = []
    honoured = None
    if what == "show":
        if book.refusal(said, 1, running, 0) is None:
            honoured, fresh = said, [taken(said), use(said)]
    elif what == "release":
        voucher_id, number = said
        fresh = [Released(voucher_id, number, book.opening, AT)] if book.may_release(voucher_id, number, running) else []
    elif what == "settle":
        fresh = [SettledThrough(said, book.opening, AT)] if book.may_settle(said, running) else []
    else:
        fresh = [EpochAdmitted("3-c", "opening", said, AT)]
    for row in fresh:
        rows.append(row)
        book.fold(row, (running.number, len(rows)))
    return honoured


@given(st.lists(wishes, max_size=25), st.booleans())
def test_nothing_given_back_or_settled_is_honoured_and_no_number_beyond_its_units(steps: list[tuple[str, Any]], proven: bool) -> None:
    running = PROVEN if proven else UNPROVEN
    book, rows = Book("me"), list[Any]()
    for step in steps:
        released = {(row.voucher_id, row.number) for row in rows if isinstance(row, Released)}
        settled = max((row.through_s for row in rows if isinstance(row, SettledThrough)), default=0)
        honoured = do(book, rows, step, running)
        if honoured is None:
            continue
        assert honoured.gateway == "me" and honoured.not_after_s > settled
        assert not any(voucher == honoured.voucher_id and number >= honoured.number for voucher, number in released)
        assert proven or honoured.epoch == running.epoch
        uses = [(row.voucher_id, row.number) for row in rows if isinstance(row, VoucherRedeemed)]
        assert uses.count((honoured.voucher_id, honoured.number)) <= honoured.units


@given(st.lists(wishes, max_size=20), grants)
def test_a_book_read_back_from_its_rows_says_the_same(steps: list[tuple[str, Any]], asked: Grant) -> None:
    book, rows = Book("me"), list[Any]()
    for step in steps:
        do(book, rows, step, PROVEN)
    again = Book("me")
    for seq, row in enumerate(rows, 1):
        again.fold(row, (PROVEN.number, seq))
    assert again.refusal(asked, 1, PROVEN, 0) == book.refusal(asked, 1, PROVEN, 0)
    assert (again.settled_s, again.opening, again.ends_s()) == (book.settled_s, book.opening, book.ends_s())


@given(grants, st.booleans(), st.integers(0, 10))
def test_every_refusal_has_words(asked: Grant, proven: bool, earliest_s: int) -> None:
    refused = Book("me").refusal(asked, 1, PROVEN if proven else UNPROVEN, earliest_s * 1_000_000)
    assert refused is None or refused in REASONS
    assert refused is not None or earliest_s <= asked.not_after_s


def test_an_opening_adds_what_was_spent_elsewhere_and_what_is_over() -> None:
    book = Book("me")
    mine = Grant(voucher_id="v", number=2, gateway="me", units=3, not_after_s=9, issued_s=0)
    book.fold(taken(mine), (1, 1))
    book.fold(use(mine), (1, 2))
    book.fold(use(mine), (1, 3))
    book.adopt([AssignmentStand("v", 2, 3, 2, 9, True), AssignmentStand("w", 4, 0, 0, 9, False)], 5, {1: 2})
    assert book.spent("v", 2) == 3, "two that headquarters counted, and the row beyond its mark"
    assert book.refusal(mine, 1, PROVEN, 0) == "already_redeemed"
    other = Grant(voucher_id="w", number=4, gateway="me", units=1, not_after_s=9, issued_s=0)
    assert book.refusal(other, 1, PROVEN, 0) == "grant_stale"
    assert book.settled_s == 5


def test_a_release_is_written_again_only_under_a_newer_opening() -> None:
    book = Book("me")
    assert book.may_release("v", 1, PROVEN) and not book.may_release("v", 1, UNPROVEN)
    book.fold(Released("v", 1, 0, AT))
    assert not book.may_release("v", 1, PROVEN)
    book.fold(EpochAdmitted("3-c", "opening", 7, AT))
    assert book.may_release("v", 1, PROVEN)


def test_a_named_start_has_to_be_of_this_ledgers_line() -> None:
    mine = Running("3-c", 3, True, frozenset({"2-b", "3-c"}))
    for epoch, wanted in (("2-b", None), ("3-c", None), (None, None), ("1-other", "assigned_elsewhere")):
        grant = Grant(voucher_id="v", number=1, gateway="me", units=1, not_after_s=9, issued_s=0, epoch=epoch)
        assert Book("me").refusal(grant, 1, mine, 0) == wanted
