"""Scenarios of vouchers at the till: several uses, prizes, holds, lessons, guests, booked slots, gifts; and the simulator till itself."""

import asyncio
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.store.running import RunningStore
from virtual_store.till import Till, manager_of
from virtual_store.web import Web

pytestmark = [pytest.mark.slow]


def issue(store: RunningStore, title: str, **more: Any) -> dict[str, Any]:
    """A voucher of HQ, and the shop has heard of it."""
    voucher = store.hq_post("/api/vouchers", {"store": "tpe-001", "title_zh": title, "valid_days": 7, **more})
    heard(store)
    return dict(voucher)


def heard(store: RunningStore) -> None:
    """Wait until the shop has the newest list of vouchers: its version stands still."""
    version = -1
    while version != (version := store.view()["documents"].get("vouchers", 0)):
        time.sleep(0.4)


def redeem(store: RunningStore, token: str, station: str = "counter") -> dict[str, Any]:
    """At a kiosk."""
    kiosk = Web(store.starter.plan.kiosk_url).pair_now(station)
    body = {"station": station, "code": token, "presentation_id": secrets.token_hex(16)}
    return dict(store.call(kiosk.post("/v1/redeem", body)))


def paired_till(store: RunningStore, folder: Path, station: str = "counter") -> Till:
    """A till that a manager has approved."""
    till = Till(store.starter.plan.kiosk_url, station, folder / f"{secrets.token_hex(4)}.key")
    till.pair(lambda digits: None, manager_of(store.starter.plan.folder, till.url))
    return till


@pytest.mark.scenario("R13")
def test_a_subscription_of_four_is_used_four_times_and_the_fifth_is_exhausted(whole_store: RunningStore) -> None:
    token = issue(whole_store, "鮮乳四瓶", uses=4)["token"]
    found = [redeem(whole_store, token, station) for station in ("counter", "entrance", "counter", "entrance", "counter")]
    assert [answer["decision"] for answer in found] == ["redeemed"] * 4 + ["refused"]
    assert [answer["uses_left"] for answer in found] == [3, 2, 1, 0, 0]
    assert found[4]["reason"] == "exhausted"


@pytest.mark.scenario("R29")
def test_ten_prizes_and_thirty_winners_at_two_kiosks_give_exactly_ten(whole_store: RunningStore) -> None:
    whole_store.hq_post("/api/stores/tpe-001/limits", {"campaign": 29, "daily": 10})
    tokens = [
        str(whole_store.hq_post("/api/vouchers", {"store": "tpe-001", "title_zh": "遊戲獎品", "campaign": 29})["token"]) for _ in range(30)
    ]
    heard(whole_store)
    kiosks = [(station, Web(whole_store.starter.plan.kiosk_url).pair_now(station)) for station in ("counter", "entrance")]

    async def all_at_once() -> list[Any]:
        asked = []
        for number, token in enumerate(tokens):
            station, kiosk = kiosks[number % 2]
            asked.append(kiosk.post("/v1/redeem", {"station": station, "code": token, "presentation_id": secrets.token_hex(16)}))
        return list(await asyncio.gather(*asked))

    found = whole_store.call(all_at_once())
    assert [answer["decision"] for answer in found].count("redeemed") == 10
    assert {answer["reason"] for answer in found} == {"", "daily_stock_out"}


@pytest.mark.scenario("R43")
def test_a_till_that_dies_leaves_a_hold_that_voids_itself(whole_store: RunningStore, tmp_path: Path) -> None:
    voucher, till = issue(whole_store, "咖啡"), paired_till(whole_store, tmp_path)
    held = till.ask("authorize", code=voucher["token"], presentation_id=secrets.token_hex(16), hold_s=3).answer
    assert held["decision"] == "authorized"
    del till  # the POS dies
    assert redeem(whole_store, voucher["token"], "entrance")["reason"] == "held"

    def rows(kind: str) -> list[dict[str, Any]]:
        return [row for row in whole_store.rows(kind) if row["voucher_id"] == voucher["voucher_id"]]

    whole_store.until(lambda: bool(rows("AuthorizationEnded")), 15, "the hold did not run out")
    assert (len(rows("VoucherAuthorized")), [row["outcome"] for row in rows("AuthorizationEnded")]) == (1, ["expired"])
    assert redeem(whole_store, voucher["token"], "entrance")["decision"] == "redeemed"
    whole_store.drained()
    story = whole_store.hq_get(f"/api/vouchers/{voucher['voucher_id']}")["story"]
    assert [step["kind"] for step in story] == ["issued", "authorized", "refused", "expired", "redeemed"]


def sold(store: RunningStore) -> dict[str, int]:
    """What headquarters counts but for people who walk about meanwhile."""
    return {name: n for name, n in store.hq_get("/api/stores/tpe-001/counts")["total"].items() if name != "visits"}


@pytest.mark.scenario("R49")
def test_a_practice_voucher_goes_all_the_way_and_leaves_no_trace(whole_store: RunningStore, tmp_path: Path) -> None:
    voucher, till = issue(whole_store, "練習券", practice=True), paired_till(whole_store, tmp_path)
    whole_store.drained()
    before = sold(whole_store)
    number = whole_store.screen()["number"]
    whole_store.show(voucher["token"])  # through the camera
    shown = whole_store.shown_after(number, "redeemed")["answer"]
    assert (shown["practice"], shown["message"]["zh"]) == (True, "【練習】核銷成功")
    assert redeem(whole_store, voucher["token"])["reason"] == "already_redeemed"
    assert till.settle("reverse", redemption_id=shown["redemption_id"]).answer["reason"] == "manager_needed"
    held = till.present("authorize", issue(whole_store, "練習券", practice=True)["token"]).answer
    assert till.settle("capture", authorization_id=held["authorization_id"]).answer["practice"]
    whole_store.drained()
    assert sold(whole_store) == before
    for kind in ("VoucherRedeemed", "VoucherAuthorized", "RedemptionRefused"):
        assert all(row["voucher_id"] != voucher["voucher_id"] for row in whole_store.rows(kind))


@pytest.mark.scenario("R55")
def test_of_a_voucher_for_two_one_guest_uses_one(whole_store: RunningStore) -> None:
    voucher = issue(whole_store, "雙人下午茶", uses=2)
    answer = redeem(whole_store, voucher["token"])
    assert (answer["decision"], answer["uses_left"]) == ("redeemed", 1)
    whole_store.drained()
    shown = whole_store.hq_get(f"/api/vouchers/{voucher['voucher_id']}")
    assert (shown["used"], shown["uses"], shown["state"]) == (1, 2, "partly_used")


@pytest.mark.scenario("R56")
def test_a_booked_slot_is_kept_once_and_outside_it_the_next_step_is_told(whole_store: RunningStore) -> None:
    begins_s = int(time.time()) + 4
    voucher = issue(whole_store, "精油按摩", windows=[[begins_s, begins_s + 3_600]])
    early = redeem(whole_store, voucher["token"])
    assert (early["reason"], early["window"]) == ("outside_window", [begins_s, begins_s + 3_600])
    assert early["next_step"]["zh"] and early["next_step"]["en"]
    time.sleep(max(0.0, begins_s + 0.1 - time.time()))
    assert redeem(whole_store, voucher["token"])["decision"] == "redeemed"
    assert redeem(whole_store, voucher["token"])["reason"] == "already_redeemed"


@pytest.mark.scenario("R73")
def test_a_gift_claimed_online_is_collected_once(whole_store: RunningStore) -> None:
    gift = issue(whole_store, "會員生日禮")
    first, second = redeem(whole_store, gift["token"]), redeem(whole_store, gift["short_code"], "entrance")
    assert (first["decision"], first["title"]["zh"]) == ("redeemed", "會員生日禮")
    assert (second["reason"], second["before"]["station"]) == ("already_redeemed", "counter")


@pytest.mark.scenario("R18")
def test_a_day_closes_at_gross_less_what_was_reversed(whole_store: RunningStore, tmp_path: Path) -> None:
    till = paired_till(whole_store, tmp_path)
    done = [till.present("redeem", issue(whole_store, "餐券")["token"]).answer for _ in range(2)]
    assert till.settle("reverse", redemption_id=done[0]["redemption_id"]).answer["decision"] == "reversed"
    whole_store.drained()
    counts = whole_store.hq_get("/api/stores/tpe-001/counts")
    assert counts["net_redemptions"] == counts["redemptions"] - counts["reversals"]
    assert counts["redemptions"] == len(whole_store.rows("VoucherRedeemed"))
    assert counts["reversals"] == len(whole_store.rows("RedemptionReversed")) == 1


def test_the_simulator_till_pairs_itself_and_sells(whole_store: RunningStore) -> None:
    voucher = issue(whole_store, "面額券", value_minor=500, partial=True)
    lines = ["+ 拿鐵 120", "+ 蛋糕 60", voucher["token"], "c", "r", "+ 茶 30", voucher["token"], "v", "m 0912-345-999", "c", "b", "q"]
    command = [sys.executable, "-m", "gateway", "pos", "--config", str(whole_store.starter.plan.gateway_toml)]
    found = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    for said in (
        "已配對",
        "amount_needed",
        "authorized",
        "redeemed",
        "reversed",
        "voided",
        '"amount_minor": 180',
        '"amount_minor": 30',
        "sale_posted",
        "Points pending",
        "The return is recorded",
    ):
        assert said in found.stdout, (said, found.stdout)
    assert voucher["token"] not in found.stdout and "345-999" not in found.stdout
    assert [row["redemption_ids"] != [] for row in whole_store.rows("SalePosted")] == [True, False]
    again = subprocess.run(command, input="q\n", capture_output=True, text=True, timeout=60, check=True)
    assert "digits" not in again.stdout  # its key is kept
