"""The doors of what screens tell back: who may confirm, who may honour, who may hand in a till's codes."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import parse
from gateway.events import ActionDenied, ResultShown, TillCodeRung, UnseenHonoured
from tests.conftest import VirtualClock
from tests.gateway.core.shop import voucher_token
from tests.gateway.kiosk.real_shop import Caller, Doors, open_doors


@pytest.fixture
async def doors(shop_text: str, clock: VirtualClock, ledger_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(parse(shop_text + "[till]\ncodes = true\n"), clock) as opened:
        yield opened


async def post(caller: Caller, path: str, **body: object) -> tuple[int, object]:
    answer = await caller.http.post(path, json=body)
    return answer.status_code, answer.json()


async def test_a_screen_confirms_only_its_own_station_and_nobody_else_confirms_anything(doors: Doors) -> None:
    screen, other = await doors.kiosk(), await doors.kiosk("door")
    said = await screen.redeem(voucher_token())
    body = {"station": "counter", "redemption_id": said["redemption_id"]}
    assert (await post(doors.nobody(), "/v1/shown", **body))[0] == 401
    assert (await post(other, "/v1/shown", **body))[0] == 403
    assert await post(other, "/v1/shown", **(body | {"station": "door"})) == (200, {"noted": False})
    assert doors.shop.rows(ResultShown) == []
    assert await post(screen, "/v1/shown", **body) == (200, {"noted": True})
    assert await post(screen, "/v1/shown", **body) == (200, {"noted": False})
    assert len(doors.shop.rows(ResultShown)) == 1


async def test_only_signed_in_staff_honour_and_whoever_else_asks_is_written_down(doors: Doors) -> None:
    screen, clerk, courier = await doors.kiosk(), await doors.person("s-1"), await doors.person("s-3")
    said = await screen.redeem(voucher_token())
    body = {"redemption_id": said["redemption_id"], "why": "screen_fault", "key": secrets.token_hex(16)}
    assert (await post(screen, "/v1/staff/honour", **body))[0] == 401
    assert (await post(courier, "/v1/staff/honour", **body))[0] == 403
    assert [(row.action, row.staff) for row in doors.shop.rows(ActionDenied)] == [("honour", "s-3")]
    assert (await post(clerk, "/v1/staff/honour", **(body | {"why": "because"})))[0] == 422
    assert doors.shop.rows(UnseenHonoured) == []
    first = await post(clerk, "/v1/staff/honour", **body)
    assert first == await post(clerk, "/v1/staff/honour", **body), "a retry"
    assert len(doors.shop.rows(UnseenHonoured)) == 1


async def test_a_tills_list_of_codes_is_rung_up_once_each(doors: Doors, clock: VirtualClock) -> None:
    screen, till = await doors.kiosk(), await doors.till()
    codes = [(await screen.redeem(voucher_token(number)))["till_code"] for number in (1, 2)]
    body = {"station": "counter", "codes": [*codes, codes[0], "4111111111111111", voucher_token(3).decode()[:60]], "key": "c" * 32}
    assert (await post(screen, "/v1/till/codes", **body))[0] == 403
    status, found = await post(till, "/v1/till/codes", **body)
    assert status == 200
    assert isinstance(found, list)
    assert [one["outcome"] for one in found] == ["rung", "rung", "already_rung", "unknown_till_code", "unknown_till_code"]
    assert [one["code"] for one in found] == [*codes, codes[0], "", ""]
    assert {one["at_us"] for one in found[:3]} == {clock.wall_us}
    assert (await post(till, "/v1/till/codes", **body))[1] == found, "sent again after silence, the same answer"
    assert len(doors.shop.rows(TillCodeRung)) == 2
    assert doors.shop.desk.screen("counter").state == "redeemed", "a list in the back office changes no screen"
    again = await post(till, "/v1/till/codes", **(body | {"codes": codes, "key": "d" * 32}))
    assert [one["outcome"] for one in again[1]] == ["already_rung"] * 2  # type: ignore[attr-defined]


async def test_only_codes_of_this_shop_are_drawn(doors: Doors) -> None:
    screen = await doors.kiosk()
    code = (await screen.redeem(voucher_token()))["till_code"]
    drawn = await screen.http.get(f"/v1/till-code.svg?code={code}")
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/svg+xml")
    for text in ("291234567891", "hello", "", "<svg>"):
        assert (await screen.http.get("/v1/till-code.svg", params={"code": text})).status_code == 404


async def test_a_silent_board_and_a_process_that_is_gone_have_names_of_their_own(doors: Doors) -> None:
    from gateway.core.views import unit_view

    assert [unit_view("locker@wall", *said).state for said in ((True, "up"), (True, "degraded"), (True, "down"), (False, "up"))] == [
        "working", "degraded", "device_silent", "process_gone",
    ]  # fmt: skip
    units = {one["unit"]: one for one in (await doors.nobody().http.get("/v1/store")).json()["units"]}
    assert units["locker@wall"] == {"unit": "locker@wall", "connected": False, "device_state": "up", "state": "process_gone", "detail": ""}


@pytest.mark.parametrize(
    ("sku", "status"),
    [
        ("123456789012345", 422), ("1234567890123456789", 422), ("1234567890123", 422),  # whether or not Luhn's check would pass
        ("S123456789012345", 200), ("4711234567899", 200), ("123456789012", 200), ("12345678901234567890", 200),
    ],
)  # fmt: skip
async def test_a_long_bare_number_is_never_an_sku_and_never_at_random(doors: Doors, sku: str, status: int) -> None:
    till = await doors.till()
    basket = {"currency": "TWD", "lines": [{"line_id": "1", "sku": sku, "quantity": 1, "unit_minor": 100}]}
    answer = await till.ask("validate", code=voucher_token().decode(), basket=basket)
    assert answer.status_code == status, answer.text
    if status == 422:
        said = answer.json()
        assert said["error"] in ("sku_number", "card_number")
        assert said["fields"][0]["field"] == "basket.lines.0.sku"
        assert sku not in answer.text
