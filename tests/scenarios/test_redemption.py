"""Scenarios of redeeming what was sold online."""

import asyncio
import secrets
from typing import Any

import pytest

from tests.store.running import RunningStore
from virtual_store.web import Web

pytestmark = [pytest.mark.slow]


async def _redeem_at_once(url: str, token: str, stations: list[str]) -> list[dict[str, Any]]:
    """One code at several kiosks, each on a connection of its own, sent in the same tick."""
    kiosks = [await Web(url).pair(station) for station in stations]
    posts = (
        kiosk.post("/v1/redeem", {"station": station, "code": token, "presentation_id": secrets.token_hex(16)})
        for kiosk, station in zip(kiosks, stations, strict=True)
    )
    return list(await asyncio.gather(*posts))


@pytest.mark.scenario("R03")
def test_one_ticket_at_two_kiosks_in_the_same_moment_is_redeemed_once(whole_store: RunningStore) -> None:
    for _ in range(20):
        ticket = whole_store.hq_post(
            "/api/vouchers", {"store": "tpe-001", "title_zh": "電影票", "title_en": "Cinema ticket", "valid_days": 7}
        )
        answers = whole_store.call(_redeem_at_once(whole_store.starter.plan.kiosk_url, ticket["token"], ["counter", "entrance"]))
        assert sorted(answer["decision"] for answer in answers) == ["redeemed", "refused"]
        won, lost = sorted(answers, key=lambda answer: answer["decision"])
        assert lost["reason"] == "already_redeemed"
        assert lost["before"]["at_us"] <= lost["decided_us"]
        assert lost["before"]["station"] in ("counter", "entrance")
        rows = [row for row in whole_store.rows("VoucherRedeemed") if row["voucher_id"] == won["reference"]]
        assert len(rows) == 1
        assert rows[0]["station"] == lost["before"]["station"]


@pytest.mark.scenario("R53")
def test_a_store_only_voucher_is_refused_online_and_taken_in_the_shop(whole_store: RunningStore) -> None:
    voucher = whole_store.hq_post(
        "/api/vouchers", {"store": "tpe-001", "title_zh": "門市限定券", "title_en": "In store only", "valid_days": 7}
    )
    online = whole_store.hq_post(f"/api/vouchers/{voucher['voucher_id']}/online-use", {})
    assert (online["decision"], online["reason"]) == ("refused", "store_only")
    before = whole_store.screen()["number"]
    whole_store.show(voucher["token"])
    answer = whole_store.shown_after(before, "redeemed")["answer"]
    assert answer["reference"] == voucher["voucher_id"]
    assert answer["title"] == {"zh": "門市限定券", "en": "In store only"}
