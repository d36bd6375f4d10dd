"""Only paired devices redeem, and a revoked one may do nothing at all, from that moment on."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.core.devices import MOST_KEYS, sha256
from gateway.events import DevicePaired, DeviceRevoked, DeviceSeen
from gateway.kiosk.pairing import ASK_NS, MOST_ASKS, MOST_OF_ONE, Asks
from gateway.signed import Document
from tests.conftest import VirtualClock
from tests.gateway.kiosk.conftest import Shop
from tests.gateway.kiosk.desk_stand import CAKE, COFFEE, PIN

AFAR = {"x-forwarded-for": "192.0.2.7"}  # through a proxy: so nobody takes it for the box's own screen


@contextlib.asynccontextmanager
async def another(shop: Shop, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A device elsewhere on the shop's network."""
    async with httpx.AsyncClient(base_url=shop.url, timeout=10, trust_env=False, headers=AFAR | headers) as client:
        yield client


async def sign_in(client: httpx.AsyncClient, ref: str = "s-2") -> None:
    """s-2 is a manager, s-1 a clerk."""
    assert (await client.post("/v1/staff/sign-in", json={"staff_ref": ref, "pin": PIN})).status_code == 200


async def ask(client: httpx.AsyncClient, station: str = "counter", kind: str = "kiosk") -> dict[str, Any]:
    answer = await client.post("/v1/pairings", json={"station": station, "kind": kind, "name": "平板"})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def pair(shop: Shop, client: httpx.AsyncClient, station: str = "counter", kind: str = "kiosk") -> dict[str, Any]:
    """Through the doors people use: ask, approve, fetch."""
    asked = await ask(client, station, kind)
    async with another(shop) as phone:
        await sign_in(phone)
        assert (await phone.post("/v1/staff/pairings", json={"code": asked["code"]})).status_code == 200
    claimed = await client.post("/v1/pairings/claim", json={"ask": asked["ask"]})
    assert claimed.json()["state"] == "paired"
    return dict(claimed.json())


async def redeem(client: httpx.AsyncClient, code: str = COFFEE, station: str = "counter") -> httpx.Response:
    return await client.post("/v1/redeem", json={"station": station, "code": code, "presentation_id": secrets.token_hex(16)})


def last_device(shop: Shop) -> DevicePaired:
    return [row for row in shop.desk.rows if isinstance(row, DevicePaired) and row.kind != "phone"][-1]


# ---------------------------------------------------------------- pairing


async def test_an_unpaired_device_redeems_nothing_and_is_told_what_to_do(shop: Shop) -> None:
    async with another(shop) as tablet:
        answer = await redeem(tablet)
        assert (answer.status_code, answer.json()["error"]) == (401, "not_paired")
        assert "配對" in answer.json()["next_step"]["zh"] and "manager" in answer.json()["next_step"]["en"]
        guessed = await tablet.post(
            "/v1/redeem",
            json={"station": "counter", "code": COFFEE, "presentation_id": "a" * 32},
            headers={"authorization": f"Bearer {secrets.token_urlsafe(32)}"},
        )
        assert guessed.status_code == 401
        page = (await tablet.get("/kiosk/counter")).text
    assert "此螢幕尚未配對" in page and 'id="attract"' not in page
    assert shop.desk.presented == []


async def test_a_manager_pairs_a_kiosk_and_its_key_is_nowhere_but_in_its_cookie(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with another(shop) as tablet:
        said = await pair(shop, tablet)
        key = tablet.cookies["device_counter"]
        again = await tablet.get("/kiosk/counter")
        assert "key" not in said and 'id="attract"' in again.text
        cookie = again.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
        assert (await redeem(tablet)).json()["decision"] == "redeemed"
    row = last_device(shop)
    assert (row.kind, row.station, row.by, row.key_sha256) == ("kiosk", "counter", "s-2", sha256(key))
    assert len(key) == 43  # 256 bits
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith(("gateway", "uvicorn", "asyncio")))
    assert key not in logged and key not in repr(shop.desk.rows) and key not in (await shop.client.get("/v1/store")).text


async def test_a_till_bears_its_key_in_a_header(shop: Shop) -> None:
    async with another(shop) as till:
        key = (await pair(shop, till, kind="pos"))["key"]
        assert "device_counter" not in till.cookies
    async with another(shop, authorization=f"Bearer {key}") as till:
        assert (await redeem(till)).json()["decision"] == "redeemed"
        other = await redeem(till, CAKE, "lockers")
        assert (other.status_code, other.json()["error"]) == (403, "wrong_station")


async def test_a_signed_in_person_redeems_from_any_device_under_their_name(shop: Shop) -> None:
    async with another(shop) as phone:
        await sign_in(phone, "s-1")
        assert (await redeem(phone)).json()["decision"] == "redeemed"
    assert (await shop.redeem(COFFEE)).json()["before"]["staff"] == "s-1"


async def test_a_phone_gets_one_key_at_its_first_sign_in_and_keeps_it(shop: Shop) -> None:
    async with another(shop) as phone:
        for _ in range(3):
            await sign_in(phone)
    assert [row.station for row in shop.desk.rows if isinstance(row, DevicePaired) and row.kind == "phone"] == ["staff"]


async def test_a_clerk_cannot_pair_or_revoke(shop: Shop) -> None:
    async with another(shop) as tablet:
        asked = await ask(tablet)
    async with another(shop) as phone:
        await sign_in(phone, "s-1")
        tried = [
            await phone.get("/v1/staff/pairings"),
            await phone.get("/v1/staff/devices"),
            await phone.post("/v1/staff/pairings", json={"code": asked["code"]}),
            await phone.post(f"/v1/staff/devices/{last_device(shop).device_id}/revoke"),
        ]
    assert [answer.status_code for answer in tried] == [403] * 4
    assert {answer.json()["error"] for answer in tried} == {"not_allowed"}
    assert (await redeem(shop.client)).status_code == 200


async def test_the_digits_alone_fetch_no_key(shop: Shop) -> None:
    async with another(shop) as tablet, another(shop) as thief:
        asked = await ask(tablet)
        assert (await tablet.post("/v1/pairings/claim", json={"ask": asked["ask"]})).json()["state"] == "waiting"
        for guess in (asked["code"], "", "券", secrets.token_urlsafe(32)):
            answer = await thief.post("/v1/pairings/claim", json={"ask": guess})
            assert answer.status_code in (404, 422) and not thief.cookies


async def test_an_answer_that_got_lost_is_given_again_but_a_code_is_approved_once(shop: Shop) -> None:
    async with another(shop) as tablet, another(shop) as phone:
        asked = await ask(tablet)
        await sign_in(phone)
        approvals = await asyncio.gather(*(phone.post("/v1/staff/pairings", json={"code": asked["code"]}) for _ in range(4)))
        assert sorted(answer.status_code for answer in approvals) == [200, 404, 404, 404]
        keys = set()
        for _ in range(2):
            await tablet.post("/v1/pairings/claim", json={"ask": asked["ask"]})
            keys.add(tablet.cookies["device_counter"])
        assert len(keys) == 1


async def test_five_wrong_codes_make_a_manager_wait(shop: Shop) -> None:
    async with another(shop) as tablet, another(shop) as phone:
        code = (await ask(tablet))["code"]
        await sign_in(phone)
        wrong = f"{(int(code) + 1) % 10**6:06}"
        tried = [await phone.post("/v1/staff/pairings", json={"code": wrong}) for _ in range(6)]
        assert [answer.status_code for answer in tried] == [404] * 5 + [429]
        assert (await phone.post("/v1/staff/pairings", json={"code": code})).status_code == 429


def test_digits_live_two_minutes_and_nobody_fills_the_list() -> None:
    clock = VirtualClock()
    asks = Asks(clock)
    first = asks.open("kiosk", "counter", "", "192.0.2.1")
    assert first is not None and asks.by_code(first.code) is first and asks.left_s(first) == 120
    clock.mono_ns += ASK_NS
    assert asks.by_code(first.code) is None and asks.by_secret(first.secret) is None
    mine = [asks.open("kiosk", "counter", "", "192.0.2.1") for _ in range(MOST_OF_ONE + 2)]
    assert [one.secret for one in asks.live()] == [one.secret for one in mine[2:] if one is not None]
    opened = [asks.open("kiosk", "counter", "", f"192.0.2.{n}") for n in range(10, 10 + MOST_ASKS)]
    assert opened.count(None) == MOST_OF_ONE
    assert len({ask.code for ask in asks.live()}) == MOST_ASKS


# ---------------------------------------------------------------- the box's own screen


async def test_the_boxs_own_screen_pairs_itself_and_several_browsers_share_it(shop: Shop) -> None:
    before = len(shop.desk.devices.views())
    async with httpx.AsyncClient(base_url=shop.url, trust_env=False) as tab:
        await tab.get("/kiosk/counter")
        assert (await redeem(tab)).json()["decision"] == "redeemed"
    assert (await redeem(shop.client)).json()["reason"] == "already_redeemed"  # the first browser goes on
    assert len(shop.desk.devices.views()) == before == 2
    assert last_device(shop).by == "box"
    for _ in range(MOST_KEYS):
        async with httpx.AsyncClient(base_url=shop.url, trust_env=False) as tab:
            await tab.get("/kiosk/counter")
    assert (await redeem(shop.client)).json()["error"] == "wrong_station"  # but keys do not pile up: it has the other station's only


async def test_the_own_screen_stays_revoked_also_without_its_cookie(shop: Shop) -> None:
    own = next(one for one in shop.desk.devices.views() if one.station == "counter")
    await shop.desk.devices.revoke(own.device_id, "s-2")
    async with httpx.AsyncClient(base_url=shop.url, trust_env=False) as tab:
        assert "尚未配對" in (await tab.get("/kiosk/counter")).text
        assert (await redeem(tab)).status_code == 401
        assert 'id="attract"' in (await tab.get("/kiosk/lockers")).text


# ---------------------------------------------------------------- revoking


async def every_route(client: httpx.AsyncClient) -> set[int]:
    gets = ["/", "/kiosk/counter", "/kiosk/lockers", "/staff", "/v1/store", "/v1/stations/counter", "/v1/store/events", "/v1/staff/me"]
    gets += ["/v1/stations/counter/events", "/v1/staff/orders", "/v1/staff/devices"]
    posts = ["/v1/redeem", "/v1/staff/sign-in", "/v1/staff/redeem", "/v1/staff/stage", "/v1/pairings", "/v1/pairings/claim"]
    answers = [await client.get(path) for path in gets] + [await client.post(path, json={}) for path in posts]
    return {answer.status_code for answer in answers}


async def test_a_revoked_device_is_refused_on_every_route_at_once_and_others_go_on(shop: Shop) -> None:
    async with another(shop) as tablet, another(shop) as phone:
        await pair(shop, tablet)
        device_id = last_device(shop).device_id
        assert (await redeem(tablet)).status_code == 200
        await sign_in(phone)
        assert (await phone.post(f"/v1/staff/devices/{device_id}/revoke")).json() == {"device_id": device_id, "revoked": True}
        assert await every_route(tablet) == {403}
        page = await tablet.get("/kiosk/counter")
        assert "此裝置已停用" in page.text and "text/html" in page.headers["content-type"]
        shown = {one["device_id"]: one["revoked"] for one in (await phone.get("/v1/staff/devices")).json()}
        assert shown[device_id] and list(shown.values()).count(True) == 1
        assert (await phone.post("/v1/staff/devices/d-none/revoke")).status_code == 404
    assert (await redeem(shop.client, CAKE)).json()["decision"] == "redeemed"
    assert [(row.device_id, row.by) for row in shop.desk.rows if isinstance(row, DeviceRevoked)] == [(device_id, "s-2")]


async def test_a_revoked_phone_cannot_even_sign_in(shop: Shop) -> None:
    async with another(shop) as phone:
        await sign_in(phone)
        row = [row for row in shop.desk.rows if isinstance(row, DevicePaired)][-1]
        await shop.desk.devices.revoke(row.device_id, "s-2")
        assert await every_route(phone) == {403}
        phone.cookies.delete("device_staff")  # hiding the key does not bring the session back
        assert (await phone.get("/v1/staff/me")).json()["error"] == "not_signed_in"
        assert (await redeem(phone)).json()["error"] == "not_paired"


@pytest.mark.parametrize("how", ["manager", "headquarters", "box"])
async def test_an_open_stream_ends_when_its_device_or_the_box_is_revoked(shop: Shop, how: str) -> None:
    async with another(shop) as tablet:
        await pair(shop, tablet)
        device_id = last_device(shop).device_id
        async with tablet.stream("GET", "/v1/stations/counter/events") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            begun = time.monotonic()
            if how == "manager":
                await shop.desk.devices.revoke(device_id, "s-2")
            else:
                revoked = [device_id] if how == "headquarters" else []
                shop.desk.catalog.apply(Document("gw-1", "devices", 1, 0, devices=revoked, retired=how == "box"))
                shop.desk.devices.heed()
                shop.desk.tell()
            async for _ in lines:
                pass
            assert time.monotonic() - begun < 1.0
        assert await every_route(tablet) == {403}
    expected = {"manager": [(device_id, "s-2")], "headquarters": [(device_id, "hq")], "box": []}[how]
    assert [(row.device_id, row.by) for row in shop.desk.rows if isinstance(row, DeviceRevoked)] == expected


async def test_a_retired_box_shows_everybody_a_calm_page(shop: Shop) -> None:
    shop.desk.catalog.apply(Document("gw-1", "devices", 1, 0, retired=True))
    assert await every_route(shop.client) == {403}
    page = await shop.client.get("/kiosk/counter")
    assert "本機已停用" in page.text and "請洽總部" in page.text and "This box was retired" in page.text
    assert (await shop.client.get("/static/base.css")).status_code == 200
    assert (await shop.client.get("/healthz")).status_code == 200
    shop.desk.catalog.apply(Document("gw-1", "devices", 2, 0))  # enrolled anew
    assert (await redeem(shop.client)).json()["decision"] == "redeemed"


async def test_a_busy_kiosk_is_noted_as_seen_now_and_then(shop: Shop) -> None:
    for code in (COFFEE, CAKE, "x", "y"):
        await redeem(shop.client, code)
    assert len([row for row in shop.desk.rows if isinstance(row, DeviceSeen)]) == 1
    assert next(one for one in shop.desk.devices.views() if one.station == "counter").seen_us > 0
