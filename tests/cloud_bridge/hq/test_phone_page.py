"""A shopper's phone in Debian's Chromium: opens the link it was sent, scans the shop's screen, holds up the pass."""

import io
from pathlib import Path

import numpy as np
import pytest
import zxingcpp
from PIL import Image
from playwright.async_api import Page, async_playwright, expect

from gateway import grant as grants

from .rig import Hq
from .test_phones import blob, issued, read

AXE = Path(__file__).parents[2] / "gateway/kiosk/vendor/axe.min.js"
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")]


async def barriers(page: Page) -> list[str]:
    """What of WCAG 2.2 AA the page breaks, by axe."""
    await page.evaluate(AXE.read_text(encoding="utf-8") + "; undefined")
    tags = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]
    found = await page.evaluate("async (tags) => (await axe.run(document, {runOnly: tags})).violations.map((one) => one.id)", tags)
    return [str(one) for one in found]


async def held_up(page: Page, name: str) -> list[str]:
    """What a reader sees of the phone's screen."""
    png = await page.screenshot(path=f"build/screenshots/{name}.png", full_page=True)
    return [found.text for found in zxingcpp.read_barcodes(np.asarray(Image.open(io.BytesIO(png)).convert("L")))]


async def test_a_phone_opens_its_link_scans_the_shop_and_holds_up_the_pass(demo: Hq) -> None:
    voucher = await issued(demo)
    async with demo.connected(await demo.new_box()) as box, async_playwright() as playwright:
        await box.beat()
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 390, "height": 780}, device_scale_factor=2)
        said: list[str] = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if "Content Security" in message.text else None)
        page.on("request", lambda asked: said.append(asked.url) if voucher["secret"] in asked.url else None)
        shop_page = f"{demo.addresses.http}/G/{blob(box, voucher)}"
        await page.goto(shop_page)
        await expect(page.locator("main")).to_have_attribute("data-reason", "not_here")
        assert await barriers(page) == []
        await page.goto(voucher["link"])
        await expect(page.locator("h1")).to_contain_text("咖啡券")
        assert await held_up(page, "phone-voucher") == [voucher["token"]]
        await expect(page.locator("#no-letters")).to_contain_text("此券沒有可輸入的代碼")
        assert voucher["short_code"] not in await page.content(), "no shop would know these letters"
        assert await page.evaluate("location.href") == voucher["link"].partition("#")[0], "the secret left the address"
        assert await barriers(page) == []
        await page.goto(shop_page)
        await expect(page.locator("#shop")).to_contain_text("門市 1")
        (code,) = await held_up(page, "phone-pass")
        assert read(code, demo).box == grants.box_digest("gw-s1")
        await page.reload()  # the link without its secret still works on this phone, until it is deleted
        await page.goto(voucher["link"].partition("#")[0])
        await expect(page.locator(".holder")).to_contain_text("門市 1")
        await page.locator("#forget").click()
        await page.goto(shop_page)
        await expect(page.locator("main")).to_have_attribute("data-reason", "not_here")
        await page.locator("#link").fill(voucher["link"])
        await page.locator("form button").click()
        await expect(page.locator("main")).to_have_class("pass")
        await browser.close()
        assert said == []
