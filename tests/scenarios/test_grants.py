"""Scenarios of vouchers for any shop while this shop has no line: the shopper's phone, which has one, fetches a pass."""

import secrets
from typing import Any

import httpx
import pytest

from gateway import asking
from gateway import grant as grants
from gateway.rules.reasons import REASONS
from tests.store.running import RunningStore

pytestmark = [pytest.mark.slow]


def shown(store: RunningStore, code: str, state: str) -> Any:
    """Hold a code before the camera; the counter's answer."""
    before = store.screen()["number"]
    store.show(code)
    return store.shown_after(before, state)["answer"]


def typed(store: RunningStore, code: str) -> Any:
    """A clerk types it in."""
    addresses = store.starter.addresses
    assert addresses is not None
    store.view()  # waits while core is away
    store.shop_post("/v1/staff/sign-in", {"staff_ref": addresses.clerk_ref, "pin": addresses.clerk_pin})
    return store.shop_post("/v1/redeem", {"station": "counter", "code": code, "presentation_id": secrets.token_hex(16)})


def fetch(voucher: Any, address: str) -> httpx.Response:
    """What the voucher's page does with the shop's QR code: no token, no cookie, over the phone's own line."""
    http, _, blob = address.rpartition("/G/")
    body = {"secret": voucher["secret"], "asking": blob}
    return httpx.post(f"{http.lower()}/v/{voucher['voucher_id']}/grant", json=body, timeout=8, trust_env=False)


@pytest.mark.scenario("R34")
def test_a_voucher_for_any_shop_is_refused_in_the_dark_until_the_phone_brings_a_pass(whole_store: RunningStore) -> None:
    voucher = whole_store.hq_post("/api/assigned", {"title_zh": "即享券", "title_en": "Any shop", "value_minor": 500})
    path = f"/api/assigned/{voucher['voucher_id']}"
    whole_store.cut_line()
    refused = shown(whole_store, voucher["token"], "refused")
    assert (refused["reason"], refused["next_step"]["zh"]) == ("needs_grant", REASONS["needs_grant"].next_step.zh)
    assert whole_store.rows("VoucherRedeemed") == []
    assert whole_store.hq_get(path)["state"] == "free", "not consumed"
    got = fetch(voucher, refused["asking"])
    assert got.status_code == 200, got.text
    assert fetch(voucher | {"secret": "0" * 32}, refused["asking"]).status_code == 404
    done = shown(whole_store, got.json()["code"], "redeemed")
    assert done["reference"] == voucher["voucher_id"]
    for again in (got.json()["code"], fetch(voucher, refused["asking"]).json()["code"], voucher["token"]):
        assert typed(whole_store, again)["reason"] == "already_redeemed"
    assert not whole_store.view()["line"]["up"], "all of it in the dark"
    assert len(whole_store.rows("VoucherRedeemed")) == 1
    whole_store.mend_line()
    whole_store.drained()
    assert [(one["number"], one["spent"]) for one in whole_store.hq_get(path)["holders"]] == [(1, 1)]
    told = httpx.post(
        f"{voucher['link'].partition('/v/')[0]}/v/{voucher['voucher_id']}/show",
        json={"secret": voucher["secret"]}, timeout=8, trust_env=False,
    ).json()  # fmt: skip
    assert told["left"] == 0


@pytest.mark.scenario("R34")
def test_a_box_that_starts_again_in_the_dark_gets_a_pass_that_names_its_start(whole_store: RunningStore) -> None:
    voucher = whole_store.hq_post("/api/assigned", {"title_zh": "即享券", "title_en": "Any shop", "value_minor": 500})
    whole_store.cut_line()
    whole_store.kill("core")
    whole_store.until(lambda: bool(whole_store.view()["admission"]["admitted"]), 40, "the new start was not admitted")
    refused = typed(whole_store, voucher["token"])
    assert refused["reason"] == "needs_grant"
    blob = refused["asking"].rpartition("/")[2]
    asked = asking.unpack(blob)[0]
    assert len(asked.ancestors) == 1, "the start before is the last that headquarters has heard of"
    code = fetch(voucher, refused["asking"]).json()["code"]
    assert grants.unpack(code)[0].epoch == grants.epoch_digest(asked.epoch)
    assert typed(whole_store, code)["decision"] == "redeemed"
    assert typed(whole_store, code)["reason"] == "already_redeemed"
    whole_store.mend_line()
    whole_store.drained()
    told = whole_store.hq_get(f"/api/assigned/{voucher['voucher_id']}")
    assert [(one["number"], one["spent"]) for one in told["holders"]] == [(1, 1)]
