"""What is open never passes the terms, whatever happens in between; and of a voucher that comes twice the first is good."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.anywhere import CLASS, Anywhere, OpenCode, RiskTerms, known
from gateway.events import (
    AuthorizationEnded,
    Instant,
    RedemptionReversed,
    RiskHeld,
    RiskTaken,
    TimeTrust,
    VoucherRedeemed,
)
from gateway.rules import risk
from gateway.rules.assigning import Asked, Assigner, Given, Stand, Wish
from gateway.rules.risk import Exposure, Wanted

AT = Instant(1_795_000_000_000_000, 1, "b", TimeTrust.SYNCED)
TERMS = RiskTerms(
    campaign=5, version=1, currency="TWD", per_code_minor=300, per_device_minor=500, per_shop_minor=800, worth_minor=100,
    list_age_s=3_600, bearer="retailer",
)  # fmt: skip
RULES = Assigner()


def taken(name: str, voucher_id: str, exposure: int, device: str = "d", number: int = 0, units: int = 1) -> RiskTaken:
    return RiskTaken(name, voucher_id, TERMS.campaign, 1, number, units, exposure, device, AT)


def reversal(name: str, voucher_id: str) -> RedemptionReversed:
    return RedemptionReversed(name, voucher_id, 5, 1, 0, "k", None, None, AT)


@pytest.mark.parametrize(
    ("wanted", "refused"),
    [
        (Wanted("v", "d", 300), None),
        (Wanted("v", "d", 301), "risk_floor"),
        (Wanted("known", "other", 101), "risk_floor"),
        (Wanted("v", "full", 101), "risk_cap"),
        (Wanted("v", "full", 100), None),
    ],
)
def test_each_cap_of_the_terms_refuses_by_itself(wanted: Wanted, refused: str | None) -> None:
    book = Exposure()
    for number, (voucher_id, device, minor) in enumerate([("known", "a", 200), ("x", "full", 250), ("y", "full", 150)]):
        book.fold(taken(f"r{number}", voucher_id, minor, device))
    assert book.refusal(msgspec.structs.replace(TERMS, per_shop_minor=900), wanted) == refused


def test_two_devices_share_the_shops_cap() -> None:
    book = Exposure()
    for number in range(4):
        assert book.refusal(TERMS, Wanted(f"v{number}", f"d{number % 2}", 200)) is None
        book.fold(taken(f"r{number}", f"v{number}", 200, f"d{number % 2}"))
    assert (book.open_minor(5), book.refusal(TERMS, Wanted("w", "d2", 1))) == (800, "risk_cap")


def test_a_hold_is_exposure_until_it_ends_and_an_acknowledgement_does_not_end_it() -> None:
    book = Exposure()
    book.fold(RiskHeld("h", "v", 5, 1, 0, 1, 300, 300, "d", AT), (1, 2))
    assert book.open_minor(5) == 300 and not book.answer(lambda place: True)
    assert book.open_minor(5) == 300
    book.fold(AuthorizationEnded("h", "v", "voided", "k", None, None, AT))
    assert book.open_minor(5) == 0 and book.held("h") is not None


def test_what_a_list_may_be_as_old_as_is_known_by_signed_time_or_by_the_line() -> None:
    assert risk.list_age_s(1_000_000, 61_000_000, None) == 60
    assert risk.list_age_s(1_000_000, 61_000_000, 5.0) == 5, "the line was up five seconds ago: nothing newer can be missing"
    assert risk.list_age_s(1_000_000, None, None) is None, "nobody knows the time, and the line was never up"
    assert risk.list_age_s(0, 61_000_000, None) is None, "there is no list"
    assert risk.list_age_s(90_000_000, 61_000_000, None) == 0


def test_a_campaigns_own_terms_go_before_the_class() -> None:
    own, every = TERMS, msgspec.structs.replace(TERMS, campaign=CLASS, per_shop_minor=1)
    found = known(Anywhere(terms=[every, own]), 1)
    assert (found.terms_for(5), found.terms_for(6)) == (own, every)
    assert known(Anywhere(terms=[own]), 1).terms_for(6) is None


def test_a_text_that_two_open_codes_claim_stands_for_neither() -> None:
    plain = OpenCode(
        voucher_id="a", campaign=1, title_zh="碼", title_en="Code", not_before_s=0, not_after_s=9, digests=["1", "2"], allotment=1
    )
    codes = [plain, msgspec.structs.replace(plain, voucher_id="b", digests=["2", "3"])]
    assert known(Anywhere(codes=codes), 1).digests == {"1": "a", "3": "b"}


@given(units=st.integers(1, 5), value=st.integers(0, 10**6))
def test_nothing_taken_on_trust_exposes_nothing(units: int, value: int) -> None:
    assert risk.exposure_of(TERMS, units, value) == units * (value or 100) > 0


# ---------------------------------------------------------------- headquarters


def test_of_two_shops_the_first_in_headquarters_order_is_good() -> None:
    first = risk.settle(RULES, Stand("v", 1), "a", "1-a", 1)
    second = risk.settle(RULES, first.stand, "b", "1-b", 1)
    assert (first.good, second.good, second.stand.left) == (1, 0, 0)


def test_what_a_box_holds_unspent_is_its_own_before_anybody_elses() -> None:
    given_ = RULES.give(Stand("v", 1), Asked("a", None, 1), 1, 9)
    assert isinstance(given_, Given)
    other = risk.settle(RULES, given_.stand, "b", "1-b", 1)
    assert other.good == 0, "it was promised to a"
    mine = risk.settle(RULES, other.stand, "a", "1-a", 1)
    assert mine.good == 1 and RULES.give(mine.stand, Asked("b", None, 1), 2, 9) != given_


def test_a_refunded_voucher_is_loss_and_no_release_heals_it() -> None:
    stand = RULES.wished(Stand("v", 1), Wish.REFUND)
    assert risk.settle(RULES, stand, "a", "1-a", 1).good == 0
    assert risk.heal(stand, 1).good == 0


def test_a_restore_of_headquarters_counts_what_comes_again_once() -> None:
    backup = Stand("v", 3)
    stand = risk.settle(RULES, backup, "a", "1-a", 1).stand
    given_ = RULES.give(stand, Asked("b", None, 1), 1, 9)
    assert isinstance(given_, Given)
    restored = RULES.recalled(backup, given_.stand)  # the journal's word, on a database that has not seen a's row
    assert (restored.left, restored.taken) == (2, 0)
    again = risk.settle(RULES, restored, "a", "1-a", 1)
    assert (again.good, again.stand.left) == (1, given_.stand.left)


@given(
    units=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["trust", "claim", "use", "release", "reverse"]), st.integers(1, 2)), max_size=40
    ),
)
def test_no_more_than_a_voucher_is_good_for_is_ever_good(units: int, steps: list[tuple[str, str, int]]) -> None:
    """Boxes use under a number no more than they were given, as `Exposure.gross` sees to; whatever else they take is settled."""
    stand, good = Stand("v", units), list[tuple[str, int]]()
    for box, what, n in steps:
        mine = stand.kept_by(box)
        if what == "trust":
            settled = risk.settle(RULES, stand, box, "1-" + box, n)
            stand = settled.stand
            good += [(box, settled.good)] if settled.good else []
        elif what == "claim" and isinstance(got := RULES.give(stand, Asked(box, None, n), 1, 9), Given):
            stand = got.stand
        elif what == "use" and mine is not None and mine.units - mine.total_spent >= n:
            stand = RULES.use(stand, box, mine.number, "1-" + box, n)
            good.append((box, n))
        elif what == "release" and mine is not None:
            stand = RULES.released(stand, box, mine.number, True)
        elif what == "reverse" and good:
            stand = risk.give_back(stand, good.pop()[1])
        spare = sum(max(0, one.units - one.total_spent) for one in stand.kept)
        assert sum(n for _, n in good) + stand.left + spare == units and stand.left >= 0 and not stand.late


# ---------------------------------------------------------------- one shop, over restarts and outages


class Outages(RuleBasedStateMachine):
    """One shop's book, as core uses it: two devices, holds, reversals, acknowledgements, restarts that fold the rows again."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[Any, tuple[int, int]]] = []
        self.book = Exposure()
        self.acked = 0
        self.number = 0
        self.window = 0  # exposure of uses since headquarters' last word
        self.live: dict[str, RiskHeld] = {}
        self.uses: dict[str, str] = {}

    def commit(self, *rows: Any) -> None:
        for row in rows:
            self.rows.append((row, (1, len(self.rows) + 1)))
            self.book.fold(*self.rows[-1])

    @rule(device=st.sampled_from(["till", "kiosk"]), voucher=st.integers(0, 6), minor=st.integers(1, 400))
    def take(self, device: str, voucher: int, minor: int) -> None:
        if self.book.refusal(TERMS, Wanted(f"v{voucher}", device, minor)) is None:
            self.number += 1
            self.uses[f"r{self.number}"] = f"v{voucher}"
            self.commit(taken(f"r{self.number}", f"v{voucher}", minor, device))
            self.window += minor

    @rule(device=st.sampled_from(["till", "kiosk"]), voucher=st.integers(0, 6), minor=st.integers(1, 400))
    def hold(self, device: str, voucher: int, minor: int) -> None:
        if self.book.refusal(TERMS, Wanted(f"v{voucher}", device, minor)) is None:
            self.number += 1
            held = RiskHeld(f"h{self.number}", f"v{voucher}", 5, 1, 0, 1, minor, minor, device, AT)
            self.live[held.authorization_id] = held
            self.commit(held)

    @precondition(lambda self: bool(self.live))
    @rule(captured=st.booleans(), at=st.integers(0, 99))
    def end(self, captured: bool, at: int) -> None:
        held = self.live.pop(sorted(self.live)[at % len(self.live)])
        ended = AuthorizationEnded(held.authorization_id, held.voucher_id, "captured" if captured else "voided", "k", None, None, AT)
        if not captured:
            return self.commit(ended)
        name = f"r{held.authorization_id}"
        use = VoucherRedeemed(name, held.voucher_id, 5, 1, "k", "p", None, 1, AT, authorization_id=held.authorization_id)
        self.uses[name] = held.voucher_id
        self.window += held.exposure_minor
        self.commit(use, ended, taken(name, held.voucher_id, held.exposure_minor, held.device))

    @precondition(lambda self: bool(self.uses))
    @rule(at=st.integers(0, 99))
    def take_back(self, at: int) -> None:
        name = sorted(self.uses)[at % len(self.uses)]
        open_before = self.book.open_minor(5)
        self.commit(reversal(name, self.uses.pop(name)))
        self.window -= open_before - self.book.open_minor(5)

    @rule()
    def headquarters_answers(self) -> None:
        self.acked = len(self.rows)
        self.book.answer(lambda place: place[1] <= self.acked)
        self.window = 0

    @rule()
    def restart(self) -> None:
        self.book = Exposure()
        for row, place in self.rows:
            self.book.fold(row, place)
        self.book.answer(lambda place: place[1] <= self.acked)

    @invariant()
    def no_cap_is_ever_passed(self) -> None:
        held = sum(one.exposure_minor for one in self.live.values())
        assert self.book.open_minor(5) == self.window + held <= TERMS.per_shop_minor
        for device in ("till", "kiosk"):
            assert self.book.open_minor(5, device) <= TERMS.per_device_minor
        for voucher in range(7):
            assert self.book.open_minor(5, voucher_id=f"v{voucher}") <= TERMS.per_code_minor


TestOutages = Outages.TestCase
