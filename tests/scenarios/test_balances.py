"""Scenarios of balances that headquarters lends to shops in shares: face value and points, with the lines cut."""

import json
import secrets
import subprocess
import sys
from typing import Any

import pytest

from tests.scenarios.test_setup import Box, carton
from tests.scenarios.test_two_shops import OTHER, cut_both, other_shop
from tests.store.running import RunningStore
from virtual_store.plan import STORE
from virtual_store.web import Web

__all__ = ["carton", "other_shop"]
pytestmark = [pytest.mark.slow]


class Kiosk:
    """Of a shop."""

    def __init__(self, store: str, url: str) -> None:
        self.store = store
        self._web = Web(url).pair_now("counter")

    def asked(self, verb: str, balance: dict[str, Any], **more: Any) -> dict[str, Any]:
        """What it says to a balance's code."""
        body = {"station": "counter", "code": balance["token"], **more}
        body |= {} if verb == "validate" else {"presentation_id": secrets.token_hex(16)}
        return dict(self._web.call(f"/v1/{verb}", json.dumps(body).encode()))


def lent(store: RunningStore, balance: dict[str, Any], kiosk: Kiosk, units: int) -> None:
    """Have a share lie at a shop, and see it there."""
    store.hq_post(f"/api/assigned/{balance['voucher_id']}/lend", {"store": kiosk.store, "units": units})
    store.until(lambda: kiosk.asked("validate", balance)["balance"]["here"] == units, 40, "the shop did not claim its share")


def stands(store: RunningStore, balance: dict[str, Any]) -> tuple[int, int, int]:
    """Of a balance: put in, spent, and lent or left."""
    found = store.hq_get(f"/api/assigned/{balance['voucher_id']}")["balance"]
    return found["put_in"], found["spent"], found["lent"] + found["left"]


@pytest.mark.scenario("R70")
def test_of_300_points_100_lie_here_and_150_asked_in_the_dark_get_100_and_the_rest_with_the_line(whole_store: RunningStore) -> None:
    here = Kiosk(STORE, whole_store.starter.plan.kiosk_url)
    account = whole_store.hq_post(
        "/api/assigned", {"title_zh": "會員點數", "voucher_class": "leased", "unit": "points", "points": 300, "member_ref": "m-70"}
    )
    lent(whole_store, account, here, 100)
    whole_store.cut_line()
    refused = here.asked("redeem", account, points=150)
    assert (refused["reason"], refused["balance"]["offered"], refused["balance"]["short"]) == ("needs_online", 100, 50)
    done = here.asked("redeem", account, points=150, or_less=True)
    assert (done["decision"], done["balance"]["taken"], done["balance"]["short_reason"]) == ("redeemed", 100, "needs_online")
    seen = here.asked("validate", account)
    assert (seen["reason"], seen["balance"]["here"], seen["balance"]["known"]) == ("needs_online", 0, 300)
    whole_store.mend_line()
    whole_store.drained()
    assert stands(whole_store, account) == (300, 100, 200)
    lines = ["+ 茶 150", account["token"], "c", "q"]  # at the simulator till
    command = [sys.executable, "-m", "gateway", "pos", "--config", str(whole_store.starter.plan.gateway_toml)]
    sold = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=60, check=False)
    assert sold.returncode == 0 and '"points": 150' in sold.stdout and '"taken": 150' in sold.stdout, sold.stdout + sold.stderr
    assert here.asked("redeem", account, points=50)["decision"] == "redeemed"
    assert here.asked("redeem", account, points=1)["decision"] == "refused"
    whole_store.drained()
    assert stands(whole_store, account) == (300, 300, 0), "never below zero"


@pytest.mark.scenario("R33")
def test_of_a_face_value_a_shop_in_the_dark_spends_its_share_and_another_one_no_more_than_its_own(
    whole_store: RunningStore, other_shop: Box
) -> None:
    here, there = Kiosk(STORE, whole_store.starter.plan.kiosk_url), Kiosk(OTHER, f"http://127.0.0.1:{other_shop.port}")
    card = {"title_zh": "面額券", "voucher_class": "leased", "value_minor": 500}
    whole, shared = (whole_store.hq_post("/api/assigned", card) for _ in range(2))
    for balance, kiosk, units in ((whole, here, 500), (shared, here, 400), (shared, there, 100)):
        lent(whole_store, balance, kiosk, units)
    cut_both(whole_store, other_shop, up=False)
    assert here.asked("redeem", whole, amount_minor=180)["decision"] == "redeemed"
    left = here.asked("validate", whole)
    assert (left["decision"], left["balance_minor"]) == ("valid", 320)
    nothing = there.asked("redeem", whole, amount_minor=1)
    assert (nothing["reason"], nothing["balance"]["offered"]) == ("needs_online", 0)
    more = there.asked("redeem", shared, amount_minor=150)
    assert (more["reason"], more["balance"]["offered"]) == ("needs_online", 100)
    assert there.asked("redeem", shared, amount_minor=150, or_less=True)["balance"]["taken"] == 100
    assert here.asked("redeem", shared, amount_minor=500, or_less=True)["balance"]["taken"] == 400
    assert {kiosk.asked("redeem", shared, amount_minor=1)["reason"] for kiosk in (here, there)} == {"needs_online"}
    cut_both(whole_store, other_shop, up=True)
    whole_store.drained()
    whole_store.until(lambda: other_shop.view()["line"]["waiting"] == 0, 40, "the other shop did not drain")
    assert stands(whole_store, whole) == (500, 180, 320)
    assert stands(whole_store, shared) == (500, 500, 0)
    assert there.asked("redeem", shared, amount_minor=1)["decision"] == "refused"
