"""Scenarios of what any shop may honour: flash-sale codes out of an allotment, and vouchers taken on trust."""

from collections import Counter
from pathlib import Path

import pytest

from tests.scenarios.test_sales import paired_till
from tests.store.running import RunningStore
from virtual_store.plan import STORE

pytestmark = [pytest.mark.slow]
TERMS = {"campaign": 38, "per_code_minor": 300, "per_device_minor": 800, "per_shop_minor": 800, "worth_minor": 200}


@pytest.mark.scenario("R16")
def test_of_twenty_five_flash_sale_scans_in_the_dark_twenty_are_served_and_the_chain_keeps_its_quota(
    whole_store: RunningStore, tmp_path: Path
) -> None:
    code = whole_store.hq_post(
        "/api/open-codes", {"texts": ["FLASH16"], "title_zh": "限時搶購", "quota": 23, "allotment": 20, "campaign": 16}
    )

    def left() -> int:
        return next((one["left"] for one in whole_store.view()["quotas"]), -1)

    whole_store.until(lambda: left() == 20, 30, "the shop was given no allotment")
    till = paired_till(whole_store, tmp_path)
    whole_store.cut_line()
    dark = [till.present("redeem", text).answer for text in ["FLASH16", "flash 16", "Flash-16"] * 9][:25]
    assert Counter(answer["decision"] for answer in dark) == {"redeemed": 20, "refused": 5}
    assert {answer["reason"] for answer in dark[20:]} == {"store_quota_used"}
    assert dark[24]["message"]["zh"] and dark[24]["next_step"]["en"]
    whole_store.mend_line()
    whole_store.drained()
    whole_store.until(lambda: left() == 3, 30, "the shop was given no more")
    assert [till.present("redeem", "FLASH16").answer["decision"] for _ in range(3)] == ["redeemed"] * 3
    whole_store.drained()  # headquarters has counted them all
    later = [till.present("redeem", "FLASH16").answer for _ in range(2)]
    assert [answer["reason"] for answer in later] == ["campaign_quota_used"] * 2
    whole_store.drained()
    told = whole_store.hq_get(f"/api/open-codes/{code['voucher_id']}")
    assert (told["used"], told["quota"], told["left"]) == (23, 23, 0)


def test_vouchers_taken_on_trust_stop_at_the_cap_and_the_meter_falls_when_the_line_is_back(
    whole_store: RunningStore, tmp_path: Path
) -> None:
    whole_store.hq_post("/api/risk/terms", TERMS)
    ask = {"title_zh": "優惠券", "voucher_class": "bounded_risk", "campaign": 38, "value_minor": 200}
    tokens = [whole_store.hq_post("/api/assigned", ask)["token"] for _ in range(6)]
    whole_store.until(lambda: bool(whole_store.view()["risk"]), 30, "the shop was told no terms")
    till = paired_till(whole_store, tmp_path)
    assert till.present("redeem", tokens[0]).answer["decision"] == "redeemed"
    assert whole_store.view()["risk"][0]["open_minor"] == 0, "headquarters was asked"
    whole_store.cut_line()
    found = [till.present("redeem", token).answer for token in tokens[1:]]
    assert [answer["reason"] for answer in found] == ["", "", "", "", "risk_cap"]
    meter = whole_store.view()["risk"][0]
    assert (meter["open_minor"], meter["cap_minor"], meter["open_rows"]) == (800, 800, 4)
    whole_store.mend_line()
    whole_store.drained()
    whole_store.until(lambda: whole_store.view()["risk"][0]["open_minor"] == 0, 30, "headquarters' answer did not close it")
    shop = next(one for one in whole_store.hq_get("/api/risk")["shops"] if one["store"] == STORE)
    assert (shop["taken"], shop["taken_minor"], shop["losses"]) == (4, 800, 0)
