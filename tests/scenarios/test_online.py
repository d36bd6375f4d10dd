"""Scenarios that begin online and end at the shop's tills, or the other way round."""

import secrets
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.test_campaigns import publish
from tests.scenarios.test_sales import heard, issue, paired_till, redeem
from tests.store.running import RunningStore
from virtual_store.plan import STORE
from virtual_store.till import Exchange, Till
from virtual_store.web import Web

pytestmark = [pytest.mark.slow]

SHOWN_WITHIN_S = 5.0
MOST_EVENTS = 2_000  # of one page
REDEEMED = "store-gateway.voucher-redeemed.v1"


def sold(**priced: tuple[str, int]) -> dict[str, Any]:
    """A basket of (SKU, price) by line."""
    lines = [{"line_id": line, "sku": sku, "quantity": 1, "unit_minor": minor} for line, (sku, minor) in priced.items()]
    return {"currency": "TWD", "lines": lines}


def with_basket(till: Till, code: str, basket: dict[str, Any]) -> dict[str, Any]:
    """A code redeemed for a basket."""
    return till.ask("redeem", code=code, presentation_id=secrets.token_hex(16), basket=basket).answer


def told(store: RunningStore, voucher_id: str) -> list[dict[str, Any]]:
    """What headquarters tells readers of a voucher's redemptions: CloudEvents, as its API gives them away."""
    page = store.hq_get(f"/api/events?limit={MOST_EVENTS}")
    assert len(page) < MOST_EVENTS
    return [one for one in page if one["type"] == REDEEMED and one["data"]["voucher_id"] == voucher_id]


def shop_of(store: RunningStore, event: dict[str, Any]) -> str:
    """Which shop an event is from, as headquarters lists its boxes."""
    return next(str(box["store"]) for box in store.hq_get("/api/boxes") if box["gateway"] == event["source"])


def validate(store: RunningStore, token: str) -> dict[str, Any]:
    """What a kiosk says about a code without using it."""
    kiosk = Web(store.starter.plan.kiosk_url).pair_now("counter")
    return dict(store.call(kiosk.post("/v1/validate", {"station": "counter", "code": token})))


@pytest.mark.scenario("R32")
def test_a_voucher_for_one_thing_is_not_used_up_by_a_basket_without_it(whole_store: RunningStore, tmp_path: Path) -> None:
    publish(whole_store, {"kind": "item_voucher", "items": {"skus": ["LATTE"]}}, 32, trigger="voucher")
    voucher, till = issue(whole_store, "拿鐵一杯", campaign=32), paired_till(whole_store, tmp_path)
    without = with_basket(till, voucher["token"], sold(L1=("CAKE", 60), L2=("TEA", 40)))
    assert (without["decision"], without["reason"], without["uses_left"]) == ("refused", "item_missing", 1)
    assert without["message"]["zh"] and without["next_step"]["en"]
    whole_store.drained()
    assert whole_store.hq_get(f"/api/vouchers/{voucher['voucher_id']}")["state"] == "issued"
    bought = with_basket(till, voucher["token"], sold(L1=("CAKE", 60), L2=("LATTE", 120)))
    assert (bought["decision"], bought["priced"]["off_minor"], bought["priced"]["to_pay_minor"]) == ("redeemed", 120, 60)
    rows = [row for row in whole_store.rows("VoucherRedeemed") if row["voucher_id"] == voucher["voucher_id"]]
    assert len(rows) == 1


@pytest.mark.scenario("R54")
def test_fifty_seats_and_three_doors_without_a_line_let_in_fifty(whole_store: RunningStore, tmp_path: Path) -> None:
    whole_store.hq_post(f"/api/stores/{STORE}/limits", {"campaign": 54, "stock": 50, "session": True})
    ask = {"store": STORE, "title_zh": "手作課", "title_en": "Workshop", "campaign": 54}
    signed_up = [str(whole_store.hq_post("/api/vouchers", ask)["token"]) for _ in range(57)]
    heard(whole_store)
    doors = [paired_till(whole_store, tmp_path, station) for station in ("counter", "entrance", "counter")]
    whole_store.cut_line()
    answers: list[Exchange] = []

    def door(till: Till, queue: list[str]) -> None:
        answers.extend(till.present("redeem", token) for token in queue)

    shifts = [threading.Thread(target=door, args=(till, signed_up[at::3])) for at, till in enumerate(doors)]
    for shift in shifts:
        shift.start()
    for shift in shifts:
        shift.join(timeout=60)
    decided = [one.answer["decision"] for one in answers]
    assert (len(decided), decided.count("redeemed")) == (57, 50)
    assert {one.answer["reason"] for one in answers} == {"", "session_full"}
    walk_in = doors[0].present("redeem", signed_up[0])  # who is in is not let in again, and the seats stay taken
    assert walk_in.answer["decision"] == "refused"
    whole_store.mend_line()
    whole_store.drained()
    assert sum(row["campaign"] == 54 for row in whole_store.rows("VoucherRedeemed")) == 50
    assert whole_store.hq_get(f"/api/stores/{STORE}/counts")["redemptions"] == len(whole_store.rows("VoucherRedeemed"))


@pytest.mark.scenario("R05")
def test_a_survey_voucher_is_told_with_survey_and_store_within_seconds_and_once(whole_store: RunningStore) -> None:
    survey = 5_005
    voucher = issue(whole_store, "問卷贈品", campaign=survey)
    assert redeem(whole_store, voucher["token"])["decision"] == "redeemed"
    whole_store.until(lambda: bool(told(whole_store, voucher["voucher_id"])), SHOWN_WITHIN_S, "headquarters was not told in time")
    whole_store.cut_line()  # what was on its way is sent again, and is still the same event
    whole_store.mend_line()
    whole_store.kill("bridge")
    whole_store.drained()
    (event,) = told(whole_store, voucher["voucher_id"])
    assert event["data"]["campaign"] == survey
    assert shop_of(whole_store, event) == STORE


@pytest.mark.scenario("R11")
def test_a_reward_claimed_online_shows_as_used_online_within_seconds_and_as_free_again_when_taken_back(
    whole_store: RunningStore, tmp_path: Path
) -> None:
    reward, till = issue(whole_store, "線上任務獎勵"), paired_till(whole_store, tmp_path)

    def wallet() -> str:
        return str(whole_store.hq_get(f"/api/vouchers/{reward['voucher_id']}")["state"])

    assert wallet() == "issued"
    done = till.present("redeem", reward["token"]).answer
    whole_store.until(lambda: wallet() == "used", SHOWN_WITHIN_S, "the wallet does not show it as used")
    assert till.settle("reverse", redemption_id=done["redemption_id"]).answer["decision"] == "reversed"
    whole_store.until(lambda: wallet() == "issued", SHOWN_WITHIN_S, "the wallet does not show that it was taken back")


@pytest.mark.scenario("R11")
def test_what_is_taken_back_online_is_refused_in_the_shop_within_seconds(whole_store: RunningStore) -> None:
    reward = issue(whole_store, "線上取消的獎勵")
    whole_store.hq_post(f"/api/vouchers/{reward['voucher_id']}/revoke", {})
    began_s = time.monotonic()
    kiosk_says = ""
    while kiosk_says != "revoked" and time.monotonic() - began_s < SHOWN_WITHIN_S:
        kiosk_says = str(validate(whole_store, reward["token"])["reason"])
    assert kiosk_says == "revoked"
