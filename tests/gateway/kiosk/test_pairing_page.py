"""A tablet and a manager's phone in a real browser: pairing, and what a revoked screen shows."""

import pytest
from playwright.async_api import Browser, expect

from gateway.signed import Document
from tests.gateway.kiosk.conftest import Shop
from tests.gateway.kiosk.desk_stand import COFFEE, PIN

pytestmark = [pytest.mark.slow, pytest.mark.browser]
AFAR = {"x-forwarded-for": "192.0.2.7"}


async def test_a_tablet_is_paired_by_comparing_digits_and_revoked_by_two_taps(shop: Shop, browser: Browser) -> None:
    tablet = shop.mind(await (await browser.new_context(extra_http_headers=AFAR, locale="zh-TW")).new_page())
    await tablet.goto(f"{shop.url}/kiosk/counter")
    await expect(tablet.locator("h1")).to_have_text("此螢幕尚未配對")
    await expect(tablet.locator("#pair-code")).not_to_contain_text("–")
    await expect(tablet.locator("#pair-qr")).to_be_visible()
    digits = (await tablet.locator("#pair-code").inner_text()).replace(" ", "")
    await tablet.locator("#language").click()
    await expect(tablet.locator("h1")).to_have_text("This screen is not paired yet")
    await tablet.locator("#language").click()

    size = {"width": 390, "height": 844}
    phone = shop.mind(await (await browser.new_context(extra_http_headers=AFAR, viewport=size, locale="zh-TW")).new_page())  # type: ignore[arg-type]
    await phone.goto(f"{shop.url}/staff#pair={digits}")
    await phone.locator(".people button", has_text="Kevin Wong").click()
    await phone.locator("#pin-code").fill(PIN)
    await phone.locator("#pin-form button.main").click()
    await expect(phone.locator("#devices-waiting .wanted .digits")).to_have_text(f"{digits[:3]} {digits[3:]}")
    assert digits not in phone.url
    await phone.locator(f"[data-code='{digits}']").click()

    await expect(tablet.locator("#attract")).to_be_visible()
    await tablet.wait_for_load_state()  # it came by itself, and its buttons do nothing before its script has run
    await tablet.locator("#by-typing").click()
    await tablet.locator("#code").fill(COFFEE)
    await tablet.locator("#submit").click()
    await expect(tablet.locator("#result .result[data-decision='redeemed']")).to_be_visible()
    assert await tablet.evaluate("document.cookie") == ""

    device_id = next(one.device_id for one in shop.desk.devices.views() if one.name == "" and one.kind == "kiosk")
    button = phone.locator(f"[data-device='{device_id}']")
    await button.click()
    await expect(button).to_have_text("再按一次停用")
    await button.click()
    await expect(phone.locator(".device.gone")).to_have_count(1)
    await expect(tablet.locator("body.calm h1")).to_have_text("此裝置已停用")


async def test_a_clerk_sees_no_devices_button(shop: Shop, browser: Browser) -> None:
    phone = shop.mind(await (await browser.new_context(locale="zh-TW")).new_page())
    await phone.goto(f"{shop.url}/staff")
    await phone.locator(".people button", has_text="林怡君").click()
    await phone.locator("#pin-code").fill(PIN)
    await phone.locator("#pin-form button.main").click()
    await expect(phone.locator("#sign-out")).to_be_visible()
    await expect(phone.locator("#to-devices")).to_be_hidden()


async def test_a_retired_box_shows_its_kiosk_so_without_a_touch(shop: Shop, browser: Browser) -> None:
    kiosk = shop.mind(await (await browser.new_context(locale="zh-TW")).new_page())
    await kiosk.goto(f"{shop.url}/kiosk/counter")
    await expect(kiosk.locator("#attract")).to_be_visible()
    shop.desk.catalog.apply(Document("gw-1", "devices", 1, 0, retired=True))
    shop.desk.tell()
    await expect(kiosk.locator("body.calm h1")).to_have_text("本機已停用")
