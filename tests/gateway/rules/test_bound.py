"""What members used here: exact along the chain, and after an old disk came back by headquarters' opening."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.events import AuthorizationEnded, Event, Instant, MemberBound, RedemptionReversed, TimeTrust, VoucherAuthorized
from gateway.rules.bound import BoundUses
from gateway.rules.uses import day_of
from gateway.signed import Elsewhere, MemberUses

DAY_US = 86_400_000_000
MEMBERS = ("anna", "bert")


def at(day: int, trust: TimeTrust = TimeTrust.HOLDOVER) -> Instant:
    return Instant(1_800_000_000_000_000 + day * DAY_US, 0, "b", trust)


def bound(name: str, member: str = "anna", day: int = 0, hold: bool = False, units: int = 1, campaign: int = 5) -> MemberBound:
    redemption, authorization = (None, name) if hold else (name, None)
    return MemberBound(redemption, authorization, "v", campaign, units, member, "code", "s", None, None, at(day))


def reversed_(name: str, day: int = 0) -> RedemptionReversed:
    return RedemptionReversed(name, "v", 5, 1, 0, "s", None, None, at(day))


def held(name: str) -> VoucherAuthorized:
    return VoucherAuthorized(name, "v", 5, 1, "s", "p", None, None, 1, 0, 1, 0, 60, at(0))


def ended(name: str) -> AuthorizationEnded:
    return AuthorizationEnded(name, "v", "voided", "s", None, None, at(0))


def counted(rows: list[Event]) -> dict[tuple[str, str], int]:
    """What headquarters counts of rows: by member and day, less what was reversed."""
    back = {row.redemption_id for row in rows if isinstance(row, RedemptionReversed)}
    found: dict[tuple[str, str], int] = {}
    for row in rows:
        if isinstance(row, MemberBound) and row.redemption_id is not None and row.redemption_id not in back:
            place = row.member_ref, day_of(row.event_time, BoundUses()._zone)
            found[place] = found.get(place, 0) + row.units
    return found


steps = st.lists(st.tuples(st.sampled_from(MEMBERS), st.integers(0, 2), st.integers(1, 3), st.booleans()), max_size=14)


def story(said: list[tuple[str, int, int, bool]], prefix: str) -> list[Event]:
    """Uses, each other one perhaps reversed by a later row."""
    rows: list[Event] = []
    for number, (member, day, units, is_reversed) in enumerate(said):
        rows.append(bound(f"{prefix}{number}", member, day, units=units))
        if is_reversed:
            rows.append(reversed_(f"{prefix}{number}", day))
    return rows


@given(steps, steps, st.integers(0, 30), st.integers(0, 30))
def test_whatever_an_old_disk_forgot_the_opening_brings_back(before: list, after: list, image: int, mark: int) -> None:  # type: ignore[type-arg]
    lived = story(before, "a")
    mark = min(mark, len(lived))  # headquarters had so many rows of the life that was lost
    image = min(image, mark)  # the disk that came back is older
    later = story(after, "b")
    book = BoundUses()
    for seq, row in enumerate(lived[:image], 1):
        book.fold(row, (1, seq))  # type: ignore[arg-type]
    book.adopt([MemberUses(member, 5, "", day, uses) for (member, day), uses in counted(lived[:mark]).items()], {1: mark})
    for seq, row in enumerate(later, 1):
        book.fold(row, (2, seq))  # type: ignore[arg-type]
    truth = counted(lived[:mark] + later)
    for member in MEMBERS:
        own = sum(uses for (of, _), uses in counted(lived[:image]).items() if of == member)
        known = sum(uses for (of, _), uses in truth.items() if of == member)
        found = book.count(member, 5, at(0)).member
        assert found >= known
        if not any(isinstance(row, RedemptionReversed) for row in lived[image:mark]):
            assert found == known, "nothing is counted twice"
        assert found <= known + own
        for day in range(3):
            assert book.count(member, 5, at(day)).member_today >= truth.get((member, day_of(at(day), book._zone)), 0)


def test_until_headquarters_has_counted_members_nothing_is_known_and_its_next_word_mends_that() -> None:
    book = BoundUses()
    found = [book.is_unknown]
    book.adopt(None, {1: 9})
    found.append(book.is_unknown)
    assert found == [False, True]
    book.adopt([MemberUses("anna", 5, "", "", 2), MemberUses("anna", 0, "code", "", 7)], {1: 9})
    assert (book.is_unknown, book.count("anna", 5, at(0)).member, book.count("anna", 5, at(3)).member_today) == (False, 2, 2)


def test_uses_elsewhere_are_added_those_of_another_day_not_to_today() -> None:
    book = BoundUses()
    book.fold(bound("a"), (1, 1))
    told = Elsewhere(5, "", 4, day_of(at(0), book._zone), 2, 1)
    assert (book.count("anna", 5, at(0), elsewhere=told).member, book.count("anna", 5, at(0), elsewhere=told).member_today) == (5, 4)
    assert book.count("anna", 5, at(1), elsewhere=told).member_today == 1
    nobody_knows = at(1, TimeTrust.UNTRUSTED)
    assert book.count("anna", 5, nobody_knows, elsewhere=told).member_today == 4


def test_of_a_hold_long_ended_only_the_members_row_is_kept_and_it_counts_no_more() -> None:
    book = BoundUses()
    book.fold(held("h"))
    book.fold(bound("h", hold=True))
    assert (book.count("anna", 5, at(0)).member, book.is_live("h")) == (1, True)
    book.fold(ended("h"))
    assert (book.count("anna", 5, at(0)).member, book.is_live("h")) == (0, False)
    trimmed = BoundUses()  # after three days the rows of the hold itself are gone
    trimmed.fold(bound("h", hold=True))
    assert (trimmed.count("anna", 5, at(0)).member, trimmed.of_hold("h") is not None) == (0, True)
