"""Scenarios of baskets: what a sale followed, whose it is with their consent, what it earns; and nobody's number anywhere."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scenarios.test_campaigns import publish
from tests.scenarios.test_online import files_with, rows_with
from tests.scenarios.test_pickup import order_state, sign_in
from tests.scenarios.test_sales import issue, paired_till
from tests.store.running import RunningStore
from virtual_store.till import Till
from virtual_store.web import Refused, Web

pytestmark = [pytest.mark.slow]

STORE = "tpe-001"


@pytest.fixture(scope="module")
def till(whole_store: RunningStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    """One till for the whole file: what others sell is not its business."""
    yield paired_till(whole_store, tmp_path_factory.mktemp("till"))


def sell(till: Till, minor: int, **named: Any) -> dict[str, Any]:
    """A receipt of one line."""
    lines = [{"sku": "BAG", "quantity": 1, "price_minor": minor}]
    said = till.settle("sales", receipt_id=f"R{secrets.token_hex(5)}", lines=lines, **named).answer
    assert said["decision"] == "sale_posted", said
    return said


def joined(store: RunningStore, sale: dict[str, Any]) -> list[tuple[str, str, str, Any, bool]]:
    """What headquarters says a sale followed."""
    found = store.hq_get(f"/api/uplift?store={STORE}")
    assert found["complete"] and found["missing_rows"] == 0
    rows = [row for row in found["rows"] if row["sale_id"] == sale["reference"]]
    return [(row["kind"], row["act_id"], row["how"], row["member_ref"], row["counted"]) for row in rows]


@pytest.mark.scenario("R31")
def test_a_basket_within_half_an_hour_of_a_redemption_is_joined_to_it_and_stays_anonymous(whole_store: RunningStore, till: Till) -> None:
    first, second = (till.present("redeem", issue(whole_store, "折價券")["token"]).answer for _ in range(2))
    whole_store.cut_line()
    named = sell(till, 700, redemption_ids=[second["redemption_id"]])
    unnamed, other = sell(till, 300), sell(till, 90)
    whole_store.mend_line()
    whole_store.drained()
    assert joined(whole_store, named) == [("redemption", second["redemption_id"], "named", None, True)]
    assert joined(whole_store, unnamed) == [("redemption", first["redemption_id"], "till", None, True)]
    assert joined(whole_store, other) == []
    (shop,) = whole_store.hq_get(f"/api/uplift?store={STORE}")["shops"]
    ledger = [sum(line["price_minor"] for line in row["lines"]) for row in whole_store.rows("SalePosted")]
    assert (shop["all"]["sales"], shop["all"]["minor"]) == (len(ledger), sum(ledger))
    assert shop["redemption"]["sales"] == shop["redemption"]["anonymous"]


@pytest.mark.scenario("R19")
def test_a_sale_after_a_pickup_is_joined_to_it_and_stays_anonymous(whole_store: RunningStore, till: Till) -> None:
    sign_in(whole_store)
    order = whole_store.hq_post("/api/orders", {"store": STORE, "customer": "陳小明", "lines": ["咖啡豆"]})
    order_id = order["order_id"]
    whole_store.until(lambda: order_state(whole_store, order_id) == "paid", 40, "the order never reached the shop")
    whole_store.shop_post("/v1/staff/stage", {"order_id": order_id, "key": secrets.token_hex(16)})
    whole_store.until(lambda: order_state(whole_store, order_id) == "staged", 40, "the order was never staged")
    whole_store.show(order["token"])
    whole_store.until(lambda: order_state(whole_store, order_id) == "collected", 40, "the order was never collected")
    sale, after = sell(till, 1_200), sell(till, 5)
    whole_store.drained()
    assert [one for one in joined(whole_store, sale) if one[0] == "pickup"] == [("pickup", order_id, "till", None, True)]
    assert [one for one in joined(whole_store, after) if one[0] == "pickup"] == []


@pytest.mark.scenario("R51")
def test_the_funnel_goes_from_the_advertisement_to_the_basket_and_sums_to_the_ledger(whole_store: RunningStore, till: Till) -> None:
    campaign = 51_051
    line, mail = ([issue(whole_store, "引流券", campaign=campaign, channel=one) for _ in range(2)] for one in ("line", "mail"))
    used = [till.present("redeem", one["token"]).answer["redemption_id"] for one in (*line, mail[0])]
    sales = [sell(till, 500, redemption_ids=used[:1]), sell(till, 800, redemption_ids=used[1:])]
    sell(till, 40)
    whole_store.drained()
    funnel = whole_store.hq_get(f"/api/funnel?campaign={campaign}")
    numbers = ("reached", "visited", "redeemed", "baskets", "basket_minor")
    found = {one["channel"]: tuple(one[name] for name in numbers) for one in funnel["channels"]}
    assert found == {"line": (2, 2, 2, 2, 1_300), "mail": (2, 1, 1, 0, 0)}
    assert funnel["complete"]
    rows = [row for row in whole_store.rows("SalePosted") if set(row["redemption_ids"]) & set(used)]
    ledger = [sum(line["price_minor"] for line in row["lines"]) for row in rows]
    assert {row["sale_id"] for row in rows} == {one["reference"] for one in sales}
    assert (funnel["total"]["baskets"], funnel["total"]["basket_minor"]) == (len(ledger), sum(ledger))
    redemptions = [row for row in whole_store.rows("VoucherRedeemed") if row["campaign"] == campaign]
    assert funnel["total"]["redeemed"] == sum(row["units"] for row in redemptions) == 3


# ---------------------------------------------------------------- members


def member(store: RunningStore, phone: str) -> dict[str, Any]:
    """A member, and the shop has heard of them."""
    before = store.view()["documents"].get("members_recent", 0)
    made = store.hq_post("/api/members", {"phone": phone, "consents": ["bind"]})
    store.until(lambda: store.view()["documents"].get("members_recent", 0) > before, 40, "the shop did not hear of the member")
    return dict(made)


def by_code(one: dict[str, Any]) -> dict[str, Any]:
    return {"consent": True, "code": one["token"]}


def by_phone(phone: str) -> dict[str, Any]:
    return {"consent": True, "phone": phone}


def redeem(store: RunningStore, voucher: dict[str, Any], member: dict[str, Any] | None, station: str = "counter") -> dict[str, Any]:
    """At a kiosk."""
    kiosk = Web(store.starter.plan.kiosk_url).pair_now(station)
    body = {"station": station, "code": voucher["token"], "presentation_id": secrets.token_hex(16), "member": member}
    return dict(store.call(kiosk.post("/v1/redeem", body)))


def points(store: RunningStore, one: dict[str, Any]) -> dict[str, Any]:
    return dict(store.hq_get(f"/api/members/{one['member_ref']}/points"))


@pytest.mark.scenario("R60")
def test_a_cash_shopper_becomes_known_with_the_coupon_and_whoever_declines_is_served(whole_store: RunningStore, till: Till) -> None:
    shopper = member(whole_store, "0912000060")
    known, declined = (
        till.ask("redeem", code=issue(whole_store, "電子券")["token"], presentation_id=secrets.token_hex(16), member=who).answer
        for who in (by_code(shopper), {"consent": False})
    )
    assert [(answer["decision"], answer["binding"]) for answer in (known, declined)] == [("redeemed", "bound"), ("redeemed", "declined")]
    sales = [sell(till, 600, redemption_ids=[answer["redemption_id"]]) for answer in (known, declined)]
    whole_store.drained()
    found = [joined(whole_store, sale) for sale in sales]
    assert [one[0][3] for one in found] == [shopper["member_ref"], None]
    assert [row["redemption_id"] for row in whole_store.rows("MemberBound") if row["member_ref"] == shopper["member_ref"]] == [
        known["redemption_id"]
    ]


@pytest.mark.scenario("R86")
def test_core_killed_between_redeeming_and_binding_leaves_both_or_neither(whole_store: RunningStore) -> None:
    shopper = member(whole_store, "0912000086")
    url = whole_store.starter.plan.kiosk_url
    vouchers = [whole_store.hq_post("/api/vouchers", {"store": STORE, "title_zh": "LINE 優惠券"}) for _ in range(11)]
    vouchers.append(issue(whole_store, "LINE 優惠券"))
    bodies = [
        {"station": "counter", "code": one["token"], "presentation_id": secrets.token_hex(16), "member": by_code(shopper)}
        for one in vouchers
    ]
    kiosk = Web(url).pair_now("counter")

    async def ask(body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return dict(await kiosk.post("/v1/redeem", body))
        except Refused:  # killed under it
            return None

    async def all_and_kill() -> list[dict[str, Any] | None]:
        asked = [asyncio.ensure_future(ask(body)) for body in bodies]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)  # one is answered, the others are under way
        await asyncio.to_thread(whole_store.kill, "core")
        return list(await asyncio.gather(*asked))

    first = whole_store.call(all_and_kill())
    ids = {one["voucher_id"] for one in vouchers}

    def both() -> tuple[list[str], list[str]]:
        kept = [[row for row in whole_store.rows(kind) if row["voucher_id"] in ids] for kind in ("VoucherRedeemed", "MemberBound")]
        return [row["redemption_id"] for row in kept[0]], [row["redemption_id"] for row in kept[1]]

    used, bound = both()
    assert used == bound
    whole_store.until(lambda: bool(whole_store.view()["admission"]["admitted"]), 40, "the new start was not admitted")
    again = [whole_store.eventually(lambda body=body: whole_store.call(kiosk.post("/v1/redeem", body)), 40) for body in bodies]  # type: ignore[misc]
    assert all(one is None or one == other for one, other in zip(first, again, strict=True))
    assert {(answer["decision"], answer["binding"]) for answer in again} == {("redeemed", "bound")}
    used, bound = both()
    assert used == bound and len(used) == len(vouchers)


@pytest.mark.scenario("R57")
def test_one_sample_a_person_also_when_they_try_at_two_kiosks_at_once(whole_store: RunningStore) -> None:
    phone = "0912000057"
    member(whole_store, phone)
    sample = {"kind": "item_voucher", "items": {"skus": ["SAMPLE"]}}
    publish(whole_store, sample, 5757, trigger="voucher", limits={"per_member": 1})
    vouchers = [whole_store.hq_post("/api/vouchers", {"store": STORE, "title_zh": "試用包", "campaign": 5757}) for _ in range(3)]
    vouchers.append(issue(whole_store, "試用包", campaign=5757))
    kiosks = [Web(whole_store.starter.plan.kiosk_url).pair_now(station) for station in ("counter", "entrance")]

    async def at_once() -> list[Any]:
        asked = []
        for number, typed in enumerate(("0912-000-057", "+886912000057")):
            body = {"code": vouchers[number]["token"], "presentation_id": secrets.token_hex(16), "member": by_phone(typed)}
            asked.append(kiosks[number].post("/v1/redeem", body | {"station": ("counter", "entrance")[number]}))
        return list(await asyncio.gather(*asked))

    found = whole_store.call(at_once())
    assert sorted(answer["reason"] for answer in found) == ["", "limit_member"]
    later = redeem(whole_store, vouchers[2], by_phone(phone))
    assert (later["reason"], later["message"]["zh"]) == ("limit_member", "您已達此活動的使用上限")
    assert redeem(whole_store, vouchers[3], None)["reason"] == "member_missing"
    # Registered twice online with one number: two vouchers of one member, whom a bare scan knows.
    once, twice = (whole_store.hq_post("/api/members", {"phone": "0912000059", "consents": ["bind"]})["member_ref"] for _ in range(2))
    assert once == twice
    registered = [issue(whole_store, "試用包", campaign=5757, member_ref=ref) for ref in (once, twice)]
    assert [redeem(whole_store, one, None)["reason"] for one in registered] == ["", "limit_member"]
    other = member(whole_store, "0912000058")
    assert redeem(whole_store, vouchers[2], by_code(other))["decision"] == "redeemed"


@pytest.mark.scenario("R17")
def test_a_members_basket_reaches_headquarters_once_with_its_lines_and_no_number(whole_store: RunningStore, till: Till) -> None:
    phone = "0912345017"
    shopper = member(whole_store, phone)
    whole_store.cut_line()
    lines = [{"sku": "LATTE", "quantity": 2, "price_minor": 240}, {"sku": "CAKE", "quantity": 1, "price_minor": 90}]
    asked = {"receipt_id": f"R{secrets.token_hex(5)}", "lines": lines, "key": secrets.token_hex(16), "member": by_phone("0912-345-017")}
    first, again = till.ask("sales", **asked), till.ask("sales", **asked)
    assert first.answer == again.answer and first.answer["decision"] == "sale_posted"
    whole_store.mend_line()
    whole_store.drained()
    (sale,) = whole_store.hq_get(f"/api/sales?member={shopper['member_ref']}")
    assert (sale["receipt_id"], sale["lines"]) == (asked["receipt_id"], [["LATTE", 2, 240], ["CAKE", 1, 90]])
    needles = [spelt.encode() for spelt in (phone, phone[1:], "0912-345-017", "912-345-017")]
    folder, ledger = whole_store.starter.plan.folder, whole_store.starter.ledger
    assert (files_with(folder, needles), rows_with(ledger, needles)) == ([], 0)
    assert rows_with(ledger, [shopper["member_ref"].encode()])  # what is kept is found by the same look


@pytest.mark.scenario("R63")
def test_points_by_number_are_pending_while_the_line_is_down_and_credited_once_later(whole_store: RunningStore, till: Till) -> None:
    known = member(whole_store, "0912000063")
    whole_store.cut_line()
    said = [sell(till, minor, member=by_phone(phone)) for minor, phone in ((1_250, "0912-000-063"), (830, "0933-000-063"))]
    for one in said:
        assert [(pending["what"], pending["text"]) for pending in one["pending"]] == [
            ("points", {"zh": "點數待入帳", "en": "Points pending"})
        ]
    assert till.present("redeem", "0912000063").answer["reason"] == "phone_cannot_spend"
    assert points(whole_store, known)["earned"] == 0
    whole_store.mend_line()
    whole_store.kill("bridge")  # what was sent and not acknowledged is sent again
    whole_store.drained()
    whole_store.until(lambda: points(whole_store, known)["earned"] > 0, 40, "the points were not credited")
    waiting = whole_store.hq_get("/api/points")
    assert [one["sale_id"] for one in waiting["sales"]] == [said[1]["reference"]]
    new = whole_store.hq_post("/api/members", {"phone": "0933000063"})  # who had no account then has one now
    whole_store.until(lambda: points(whole_store, new)["earned"] > 0, 40, "the points were not credited to the new member")
    time.sleep(1.5)  # the loop looks again
    for one, sale, earned in ((known, said[0], 12), (new, said[1], 8)):
        kept = points(whole_store, one)
        assert (kept["points"], kept["earned"], [entry["source_id"] for entry in kept["entries"]]) == (earned, earned, [sale["reference"]])


def test_points_that_were_earned_are_spent_by_the_members_code_and_never_twice(whole_store: RunningStore, till: Till) -> None:
    shopper = member(whole_store, "0912000163")
    sell(till, 1_250, member=by_phone("0912-000-163"))
    whole_store.until(lambda: points(whole_store, shopper)["earned"] == 12, 40, "the points were not credited")

    def spend(code: str, many: int) -> dict[str, Any]:
        return till.ask("redeem", code=code, presentation_id=secrets.token_hex(16), points=many).answer

    assert spend("0912000163", 5)["reason"] == "phone_cannot_spend"
    done = spend(shopper["token"], 5)
    assert (done["decision"], done["balance"]["taken"]) == ("redeemed", 5)
    whole_store.until(lambda: points(whole_store, shopper)["points"] == 7, 40, "headquarters did not take the points off")
    assert spend(shopper["token"], 8)["decision"] == "refused"
    assert till.settle("reverse", redemption_id=done["redemption_id"]).answer["decision"] == "reversed"
    whole_store.until(lambda: points(whole_store, shopper)["points"] == 12, 40, "the points did not come back")
    assert spend(shopper["token"], 12)["decision"] == "redeemed"


@pytest.mark.scenario("R40")
def test_a_first_visit_is_pending_while_nobody_knows_and_settled_once(whole_store: RunningStore, till: Till) -> None:
    shopper = member(whole_store, "0912000040")
    publish(whole_store, {"kind": "revisit", "days": 30, "points": 50}, 4040)
    whole_store.cut_line()
    said = sell(till, 90, member=by_code(shopper))
    (pending,) = [one for one in said["pending"] if one["what"] == "revisit" and one["campaign"] == 4040]
    assert pending["text"]["zh"] == "回訪獎勵待總部確認"
    again = sell(till, 90, member=by_code(shopper))
    assert [one["what"] for one in again["pending"]] == ["points"]  # the same visit asks once
    assert pending["revisit_id"] not in [one["revisit_id"] for one in whole_store.hq_get("/api/revisits")]
    whole_store.mend_line()
    whole_store.drained()

    def settled() -> list[dict[str, Any]]:
        return [one for one in whole_store.hq_get("/api/revisits?state=granted") if one["revisit_id"] == pending["revisit_id"]]

    whole_store.until(lambda: bool(settled()), 40, "nobody settled it")
    time.sleep(1.5)  # the loop looks again
    kept = points(whole_store, shopper)
    assert [(one["source"], one["source_id"], one["points"]) for one in kept["entries"] if one["source"] == "revisit"] == [
        ("revisit", pending["revisit_id"], 50)
    ]
    assert kept["points"] == 50
