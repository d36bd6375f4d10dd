"""What is left of an allotment is what was given less what was used, whatever was reversed, forgotten or told by headquarters."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.events import Instant, OpenCodeHeld, OpenCodeUsed, RedemptionReversed, TimeTrust
from gateway.rules.quota import Allotments
from gateway.signed import AssignmentStand

AT = Instant(1, 1, "b", TimeTrust.SYNCED)


def used(name: str, units: int = 1, number: int = 1, member: str = "") -> OpenCodeUsed:
    return OpenCodeUsed(name, "v", number, units, member, AT)


def back(name: str) -> RedemptionReversed:
    return RedemptionReversed(name, "v", 1, 1, 0, "k", None, None, AT)


def test_a_number_that_is_over_does_not_count_against_the_next() -> None:
    book = Allotments()
    book.fold(used("r1", 5, 1))
    book.fold(used("r2", 2, 2))
    assert (book.spent("v", 1), book.spent("v", 2), book.room("v", 2, 10, held=3)) == (5, 2, 5)


def test_a_reversal_counts_once_and_of_this_shops_uses_only() -> None:
    book = Allotments()
    book.fold(used("r1", 2))
    for name in ("r1", "r1", "stranger"):
        book.fold(back(name))
    assert book.spent("v", 1) == 0


def test_a_members_holds_count_while_they_live() -> None:
    book = Allotments()
    book.fold(used("r1", 1, member="m"))
    book.fold(OpenCodeHeld("h1", "v", 2, "m", AT))
    book.fold(OpenCodeHeld("h2", "v", 4, "other", AT))
    assert book.of_member("v", "m", ["h1", "h2", "nobody's"]) == 3
    assert (book.of_member("v", "m"), book.of_member("v", "other"), book.of_member("w", "m")) == (1, 0, 0)


@given(
    steps=st.lists(st.tuples(st.integers(0, 15), st.integers(1, 3), st.booleans()), max_size=40), counted=st.integers(0, 40),
    forgotten=st.integers(0, 10),
)  # fmt: skip
def test_an_opening_adds_what_was_forgotten_and_counts_nothing_twice(
    steps: list[tuple[int, int, bool]], counted: int, forgotten: int
) -> None:
    """Headquarters has counted the first rows, and some uses of a disk that is gone; the box knows its own rows."""
    book, live, net, known = Allotments(), dict[str, int](), 0, forgotten
    rows: list[tuple[OpenCodeUsed | RedemptionReversed, int]] = []
    for name, units, is_back in steps:
        ref = f"r{name}"
        if is_back and ref in live:
            rows.append((back(ref), -live.pop(ref)))
        elif not is_back and ref not in live and all(row.redemption_id != ref for row, _ in rows):
            live[ref] = units
            rows.append((used(ref, units), units))
    for seq, (row, change) in enumerate(rows, 1):
        book.fold(row, (1, seq))
        net += change
        known += change if seq <= counted else 0
    later_uses = sum(change for row, change in rows[counted:] if isinstance(row, OpenCodeUsed) and row.redemption_id in live)
    assert book.spent("v", 1) == net
    book.adopt([AssignmentStand("v", 1, 99, known, 9, True)], {1: counted})
    assert book.spent("v", 1) == max(net, known + later_uses) >= net + forgotten, "what was counted is not freed here"
    later = Allotments()
    later.adopt([AssignmentStand("v", 1, 99, known, 9, True)], {1: counted})
    for seq, (row, _) in enumerate(rows, 1):
        later.fold(row, (1, seq))
    assert later.spent("v", 1) == book.spent("v", 1), "after a restart it is the same"


def test_what_headquarters_has_counted_is_not_freed_by_reversing_it_once_more() -> None:
    """An old disk has forgotten that it took a use back, and who came then; both are in headquarters' count of one use."""
    book = Allotments()
    book.fold(used("r1"), (1, 1))
    book.adopt([AssignmentStand("v", 1, 2, 1, 9_000, True)], {1: 3})
    assert book.room("v", 1, 2) == 1
    book.fold(back("r1"), (2, 1))
    assert book.room("v", 1, 2) == 1
    book.fold(used("r3"), (2, 2))
    book.fold(back("r3"), (2, 3))
    assert book.room("v", 1, 2) == 1, "what it has not counted is free again"
