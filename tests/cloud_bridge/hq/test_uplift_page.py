"""Headquarters' page of what redemptions and pickups brought, in Debian's Chromium, in both languages."""

from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from .rig import Hq, wire
from .test_phone_page import barriers
from .test_uplift import pickup, sale, use

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")]


async def test_the_page_says_what_followed_what_and_what_is_still_missing(demo: Hq) -> None:
    events = [use(1, 0), sale(1, 1, "r1"), use(2, 3), use(3, 4), sale(2, 5), *pickup("o1", 40), sale(3, 44), sale(4, 50)]
    async with demo.connected(await demo.new_box()) as box, async_playwright() as playwright:
        heard: list[str] = []
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1280, "height": 1000})
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        await page.goto(demo.addresses.login)
        await box.send(box.batch([wire(seq, event) for seq, event in enumerate(events, 1)], last={0: len(events) + 2}))
        await page.goto(f"{demo.addresses.http}/uplift?first=2026-11-18&last=2026-11-20")
        await expect(page.locator("h1")).to_contain_text("核銷與取貨帶動的銷售")
        await expect(page.locator("[data-complete]")).to_have_attribute("data-complete", "false")
        await expect(page.locator("[data-complete]")).to_contain_text("尚有 2 筆未到")
        row = page.locator("tr[data-shop=s1]")
        await expect(row.locator("[data-side=redemption]")).to_contain_text("1")
        await expect(row.locator("[data-ambiguous]")).to_contain_text("1 筆無法確定歸屬")
        await expect(row.locator("[data-side=pickup]")).to_contain_text("平均 301")
        await expect(page.locator("tr[data-sale=s3]")).to_contain_text("匿名")
        assert await barriers(page) == []
        await page.screenshot(path="build/screenshots/hq-uplift.png", full_page=True)
        await page.goto(f"{demo.addresses.http}/uplift?first=2026-11-18&last=2026-11-20&lang=en")
        await expect(page.locator("tr[data-sale=s1]")).to_contain_text("named by the till")
        await page.locator("input[name=first]").fill("2026-11-01")
        await page.locator("input[name=last]").fill("2026-11-02")
        await page.locator("button.primary").click()
        await expect(page.locator(".empty")).to_contain_text("no sale")
        await browser.close()
        assert heard == []
