"""Returned goods over real sockets, against a real core: tied to their sale, never more than was sold, vouchers by reversing's rules."""

import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import DecodeError
from msgspec import json as fast

from gateway.config import GatewayConfig
from gateway.events import RedemptionReversed, SaleReturned
from gateway.kiosk.returns import Return
from gateway.rules.reasons import POINTS_BACK
from tests.conftest import VirtualClock
from tests.gateway.core.roll_of import GOLD, PLAIN, SIGNER, whole
from tests.gateway.core.shop import voucher_token
from tests.gateway.kiosk.real_shop import Caller, Doors, open_doors
from tests.gateway.kiosk.test_binding import BY_PHONE, blocks

LINES = [{"sku": "LATTE", "quantity": 2, "price_minor": 241}, {"sku": "CAKE", "quantity": 1, "price_minor": 60}]


@pytest.fixture
async def doors(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Doors]:
    async with open_doors(shop_config, clock, signer=SIGNER) as opened:
        assert await opened.shop.bring(whole(GOLD, PLAIN, issued_us=clock.now().wall_us)) == b"applied"
        yield opened


def key() -> str:
    return secrets.token_hex(16)


async def sold(till: Caller, **more: Any) -> dict[str, Any]:
    body = {"receipt_id": f"R{secrets.token_hex(5)}", "lines": LINES, "key": key()} | more
    return {"receipt_id": body["receipt_id"]} | await till.said("sales", **body)


def back(line: int, quantity: int, price_minor: int, sku: str = "") -> dict[str, Any]:
    return {"line": line, "sku": sku or str(LINES[line - 1]["sku"]), "quantity": quantity, "price_minor": price_minor}


async def take(till: Caller, *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    return await till.said("returns", **({"refund_id": f"B{secrets.token_hex(5)}", "lines": lines, "key": key()} | more))


async def test_pieces_come_back_one_by_one_and_never_more_than_was_sold_or_paid(doors: Doors) -> None:
    till = await doors.till()
    sale = await sold(till)
    first = await take(till, back(1, 1, 121), sale_id=sale["reference"])
    assert (first["decision"], first["returned"]["minor"], first["returned"]["is_whole"]) == ("returned", 121, False)
    refused: dict[str, Any] = {}
    for lines, reason in (
        ((back(1, 2, 120),), "return_too_much"), ((back(1, 1, 121),), "return_too_much"), ((back(2, 1, 61),), "return_too_much"),
        ((back(1, 1, 100, "TEA"),), "return_not_sold"), ((back(2, 1, 9), back(2, 1, 9)), "return_not_sold"),
    ):  # fmt: skip
        refused = await take(till, *lines, receipt_id=sale["receipt_id"])
        assert (refused["reason"], refused["reference"]) == (reason, sale["reference"]), lines
    last = await take(till, back(1, 1, 120), back(2, 1, 60), receipt_id=sale["receipt_id"])
    assert last["returned"]["is_whole"]
    assert (await take(till, back(2, 1, 0), sale_id=sale["reference"]))["reason"] == "return_too_much"
    assert [row.total_minor for row in doors.shop.rows(SaleReturned)] == [121, 180]
    assert first["message"]["zh"] and refused["next_step"]["en"]


async def test_a_retry_gets_the_same_bytes_and_a_slip_is_posted_once_also_after_a_restart(doors: Doors) -> None:
    till = await doors.till()
    sale = await sold(till)
    body = {"refund_id": "B7", "lines": [back(1, 1, 100)], "sale_id": sale["reference"], "key": key()}
    first = await till.ask("returns", **body)
    assert (await till.ask("returns", **body)).content == first.content
    other = await till.ask("returns", **(body | {"refund_id": "B8"}))
    assert (other.status_code, other.json()["error"]) == (422, "id_reused")
    again = await till.said("returns", **(body | {"key": key()}))
    assert (again["reason"], again["reference"]) == ("return_known", first.json()["reference"])
    fresh = type(doors.shop.desk._receipts.returns)(doors.shop.clock, doors.shop.desk._receipts._used)

    def fold_all(fold: Callable[[Any], None], *kinds: type[Any]) -> None:
        for row in doors.shop.rows(*kinds):
            fold(row)

    fresh.live_on(fold_all)
    goods, kept = fresh._goods, doors.shop.desk._receipts.returns._goods
    assert (goods._sales, goods._by_receipt, goods._refunds) == (kept._sales, kept._by_receipt, kept._refunds)
    assert len(doors.shop.rows(SaleReturned)) == 1


async def test_with_the_last_piece_a_voucher_of_the_sale_is_reversed_in_the_same_commit(doors: Doors) -> None:
    till, token = await doors.till(), voucher_token()
    used = await till.redeem(token)
    sale = await sold(till, redemption_ids=[used["redemption_id"]])
    part = await take(till, back(1, 2, 241), sale_id=sale["reference"])
    assert part["returned"]["vouchers"] == [] and doors.shop.rows(RedemptionReversed) == []
    rest = await take(till, back(2, 1, 60), sale_id=sale["reference"])
    assert rest["returned"]["vouchers"] == [{"redemption_id": used["redemption_id"], "outcome": "reversed"}]
    (block,) = [block for block in blocks(doors.shop.config.ledger_path) if any(isinstance(row, RedemptionReversed) for row in block)]
    (row,) = [row for row in block if isinstance(row, SaleReturned)]
    assert (row.redemption_ids, row.kept_ids, row.is_whole) == ([used["redemption_id"]], [], True)
    assert (await till.redeem(token))["decision"] == "redeemed"


async def test_a_voucher_that_may_not_be_reversed_stays_used_and_the_answer_says_why(doors: Doors, clock: VirtualClock) -> None:
    till, other = await doors.till(), await doors.till("door")
    ids = [(await one.redeem(voucher_token(number)))["redemption_id"] for number, one in enumerate((till, other), 50)]
    assert (await till.said("reverse", redemption_id=ids[0], key=key()))["decision"] == "reversed"
    third = (await till.redeem(voucher_token(60)))["redemption_id"]
    sale = await sold(till, redemption_ids=[*ids, third])
    clock.advance(3 * 3600)
    whole_ = await take(till, back(1, 2, 241), back(2, 1, 60), sale_id=sale["reference"])
    outcomes = {one["redemption_id"]: one["outcome"] for one in whole_["returned"]["vouchers"]}
    assert outcomes == {ids[0]: "already_reversed", ids[1]: "manager_needed", third: "too_late_to_reverse"}
    (row,) = doors.shop.rows(SaleReturned)
    assert (row.redemption_ids, sorted(row.kept_ids)) == ([], sorted([ids[1], third]))
    assert len(doors.shop.rows(RedemptionReversed)) == 1


async def test_points_that_a_sale_earned_are_said_to_be_taken_back(doors: Doors) -> None:
    till = await doors.till()
    earned, plain = await sold(till, member=BY_PHONE), await sold(till)
    first = await take(till, back(2, 1, 60), sale_id=earned["reference"])
    assert first["pending"] == [
        {"what": "points_back", "text": {"zh": POINTS_BACK.zh, "en": POINTS_BACK.en}, "campaign": 0, "revisit_id": ""}
    ]
    assert (await take(till, back(2, 1, 60), sale_id=plain["reference"]))["pending"] == []


async def test_a_sale_this_box_does_not_know_is_not_guessed_and_a_kiosk_takes_nothing_back(doors: Doors) -> None:
    till, kiosk = await doors.till(), await doors.kiosk()
    assert (await take(till, back(1, 1, 1), sale_id="f" * 16))["reason"] == "unknown_sale"
    assert (await take(till, back(1, 1, 1), receipt_id="R0"))["reason"] == "unknown_sale"
    sale = await sold(till)
    body = {"refund_id": "B1", "lines": [back(1, 1, 1)], "sale_id": sale["reference"], "key": key()}
    assert (await kiosk.ask("returns", **body)).status_code == 403
    elsewhere = await doors.till("door")
    assert (await elsewhere.said("returns", **body))["decision"] == "returned"  # another till of the shop may
    wrongs: list[dict[str, Any]] = [
        {"lines": []}, {"sale_id": None}, {"receipt_id": "R1"}, {"lines": [back(1, 0, 1)]}, {"lines": [back(1, 1, -1)]}, {"key": None},
        {"refund_id": "4111111111111111"}, {"more": 1}, {"lines": [back(1, 1, 1) | {"line": 0}]},
    ]  # fmt: skip
    for wrong in wrongs:
        assert (await till.ask("returns", **(body | wrong))).status_code == 422, wrong
    assert len(doors.shop.rows(SaleReturned)) == 1


NAMES = st.sampled_from(["station", "refund_id", "lines", "sku", "quantity", "price_minor", "line", "sale_id", "receipt_id", "x"])
JSON = st.recursive(st.none() | st.integers() | st.text(), lambda of: st.lists(of) | st.dictionaries(NAMES, of)).map(json.dumps)


@given(st.binary(max_size=200) | JSON.map(str.encode))
def test_any_bytes_are_a_return_or_are_refused(body: bytes) -> None:
    try:
        asked = fast.decode(body, type=Return)
    except (DecodeError, ValueError, RecursionError):
        return
    assert asked.lines and (asked.sale_id is None) != (asked.receipt_id is None)
