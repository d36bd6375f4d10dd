"""The book of uses: whatever is redeemed, held, ended and reversed in whatever order, no voucher gives more than it has."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.events import AuthorizationEnded, Instant, RedemptionReversed, TimeTrust, VoucherAuthorized, VoucherRedeemed
from gateway.rules.uses import Amount, Used
from gateway.rules.voucher import Terms, Want, is_left, left_of, refusal_of_amount, refusal_of_limit
from gateway.signed import CampaignLimit, GivenOut, UsedVoucher

END_S = 2_000_000_000
FACE = 100
ID = "000000000000001"
STEPS = st.lists(
    st.tuples(st.sampled_from(["redeem", "hold", "capture", "void", "expire", "reverse"]), st.integers(1, 60), st.integers(0, 9)),
    max_size=40,
)


class Played:
    """A voucher in the hands of a till that asks the rules and folds what they allow."""

    def __init__(self, *, partial: bool, uses: int = 3) -> None:
        self.terms = Terms(ID, 5, 1, uses, 0, END_S, 7, FACE if partial else 0, partial)
        self.used, self.seq = Used(), 0
        self.rows: list[Any] = []
        self.redeemed: list[VoucherRedeemed] = []
        self.reversed: set[str] = set()
        self.live: dict[str, VoucherAuthorized] = {}

    def at(self) -> Instant:
        return Instant(1_790_000_000_000_000 + self.seq, self.seq, "b", TimeTrust.SYNCED)

    def take(self, row: Any) -> None:
        self.seq += 1
        self.rows.append(row)
        self.used.fold(row, (1, self.seq))

    def play(self, step: str, amount: int, pick: int) -> None:
        want = Want(1, amount) if self.terms.partial else Want(1 + pick % 2)
        name = f"n{self.seq}"
        if step in ("redeem", "hold") and refusal_of_amount(self.terms, self.used, want) is None:
            if step == "redeem":
                self.use(name, want, None)
            else:
                self.live[name] = VoucherAuthorized(
                    name, ID, 5, 1, "k", "r", None, "d", want.units, want.amount_minor or 0, self.terms.uses, FACE, 60, self.at()
                )
                self.take(self.live[name])
        elif step == "capture" and self.live:
            held = self.live.pop(sorted(self.live)[pick % len(self.live)])
            want = Want(held.units, held.amount_minor if self.terms.partial else None)
            assert is_left(self.terms, self.used, want)  # what is held is always there
            self.use(name, want, held.authorization_id)
        elif step in ("void", "expire") and self.live:
            held = self.live.pop(sorted(self.live)[pick % len(self.live)])
            self.take(AuthorizationEnded(held.authorization_id, ID, step, "k", None, "d", self.at()))
        elif step == "reverse" and self.redeemed:
            use = self.redeemed[pick % len(self.redeemed)]
            found = self.used.redemption(use.redemption_id)
            if found is not None and not found.is_reversed:
                self.reversed.add(use.redemption_id)
                self.take(RedemptionReversed(use.redemption_id, ID, 5, use.units, use.amount_minor, "k", None, "d", self.at()))

    def use(self, name: str, want: Want, hold: str | None) -> None:
        row = VoucherRedeemed(name, ID, 5, 1, "k", "r", None, 1, self.at(), want.units, want.amount_minor or 0, hold, "d")
        self.redeemed.append(row)
        self.take(row)

    def check(self) -> None:
        stands = [row for row in self.redeemed if row.redemption_id not in self.reversed]
        spent = Amount(sum(row.units for row in stands), sum(row.amount_minor for row in stands))
        held = Amount(sum(row.units for row in self.live.values()), sum(row.amount_minor for row in self.live.values()))
        assert (self.used.spent(ID), self.used.held(ID)) == (spent, held)
        assert self.used.given(5) == spent.units + held.units
        left = left_of(self.terms, self.used)
        assert (left.minor if self.terms.partial else left.uses or 0) >= 0  # type: ignore[operator]


@given(STEPS, st.booleans())
@settings(deadline=None)
def test_spends_and_holds_never_exceed_what_a_voucher_is_good_for(steps: list[tuple[str, int, int]], partial: bool) -> None:
    played = Played(partial=partial)
    for step in steps:
        played.play(*step)
        played.check()


@given(STEPS, st.booleans(), st.integers(0, 40))
@example([("redeem", 1, 0), ("reverse", 1, 0)], False, 1)
@settings(deadline=None)
def test_rows_hq_has_counted_and_rows_beyond_its_mark_are_counted_once_each(
    steps: list[tuple[str, int, int]], partial: bool, mark: int
) -> None:
    """An old image holds the first rows only; HQ counted up to its mark; the rest is folded after the opening: the sum is the same."""
    played = Played(partial=partial)
    for step in steps:
        played.play(*step)
    counted, restored = Used(), Used()
    for seq, row in enumerate(played.rows[:mark], 1):
        counted.fold(row, (1, seq))
    last = counted.spent(ID)
    known = [UsedVoucher(ID, last.units, 1, "k", None, last.minor)]
    given_out = [GivenOut(5, counted.day(1_790_000_000_000_000), counted.given(5) - counted.held(ID).units)]
    restored.adopt(known, {1: mark}, given_out)
    for seq, row in enumerate(played.rows[mark:], mark + 1):
        restored.fold(row, (1, seq))
    assert restored.spent(ID) == played.used.spent(ID)
    assert restored.given(5) - restored.held(ID).units == played.used.given(5) - played.used.held(ID).units


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.booleans()), max_size=30), st.integers(0, 10), st.integers(0, 5))
@settings(deadline=None)
def test_a_campaign_never_gives_out_more_than_its_stock_in_all_or_on_a_day(
    asked: list[tuple[int, int, bool]], stock: int, daily: int
) -> None:
    """Days go by, clocks are not always believed; what such a clock dates counts on every day."""
    used, limit = Used(), CampaignLimit(5, stock=stock, daily=daily)
    by_day: dict[str, int] = {}
    total = 0
    for number, (units, days, believed) in enumerate(asked):
        wall_us = 1_790_000_000_000_000 + days * 86_400_000_000
        if refusal_of_limit(5, used, limit, units, wall_us) is not None:
            continue
        trust = TimeTrust.SYNCED if believed else TimeTrust.UNTRUSTED
        used.fold(VoucherRedeemed(f"n{number}", str(number), 5, 1, "k", "r", None, 1, Instant(wall_us, 0, "b", trust), units))
        total += units
        by_day[used.day(wall_us)] = by_day.get(used.day(wall_us), 0) + units
    assert total <= stock
    assert all(count <= daily for count in by_day.values())
