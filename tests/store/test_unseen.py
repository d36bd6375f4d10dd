"""kill -9 after the commit, before anybody could read the screen: whoever comes back is told when it was accepted, and served once."""

import secrets
from typing import Any

import pytest

from tests.store.running import RunningStore

pytestmark = [pytest.mark.slow]


def typed(store: RunningStore, code: str) -> Any:
    """A clerk types it in at the counter."""
    return store.eventually(lambda: store.shop_post("/v1/redeem", _presented(code)), 30)


def _presented(code: str) -> dict[str, Any]:
    return {"station": "counter", "code": code, "presentation_id": secrets.token_hex(16)}


def test_what_was_committed_and_never_seen_is_honoured_once_and_booked_as_exposure(whole_store: RunningStore) -> None:
    addresses = whole_store.starter.addresses
    assert addresses is not None
    ask = {"store": "tpe-001", "title_zh": "咖啡券", "title_en": "Coffee", "value_minor": 12_000}
    voucher = whole_store.hq_post("/api/vouchers", ask)
    whole_store.show(voucher["token"])
    whole_store.until(lambda: bool(whole_store.rows("VoucherRedeemed")), 20, "nothing was committed")
    whole_store.kill("core")  # no page is open: nobody has read anything
    whole_store.view()
    whole_store.shop_post("/v1/staff/sign-in", {"staff_ref": addresses.clerk_ref, "pin": addresses.clerk_pin})
    said = typed(whole_store, voucher["token"])
    (row,) = whole_store.rows("VoucherRedeemed")
    assert (said["reason"], said["unseen"]) == ("already_redeemed", row["redemption_id"])
    assert said["before"]["at_us"] == row["event_time"][0]
    body = {"redemption_id": said["unseen"], "why": "power_cut", "key": secrets.token_hex(16)}
    done = whole_store.shop_post("/v1/staff/honour", body)
    assert done["decision"] == "honoured"
    whole_store.kill("core")
    whole_store.view()
    whole_store.shop_post("/v1/staff/sign-in", {"staff_ref": addresses.clerk_ref, "pin": addresses.clerk_pin})
    assert whole_store.shop_post("/v1/staff/honour", body) == done, "the same request, the same answer"
    again = whole_store.shop_post("/v1/staff/honour", body | {"key": secrets.token_hex(16)})
    assert again["reason"] == "already_honoured"
    assert typed(whole_store, voucher["token"])["unseen"] == ""
    whole_store.drained()
    exposed = whole_store.hq_get("/api/exposure")
    assert (exposed["honoured"], exposed["honoured_minor"]) == (1, 12_000)
    told = whole_store.hq_get(f"/api/vouchers/{voucher['voucher_id']}")
    assert (told["used"], [step["kind"] for step in told["story"]][:2]) == (1, ["issued", "redeemed"])
    assert [step["kind"] for step in told["story"]].count("honoured") == 1
