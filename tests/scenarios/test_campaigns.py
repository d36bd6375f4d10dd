"""Scenarios of campaigns: published at headquarters, priced at the shop's door and at headquarters'."""

import contextlib
import datetime
import secrets
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from benchmarks.baskets import Maker
from benchmarks.parity import Door, batches, differing
from tests.store.running import RunningStore
from virtual_store.plan import STATION, STORE
from virtual_store.web import Web

pytestmark = [pytest.mark.slow]

TAIPEI = "Asia/Taipei"
DRINKS = {"categories": ["飲料"]}


def publish(store: RunningStore, rule: dict[str, Any], campaign: int, version: int = 1, **more: Any) -> None:
    """Publish a campaign, and wait until the shop has it."""
    before = store.view()["documents"]["campaigns"]
    said = {
        "campaign": campaign, "version": version, "title_zh": f"活動 {campaign}", "title_en": f"Offer {campaign}", "currency": "TWD",
        "rounding": "half_up", "rule": rule,
    }  # fmt: skip
    assert STORE in store.hq_post("/api/campaigns", said | more)["shops"]
    store.until(lambda: store.view()["documents"]["campaigns"] > before, 15, "the shop did not get the campaign")


def noon(day: str) -> dict[str, int]:
    moment_us = int(datetime.datetime.fromisoformat(f"{day} 12:00").replace(tzinfo=ZoneInfo(TAIPEI)).timestamp()) * 1_000_000
    return {"earliest_us": moment_us, "latest_us": moment_us}


def ask(*lines: tuple[str, int, str], code: str, day: str = "2026-11-20") -> dict[str, Any]:
    """One basket of (sku, price, category), with a campaign's code, on a day."""
    bought = [
        {"line_id": f"L{at}", "sku": sku, "quantity": 1, "unit_minor": minor, "category": category}
        for at, (sku, minor, category) in enumerate(lines)
    ]
    return {"basket": {"currency": "TWD", "lines": bought}, "codes": [code], "at": noon(day)}


def priced(store: RunningStore, asked: dict[str, Any]) -> Any:
    """The shop's price, which is headquarters' price, byte for byte."""
    with doors(store) as (shop, headquarters):
        assert list(differing(shop.ask([asked]), headquarters.ask([asked]), [asked])) == []
    kiosk = store.call(Web(store.starter.plan.kiosk_url).pair(STATION))
    return store.call(kiosk.post("/v1/price", {"station": STATION, "asks": [asked]}))["priced"][0]


@contextlib.contextmanager
def doors(store: RunningStore) -> Iterator[tuple[Door, Door]]:
    """Both HTTP doors."""
    ports = store.starter.plan.ports
    shop, headquarters = Door.of_shop(ports.kiosk), Door.of_headquarters(ports.hq, store.starter.hq.token)
    with contextlib.closing(shop), contextlib.closing(headquarters):
        yield shop, headquarters


@pytest.mark.scenario("R27")
def test_of_three_drinks_one_is_free_on_its_days_and_refused_on_another(whole_store: RunningStore) -> None:
    window = {"weekdays": [5], "extra_days": ["2026-11-21"]}  # Fridays, and a Saturday that makes up for a Friday
    rule = {"kind": "buy_one_get_one", "items": DRINKS, "max_pairs": 2}
    publish(whole_store, rule, 27, trigger="code", code="BOGO", window=window)
    drinks = [("LATTE", 120, "飲料"), ("TEA", 80, "飲料"), ("MOCHA", 135, "飲料"), ("CAKE", 60, "蛋糕")]
    found = priced(whole_store, ask(*drinks, code="BOGO"))
    assert (found["off_minor"], found["adjustments"][0]["shares"]) == (80, [{"line_id": "L1", "minor": 80}])
    assert priced(whole_store, ask(*drinks, code="BOGO", day="2026-11-21"))["off_minor"] == 80
    six = [(f"D{at}", 100 + at, "飲料") for at in range(6)]
    assert priced(whole_store, ask(*six, code="BOGO"))["off_minor"] == 100 + 101  # three pairs, two allowed
    wrong_day = priced(whole_store, ask(*drinks, code="BOGO", day="2026-11-22"))
    assert (wrong_day["off_minor"], wrong_day["refused"][0]["reason"]) == (0, "outside_window")
    assert wrong_day["refused"][0]["message"]["zh"] and wrong_day["refused"][0]["next_step"]["en"]


@pytest.mark.scenario("R28")
@pytest.mark.parametrize(("rounding", "paid"), [("half_up", 43), ("down", 42), ("half_even", 42)])
def test_the_second_named_item_is_at_half_price_rounded_as_stated(whole_store: RunningStore, rounding: str, paid: int) -> None:
    rule = {"kind": "nth_at_percent", "n": 2, "percent_off": 50, "items": {"skus": ["SOAP", "CREAM"]}}
    number, code = 28_000 + secrets.randbelow(10**6), f"HALF-{secrets.token_hex(4).upper()}"
    publish(whole_store, rule, number, trigger="code", code=code, rounding=rounding)
    found = priced(whole_store, ask(("SOAP", 99, "日用"), ("CREAM", 85, "日用"), ("TEA", 10, "飲料"), code=code))
    assert (found["to_pay_minor"], found["off_minor"]) == (99 + paid + 10, 85 - paid)


@pytest.mark.scenario("R65")
def test_one_dollar_below_the_minimum_no_gift_is_given_and_the_gap_is_told(whole_store: RunningStore) -> None:
    publish(whole_store, {"kind": "minimum_spend", "minimum_minor": 1000, "off_minor": 100}, 65, trigger="code", code="SPEND")
    gift = {"kind": "gift_with_purchase", "minimum_minor": 1000, "gift_sku": "TOTE"}
    publish(whole_store, gift, 66, trigger="code", code="GIFT", window={"first_day": "2026-11-01", "last_day": "2026-11-30"})
    for code in ("SPEND", "GIFT"):
        below = priced(whole_store, ask(("BAG", 999, "包"), code=code))
        assert (below["adjustments"], below["refused"][0]["reason"], below["refused"][0]["gap_minor"]) == ([], "minimum_not_reached", 1)
    assert priced(whole_store, ask(("BAG", 1000, "包"), code="SPEND"))["to_pay_minor"] == 900
    assert priced(whole_store, ask(("BAG", 1000, "包"), code="GIFT"))["adjustments"][0]["gifts"] == [{"sku": "TOTE", "quantity": 1}]
    assert priced(whole_store, ask(("BAG", 1000, "包"), code="GIFT", day="2026-12-01"))["refused"][0]["reason"] == "campaign_ended"


@pytest.mark.scenario("R07")
def test_one_definition_comes_to_the_same_cent_in_the_shop_and_online(whole_store: RunningStore) -> None:
    publish(whole_store, {"kind": "minimum_spend", "minimum_minor": 300, "percent_off": 15}, 7, 7, trigger="code", code="WEB-7")
    found = priced(whole_store, ask(("A", 333, "x"), code="WEB-7"))
    assert (found["adjustments"][0]["campaign"], found["adjustments"][0]["version"], found["to_pay_minor"]) == (7, 7, 283)
    maker = Maker(7, TAIPEI)
    campaigns = maker.campaigns(6)
    for number, campaign in enumerate(campaigns):
        campaign |= {"campaign": 70_000 + number}
        publish(
            whole_store, campaign["rule"], **{key: value for key, value in campaign.items() if key not in ("rule", "title_zh", "title_en")}
        )
    whole_store.cut_line()  # the shop goes on from what it was told
    count = 0
    with doors(whole_store) as (shop, headquarters):
        for asks in batches(maker, campaigns, 10_000):
            assert list(differing(shop.ask(asks), headquarters.ask(asks), asks)) == []
            count += len(asks)
    whole_store.mend_line()
    assert count == 10_000
