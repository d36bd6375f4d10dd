"""The staff page on a phone, the shop at a glance, and what all pages owe everybody: WCAG 2.2 AA, sizes, contrast."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.async_api import Browser, Page, expect

from gateway.rules import answers
from tests.gateway.kiosk.conftest import Shop
from tests.gateway.kiosk.desk_stand import CAKE, COFFEE, PICKUP, PIN
from tests.gateway.kiosk.test_kiosk_page import picture_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AXE = Path(__file__).parent / "vendor/axe.min.js"
RUN_AXE = """async () => (await axe.run(document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], rules: { "color-contrast-enhanced": { enabled: true } },
})).violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html + " " + node.failureSummary).join(" | ")}`)"""
SMALL = """([target, letter]) => {
  const found = [];
  for (const node of document.querySelectorAll("button, a[href], input:not([type=file])")) {
    const box = node.getBoundingClientRect();
    if (box.width && (box.width < target || box.height < target)) found.push(`${node.id || node.textContent}: ${box.width}x${box.height}`);
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const parent = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !parent.getClientRects().length || parent.closest("script")) continue;
    const size = parseFloat(getComputedStyle(parent).fontSize);
    if (size < letter) found.push(`${texts.currentNode.data}: ${size}px`);
  }
  return found;
}"""


async def open_phone(browser: Browser, shop: Shop) -> Page:
    page = shop.mind(await browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True))
    await page.goto(f"{shop.url}/staff")
    return page


async def sign_in(page: Page, pin: str = PIN) -> None:
    await page.tap("text=林怡君")
    for digit in pin:
        await page.tap(f'#pin-keys [data-key="{digit}"]')
    await page.tap("#pin-form button[type=submit]")


async def test_staff_sign_in_redeem_and_sign_out(browser: Browser, shop: Shop) -> None:
    page = await open_phone(browser, shop)
    await sign_in(page, "111111")
    await expect(page.locator("#pin-wrong")).to_have_text("密碼不正確")
    await page.tap("#pin .back")
    await sign_in(page)
    await expect(page.locator("#who")).to_have_text("林怡君")
    await page.tap("#by-typing")
    await page.fill("#code", COFFEE)
    await page.tap("#form button[type=submit]")
    await expect(page.locator("#result h1")).to_have_text("核銷成功")
    await page.reload()
    await expect(page.locator("#who")).to_have_text("林怡君")
    await page.set_input_files("#file", {"name": "p.png", "mimeType": "image/png", "buffer": picture_of(COFFEE)})
    await expect(page.locator("#result h1")).to_have_text("此券已使用過")
    await expect(page.locator(".before")).to_contain_text("s-1")
    await page.tap("#result button.main")
    await page.tap("#sign-out")
    await expect(page.locator("#sign-in")).to_be_visible()
    await page.reload()
    await expect(page.locator("#sign-in")).to_be_visible()


async def test_an_order_is_put_behind_its_door(browser: Browser, shop: Shop) -> None:
    page = await open_phone(browser, shop)
    await sign_in(page)
    await page.tap('[data-order="order-2"]')
    await expect(page.locator('#result [data-door="3"]')).to_be_visible()
    shop.desk.move("order-2", "staged", 3)
    await expect(page.locator("#result h1")).to_have_text("商品已備妥，櫃門已關")
    await page.tap("#result button.main")
    await expect(page.locator("#orders-staged")).to_contain_text("A1042")
    await expect(page.locator("#count-paid")).to_have_text("2")
    shop.desk.move("order-2", "collected", None)
    await expect(page.locator("#orders-collected")).to_contain_text("A1042")


async def test_the_glance_follows_the_shop(browser: Browser, shop: Shop) -> None:
    desk = shop.desk
    page = shop.mind(await browser.new_page(viewport={"width": 1280, "height": 800}))
    await page.goto(shop.url)
    now = desk.clock.now().wall_us
    change = msgspec.structs.replace
    desk.zones[0] = change(desk.zones[0], subjects=["tag-07"], estimate=8.0, low=6, high=11, estimated_us=now)
    desk.zones[1] = change(desk.zones[1], estimate=None, estimated_us=now)
    desk.door(3, "loaded", "closed", "A1042")
    await expect(page.locator(".zone").nth(0)).to_contain_text("約 6–11 人")
    await expect(page.locator(".zone").nth(1)).to_contain_text("<5 人")
    await expect(page.locator(".zone").nth(2)).to_contain_text("尚無估計")
    await expect(page.locator('.subject[data-zone="entrance"]')).to_contain_text("tag-07")
    await expect(page.locator(".door.loaded .door-order")).to_have_text("A1042")
    desk.zones[0], desk.zones[2] = change(desk.zones[0], subjects=[]), change(desk.zones[2], subjects=["tag-07"])
    desk.door(3, "pickup_open", "open", "A1042")
    desk.door(4, "jammed", "closed")
    desk.units[0] = change(desk.units[0], connected=False)
    desk.line_up, desk.waiting = False, 1234
    await shop.redeem(CAKE)
    await expect(page.locator('.subject[data-zone="coffee"]')).to_contain_text("tag-07")
    await expect(page.locator(".door.open .door-order")).to_have_text("A1042")
    await expect(page.locator(".door.jammed .door-sign").first).to_have_text("!")
    await expect(page.locator("#units li").first).to_have_class("down")
    await expect(page.locator("#line-words")).to_contain_text("1,234 筆待送")
    await expect(page.locator("#count-redemptions")).to_have_text("97")
    await expect(page.locator("#news")).to_contain_text("栗子蛋糕")
    await page.click("#language")
    await expect(page.locator("#line-words")).to_contain_text("1,234 rows waiting")
    await expect(page.locator(".zone").nth(0)).to_contain_text("about 6–11 people")


Step = Callable[[Page, Shop], Awaitable[Any]]


async def _signed_in(page: Page, shop: Shop) -> None:
    await page.click("text=林怡君")
    await page.fill("#pin-code", PIN)
    await page.keyboard.press("Enter")
    await expect(page.locator("#orders-paid button").first).to_be_visible()


async def _offline(page: Page, shop: Shop) -> None:
    shop.desk.line_up = False
    shop.desk.tell()
    await expect(page.locator("#offline")).to_be_visible()


async def _refused(page: Page, shop: Shop) -> None:
    await shop.redeem(CAKE, "lockers")
    await shop.redeem(CAKE)
    await expect(page.locator("#result .before")).to_be_visible()


async def _shown(page: Page, shop: Shop, code: str) -> None:
    await shop.redeem(code)
    await expect(page.locator("#result h1")).to_be_visible()


async def _recognised(page: Page, shop: Shop) -> None:
    old = answers.ShownMember(points=300, as_of_s=1_795_000_000, is_stale=True)
    shop.desk.show("counter", answers.decision("recognised", shop.desk.clock.now().wall_us, member=old))
    await expect(page.locator("#result .points.stale")).to_be_visible()


async def _member(page: Page, shop: Shop) -> None:
    await _signed_in(page, shop)
    await page.click("#to-member")
    await page.fill("#phone", "12")
    await page.keyboard.press("Enter")
    await expect(page.locator("#member-found h2")).to_be_visible()


VIEWS: dict[str, tuple[str, Step]] = {
    "glance": ("/", lambda page, _: expect(page.locator(".door")).not_to_have_count(0)),
    "attract": ("/kiosk/counter", lambda page, _: expect(page.locator("#clock")).not_to_be_empty()),
    "attract-en": ("/kiosk/counter?lang=en", lambda page, _: expect(page.locator("#clock")).not_to_be_empty()),
    "offline": ("/kiosk/counter", _offline),
    "typing": ("/kiosk/counter", lambda page, _: page.click("#by-typing")),
    "redeemed": ("/kiosk/counter", lambda page, shop: _shown(page, shop, COFFEE)),
    "refused": ("/kiosk/counter", _refused),
    "collecting": ("/kiosk/counter?lang=en", lambda page, shop: _shown(page, shop, PICKUP)),
    "staff-sign-in": ("/staff", lambda page, _: expect(page.locator(".people")).to_be_visible()),
    "staff-pin": ("/staff", lambda page, _: page.click("text=林怡君")),
    "staff-home": ("/staff", _signed_in),
    "staff-member": ("/staff", _member),
    "recognised": ("/kiosk/counter", _recognised),
}


@pytest.mark.parametrize("name", VIEWS)
async def test_every_view_keeps_wcag_and_the_kiosk_its_sizes(browser: Browser, shop: Shop, name: str) -> None:
    path, reach = VIEWS[name]
    size = {"width": 390, "height": 844} if path == "/staff" else {"width": 1280, "height": 800}
    # axe is injected, which the policy forbids to everybody else; the real policy is what all other tests run under.
    context = await browser.new_context(viewport=size, bypass_csp=True, reduced_motion="reduce")  # type: ignore[arg-type]
    page = shop.mind(await context.new_page())
    await page.goto(shop.url + path)
    await reach(page, shop)
    await page.wait_for_timeout(600)
    await page.add_script_tag(path=AXE)
    assert await page.evaluate(RUN_AXE) == []
    if path.startswith("/kiosk"):
        assert await page.evaluate(SMALL, [64, 20]) == []
    elif path == "/staff":
        assert await page.evaluate(SMALL, [44, 12]) == []
    overflow = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not overflow
    assert re.match("zh-Hant|en", await page.evaluate("document.documentElement.lang"))
