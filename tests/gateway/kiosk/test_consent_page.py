"""What a real browser asks before a visit is recorded, and what it shows somebody of their own: two buttons of one size, for seconds."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from gateway.config import GatewayConfig
from gateway.core import consenting, stations
from gateway.events import MemberBound, MemberConsented, VoucherRedeemed
from gateway.token import Flag
from tests.conftest import VirtualClock
from tests.gateway.core.lending import MONEY, Lender
from tests.gateway.core.roll_of import GOLD, OTHER, OTHER_CODE, PLAIN, REF, SIGNER, member_token, whole
from tests.gateway.core.shop import voucher_token
from tests.gateway.kiosk.real_shop import Doors, open_doors
from tests.gateway.kiosk.test_shown_page import AXE, PICTURES, RUN_AXE, open_page

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
async def doors(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Doors]:
    async with open_doors(shop_config, clock, signer=SIGNER) as opened:
        assert await opened.shop.bring(whole(GOLD, PLAIN, issued_us=clock.now().wall_us)) == b"applied"
        yield opened


async def screenshot(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=PICTURES / f"{name}.png")


async def inside(page: Page, selector: str) -> bool:
    """Whether all of it can be seen without scrolling."""
    box, size = await page.locator(selector).bounding_box(), page.viewport_size
    assert box is not None and size is not None
    return box["x"] >= 0 and box["y"] >= 0 and box["x"] + box["width"] <= size["width"] and box["y"] + box["height"] <= size["height"]


async def test_after_a_redemption_one_touch_and_the_members_code_join_it_and_silence_is_no(
    browser: Browser, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, wrong = await open_page(browser, doors, "/kiosk/counter", has_touch=True)
    await doors.shop.present(voucher_token())
    question = page.locator("section.consent")
    await expect(question).to_be_visible()
    texts = await question.locator("h2").all_inner_texts()
    assert texts == ["要把這次消費記入您的會員嗎？", "Record this visit under your membership?"]
    assert await page.locator(".result input, .result textarea, .result select").count() == 0
    yes, no = [await page.locator(one).bounding_box() for one in ("#consent-yes", "#consent-no")]
    assert yes is not None and no is not None
    assert (round(yes["width"]), round(yes["height"])) == (round(no["width"]), round(no["height"])) and yes["height"] >= 88
    await page.wait_for_timeout(500)  # until the mark has landed
    await screenshot(page, "consent-1280x800")
    for width, height in ((800, 700), (1080, 1920)):
        await page.set_viewport_size({"width": width, "height": height})
        await screenshot(page, f"consent-{width}x{height}")
        for part in ("section.consent", "#consent-yes", "#consent-no"):
            assert await inside(page, part), (part, width, height)
    await page.evaluate(AXE.read_text())
    assert await page.evaluate(RUN_AXE) == []
    await page.tap("#consent-yes")
    await expect(page.locator('[data-decision="show_member"] h1')).to_have_text("請出示您的會員條碼")
    await doors.shop.present(member_token(OTHER_CODE))
    await expect(page.locator('[data-decision="joined"] h1')).to_have_text("已記入您的會員")
    (bound,), (said,), (used,) = (doors.shop.rows(kind) for kind in (MemberBound, MemberConsented, VoucherRedeemed))
    assert (bound.redemption_id, bound.member_ref) == (said.redemption_id, said.member_ref) == (used.redemption_id, OTHER)
    monkeypatch.setattr(consenting, "CODE_S", 0.5)
    await doors.shop.present(voucher_token(2))
    await page.tap("#consent-yes")
    await expect(page.locator("#attract")).to_be_visible(timeout=40_000)  # nobody shows a code
    await doors.shop.present(voucher_token(3))
    await page.tap("#consent-no")
    await expect(page.locator('[data-decision="not_joined"]')).to_be_visible()
    assert len(doors.shop.rows(MemberBound, MemberConsented)) == 2 and wrong == []


async def test_who_owns_it_sees_points_and_money_with_their_time_and_nobody_else_does(
    browser: Browser, doors: Doors, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stations.SHOWS_S, "refused", 1.5)
    page, wrong = await open_page(browser, doors, "/kiosk/counter", has_touch=True)
    door, _ = await open_page(browser, doors, "/kiosk/door", has_touch=True)
    await doors.shop.present(member_token())
    await expect(page.locator(".points")).to_contain_text("點數 300 更新於")
    await expect(page.locator(".left")).to_have_text("本店可用0其餘需連線總部才能使用")
    await screenshot(page, "consent-standing")
    assert "300" not in await door.locator("main").inner_text()
    await page.tap("#consent-no")
    await expect(page.locator('[data-decision="consent_withdrawn"]')).to_be_visible()
    (row,) = doors.shop.rows(MemberConsented)
    assert (row.member_ref, row.given, row.text_version) == (REF, False, "bind-1")
    clock.advance(25 * 3600)
    await doors.shop.present(member_token())
    await expect(page.locator(".points.stale")).to_contain_text("資料較舊，更新於")
    await expect(page.locator("#consent-yes")).to_contain_text("要，記入會員")  # asked anew
    face = voucher_token(9, flags=Flag.PARTIAL, value_minor=500)
    assert (await (await doors.till()).redeem(face, amount_minor=180))["balance_minor"] == 320
    await expect(page.locator(".left")).to_have_text("餘額NT$320")
    lender = Lender(doors.shop, 500)
    await lender.line(True)
    serving = asyncio.ensure_future(lender.serve())
    await lender.lend(180)
    serving.cancel()
    await lender.line(False)
    await doors.shop.present(MONEY)
    left = page.locator(".left")
    await expect(left).to_contain_text("餘額NT$500 更新於")
    await expect(left).to_contain_text("本店可用NT$180")
    await expect(left.locator(".rest")).to_have_text("其餘需連線總部才能使用")
    await screenshot(page, "balance-1280x800")
    assert "500" not in await door.locator("main").inner_text()
    await expect(page.locator("#attract")).to_be_visible(timeout=40_000)
    assert await page.locator("#result").text_content() == "" and wrong == []
