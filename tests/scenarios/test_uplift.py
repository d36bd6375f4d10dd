"""Scenarios of what a sale followed: a pickup, a redemption, and the way from an advertisement to the basket."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scenarios.test_pickup import order_state, sign_in
from tests.scenarios.test_sales import issue, paired_till
from tests.store.running import RunningStore
from virtual_store.till import Till

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
