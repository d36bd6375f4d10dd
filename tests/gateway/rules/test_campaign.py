"""The campaign engine: what each kind gives, in which order, and what never happens."""

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.baskets import STORE as RANDOM_STORE
from benchmarks.baskets import Maker
from gateway.errors import MalformedFrame
from gateway.rules.basket import Basket, Count, Facts, Line, ShownVoucher
from gateway.rules.campaign import price
from gateway.rules.definitions import Campaigns, read_campaigns
from gateway.rules.priced import Gift, Priced
from tests.gateway.rules.offers import BOGO, basket, facts, offer, priced, reasons

HALF = {"kind": "nth_at_percent", "n": 2, "percent_off": 50}
ITEM_X = {"kind": "item_voucher", "items": {"skus": ["X"]}}
FACE = {"kind": "face_value"}
DRINKS = [("LATTE", 1, 120), ("TEA", 1, 80), ("MOCHA", 1, 135)]


def spend(minimum: int = 1000, **more: Any) -> dict[str, Any]:
    return {"kind": "minimum_spend", "minimum_minor": minimum} | more


def shown(*balances: int, campaign: int = 1) -> tuple[ShownVoucher, ...]:
    return tuple(ShownVoucher(f"v{at}", campaign, balance) for at, balance in enumerate(balances))


def offs(found: Priced) -> dict[str, int]:
    return {line.line_id: line.off_minor for line in found.lines if line.off_minor}


# ---------------------------------------------------------------- each kind


@pytest.mark.parametrize("order", list(itertools.permutations(DRINKS)))
def test_of_three_drinks_the_cheapest_is_free(order: tuple[tuple[str, int, int], ...]) -> None:
    found = priced(basket(*order), offer(BOGO | {"max_pairs": 5}))
    assert (found.off_minor, found.to_pay_minor) == (80, 255)


@pytest.mark.parametrize(("max_pairs", "off"), [(1, 50), (2, 110), (3, 180), (9, 180)])
def test_no_more_pairs_are_free_than_the_campaign_says(max_pairs: int, off: int) -> None:
    bought = basket(*((f"S{price}", 1, price) for price in (50, 60, 70, 80, 90, 100)))
    assert priced(bought, offer(BOGO | {"max_pairs": max_pairs})).off_minor == off


def test_only_eligible_items_make_a_pair() -> None:
    rule = BOGO | {"items": {"skus": ["LATTE", "MOCHA"]}}
    found = priced(basket(*DRINKS), offer(rule))
    assert (found.off_minor, [one.line_id for one in found.adjustments[0].taken]) == (120, ["L0", "L2"])
    assert priced(basket(("LATTE", 1, 120), ("TEA", 3, 80)), offer(rule)).refused[0].gap_quantity == 1


def test_categories_name_items_too_and_exceptions_go_first() -> None:
    lines = (Line("a", "LATTE", 1, 120, "drink"), Line("b", "WATER", 1, 20, "drink"), Line("c", "MUG", 1, 300))
    rule = BOGO | {"items": {"categories": ["drink"], "skus": ["MUG"], "except_skus": ["WATER"]}}
    assert offs(priced(Basket("TWD", lines), offer(rule))) == {"a": 120}


@pytest.mark.parametrize(("rounding", "paid"), [("half_up", 43), ("down", 42), ("half_even", 42)])
def test_the_second_at_half_price_is_rounded_as_stated(rounding: str, paid: int) -> None:
    found = priced(basket(("A", 1, 99), ("B", 1, 85)), offer(HALF, rounding=rounding))
    assert (found.to_pay_minor, found.off_minor) == (99 + paid, 85 - paid)
    assert offs(found) == {"L1": 85 - paid}


def test_each_piece_is_rounded_for_itself() -> None:
    found = priced(basket(("A", 4, 85)), offer(HALF | {"max_groups": 2}))
    assert found.off_minor == 2 * (85 - 43)


def test_in_hong_kong_a_cent_is_what_is_rounded() -> None:
    found = priced(basket(("A", 2, 1995), currency="HKD"), offer(HALF, currency="HKD"))
    assert (found.decimals, found.off_minor) == (2, 1995 - 998)


def test_below_the_minimum_the_gap_is_told() -> None:
    found = priced(basket(("A", 1, 999)), offer(spend(off_minor=100)))
    (refused,) = found.refused
    assert (refused.reason, refused.gap_minor, found.off_minor) == ("minimum_not_reached", 1, 0)
    assert "門檻" in refused.message.zh and "minimum" in refused.message.en and refused.next_step.zh
    assert priced(basket(("A", 1, 1000)), offer(spend(off_minor=100))).to_pay_minor == 900


def test_each_full_minimum_counts_as_often_as_is_said() -> None:
    for max_times, off in ((1, 100), (3, 300), (9, 300)):
        assert priced(basket(("A", 1, 3999)), offer(spend(off_minor=100, max_times=max_times))).off_minor == off


def test_a_percentage_is_rounded_once_and_capped() -> None:
    bought = basket(("A", 1, 333), ("B", 1, 334), ("C", 1, 338))
    found = priced(bought, offer(spend(percent_off=15)))
    assert found.to_pay_minor == 854  # 1005 less 15 % is 854.25
    assert sum(offs(found).values()) == 151
    assert priced(bought, offer(spend(percent_off=15, max_off_minor=100))).off_minor == 100


def test_a_gift_is_never_given_below_the_minimum() -> None:
    rule = {"kind": "gift_with_purchase", "minimum_minor": 1000, "gift_sku": "TOTE", "max_times": 2}
    below, above = priced(basket(("A", 1, 999)), offer(rule)), priced(basket(("A", 3, 999)), offer(rule))
    assert below.adjustments == () and below.refused[0].gap_minor == 1
    assert above.adjustments[0].gifts == (Gift("TOTE", 2),)
    assert above.to_pay_minor == 2997


def test_a_voucher_for_an_item_the_basket_lacks_is_refused() -> None:
    campaign = offer(ITEM_X, trigger="voucher")
    lacking = priced(basket(("Y", 2, 50)), campaign, vouchers=shown(0))
    assert (reasons(lacking), lacking.refused[0].voucher_id) == ({1: "item_missing"}, "v0")
    assert lacking.adjustments == ()
    found = priced(basket(("Y", 1, 50), ("X", 2, 70)), campaign, vouchers=shown(0))
    assert (found.off_minor, found.adjustments[0].voucher_id) == (70, "v0")


def test_two_vouchers_take_two_items_and_a_third_finds_none() -> None:
    found = priced(basket(("X", 2, 70)), offer(ITEM_X, trigger="voucher"), vouchers=shown(0, 0, 0))
    assert found.to_pay_minor == 0
    assert [(one.voucher_id, one.reason) for one in found.refused] == [("v2", "items_taken")]


def test_a_face_value_pays_what_it_can_and_keeps_the_rest() -> None:
    campaign = offer(FACE, trigger="voucher")
    found = priced(basket(("A", 1, 180)), campaign, vouchers=shown(500))
    assert (found.voucher_minor, found.to_pay_minor, found.off_minor) == (180, 0, 0)
    assert (found.adjustments[0].minor, found.adjustments[0].left_minor) == (180, 320)
    both = priced(basket(("A", 1, 600)), campaign, vouchers=shown(500, 180))
    assert [(one.minor, one.left_minor) for one in both.adjustments] == [(500, 0), (100, 80)]


def test_a_face_value_with_nothing_on_it_or_nothing_to_pay_is_not_used() -> None:
    campaign = offer(FACE, trigger="voucher")
    found = priced(basket(("A", 1, 180)), campaign, vouchers=shown(0, 200, 200))
    assert [(one.voucher_id, one.reason) for one in found.refused] == [("v0", "balance_empty"), ("v2", "nothing_to_take_off")]
    books = offer(FACE | {"items": {"categories": ["book"]}}, trigger="voucher")
    assert reasons(priced(basket(("A", 1, 180)), books, vouchers=shown(9))) == {1: "item_missing"}


# ---------------------------------------------------------------- what brings a campaign


def test_a_code_brings_its_campaign_and_an_unknown_one_is_told() -> None:
    campaign = offer(spend(100, off_minor=10), trigger="code", code="WELCOME10")
    assert priced(basket(("A", 1, 100)), campaign).adjustments == ()
    found = priced(basket(("A", 1, 100)), campaign, codes=("WELCOME10", "NO-SUCH", "WELCOME10"))
    assert len(found.adjustments) == 1
    assert [(one.code, one.reason) for one in found.refused] == [("NO-SUCH", "unknown_code")]


def test_a_voucher_of_no_campaign_is_told() -> None:
    found = priced(basket(("A", 1, 100)), offer(BOGO, 5), vouchers=shown(10, campaign=5))
    assert [(one.campaign, one.voucher_id, one.reason) for one in found.refused if one.voucher_id] == [(5, "v0", "unknown_campaign")]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"withdrawn": True}, "campaign_ended"),
        ({"stores": [8]}, "campaign_elsewhere"),
        ({"currency": "HKD"}, "other_currency"),
        ({"window": {"weekdays": [1]}}, "outside_window"),
        ({"window": {"first_day": "2026-11-23"}}, "campaign_not_begun"),
        ({"window": {"last_day": "2026-11-21"}}, "campaign_ended"),
        ({"limits": {"per_member": 1}}, "member_missing"),
    ],
)
def test_what_speaks_against_it_is_said(more: dict[str, Any], reason: str) -> None:
    assert reasons(priced(basket(*DRINKS), offer(BOGO, trigger="code", code="BOGO", **more), codes=("BOGO",))) == {1: reason}


def test_of_what_nobody_asked_for_only_what_may_be_mended_is_told() -> None:
    rules = [offer(BOGO, 1, withdrawn=True), offer(BOGO, 2, stores=[8]), offer(BOGO, 3, currency="HKD"), offer(ITEM_X, 4)]
    days = [offer(BOGO, 5, window={"last_day": "2026-11-21"}), offer(BOGO, 6, window={"first_day": "2026-11-23"})]
    nudges = [offer(BOGO | {"items": {"skus": ["TEA"]}}, 7), offer(spend(off_minor=1), 8), offer(BOGO, 9, window={"weekdays": [1]})]
    found = priced(basket(*DRINKS[1:2]), *rules, *days, *nudges)
    assert reasons(found) == {7: "not_enough_items", 8: "minimum_not_reached", 9: "outside_window"}


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("limit", "count", "reason"),
    [
        ("per_member", Count(1, member=2), "limit_member"),
        ("per_member_day", Count(1, member_today=2), "limit_member_day"),
        ("per_day", Count(1, today=2), "limit_day"),
    ],
)
def test_a_limit_is_kept(limit: str, count: Count, reason: str) -> None:
    campaign = offer(BOGO, limits={limit: 2})
    assert reasons(priced(basket(*DRINKS), campaign, member=True, counts=(count,))) == {1: reason}
    once = msgspec.structs.replace(count, **{name: 1 for name in ("member", "member_today", "today") if getattr(count, name)})
    assert reasons(priced(basket(*DRINKS), campaign, member=True, counts=(once,))) == {}


def test_uses_on_this_basket_count_against_the_limit() -> None:
    campaign = offer(ITEM_X, trigger="voucher", limits={"per_day": 3})
    found = priced(basket(("X", 9, 70)), campaign, vouchers=shown(0, 0, 0, 0), counts=(Count(1, today=1),))
    assert len(found.adjustments) == 2
    assert [one.reason for one in found.refused] == ["limit_day", "limit_day"]


def test_a_days_limit_is_not_judged_while_the_day_is_unknown() -> None:
    campaign = offer(BOGO, limits={"per_day": 3})
    unsure = {"when": "2026-11-22 23:00", "until": "2026-11-23 01:00"}
    assert reasons(priced(basket(*DRINKS), campaign, **unsure)) == {1: "time_untrusted"}
    assert reasons(priced(basket(*DRINKS), campaign, when="2026-11-22 22:00", until="2026-11-22 23:59")) == {}
    assert reasons(priced(basket(*DRINKS), campaign, until=None)) == {1: "time_untrusted"}


# ---------------------------------------------------------------- one after the other


def test_a_piece_is_taken_up_once() -> None:
    found = priced(basket(("A", 2, 100)), offer(BOGO, 1), offer(HALF, 2))
    assert ([one.campaign for one in found.adjustments], reasons(found)) == ([1], {2: "items_taken"})
    both = priced(basket(("A", 4, 100)), offer(BOGO, 1), offer(HALF, 2))
    assert both.off_minor == 150


def test_priority_decides_who_comes_first() -> None:
    found = priced(basket(("A", 2, 100)), offer(BOGO, 1, priority=1), offer(HALF, 2))
    assert ([one.campaign for one in found.adjustments], reasons(found)) == ([2], {1: "items_taken"})


def test_of_a_group_one_campaign_is_used_and_the_other_says_by_whom() -> None:
    found = priced(basket(("A", 4, 500)), offer(BOGO, 4, group="sale"), offer(spend(off_minor=99), 3, group="sale"))
    assert [one.campaign for one in found.adjustments] == [4]
    assert [(one.campaign, one.reason, one.by) for one in found.refused] == [(3, "not_combinable", 4)]


def test_one_that_cannot_be_used_does_not_take_its_groups_place() -> None:
    found = priced(basket(("A", 1, 1000)), offer(BOGO, 1, group="sale"), offer(spend(off_minor=99), 3, group="sale"))
    assert ([one.campaign for one in found.adjustments], reasons(found)) == ([3], {1: "not_enough_items"})


def test_the_minimum_is_what_is_left_to_pay() -> None:
    found = priced(basket(("A", 2, 600)), offer(BOGO, 1), offer(spend(off_minor=100), 2))
    assert [(one.campaign, one.gap_minor) for one in found.refused] == [(2, 400)]
    first = priced(basket(("A", 2, 600)), offer(BOGO, 1), offer(spend(off_minor=100), 2, priority=-1))
    assert first.off_minor == 700  # a piece is free at its own price, as far as its line has that left


def test_nothing_takes_more_off_a_line_than_is_left() -> None:
    found = priced(basket(("A", 1, 100), ("B", 1, 100)), offer(spend(100, off_minor=150), 1, priority=-1), offer(BOGO, 2))
    assert (found.off_minor, found.to_pay_minor) == (175, 25)
    assert [line.to_pay_minor for line in found.lines] == [0, 25]


def test_a_discount_is_shared_to_the_last_unit() -> None:
    found = priced(basket(("C", 1, 100), ("A", 1, 100), ("B", 1, 100)), offer(spend(300, off_minor=100)))
    assert offs(found) == {"L0": 33, "L1": 34, "L2": 33}  # of equal remainders the first by SKU


def test_what_costs_nothing_takes_no_part() -> None:
    found = priced(basket(("GIFT", 1, 0), ("A", 2, 100)), offer(BOGO | {"max_pairs": 9}))
    assert found.off_minor == 100
    assert reasons(priced(basket(("GIFT", 5, 0)), offer(ITEM_X | {"items": {}}, trigger="voucher"), vouchers=shown(0))) == {
        1: "item_missing"
    }


def test_what_takes_nothing_off_is_not_used() -> None:
    found = priced(basket(("A", 2, 1)), offer(HALF))
    assert (found.adjustments, reasons(found)) == ((), {1: "nothing_to_take_off"})
    assert priced(Basket("TWD", ()), offer(BOGO)).to_pay_minor == 0


@pytest.mark.parametrize(
    ("bought", "more"),
    [
        (Basket("TWD", (Line("a", "A", 1, 1), Line("a", "B", 1, 1))), {}),
        (basket(("A", 1, 1)), {"vouchers": (ShownVoucher("v", 1), ShownVoucher("v", 2))}),
        (basket(("A", 1, 1)), {"counts": (Count(1), Count(1, 2))}),
        (basket(("A", 1, 1)), {"when": "2026-11-22 12:00", "until": "2026-11-22 11:59"}),
    ],
)
def test_what_is_named_twice_or_ends_before_it_begins_is_malformed(bought: Basket, more: dict[str, Any]) -> None:
    with pytest.raises(MalformedFrame):
        price(bought, [offer(BOGO)], facts(**more))


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "Asia", "a\0b"])
def test_an_unknown_time_zone_is_malformed(name: str) -> None:
    with pytest.raises(MalformedFrame):
        price(basket(("A", 1, 1)), [], msgspec.structs.replace(facts(), timezone=name))


# ---------------------------------------------------------------- what holds for every basket


def asked(seed: int) -> tuple[Basket, Campaigns, Facts]:
    """A random basket with everything beside it."""
    maker = Maker(seed)
    campaigns = maker.campaigns(maker.chance.randint(1, 8))
    beside = maker.facts(campaigns)
    beside |= beside.pop("at") | {"store": RANDOM_STORE, "timezone": maker.timezone}
    read = read_campaigns(msgspec.json.encode(one) for one in campaigns)
    return msgspec.convert(maker.basket(), Basket), read, msgspec.convert(beside, Facts)


@given(st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_sums_are_exact_and_nothing_is_negative(seed: int) -> None:
    bought, campaigns, beside = asked(seed)
    found = price(bought, campaigns.good, beside)
    assert found.amount_minor - found.off_minor - found.voucher_minor == found.to_pay_minor >= 0
    for line in found.lines:
        assert line.amount_minor - line.off_minor - line.voucher_minor == line.to_pay_minor >= 0
    for adjustment in found.adjustments:
        assert sum(share.minor for share in adjustment.shares) == adjustment.minor >= 0
        assert adjustment.minor > 0 or adjustment.gifts
    paid = [one for one in found.adjustments if one.kind == "face_value"]
    assert (sum(one.minor for one in paid), sum(one.minor for one in found.adjustments)) == (
        found.voucher_minor, found.voucher_minor + found.off_minor,
    )  # fmt: skip


@given(st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_every_piece_group_and_voucher_is_used_at_most_once(seed: int) -> None:
    bought, campaigns, beside = asked(seed)
    found = price(bought, campaigns.good, beside)
    group_of = {one.campaign: one.group for one in campaigns.good}
    for line in bought.lines:
        taken = [one.quantity for adjustment in found.adjustments for one in adjustment.taken if one.line_id == line.line_id]
        assert sum(taken) <= line.quantity
    groups = [group_of[one.campaign] for one in found.adjustments if group_of[one.campaign]]
    assert len(groups) == len(set(groups))
    vouchers = [one.voucher_id for one in found.adjustments] + [one.voucher_id for one in found.refused]
    assert sorted(filter(None, vouchers)) == sorted(one.voucher_id for one in beside.vouchers)


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_order_of_anything_changes_nothing(seed: int, chance: random.Random) -> None:
    bought, campaigns, beside = asked(seed)

    def mixed(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(chance.sample(values, len(values)))

    other = msgspec.structs.replace(beside, codes=mixed(beside.codes), vouchers=mixed(beside.vouchers), counts=mixed(beside.counts))
    again = price(Basket(bought.currency, mixed(bought.lines)), mixed(campaigns.good), other)
    assert msgspec.json.encode(again) == msgspec.json.encode(price(bought, campaigns.good, beside))


CHILD = """
import hashlib, msgspec
from benchmarks.baskets import STORE, Maker
from gateway.rules.basket import Basket, Facts
from gateway.rules.campaign import price
from gateway.rules.definitions import read_campaigns
digest = hashlib.sha256()
for seed in range(100):
    maker = Maker(seed)
    campaigns = maker.campaigns(6)
    beside = maker.facts(campaigns)
    facts = msgspec.convert(beside | beside["at"] | {"store": STORE, "timezone": maker.timezone}, Facts)
    good = read_campaigns(msgspec.json.encode(one) for one in campaigns).good
    digest.update(msgspec.json.encode(price(msgspec.convert(maker.basket(), Basket), good, facts)))
print(digest.hexdigest())
"""


def test_another_process_on_another_machines_clock_comes_to_the_same_bytes() -> None:
    root = Path(__file__).parents[3]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD], cwd=root, stdout=subprocess.PIPE,
            env=os.environ | {"TZ": zone, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        )
        for zone, seed in (("America/New_York", "1"), ("Pacific/Auckland", "2"))
    ]  # fmt: skip
    one, other = (child.communicate()[0] for child in children)
    assert one == other and len(one.strip()) == 64
