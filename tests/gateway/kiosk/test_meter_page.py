"""The exposure meter on the staff page: what is open and lost, how old the list is, what is left of open codes; in both languages."""

import msgspec
import pytest
from playwright.async_api import Browser, expect

from gateway.core.views import QuotaView, RiskView
from tests.gateway.kiosk.conftest import Shop
from tests.gateway.kiosk.test_other_pages import AXE, RUN_AXE, open_phone, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.slow]


async def test_the_meter_follows_what_is_open_and_goes_when_there_is_nothing_to_say(browser: Browser, shop: Shop) -> None:
    page = await open_phone(browser, shop)
    await sign_in(page)
    await expect(page.locator("#home")).to_be_visible()
    await expect(page.locator("#meter")).to_be_hidden()
    desk = shop.desk
    now_us = desk.clock.now().wall_us
    meter = RiskView(
        campaign=38, currency="TWD", cap_minor=800, per_device_minor=500, open_minor=600, open_rows=3, realised_minor=200, bearer="issuer",
        oldest_us=now_us - 300_000_000, list_age_s=720, list_limit_s=86_400,
    )  # fmt: skip
    desk.risk = [meter]
    desk.quotas = [QuotaView(voucher_id="v", title_zh="限時券", title_en="Flash sale", allotted=20, left=7, ends_s=1)]
    desk.tell()
    lines = page.locator("#meter li")
    await expect(lines.nth(0)).to_contain_text("活動 38：未結 600／上限 800 TWD（3 筆） · 最久 5 分鐘")
    await expect(lines.nth(0)).to_contain_text("已認列損失 200 TWD（承擔：發行者）")
    await expect(lines.nth(0)).to_contain_text("作廢名單已 12 分鐘（上限 1440）")
    await expect(lines.nth(1)).to_have_text("限時券：本店剩 7／20")
    desk.risk = [msgspec.structs.replace(meter, campaign=-1, open_minor=0, open_rows=0, oldest_us=0, list_age_s=None, realised_minor=0)]
    await page.click("#language")
    desk.tell()
    await expect(lines.nth(0)).to_contain_text("Nothing open")
    await expect(lines.nth(0)).to_contain_text("nothing is taken on trust")
    await expect(lines.nth(1)).to_have_text("Flash sale: 7 of 20 left here")
    desk.risk, desk.quotas = [], []
    desk.tell()
    await expect(page.locator("#meter")).to_be_hidden()


async def test_the_meter_keeps_wcag(browser: Browser, shop: Shop) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 844}, bypass_csp=True, reduced_motion="reduce", has_touch=True)
    page = shop.mind(await context.new_page())
    await page.goto(f"{shop.url}/staff")
    await sign_in(page)
    shop.desk.quotas = [QuotaView(voucher_id="v", title_zh="限時券", title_en="Flash sale", allotted=20, left=7, ends_s=1)]
    shop.desk.tell()
    await expect(page.locator("#meter li")).to_be_visible()
    await page.add_script_tag(path=AXE)
    assert await page.evaluate(RUN_AXE) == []
