"""Finished sales over real sockets, against a real core: each receipt once, a fact is never judged, no card goes in."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import DecodeError, json

from gateway.config import GatewayConfig
from gateway.core.receipts import Receipts
from gateway.events import SalePosted, VoucherRedeemed
from gateway.kiosk.sale import Sale
from gateway.token import Flag
from tests.conftest import VirtualClock
from tests.gateway.core.shop import ORDER_ID, voucher_token
from tests.gateway.kiosk.real_shop import Doors, open_doors

LINES = [{"sku": "LATTE", "quantity": 2, "price_minor": 240}, {"sku": "4710088412416", "quantity": 1, "price_minor": 45}]
CARD = "4111111111111111"


@pytest.fixture
async def doors(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Doors]:
    async with open_doors(shop_config, clock) as opened:
        yield opened


def sale(**more: Any) -> dict[str, Any]:
    return {"receipt_id": secrets.token_hex(6) + "r", "lines": LINES, "key": secrets.token_hex(16)} | more


async def test_a_sale_is_a_row_of_money_with_all_it_names(doors: Doors) -> None:
    till = await doors.till()
    used = await till.redeem(voucher_token())
    said = await till.said("sales", **sale(receipt_id="R1", redemption_ids=[used["redemption_id"]], order_id=ORDER_ID))
    (row,) = doors.shop.rows(SalePosted)
    assert (said["decision"], said["reference"]) == ("sale_posted", row.sale_id)
    assert (row.receipt_id, row.redemption_ids, row.order_id, row.device) == (
        "R1", [used["redemption_id"]], ORDER_ID, doors.shop.rows(VoucherRedeemed)[0].device
    )  # fmt: skip
    assert (row.total_minor, [line.sku for line in row.lines], row.member_ref) == (285, ["LATTE", "4710088412416"], None)


async def test_the_same_request_is_one_sale_also_after_a_restart_and_a_receipt_is_posted_once(doors: Doors) -> None:
    till, asked = await doors.till(), sale(receipt_id="R7")
    first = await till.ask("sales", **asked)
    assert (await till.ask("sales", **asked)).content == first.content
    other = await till.ask("sales", **(asked | {"receipt_id": "R8"}))
    assert (other.status_code, other.json()["error"]) == (422, "id_reused")
    again = await till.said("sales", **(asked | {"key": secrets.token_hex(16)}))
    assert (again["reason"], again["reference"]) == ("receipt_known", first.json()["reference"])
    elsewhere = await (await doors.till("counter")).said("sales", **sale(receipt_id="R7"))
    assert elsewhere["decision"] == "sale_posted"  # another till has numbers of its own
    assert len(doors.shop.rows(SalePosted)) == 2
    fresh = Receipts(doors.shop.clock, doors.shop.desk._receipts._used, lambda: (), doors.shop.desk._binding)
    for row in doors.shop.rows(SalePosted):
        fresh.fold(row)
    assert fresh._known == doors.shop.desk._receipts._known


async def test_a_hold_that_was_captured_is_named_by_its_redemption_and_one_that_was_not_by_itself(doors: Doors) -> None:
    till = await doors.till()
    done, held = await till.authorize(voucher_token(1)), await till.authorize(voucher_token(2))
    used = await till.said("capture", authorization_id=done["authorization_id"], key=secrets.token_hex(16))
    for hold in (done, held):
        await till.said("sales", **sale(authorization_id=hold["authorization_id"]))
    first, second = doors.shop.rows(SalePosted)
    assert (first.redemption_ids, first.authorization_id) == ([used["redemption_id"]], None)
    assert (second.redemption_ids, second.authorization_id) == ([], held["authorization_id"])


async def test_what_this_box_does_not_know_it_passes_on_but_never_a_card(doors: Doors) -> None:
    till = await doors.till()
    await till.said("sales", **sale(redemption_ids=["0123456789abcdef"], order_id="web-77"))
    (row,) = doors.shop.rows(SalePosted)
    assert (row.redemption_ids, row.order_id) == (["0123456789abcdef"], "web-77")
    for named in ({"redemption_ids": [CARD]}, {"authorization_id": CARD}, {"order_id": CARD}):
        assert (await till.said("sales", **sale(**named)))["reason"] == "card_dropped", named
    for more in ({"receipt_id": CARD}, {"lines": [{"sku": CARD, "quantity": 1, "price_minor": 1}]}):
        refused = await till.ask("sales", **sale(**more))
        assert (refused.status_code, refused.json()["error"]) == (422, "card_number"), more
    assert len(doors.shop.rows(SalePosted)) == 1
    for path in doors.shop.config.state_dir.rglob("*"):
        assert not path.is_file() or CARD.encode() not in path.read_bytes()


async def test_a_lesson_leaves_no_sale(doors: Doors) -> None:
    till = await doors.till()
    used = await till.redeem(voucher_token(9, flags=Flag.PRACTICE))
    said = await till.said("sales", **sale(redemption_ids=[used["redemption_id"]]))
    assert (said["decision"], said["practice"], doors.shop.rows(SalePosted)) == ("sale_posted", True, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"lines": []}, {"lines": LINES * 101}, {"lines": [LINES[0] | {"quantity": 0}]}, {"lines": [LINES[0] | {"price_minor": -1}]},
        {"currency": "EUR"}, {"receipt_id": ""}, {"receipt_id": "a b"}, {"redemption_ids": ["r1"]}, {"member_ref": "m-1"}, {"key": None},
    ],
)  # fmt: skip
async def test_a_body_of_another_shape_is_refused_and_nothing_is_written(doors: Doors, wrong: dict[str, Any]) -> None:
    assert (await (await doors.till()).ask("sales", **(sale() | wrong))).status_code == 422
    assert doors.shop.rows(SalePosted) == []


NAMES = st.sampled_from(["station", "receipt_id", "lines", "sku", "quantity", "price_minor", "redemption_ids", "x"])
JSON = st.recursive(st.none() | st.integers() | st.text(), lambda of: st.lists(of) | st.dictionaries(NAMES, of)).map(json.encode)


@given(st.binary(max_size=200) | JSON)
def test_any_bytes_are_a_sale_or_are_refused(body: bytes) -> None:
    with contextlib.suppress(DecodeError, ValueError, RecursionError):
        assert json.decode(body, type=Sale).lines
