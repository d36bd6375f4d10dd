"""Members on the staff page: found by number, their points with their age, and told quietly when one is there."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from gateway.config import GatewayConfig
from gateway.events import LookupsLocked
from tests.conftest import VirtualClock
from tests.gateway.core.roll_of import GOLD, PHONE, PLAIN, SIGNER, member_token, tagged, whole
from tests.gateway.kiosk.real_shop import PIN, Doors, open_doors

pytestmark = [pytest.mark.browser, pytest.mark.slow]


async def signed_in(browser: Browser, doors: Doors, name: str) -> Page:
    page = await browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.set_default_timeout(30_000)
    await page.goto(f"{doors.url}/staff")
    await page.click(f"text={name}")
    await page.fill("#pin-code", PIN)
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#home:not([hidden])")
    return page


async def find(page: Page, typed: str) -> None:
    if await page.locator("#member").is_hidden():
        await page.tap("#to-member")
    await page.fill("#phone", typed)
    await page.keyboard.press("Enter")


async def test_staff_find_a_member_and_see_how_old_the_points_are(
    browser: Browser, shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock
) -> None:
    async with open_doors(shop_config, clock, signer=SIGNER) as doors:
        entry = tagged(GOLD, ("oat milk", clock.now().wall_us // 1_000_000 + 10**7))
        assert await doors.shop.bring(whole(entry, PLAIN, issued_us=clock.now().wall_us)) == b"applied"
        page = await signed_in(browser, doors, "Kevin Wong")
        await find(page, "0912-345-678")
        await expect(page.locator("#member-found h2")).to_have_text("gold")
        await expect(page.locator("#member-found")).to_contain_text("oat milk")
        await expect(page.locator("#member-found .points")).to_contain_text("點數 300 更新於")
        assert await page.input_value("#phone") == "", "the number is gone from the page"
        assert PHONE[4:] not in await page.content()
        clock.advance(25 * 3600)
        await find(page, "0912345678")  # the session of a shift is over: a fresh page
        await expect(page.locator("#sign-in")).to_be_visible()
        page = await signed_in(browser, doors, "Kevin Wong")
        await find(page, "0912345678")
        await expect(page.locator("#member-found .points.stale")).to_contain_text("資料較舊，更新於")
        await find(page, "0933000111")
        await expect(page.locator("#member-found h2")).to_have_text("查無此會員")
        await expect(page.locator("#member-alert")).to_be_hidden()
        await doors.shop.present(member_token())
        await expect(page.locator("#member-alert")).to_contain_text("gold 會員在場 · counter", timeout=30_000)
        assert "300" not in await page.locator("#member-alert").inner_text()
        await doors.shop.desk.write([LookupsLocked("d-9", 20, "counter", None, "d-9", clock.now())])
        await page.reload()
        await page.tap("[data-locked='d-9'] button")
        await expect(page.locator("[data-locked='d-9']")).to_have_count(0)
        assert doors.shop.desk.members.locked == {}
