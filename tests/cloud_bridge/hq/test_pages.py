"""Headquarters' pages in Debian's Chromium: what a person sees changes by itself, and nothing comes from elsewhere."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from gateway.events import DevicePaired, DeviceRevoked, OccupancyEstimated, VisitStarted
from gateway.events import SubjectKind as Kind

from .rig import Hq, instant, now_us, redeemed, wire

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")]


@pytest.fixture
async def page(demo: Hq) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith(demo.addresses.http) else None)
        await page.goto(demo.addresses.login)
        yield page
        await browser.close()
        assert said == [], "console, errors or requests to elsewhere"


async def test_the_dashboard_follows_the_shop(demo: Hq, page: Page) -> None:
    await expect(page.locator(".shop.nothing")).to_be_visible()
    async with demo.connected(await demo.new_box()) as box:
        shop = page.locator('[data-shop="s1"]')
        await expect(shop.locator("[data-line]")).to_have_attribute("data-line", "never")
        await box.beat(1)
        await expect(shop.locator("[data-line]")).to_have_attribute("data-line", "up")
        voucher = await demo.post("/api/vouchers", {"store": "s1", "title_zh": "冰拿鐵"})
        await box.send(box.batch([wire(1, redeemed(1, voucher["voucher_id"]))], last={0: 3}))
        await expect(shop.locator('[data-number="redemptions"]')).to_have_text("1")
        await expect(shop.locator(".number.redemptions .complete")).to_contain_text("尚有 2 筆未到")
        await expect(page.locator(".feed li").first).to_contain_text("核銷「冰拿鐵」")
        visit = VisitStarted("ble", "v1", "trolley-1", Kind.TAG, "甜點櫃", instant(now_us() - 65_000_000))
        guess = OccupancyEstimated("ble", "甜點櫃", 60, 11.6, 8.2, 15.1, instant())
        await box.send(box.batch([wire(1, visit), wire(2, guess)], lane=1))
        await expect(shop.locator("tbody tr")).to_contain_text("trolley-1")
        await expect(shop.locator("tbody tr")).to_contain_text("1 分")
        await expect(shop.locator(".zone")).to_contain_text("約 12")
        await page.locator("#wan-s1-down").click()
        await expect(page.locator("#wan-s1-down")).to_have_attribute("aria-pressed", "true")
        await expect(shop.locator("[data-line]")).to_have_attribute("data-line", "down", timeout=8000)
        await page.locator(".language").click()
        await expect(page.locator("h2").first).to_have_text("Shop 1")
        await page.goto(demo.addresses.http + "/vouchers")
        await expect(page.locator("h1")).to_have_text("Issue a voucher")


async def test_a_voucher_is_issued_shown_and_its_story_grows(demo: Hq, page: Page) -> None:
    async with demo.connected(await demo.new_box()) as box:
        await page.goto(demo.addresses.http + "/vouchers")
        await page.locator("input[name=title_zh]").fill('<b>五折</b> & "券"')
        await page.locator("button.primary").click()
        await expect(page.locator("h1")).to_have_text('<b>五折</b> & "券"')
        (voucher,) = await demo.get("/api/vouchers")
        await expect(page.locator("[data-short]")).to_have_text(voucher["short_code"])
        await expect(page.locator("#token")).to_have_value(voucher["token"])
        assert await page.locator("img.qr").evaluate("image => image.naturalWidth") > 0
        assert await page.get_by_text("拿給店裡的攝影機看").count() == 0  # no camera was named
        await page.get_by_role("button", name="試著線上使用").click()
        await expect(page.locator("[data-notice]")).to_contain_text("限門市使用")
        await box.send(box.batch([wire(1, redeemed(1, voucher["voucher_id"]))]))
        await expect(page.locator("[data-state]")).to_have_attribute("data-state", "used")
        await expect(page.locator(".story li")).to_have_count(3)
        await expect(page.locator(".story li.redeemed")).to_contain_text("門市 1（kiosk-1）核銷")


async def test_an_order_is_placed_from_the_page(demo: Hq, page: Page) -> None:
    await demo.new_box()
    await page.goto(demo.addresses.http + "/orders")
    await page.locator("button.primary").click()
    await expect(page.locator("h1")).to_contain_text("A001")
    await expect(page.locator(".sub")).to_contain_text("陳○明")
    (order,) = await demo.get("/api/orders")
    assert order["lines"] == ["中秋禮盒 × 1", "手沖咖啡豆 250 g"]


async def test_a_device_and_then_its_box_are_revoked_by_pressing_twice(demo: Hq, page: Page) -> None:
    async with demo.connected(await demo.new_box()) as box:
        await box.send(box.batch([wire(1, DevicePaired("d-1", "kiosk", "counter", "平板", "a" * 64, "s-1", instant()))]))
        await page.goto(f"{demo.addresses.http}/devices")
        state, button = page.locator("[data-device='d-1'] [data-state]"), page.locator("#revoke-d-1")
        await expect(state).to_have_text("使用中")
        await button.click()
        await expect(button).to_have_text("再按一次停用")
        assert (await demo.get("/api/stores/s1/devices"))[0]["state"] == "paired"
        await button.click()
        await expect(state).to_have_text("停用中，待門市確認")
        await box.send(box.batch([wire(2, DeviceRevoked("d-1", "hq", instant()))]))
        await expect(state).to_have_text("已停用")
        await page.locator("#revoke-gw-s1").click()
        await page.locator("#revoke-gw-s1").click()
        await expect(page.locator("[data-retired]")).to_be_visible()
