"""What a real browser paints and core is told: a result that was seen, one that was not, a claim under way, bars for a till, a check-in."""

import asyncio
import contextlib
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zxingcpp
from PIL import Image
from playwright.async_api import Browser, Page, expect
from playwright.async_api import Error as PageError

from gateway import checkin
from gateway.config import parse
from gateway.core.passes import Signer
from gateway.events import ResultShown, TillCodeRung, UnseenHonoured
from gateway.token import VoucherClass
from tests.conftest import STRANGER_KEY, VirtualClock, until
from tests.gateway.core.shop import GATEWAY, voucher_token
from tests.gateway.core.test_claims import Hq
from tests.gateway.kiosk.real_shop import PIN, Doors, open_doors

pytestmark = [pytest.mark.browser, pytest.mark.slow]
AXE = Path(__file__).parent / "vendor/axe.min.js"
RUN_AXE = """async () => (await axe.run(document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
})).violations.map((one) => [one.id, one.nodes.map((node) => node.html)])"""
PICTURES = Path("build/screenshots")
PATIENCE_MS = 30_000


@pytest.fixture
async def doors(shop_text: str, clock: VirtualClock, ledger_path: Path) -> AsyncIterator[Doors]:
    """A real core with its pages: a till without an API, and check-ins at the counter."""
    text = shop_text.replace('name = "counter"\nscanners', 'name = "counter"\ncheckin = true\nscanners') + "[till]\ncodes = true\n"
    async with open_doors(parse(text), clock, signer=Signer("https://hq.example", STRANGER_KEY)) as opened:
        yield opened


async def open_page(browser: Browser, doors: Doors, path: str, **more: Any) -> tuple[Page, list[str]]:
    """A page that is loaded, and what goes wrong in it."""
    page, wrong = await browser.new_page(**({"viewport": {"width": 1280, "height": 800}} | more)), list[str]()
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda asked: None if asked.url.startswith((doors.url, "blob:")) else wrong.append(asked.url))
    await page.goto(doors.url + path)
    return page, wrong


async def kiosk(browser: Browser, doors: Doors) -> tuple[Page, list[str]]:
    page, wrong = await open_page(browser, doors, "/kiosk/counter")
    await expect(page.locator("#clock")).to_have_text(re.compile(r"\d\d:\d\d"))
    return page, wrong


async def read(page: Page, name: str) -> list[tuple[str, str]]:
    """What a scanner reads on the screen."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    png = await page.screenshot(path=PICTURES / f"{name}.png")
    return [(one.text, one.format.name) for one in zxingcpp.read_barcodes(np.asarray(Image.open(io.BytesIO(png)).convert("L")))]


async def scan(doors: Doors, token: bytes = b"") -> Any:
    return await doors.shop.present(token or voucher_token())


async def test_a_result_that_was_painted_is_confirmed_and_its_rescan_is_an_ordinary_one(browser: Browser, doors: Doors) -> None:
    page, wrong = await kiosk(browser, doors)
    first = await scan(doors)
    await expect(page.locator('[data-decision="redeemed"]')).to_be_visible()
    await until(lambda: bool(doors.shop.rows(ResultShown)))
    (row,) = doors.shop.rows(ResultShown)
    assert (row.redemption_id, row.station, row.staff) == (first.redemption_id, "counter", None)
    assert (await scan(doors)).unseen == ""
    await expect(page.locator("#result h1")).to_have_text("此券已使用過")
    assert wrong == []


async def test_what_no_page_painted_is_honoured_by_a_person_on_a_phone(browser: Browser, doors: Doors) -> None:
    first = await scan(doors)  # nobody looks: the screen is dark
    page, wrong = await kiosk(browser, doors)  # an answer that is still on core's screen is painted now, and seen
    await until(lambda: bool(doors.shop.rows(ResultShown)))
    await page.close()
    second = await scan(doors, voucher_token(43))
    await doors.shop.reopen()  # and core restarts: nothing is on any screen now
    assert (await scan(doors, voucher_token(43))).unseen == second.redemption_id
    assert first.redemption_id != second.redemption_id
    assert wrong == []


async def test_the_staff_page_offers_to_hand_over_and_does_it_once(browser: Browser, doors: Doors) -> None:
    first = await scan(doors)
    page, wrong = await open_page(browser, doors, "/staff", viewport={"width": 390, "height": 844})
    await page.click('.people [data-ref="s-1"]')
    await page.fill("#pin-code", PIN)
    await page.keyboard.press("Enter")
    await page.locator("#home:visible").wait_for()
    for _ in range(2):
        await page.click("#by-typing")
        await page.fill("#code", voucher_token().decode())
        await page.click('#form button[type="submit"]')
        await page.locator('[data-decision="refused"]:visible').wait_for()
        if doors.shop.rows(UnseenHonoured):
            break
        await expect(page.locator("#result h1")).to_contain_text("畫面可能未顯示")
        await read(page, "staff-unseen")
        assert await barriers(page) == []
        await page.get_by_role("button", name="停電未顯示，補給").click()
        await page.locator('[data-decision="honoured"]:visible').wait_for()
        await read(page, "staff-honoured")
        await page.get_by_role("button", name="下一位").click()
    await expect(page.locator("#result h1")).to_have_text("此券已使用過")
    assert await page.get_by_role("button", name="停電未顯示，補給").count() == 0
    (row,) = doors.shop.rows(UnseenHonoured)
    assert (row.redemption_id, row.staff, row.why, row.station) == (first.redemption_id, "s-1", "power_cut", "staff")
    assert wrong == []


async def barriers(page: Page) -> Any:
    """What of WCAG 2.2 AA the page breaks, by axe, which is put in by the test's own privilege."""
    await page.evaluate(AXE.read_text(encoding="utf-8") + "; undefined")
    return await page.evaluate(RUN_AXE)


async def test_a_claim_under_way_is_a_state_of_the_screen(browser: Browser, doors: Doors) -> None:
    page, wrong = await kiosk(browser, doors)
    hq = Hq(doors.shop)
    await until(lambda: hq.link.connected)
    await hq.line(True)
    try:
        asking = asyncio.ensure_future(scan(doors, voucher_token(voucher_class=VoucherClass.GRANTED, store=0)))
        await expect(page.locator("#pending")).to_be_visible()
        await expect(page.locator("#pending h1")).to_have_text("正在向總部查詢")
        await expect(page.locator("#pending h1")).to_be_focused()
        await hq.give((await hq.asked()).claim_id)
        assert (await asking).decision == "redeemed"
        await expect(page.locator("#result h1")).to_have_text("核銷成功")
        await expect(page.locator("#pending")).to_be_hidden()
    finally:
        await hq.end()
    assert wrong == []


async def test_the_pending_screen_has_no_barriers_in_either_language(browser: Browser, doors: Doors) -> None:
    page, wrong = await kiosk(browser, doors)
    await page.evaluate(
        """() => { document.getElementById("attract").hidden = true; document.getElementById("pending").hidden = false; }"""
    )
    for language, title in (("zh-Hant", "正在向總部查詢"), ("en", "Asking headquarters")):
        await expect(page.get_by_role("progressbar", name=title)).to_be_visible()
        assert await barriers(page) == []
        await read(page, f"kiosk-pending-{language}")
        await page.locator("#language").focus()
        await page.keyboard.press("Enter")
    assert wrong == []


async def test_a_scanner_that_types_reads_the_bars_on_the_screen_and_closes_the_loop(browser: Browser, doors: Doors) -> None:
    page, wrong = await kiosk(browser, doors)
    first = await scan(doors)
    await expect(page.locator(".till img")).to_have_js_property("naturalWidth", 363)
    await expect(page.locator(".till b")).to_have_text(re.sub("(.{4})(?=.)", r"\1 ", first.till_code))
    (found,) = await read(page, "kiosk-till-code")
    assert found == (first.till_code, "Code128")
    assert await barriers(page) == []
    for said in ("收銀已登錄", "此收銀條碼已登錄過"):
        await page.keyboard.type(found[0])  # as a wedge does: the letters, then Enter
        await page.keyboard.press("Enter")
        await expect(page.locator("#result h1")).to_have_text(said)
    await expect(page.locator("#result .before")).to_contain_text(re.compile(r"\d\d:\d\d"))
    (row,) = doors.shop.rows(TillCodeRung)
    assert (row.redemption_id, row.till_code, row.read_point) == (first.redemption_id, first.till_code, "typed@counter")
    assert wrong == []


async def test_the_check_in_code_is_signed_for_this_station_and_stops_when_nobody_can_see_it(
    browser: Browser, doors: Doors, clock: VirtualClock
) -> None:
    page, wrong = await open_page(browser, doors, "/")
    await page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "checkin.svg" in request.url else None)
    await page.goto(f"{doors.url}/kiosk/counter")
    await page.locator("#checkin:visible").wait_for()
    (first, second) = [await _next(page, clock, name) for name in ("kiosk-checkin", "kiosk-checkin-later")]
    for text in (first, second):
        found = checkin.verify(text, lambda gateway: STRANGER_KEY.public_key() if gateway == GATEWAY else None)
        assert (found.station, found.made_s % 30) == ("counter", 0)
    assert first != second
    assert await barriers(page) == []
    await page.evaluate("""() => {
      Object.defineProperty(document, "hidden", { value: true, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }""")
    await page.clock.run_for(1_000)
    before = len(asked)
    await page.clock.run_for(120_000)
    assert len(asked) == before, "nobody sees it: nothing rotates"
    assert wrong == []


async def _drawn(page: Page) -> None:
    """Wait until the picture is there: a browser gives up decoding one whose address changes meanwhile."""
    for _ in range(300):
        with contextlib.suppress(PageError):
            await page.locator("#checkin img").evaluate("(img) => img.decode()")
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the code is never drawn")


async def _next(page: Page, clock: VirtualClock, name: str) -> str:
    """What the check-in code says, half a minute after the last."""
    clock.advance(31)
    async with page.expect_response(re.compile("checkin.svg")) as answered:
        await page.clock.run_for(31_000)
    await (await answered.value).finished()
    await _drawn(page)
    ((text, _),) = await read(page, name)
    return text


async def test_only_the_stations_own_screen_gets_a_check_in_code(doors: Doors) -> None:
    stranger, screen, door = doors.nobody(), await doors.kiosk(), await doors.kiosk("door")
    path = "/v1/stations/counter/checkin.svg"
    assert (await stranger.http.get(path)).status_code == 401
    assert (await door.http.get(path)).status_code == 401
    assert (await screen.http.get(path)).headers["content-type"] == "image/svg+xml"
    assert (await door.http.get("/v1/stations/door/checkin.svg")).status_code == 404, "not asked for there"
