"""Scenarios of the kiosk's screen: a check-in that a photo cannot repeat, and a till with no API that closes the loop.

A real core and its page in Chromium, a real headquarters with its broker, and between them a box's side of the road.
"""

import io
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zxingcpp
from PIL import Image
from playwright.async_api import Page

from cloud_bridge.hq.options import HqOptions
from gateway.clock import SystemClock
from gateway.config import GatewayConfig, parse
from gateway.core.passes import Signer
from gateway.events import LANE_OF, Lane
from gateway.ledger import LedgerReader
from gateway.schema import migrate
from tests.cloud_bridge.hq.rig import Hq, TestBox, headquarters, now_us, shop, wire
from tests.cloud_bridge.hq.test_openings import of
from tests.conftest import SHOP, VirtualClock, until
from tests.gateway.core.shop import presented, voucher_token
from tests.gateway.kiosk.conftest import open_browser
from tests.gateway.kiosk.real_shop import Doors, open_doors

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[Hq]:
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"))) as running:
        yield running


@pytest.fixture
async def box(hq: Hq) -> AsyncIterator[TestBox]:
    """The box of the shop whose core runs here, enrolled and heard."""
    asked = {"store": "taipei-1", "gateway": "box-7", "number": 7, "name_zh": "台北一店", "name_en": "Taipei 1"}
    label = (await hq.post("/api/boxes", asked))["label"]
    async with hq.connected(await hq.enrol(label, "box", shop("taipei-1", 7, "box-7"))) as connected:
        await connected.beat()
        yield connected


def configured(tmp_path: Path) -> GatewayConfig:
    text = SHOP.format(root=tmp_path / "shop").replace('name = "counter"\nscanners', 'name = "counter"\ncheckin = true\nscanners')
    config = parse(text + "[till]\ncodes = true\n")
    config.state_dir.mkdir(parents=True)
    migrate(config.ledger_path)
    return config


async def scanned(page: Page) -> list[str]:
    """What any scanner or phone reads on the kiosk's screen."""
    picture = Image.open(io.BytesIO(await page.screenshot())).convert("L")
    return [one.text for one in zxingcpp.read_barcodes(np.asarray(picture))]


async def shown_code(doors: Doors) -> str:
    """The check-in code that the counter's screen shows now."""
    async with open_browser() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        await page.goto(f"{doors.url}/kiosk/counter")
        await page.locator("#checkin:visible").wait_for(timeout=30_000)
        await page.locator("#checkin img").evaluate("(img) => img.decode()")
        (text,) = await scanned(page)
        return text


@pytest.mark.scenario("R15")
async def test_a_photo_of_the_check_in_code_is_stale_after_90_seconds_and_in_another_shop(
    tmp_path: Path, hq: Hq, box: TestBox, clock: VirtualClock
) -> None:
    assert (await hq.http.put("/api/checkins/offer", json={"title_zh": "打卡折價", "value_minor": 2000})).status_code == 200

    async def arrive(qr: str, member: str = "m-1a2b", **more: str) -> Any:
        return await hq.post("/api/checkins", {"qr": qr, "member_ref": member} | more)

    clock.wall_us = now_us() - 90_000_000
    async with open_doors(configured(tmp_path), clock, signer=Signer(box.enrolment.facts.page, box.enrolment.sign_key)) as doors:
        photo = await shown_code(doors)  # taken now, used 90 s later
        clock.wall_us = now_us()
        live = await shown_code(doors)
    stale = await arrive(photo)
    assert (stale["reason"], stale["message"]["zh"]) == ("stale", "此打卡碼已過時，或不是這家門市的")
    assert (await arrive(live, store="popup-hk"))["reason"] == "stale", "the app says that it is elsewhere"
    given = await arrive(live, store="taipei-1")
    assert (given["decision"], given["store"]) == ("issued", "taipei-1")
    await box.beat(2)
    assert (await arrive(photo))["reason"] == "stale"
    assert (await arrive(live, "m-second"))["decision"] == "issued"
    assert len(await hq.get("/api/vouchers")) == 2


@pytest.mark.scenario("R67")
async def test_a_till_with_no_api_scans_the_screen_and_its_scan_closes_the_loop(tmp_path: Path, hq: Hq, box: TestBox) -> None:
    config = configured(tmp_path)
    async with open_doors(config, SystemClock()) as doors, open_browser() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        await page.goto(f"{doors.url}/kiosk/counter")
        await page.locator("#attract:visible").wait_for()
        first = await doors.shop.present(voucher_token())
        await page.locator(".till img").wait_for(timeout=30_000)
        await page.locator(".till img").evaluate("(img) => img.decode()")
        (code,) = await scanned(page)
        assert code == first.till_code
        await until(lambda: doors.shop.desk.till.showing.unseen.get(first.redemption_id) is None)  # the page has said that it painted it
        till = await doors.till()
        body = {"station": "counter", "codes": [code], "key": secrets.token_hex(16)}  # the till's export, at closing time
        assert (await till.http.post("/v1/till/codes", json=body)).json()[0]["outcome"] == "rung"
        await page.keyboard.type(code)  # and once more, by a scanner that types at the kiosk
        await page.keyboard.press("Enter")
        await page.locator('[data-reason="already_rung"]').wait_for(timeout=30_000)
        again = await doors.shop.desk.present(presented(voucher_token()), station="counter")
        assert b'"unseen":""' in again, "used, seen and rung up"
        reader = LedgerReader(config.ledger_path)
        rows = [row for _, row in reader.history()]
        reader.close()
    assert {LANE_OF[type(row)] for row in rows} == {Lane.MONEY}
    await box.send(of(box, "1-aa", [wire(seq, row) for seq, row in enumerate(rows, 1)]))
    (told,) = await hq.get("/api/stores")
    assert (told["screened"], told["totals"]["redemptions"]) == ({"honoured": 0, "rung": 1}, 1)
