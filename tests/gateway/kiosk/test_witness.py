"""Devices as witnesses: they get marks to keep, hand them in, and every page says why the shop waits."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import argon2
import httpx
import pytest
from playwright.async_api import Error as PageError

from gateway.config import GatewayConfig
from gateway.core.meters import Meters
from gateway.core.views import AdmissionView
from gateway.kiosk.app import serve
from gateway.kiosk.metrics import expose
from gateway.meters import Histogram
from gateway.signed import DOCUMENT_TAG, Document, Staff, seal
from tests.conftest import HQ_KEY, VirtualClock, until
from tests.gateway.core.old_images import image, opening, read
from tests.gateway.core.shop import GATEWAY
from tests.gateway.core.shop import Shop as Core
from tests.gateway.kiosk.conftest import Shop, open_browser

WAITING = AdmissionView(admitted=False, state="waiting", awaited=["counter · tablet"], since_us=1)


async def bearer(shop: Shop, station: str = "counter") -> tuple[str, dict[str, str]]:
    key = await shop.desk.devices.pair("pos", station, "till", "s-2")
    device = shop.desk.devices.find(key)
    assert device is not None
    return device.device_id, {"authorization": f"Bearer {key}"}


async def events(shop: Shop, path: str, headers: dict[str, str]) -> Any:
    async with httpx.AsyncClient(base_url=shop.url, trust_env=False) as client, client.stream("GET", path, headers=headers) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                return json.loads(line[6:])


async def test_a_till_gets_a_mark_with_each_answer_and_hands_it_back(shop: Shop) -> None:
    till, headers = await bearer(shop)
    async with httpx.AsyncClient(base_url=shop.url, trust_env=False) as client:
        body = {"station": "counter", "code": "x", "presentation_id": "0" * 32}
        first = await client.post("/v1/redeem", json=body, headers=headers)
        assert first.headers["sgw-mark"] == f"{till}-1"
        assert shop.desk.heard == []
        shop.desk.marks = 2
        second = await client.post("/v1/redeem", json=body | {"presentation_id": "1" * 32}, headers=headers | {"sgw-mark": f"{till}-1"})
        assert shop.desk.heard == [(till, f"{till}-1")]
        assert second.headers["sgw-mark"] == f"{till}-2"


async def test_only_paired_devices_are_heard_at_their_own_station(shop: Shop) -> None:
    till, headers = await bearer(shop)
    async with httpx.AsyncClient(base_url=shop.url, trust_env=False) as client:
        assert (await client.post("/v1/witness", json={"station": "counter", "mark": ""})).status_code == 401
        assert (await client.post("/v1/witness", json={"station": "lockers", "mark": ""}, headers=headers)).status_code == 401
        assert (await client.post("/v1/witness", json={"station": "counter", "mark": "x" * 5000}, headers=headers)).status_code == 422
        told = (await client.post("/v1/witness", json={"station": "counter", "mark": "m"}, headers=headers)).json()
    assert told == {"word": "vouches", "mark": f"{till}-1", "admitted": True}
    assert shop.desk.heard == [(till, "m")]


async def test_the_boxs_own_screen_gets_no_mark(shop: Shop) -> None:
    told = (await shop.client.post("/v1/witness", json={"station": "counter", "mark": ""})).json()
    assert told["mark"] == ""
    answer = await shop.redeem("x")
    assert "sgw-mark" not in answer.headers


async def test_streams_carry_the_mark_of_their_own_device(shop: Shop) -> None:
    till, headers = await bearer(shop)
    assert (await events(shop, "/v1/stations/counter/events", headers))["mark"] == f"{till}-1"
    assert (await events(shop, "/v1/stations/lockers/events", headers))["mark"] == ""
    assert (await events(shop, "/v1/store/events", headers))["mark"] == ""
    phone, as_phone = await bearer(shop, "staff")
    assert (await events(shop, "/v1/store/events", as_phone))["mark"] == f"{phone}-1"
    assert (await shop.client.get("/v1/store")).json()["mark"] == ""


async def test_metrics_say_whether_the_start_is_admitted(shop: Shop) -> None:
    shop.desk.admission = WAITING
    assert (await shop.client.get("/v1/store")).json()["admission"]["awaited"] == ["counter · tablet"]
    assert "store_admitted 0" in expose(shop.desk.store_view(), Meters(refusals={}, accepted={}, commits=Histogram()))


@pytest.mark.browser
@pytest.mark.slow
async def test_every_page_says_why_the_shop_waits_and_for_whom(shop: Shop) -> None:
    shop.desk.admission = WAITING
    async with open_browser() as browser:
        page = shop.mind(await browser.new_page())
        for path in ("/kiosk/counter", "/staff", "/"):
            await page.goto(shop.url + path)
            await page.locator("#unproven:visible").wait_for()
            assert "counter · tablet" in (await page.locator("#unproven").text_content() or "")
            shop.desk.admission = AdmissionView(admitted=True, state="admitted")
            shop.desk.tell()
            await page.locator("#unproven").wait_for(state="hidden")
            shop.desk.admission = WAITING


# ---------------------------------------------------------------- a phone's browser, a real core, an old image


class Served:
    """A real core with its pages, on a port that stays."""

    def __init__(self, core: Core, port: int) -> None:
        self.core, self.port = core, port
        self.pages: asyncio.Task[None] | None = None

    async def up(self) -> None:
        listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.pages = asyncio.create_task(serve(self.core.desk, "127.0.0.1", self.port, listening=listening.set_result))
        self.port = await listening

    async def down(self) -> None:
        if self.pages is not None:
            self.pages.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.pages


@pytest.mark.browser
@pytest.mark.slow
async def test_a_phones_browser_keeps_its_mark_and_stops_an_old_image(
    shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock
) -> None:
    core = Core(shop_config, clock)
    await core.open()
    await core.papers()
    people = [Staff("s-1", "林怡君", argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("1234"), ["clerk"])]
    assert await core.bring(seal(DOCUMENT_TAG, Document(GATEWAY, "staff", 1, 0, staff=people), HQ_KEY)) == b"applied"
    served = Served(core, 0)
    await served.up()
    try:
        async with open_browser() as browser:
            page = await browser.new_page()
            page.set_default_timeout(30_000)

            async def kept() -> str:
                while True:
                    with contextlib.suppress(PageError):  # asked in the moment in which the page loads itself anew
                        return str(await page.evaluate("localStorage.getItem('mark:staff') ?? ''"))

            await page.goto(f"http://127.0.0.1:{served.port}/staff")
            await page.get_by_text("林怡君").click()
            await page.fill("#pin-code", "1234")
            await page.keyboard.press("Enter")
            await page.locator("#home:visible").wait_for()
            await _until(kept)
            await served.down()
            restore = await image(core)
            await served.up()
            await core.present(b"V1:x")
            before = await kept()
            await _until(kept, before)
            lost = read(await kept())
            await served.down()
            await restore()
            await served.up()
            await page.locator("#unproven:visible").wait_for()
            await until(lambda: core.desk.store_view().admission.doubt == "witness")
            assert read(await kept()) == lost  # the old image does not make it forget
            assert await core.bring(opening(core, 1)) == b"applied"
            await page.locator("#unproven").wait_for(state="hidden")
            await _until(lambda: _goes_on(kept, lost["epoch"]))
            assert core.desk.store_view().admission.admitted
    finally:
        await served.down()
        await core.end()


async def _goes_on(kept: Any, lost: str) -> str:
    now = await kept()
    return now if read(now)["epoch"] != lost else ""


async def _until(what: Any, other_than: str = "") -> None:
    async with asyncio.timeout(30):
        while (await what()) in ("", other_than):  # noqa: ASYNC110 - a browser tells no loop of its storage
            await asyncio.sleep(0.05)
