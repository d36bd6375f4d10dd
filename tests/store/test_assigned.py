"""A voucher of the whole chain in the whole store, all processes real: claimed over the line, honoured once, given back when wanted."""

import secrets
from functools import partial
from typing import Any

import pytest

from tests.store.running import RunningStore

pytestmark = [pytest.mark.slow]
TITLE = {"title_zh": "咖啡券", "title_en": "Coffee", "value_minor": 500}


def issue(store: RunningStore, **more: Any) -> Any:
    return store.hq_post("/api/assigned", TITLE | more)


def state(store: RunningStore, voucher: Any) -> str:
    return str(store.hq_get(f"/api/assigned/{voucher['voucher_id']}")["state"])


def scan(store: RunningStore, voucher: Any) -> Any:
    """Show it to the camera; what the counter's screen says."""
    before = store.screen()["number"]
    store.show(voucher["token"])
    return store.shown_after(before, "redeemed")["answer"]


def refused(store: RunningStore, voucher: Any) -> str:
    """A clerk types it in; why it is refused."""
    addresses = store.starter.addresses
    assert addresses is not None
    store.shop_post("/v1/staff/sign-in", {"staff_ref": addresses.clerk_ref, "pin": addresses.clerk_pin})
    asked = {"station": "counter", "code": voucher["token"], "presentation_id": secrets.token_hex(16)}
    return str(store.shop_post("/v1/redeem", asked)["reason"])


def test_a_voucher_of_the_chain_is_claimed_honoured_once_and_known_at_headquarters(whole_store: RunningStore) -> None:
    voucher = issue(whole_store)
    assert scan(whole_store, voucher)["reference"] == voucher["voucher_id"]
    kinds = [whole_store.rows(kind) for kind in ("ClaimIntended", "AssignmentTaken", "VoucherRedeemed")]
    assert [[row["voucher_id"] for row in rows] for rows in kinds] == [[voucher["voucher_id"]]] * 3
    whole_store.drained()
    told = whole_store.hq_get(f"/api/assigned/{voucher['voucher_id']}")
    assert [(one["number"], one["spent"]) for one in told["holders"]] == [(1, 1)]
    assert refused(whole_store, voucher) == "already_redeemed"


def test_in_the_dark_it_asks_for_the_phone_and_uses_nothing(whole_store: RunningStore) -> None:
    granted, live = issue(whole_store), issue(whole_store, voucher_class="hq_live")
    whole_store.cut_line()
    assert refused(whole_store, granted) == "needs_grant"
    assert refused(whole_store, live) == "needs_online"
    whole_store.mend_line()
    assert (state(whole_store, granted), state(whole_store, live)) == ("free", "free")


def test_a_refund_waits_for_what_is_out_and_not_for_what_is_free(whole_store: RunningStore) -> None:
    voucher, other = issue(whole_store, uses=2), issue(whole_store)
    scan(whole_store, voucher)
    assert whole_store.hq_post(f"/api/assigned/{voucher['voucher_id']}/refund", {})["state"] == "requested", "one use of two is out"
    assert whole_store.hq_post(f"/api/assigned/{other['voucher_id']}/refund", {})["state"] == "refunded", "nobody held it"
    assert refused(whole_store, other) == "refunded"


# ---------------------------------------------------------------- committed, and never seen


def of_voucher(store: RunningStore, voucher_id: str) -> list[dict[str, Any]]:
    """Its redemptions."""
    return [row for row in store.rows("VoucherRedeemed") if row["voucher_id"] == voucher_id]


def retyped(store: RunningStore, code: str) -> Any:
    """A clerk types it in at the counter, as soon as core is there again."""
    body = {"station": "counter", "code": code, "presentation_id": secrets.token_hex(16)}
    return store.eventually(lambda: store.shop_post("/v1/redeem", body), 30)


def test_what_was_committed_and_never_seen_is_honoured_once_and_booked_as_exposure(whole_store: RunningStore) -> None:
    addresses = whole_store.starter.addresses
    assert addresses is not None
    ask = {"store": "tpe-001", "title_zh": "咖啡券", "title_en": "Coffee", "value_minor": 12_000}
    voucher = whole_store.hq_post("/api/vouchers", ask)
    whole_store.show(voucher["token"])
    mine = partial(of_voucher, whole_store, voucher["voucher_id"])
    whole_store.until(lambda: bool(mine()), 20, "nothing was committed")
    whole_store.kill("core")  # no page is open: nobody has read anything
    whole_store.until(lambda: bool(whole_store.view()["admission"]["admitted"]), 40, "the new start was not admitted")
    whole_store.shop_post("/v1/staff/sign-in", {"staff_ref": addresses.clerk_ref, "pin": addresses.clerk_pin})
    said = retyped(whole_store, voucher["token"])
    (row,) = mine()
    assert (said["reason"], said["unseen"]) == ("already_redeemed", row["redemption_id"])
    assert said["before"]["at_us"] == row["event_time"][0]
    body = {"redemption_id": said["unseen"], "why": "power_cut", "key": secrets.token_hex(16)}
    done = whole_store.shop_post("/v1/staff/honour", body)
    assert done["decision"] == "honoured"
    whole_store.kill("core")
    whole_store.until(lambda: bool(whole_store.view()["admission"]["admitted"]), 40, "the new start was not admitted")
    whole_store.shop_post("/v1/staff/sign-in", {"staff_ref": addresses.clerk_ref, "pin": addresses.clerk_pin})
    assert whole_store.shop_post("/v1/staff/honour", body) == done, "the same request, the same answer"
    again = whole_store.shop_post("/v1/staff/honour", body | {"key": secrets.token_hex(16)})
    assert again["reason"] == "already_honoured"
    assert retyped(whole_store, voucher["token"])["unseen"] == ""
    whole_store.drained()
    exposed = whole_store.hq_get("/api/exposure")
    assert (exposed["honoured"], exposed["honoured_minor"]) == (1, 12_000)
    told = whole_store.hq_get(f"/api/vouchers/{voucher['voucher_id']}")
    assert (told["used"], [step["kind"] for step in told["story"]][:2]) == (1, ["issued", "redeemed"])
    assert [step["kind"] for step in told["story"]].count("honoured") == 1
