"""The verbs of money, over real sockets, against a real core."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import GatewayConfig, TillTable
from gateway.events import ActionDenied, RedemptionReversed, VoucherAuthorized, VoucherRedeemed
from gateway.kiosk.pace import MOST_BUCKETS, Pace
from gateway.kiosk.verbs import VERBS
from gateway.token import Flag
from tests.conftest import VirtualClock
from tests.gateway.core.shop import voucher_token
from tests.gateway.kiosk.real_shop import Caller, Doors, open_doors

TOKEN = voucher_token()
BODIES: dict[str, dict[str, Any]] = {
    "redeem": {"code": TOKEN.decode(), "presentation_id": "a" * 32},
    "validate": {"code": TOKEN.decode()},
    "authorize": {"code": TOKEN.decode(), "presentation_id": "b" * 32},
    "capture": {"authorization_id": "x", "key": "c" * 32},
    "void": {"authorization_id": "x", "key": "d" * 32},
    "reverse": {"redemption_id": "x", "key": "e" * 32},
    "returns": {
        "sale_id": "f" * 16,
        "refund_id": "B1",
        "lines": [{"line": 1, "sku": "TEA", "quantity": 1, "price_minor": 1}],
        "key": "e" * 32,
    },
    "sales": {"receipt_id": "R1", "lines": [{"sku": "TEA", "quantity": 1, "price_minor": 30}], "key": "f" * 32},
}


@pytest.fixture
async def doors(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Doors]:
    async with open_doors(shop_config, clock) as opened:
        yield opened


def key() -> str:
    return secrets.token_hex(16)


async def test_a_sale_in_two_steps_and_its_way_back(doors: Doors) -> None:
    till, token = await doors.till(), voucher_token(value_minor=50_000, flags=Flag.PARTIAL).decode()
    assert (await till.said("validate", code=token, amount_minor=18_000))["decision"] == "valid"
    hold = await till.said("authorize", code=token, amount_minor=18_000, hold_s=60, presentation_id=key())
    assert (hold["decision"], hold["balance_minor"], hold["hold_s"]) == ("authorized", 32_000, 60)
    done = await till.said("capture", authorization_id=hold["authorization_id"], amount_minor=17_000, key=key())
    assert (done["decision"], done["balance_minor"]) == ("redeemed", 33_000)
    back = await till.said("reverse", redemption_id=done["redemption_id"], key=key())
    assert back["decision"] == "reversed"
    again = await till.said("authorize", code=token, amount_minor=50_000, presentation_id=key())
    assert (await till.said("void", authorization_id=again["authorization_id"], key=key()))["balance_minor"] == 50_000
    (use,), (reversal,) = doors.shop.rows(VoucherRedeemed), doors.shop.rows(RedemptionReversed)
    assert use.device == reversal.device == doors.shop.rows(VoucherAuthorized)[0].device is not None


async def test_a_retry_of_any_verb_gets_the_same_bytes_and_another_body_422(doors: Doors) -> None:
    till = await doors.till()
    hold, done = await till.authorize(TOKEN), await till.redeem(voucher_token(43))
    asked: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("redeem", {"code": voucher_token(44).decode(), "presentation_id": key()}, {"units": 2}),
        ("authorize", {"code": voucher_token(45).decode(), "presentation_id": key()}, {"hold_s": 11}),
        ("capture", {"authorization_id": hold["authorization_id"], "key": key()}, {"units": 2}),
        ("void", {"authorization_id": hold["authorization_id"], "key": key()}, {"authorization_id": "other"}),
        ("reverse", {"redemption_id": done["redemption_id"], "key": key()}, {"redemption_id": "other"}),
    ]
    for verb, body, other in asked:
        first, second = await till.ask(verb, **body), await till.ask(verb, **body)
        assert first.status_code == 200 and first.content == second.content, verb
        different = await till.ask(verb, **(body | other))
        assert (different.status_code, different.json()["error"]) == (422, "id_reused"), verb


async def test_a_key_may_come_as_a_header(doors: Doors) -> None:
    till, name = await doors.till(), "00000000-0000-4000-8000-00000000abcd"
    till.http.headers["idempotency-key"] = name
    first = await till.ask("capture", authorization_id="nothing")
    assert first.json()["reason"] == "unknown_authorization"
    assert (await till.ask("capture", authorization_id="nothing")).content == first.content
    assert (await till.ask("capture", authorization_id="nothing", key="f" * 32)).json()["error"] == "id_differs"
    del till.http.headers["idempotency-key"]
    assert (await till.ask("capture", authorization_id="nothing")).json()["error"] == "id_missing"


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
async def test_each_verb_is_for_whom_it_names_and_a_denial_is_written_down(doors: Doors, verb: str) -> None:
    (who,) = [one.who for one in VERBS if one.name == verb]
    callers = {
        "pos": await doors.till(), "kiosk": await doors.kiosk(), "clerk": await doors.person("s-1"), "manager": await doors.person("s-2"),
        "courier": await doors.person("s-3"),
    }  # fmt: skip
    for role, caller in callers.items():
        before = len(doors.shop.rows(ActionDenied))
        answer = await caller.ask(
            verb, **{name: key() if name in ("key", "presentation_id") else value for name, value in BODIES[verb].items()}
        )
        if role in who:
            assert answer.status_code == 200, role
        else:
            assert (answer.status_code, answer.json()["error"]) == (403, "not_allowed"), role
            denied = doors.shop.rows(ActionDenied)[before:]
            assert [(row.action, row.roles) for row in denied] == [(verb, [role])]
    assert (await doors.nobody().ask(verb, **BODIES[verb])).status_code == 401
    other = await doors.till("door")
    other.station = "counter"
    assert (await other.ask(verb, **BODIES[verb])).status_code == 403


async def test_a_courier_redeems_nothing_on_the_staff_page_either(doors: Doors) -> None:
    courier = await doors.person("s-3")
    body = {"code": TOKEN.decode(), "presentation_id": key()}
    assert (await courier.http.post("/v1/staff/redeem", json=body)).status_code == 403
    assert [row.action for row in doors.shop.rows(ActionDenied)] == ["redeem"]
    clerk = await doors.person("s-1")
    assert (await clerk.http.post("/v1/staff/redeem", json=body)).json()["decision"] == "redeemed"


async def test_a_manager_reverses_from_a_phone_what_a_till_redeemed(doors: Doors) -> None:
    done = await (await doors.till()).redeem(TOKEN)
    clerk, manager = await doors.person("s-1"), await doors.person("s-2")
    assert (await clerk.said("reverse", redemption_id=done["redemption_id"], key=key()))["reason"] == "manager_needed"
    assert (await manager.said("reverse", redemption_id=done["redemption_id"], key=key()))["decision"] == "reversed"
    (row,) = doors.shop.rows(RedemptionReversed)
    assert row.staff == "s-2"


async def test_a_revoked_till_may_nothing(doors: Doors) -> None:
    till = await doors.till()
    hold = await till.authorize(TOKEN)
    assert await doors.shop.desk.devices.revoke(doors.shop.rows(VoucherAuthorized)[0].device, "s-2")
    for verb, body in BODIES.items():
        answer = await till.ask(verb, **body)
        assert (answer.status_code, answer.json()["error"]) == (403, "device_revoked"), verb
    clerk = await doors.person("s-1")
    assert (await clerk.said("capture", authorization_id=hold["authorization_id"], key=key()))["decision"] == "redeemed"


async def test_one_device_that_asks_too_often_waits_and_nobody_else(
    shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock
) -> None:
    slow = msgspec.structs.replace(shop_config, till=TillTable(requests_per_s=2))
    async with open_doors(slow, clock) as doors:
        hasty, calm = await doors.till(), await doors.till()
        answers = [await hasty.ask("validate", code="x") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
        assert (answers[-1].headers["retry-after"], answers[-1].json()["error"]) == ("1", "too_fast")
        assert (await calm.ask("validate", code="x")).status_code == 200
        clock.advance(0.6)
        assert (await hasty.ask("validate", code="x")).status_code == 200


def test_buckets_are_bounded_and_fill_up_again(clock: VirtualClock) -> None:
    pace = Pace(clock, 1)
    assert [pace.wait_s("a") for _ in range(2)] == [0.0, 0.0]
    assert pace.wait_s("a") == 1.0
    for number in range(MOST_BUCKETS + 10):
        assert pace.wait_s(str(number)) == 0.0
    assert len(pace._buckets) == MOST_BUCKETS
    clock.advance(1)
    assert pace.wait_s("a") == 0.0


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"units": 0}, "units"), ({"units": 256}, "units"), ({"amount_minor": 0}, "amount_minor"), ({"amount_minor": 1.5}, "amount_minor"),
        ({"hold_s": 0}, "hold_s"), ({"hold_s": 901}, "hold_s"), ({"station": 7}, "station"), ({"code": ""}, "code"),
        ({"basket": []}, "basket"), ({"x": 1}, ""), ({"symbology_id": "Q1"}, "symbology_id"), ({"source": "a4111111111111111"}, "source"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named_and_never_repeated(doors: Doors, change: dict[str, Any], at: str) -> None:
    till = await doors.till()
    answer = await till.ask("authorize", **(BODIES["authorize"] | change))
    assert (answer.status_code, answer.json()["error"], answer.json()["fields"][0]["field"]) == (422, "bad_input", at)
    assert "4111111111111111" not in answer.text
    assert doors.shop.rows(VoucherAuthorized) == []


@pytest.mark.parametrize("devices", [2, 8])
async def test_devices_in_the_same_moment_redeem_each_code_exactly_once(doors: Doors, devices: int) -> None:
    tills = [await doors.till(station) for station in ("counter", "door") * (devices // 2)]

    async def all_at_once(code: bytes, doing: str) -> list[str]:
        asked = [till.redeem(code) if doing == "redeem" else till.authorize(code) for till in tills]
        return [answer["reason"] or answer["decision"] for answer in await asyncio.gather(*asked)]

    for number in range(10):
        assert sorted(await all_at_once(voucher_token(1_000 + number), "redeem")) == ["already_redeemed"] * (devices - 1) + ["redeemed"]
        assert sorted(await all_at_once(voucher_token(2_000 + number), "authorize")) == ["authorized"] + ["held"] * (devices - 1)
    uses = [row.voucher_id for row in doors.shop.rows(VoucherRedeemed)]
    assert len(uses) == len(set(uses)) == 10


async def test_a_body_may_be_anything_and_nothing_is_decided(doors: Doors) -> None:
    till: Caller = await doors.till()
    for body in (b"", b"null", b"[]", b'{"station":', b"\xff\xfe", b"[" * 10_000, b'{"station":"counter","code":"\\ud800"}'):
        for verb in VERBS:
            answer = await till.http.post(verb.path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 422, (verb.name, body[:20])
    assert doors.shop.rows(VoucherRedeemed) == []
