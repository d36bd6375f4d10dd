"""Looking for a member over HTTP: who may, how often, and that what is wrong is never repeated."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import GatewayConfig
from gateway.events import ActionDenied, MemberLookedUp
from tests.conftest import VirtualClock
from tests.gateway.core.roll_of import GOLD, PHONE, PLAIN, REF, SIGNER, member_token, whole
from tests.gateway.core.shop import voucher_token
from tests.gateway.kiosk.real_shop import Doors, open_doors


@pytest.fixture
async def doors(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Doors]:
    async with open_doors(shop_config, clock, signer=SIGNER) as opened:
        assert await opened.shop.bring(whole(GOLD, PLAIN, issued_us=clock.now().wall_us)) == b"applied"
        yield opened


async def test_tills_and_staff_may_and_nobody_else(doors: Doors) -> None:
    for caller in (await doors.till(), await doors.person("s-1"), await doors.person("s-2")):
        assert (await caller.said("members/lookup", phone=PHONE))["member_ref"] == REF
    kiosk, courier = await doors.kiosk(), await doors.person("s-3")
    for caller in (kiosk, courier):
        assert (await caller.ask("members/lookup", phone=PHONE)).status_code == 403
    assert (await doors.nobody().ask("members/lookup", phone=PHONE)).status_code == 401
    assert [row.action for row in doors.shop.rows(ActionDenied)] == ["members/lookup"] * 2
    assert (await courier.http.get("/v1/staff/members")).status_code == 403
    assert (await doors.nobody().http.get("/v1/staff/members")).status_code == 401
    assert len(doors.shop.rows(MemberLookedUp)) == 3


async def test_one_device_asks_only_so_often(doors: Doors, clock: VirtualClock) -> None:
    till, other = await doors.till(), await doors.till()
    answers = [await till.ask("members/lookup", phone=PHONE) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert (await other.ask("members/lookup", phone=PHONE)).status_code == 200
    clock.advance(1)
    assert (await till.ask("members/lookup", phone=PHONE)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [{}, {"phone": PHONE, "code": "x"}, {"phone": ""}, {"phone": "0" * 41}, {"phone": 912345678}, {"phone": PHONE, "me": 1}, {"code": ""}],
)
async def test_what_is_wrong_is_refused_and_not_repeated(doors: Doors, body: dict[str, object]) -> None:
    answer = await (await doors.till()).ask("members/lookup", **body)
    assert answer.status_code == 422
    assert not any(word in answer.text for word in ("912345678", "00000000"))


async def test_a_number_with_country_code_and_zero_is_no_card(doors: Doors) -> None:
    till = await doors.till()
    for typed in ("+8860912345678", "8860912345678"):  # thirteen digits, as cards have them
        assert (await till.ask("members/lookup", phone=typed)).status_code == 200
    assert (await till.said("members/lookup", phone="+8860912345678"))["member_ref"] == REF


async def test_a_voucher_is_no_member(doors: Doors) -> None:
    till = await doors.till()
    assert (await till.said("members/lookup", code=voucher_token().decode()))["reason"] == "unknown_member_code"
    assert (await till.said("members/lookup", code=member_token().decode()[:-3] + "AAA"))["reason"] in ("forged", "unreadable")
    assert (await till.authorize(member_token()))["reason"] == "not_a_voucher"


async def test_staff_hear_of_a_member_at_once(doors: Doors) -> None:
    clerk = await doors.person("s-1")
    async with asyncio.timeout(40), clerk.http.stream("GET", "/v1/staff/members/events") as stream:
        lines = stream.aiter_lines()
        async for line in lines:
            if line.startswith('data: {"alerts"'):
                break
        await doors.shop.present(member_token())
        async for line in lines:
            if '"gold"' in line:
                break
        assert REF not in line
        assert "300" not in line
