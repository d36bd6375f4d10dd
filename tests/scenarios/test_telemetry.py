"""Scenarios of numbers: what headquarters shows is what the shop's ledger holds, or it says by how much it is behind."""

import asyncio
import re
import secrets
import time
import urllib.request
from typing import Any

import pytest

from tests.store.running import RunningStore
from virtual_store.web import Web

pytestmark = [pytest.mark.slow]

STORE = "tpe-001"
TILLS = 8
USES = 125
BEFORE_CUT, IN_THE_CUT = 600, 400


async def _sell(url: str, tokens: list[str]) -> list[str]:
    """Redeem every token at `TILLS` paired devices at once; the decisions."""
    waiting = list(tokens)

    async def till(number: int) -> list[str]:
        station = ("counter", "entrance")[number % 2]
        web = await Web(url).pair(station)
        decided = []
        while waiting:
            body = {"station": station, "code": waiting.pop(), "presentation_id": secrets.token_hex(16)}
            decided.append((await web.post("/v1/redeem", body))["decision"])
        return decided

    return [decision for decisions in await asyncio.gather(*map(till, range(TILLS))) for decision in decisions]


def _dashboard(store: RunningStore) -> str:
    """The live page, as a browser gets it."""
    hq = store.starter.hq
    return _text(f"{hq.base}/?lang=en", hq.token)


def _text(url: str, token: str = "") -> str:
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=10) as page:
        return str(page.read().decode())


def _shown(page: str) -> tuple[int, str, str]:
    """Redemptions on the page, the words on how complete they are, and the words on the line."""
    found = re.search(r'data-number="redemptions">(\d+)</p>\s*<p class="complete[^"]*">\s*(.*?)\s*</p>', page, re.DOTALL)
    behind = re.search(r'<p class="behind" data-behind>(.*?)</p>', page, re.DOTALL)
    assert found and behind, page
    return int(found[1]), found[2], " ".join(re.sub("<[^>]+>", " ", behind[1]).split())


def _shop(store: RunningStore, key: str) -> Any:
    (shop,) = [one for one in store.hq_get("/api/stores") if one["store"] == STORE]
    return shop[key]


def _counts(store: RunningStore) -> Any:
    return store.hq_get(f"/api/stores/{STORE}/counts")


@pytest.mark.scenario("R47")
def test_a_thousand_redemptions_are_on_the_dashboard_and_a_cut_line_is_said(whole_store: RunningStore) -> None:
    url = whole_store.starter.plan.kiosk_url
    vouchers = [
        whole_store.hq_post("/api/vouchers", {"store": STORE, "title_zh": "咖啡月票", "title_en": "Coffee pass", "uses": USES})
        for _ in range((BEFORE_CUT + IN_THE_CUT) // USES)
    ]
    whole_store.until(lambda: whole_store.view()["documents"].get("vouchers", 0) >= len(vouchers), 20, "the vouchers did not arrive")
    whole_store.until(lambda: whole_store.view()["line"]["waiting"] == 0, 20, "the shop did not come to rest")
    tokens = [voucher["token"] for voucher in vouchers for _ in range(USES)]

    assert whole_store.call(_sell(url, tokens[:BEFORE_CUT])) == ["redeemed"] * BEFORE_CUT
    whole_store.drained()
    number, complete, _ = _shown(_dashboard(whole_store))
    assert number == _counts(whole_store)["redemptions"] == len(whole_store.rows("VoucherRedeemed")) == BEFORE_CUT
    assert "all here" in complete

    whole_store.cut_line()
    assert whole_store.call(_sell(url, tokens[BEFORE_CUT:])) == ["redeemed"] * IN_THE_CUT
    assert len(whole_store.rows("VoucherRedeemed")) == BEFORE_CUT + IN_THE_CUT
    assert whole_store.view()["line"]["waiting"] >= IN_THE_CUT
    whole_store.until(lambda: _shop(whole_store, "line") != "up", 10, "headquarters did not notice the cut")
    number, complete, behind = _shown(_dashboard(whole_store))
    assert number == BEFORE_CUT
    assert "later ones to come" in complete
    assert "the shop may have written more" in behind and re.search(r"last heard \d\d:\d\d:\d\d", behind)

    mended_us = time.time_ns() // 1000
    whole_store.call(whole_store.starter.cut_line(True))
    _never_claims_too_much(whole_store, mended_us)
    whole_store.drained()
    number, complete, behind = _shown(_dashboard(whole_store))
    assert number == _counts(whole_store)["redemptions"] == len(whole_store.rows("VoucherRedeemed")) == BEFORE_CUT + IN_THE_CUT
    assert "all here" in complete
    refused = whole_store.call(_sell(url, [tokens[0]]))
    assert refused == ["refused"]  # all uses of that pass are gone: the thousand were counted once each


def _never_claims_too_much(store: RunningStore, mended_us: int) -> None:
    """Until everything is there, headquarters says that something is missing."""
    ends_s = time.monotonic() + 30
    while True:
        counts = _counts(store)
        if counts["complete"] and counts["as_of_us"] > mended_us:
            assert counts["redemptions"] == BEFORE_CUT + IN_THE_CUT, counts
            return
        assert counts["redemptions"] <= BEFORE_CUT + IN_THE_CUT
        assert time.monotonic() < ends_s, counts
        time.sleep(0.02)


@pytest.mark.scenario("R47")
def test_both_ends_tell_prometheus_the_same(whole_store: RunningStore) -> None:
    def agree() -> bool:
        shop = _text(f"{whole_store.starter.plan.kiosk_url}/metrics")
        hq = _text(f"{whole_store.starter.hq.base}/metrics", whole_store.starter.hq.token)
        here = re.search(r"^store_redemptions_total (\d+)$", shop, re.MULTILINE)
        there = re.search(rf'^hq_redemptions_total{{store="{STORE}"}} (\d+)$', hq, re.MULTILINE)
        assert here and there
        return here[1] == there[1] and f'hq_box_up{{store="{STORE}"}} 1' in hq and "store_line_up 1" in shop

    whole_store.until(agree, 20, "shop and headquarters do not tell the same")
