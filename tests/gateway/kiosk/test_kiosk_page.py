"""The kiosk page in Debian's Chromium: what a customer sees and does."""

import asyncio
import base64
import io
import re
from pathlib import Path

import msgspec
import pytest
import segno
from playwright.async_api import Browser, Page, expect

from gateway.rules import answers
from tests.gateway.kiosk.conftest import Shop, open_browser, open_shop
from tests.gateway.kiosk.desk_stand import ATTACK, CAKE, COFFEE, PICKUP, TOKEN, XSS, DeskStand

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RESULT = "#result .result"
DROP = """(picture) => {
  const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "code.png", { type: "image/png" }));
  return data;
}"""


async def open_kiosk(browser: Browser, shop: Shop, station: str = "counter") -> Page:
    """A kiosk that has heard core; whatever goes wrong in its scripts fails the test."""
    page = shop.mind(await browser.new_page(viewport={"width": 1280, "height": 800}))
    await page.goto(f"{shop.url}/kiosk/{station}")
    await expect(page.locator("#clock")).to_have_text(re.compile(r"\d\d:\d\d"))
    return page


def picture_of(code: str) -> bytes:
    out = io.BytesIO()
    segno.make_qr(code, error="m").save(out, kind="png", scale=6, border=4)
    return out.getvalue()


def video_of(code: str, path: Path) -> None:
    """A second of a QR code held before a camera, as YUV4MPEG2 4:2:0."""
    width, height, scale = 640, 480, 6
    rows = [bytes(16 if dark else 235 for dark in row) for row in segno.make_qr(code, error="m").matrix_iter(scale=scale, border=4)]
    side = (width - len(rows[0])) // 2
    wide = [b"\xb4" * side + row + b"\xb4" * (width - side - len(row)) for row in rows]
    above = (height - len(wide)) // 2
    luma = b"".join([b"\xb4" * width] * above + wide + [b"\xb4" * width] * (height - above - len(wide)))
    frame = b"FRAME\n" + luma + b"\x80" * (width * height // 2)
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\n".encode() + frame * 10)


async def test_a_typed_code_is_redeemed_and_told_in_both_languages(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    await page.click("#by-typing")
    for letter in COFFEE.replace("-", ""):
        await page.click(f'#keys [data-key="{letter}"]')
    await expect(page.locator("#code")).to_have_value(COFFEE)
    await page.click("#submit")
    await expect(page.locator("#result h1")).to_have_text("核銷成功")
    await expect(page.locator(RESULT)).to_have_class(re.compile("good"))
    await expect(page.locator(RESULT)).to_contain_text("中杯拿鐵兌換券")
    await page.click("#language")
    await expect(page.locator("#result h1")).to_have_text("Redeemed")
    await expect(page.locator(RESULT)).to_contain_text("One medium latte")
    assert shop.desk.presented[0].read_point == "typed@counter"


async def test_a_used_voucher_says_when_where_and_what_next(browser: Browser, shop: Shop) -> None:
    await shop.redeem(CAKE, "lockers")
    page = await open_kiosk(browser, shop)
    await shop.redeem(CAKE, "counter")
    result = page.locator(RESULT)
    await expect(result).to_have_attribute("data-reason", "already_redeemed")
    await expect(result.locator(".before")).to_contain_text("取貨區")
    await expect(result.locator(".before")).to_contain_text(re.compile(r"\d\d:\d\d"))
    await expect(result.locator(".next")).to_have_text("如有疑問，請洽店員")


async def test_a_pickup_follows_its_door_to_the_end(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop, "lockers")
    await shop.redeem(PICKUP, "lockers")
    await expect(page.locator('[data-decision="collecting"] [data-door="7"]')).to_be_visible()
    collecting = shop.desk.screen("lockers").answer
    assert collecting is not None
    shop.desk.show("lockers", msgspec.structs.replace(collecting, decision="collected"))
    await expect(page.locator('[data-decision="collected"]')).to_be_visible()
    shop.desk.show("lockers", None)
    await expect(page.locator("#attract")).to_be_visible()


async def test_a_lesson_looks_like_one_and_never_like_a_sale(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    practised = answers.decision("redeemed", 1, reference="x", uses_left=2, practice=True)
    shop.desk.show("counter", practised)
    await expect(page.locator(".result.practice .lesson")).to_have_text("練習模式：不計入任何紀錄")
    await expect(page.locator("#result .order")).to_have_text("剩餘次數 2")
    lesson = await page.evaluate("getComputedStyle(document.querySelector('.result')).backgroundImage")
    shop.desk.show("counter", msgspec.structs.replace(practised, practice=False))
    await expect(page.locator(".result.practice")).to_have_count(0)
    assert await page.evaluate("getComputedStyle(document.querySelector('.result')).backgroundImage") != lesson


async def test_a_dropped_picture_is_read_here_and_redeemed(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    data = await page.evaluate_handle(DROP, base64.b64encode(picture_of(TOKEN)).decode())
    await page.dispatch_event("body", "drop", {"dataTransfer": data})
    await expect(page.locator("#result h1")).to_have_text("核銷成功")
    await expect(page.locator(RESULT)).to_contain_text("月餅禮盒提貨券")
    seen = shop.desk.presented[0]
    assert (seen.payload.decode(), seen.symbology_id, seen.read_point) == (TOKEN, "]Q1", "picture@counter")


async def test_a_chosen_picture_without_a_code_says_so(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    blank = io.BytesIO()
    segno.make("x").save(blank, kind="png", scale=1, border=0, dark="#fff")
    for name, kind, body in (
        ("blank.png", "image/png", blank.getvalue()),
        ("a.png", "image/png", b"no picture"),
        ("a.txt", "text/plain", b""),
    ):
        await page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": body})
        await expect(page.locator("#notice")).to_contain_text("找不到條碼")
        await expect(page.locator("#attract")).to_be_visible()
        await page.keyboard.press("Escape")
    assert shop.desk.presented == []


async def test_a_pasted_token_and_a_typing_scanner_are_redeemed(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    await page.keyboard.type(TOKEN, delay=1)  # a scanner in keyboard mode: no field is asked for, Enter at the end
    await page.keyboard.press("Enter")
    await expect(page.locator("#result h1")).to_have_text("核銷成功")
    assert shop.desk.presented[0].payload.decode() == TOKEN
    await page.click("#done")
    paste = """(text) => { const data = new DataTransfer(); data.setData("text", text);
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true })); }"""
    await page.evaluate(paste, COFFEE)
    await expect(page.locator(RESULT)).to_contain_text("中杯拿鐵兌換券")


async def test_the_camera_reads_a_code_and_is_switched_off(shop: Shop, tmp_path: Path) -> None:
    video = tmp_path / "code.y4m"
    video_of(TOKEN, video)
    arguments = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={video}"]
    async with open_browser(*arguments) as browser:
        page = await open_kiosk(browser, shop)
        await page.click("#by-camera")
        await expect(page.locator("#result h1")).to_have_text("核銷成功")
        assert shop.desk.presented[0].read_point == "camera@counter"
        assert len(shop.desk.presented) == 1
        assert await page.evaluate("document.getElementById('video').srcObject") is None


async def test_without_a_camera_the_page_says_what_else_works(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    await page.click("#by-camera")
    await expect(page.locator("#notice")).to_contain_text("輸入代碼")
    await expect(page.locator("#attract")).to_be_visible()


async def test_the_offline_banner_comes_says_what_works_and_goes(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    banner = page.locator("#offline")
    await expect(banner).to_be_hidden()
    shop.desk.line_up = False
    shop.desk.tell()
    await expect(banner).to_contain_text("券照常核銷、取貨照常")
    await shop.redeem(COFFEE)
    await expect(page.locator("#result h1")).to_have_text("核銷成功")
    await expect(banner).to_be_visible()
    shop.desk.line_up = True
    shop.desk.tell()
    await expect(banner).to_be_hidden()


async def test_a_page_that_lost_core_says_so_and_comes_back_by_itself(browser: Browser) -> None:
    desk = DeskStand()
    async with open_shop(desk) as shop:
        page = await open_kiosk(browser, shop)
        port = shop.port
    await expect(page.locator("#lost")).to_be_visible(timeout=15_000)
    async with open_shop(DeskStand(), port) as again:
        await expect(page.locator("#lost")).to_be_hidden(timeout=15_000)
        await again.redeem(COFFEE)
        await expect(page.locator("#result h1")).to_have_text("核銷成功")


async def test_a_reload_while_core_decides_gets_the_same_answer(browser: Browser, shop: Shop) -> None:
    shop.desk.hold = asyncio.Event()
    page = await open_kiosk(browser, shop)
    await page.keyboard.type(COFFEE)
    await page.keyboard.press("Enter")
    await expect(page.locator("#working")).to_be_visible()
    await shop.desk.asked.wait()
    await page.reload()
    shop.desk.hold.set()
    await expect(page.locator("#result h1")).to_have_text("核銷成功")
    assert len(shop.desk.presented) == 1
    await page.reload()
    await expect(page.locator("#result h1")).to_have_text("核銷成功")


async def test_the_end_of_a_session_wipes_everything(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    await page.click("#language")
    await page.keyboard.type(CAKE)
    await page.keyboard.press("Enter")
    await expect(page.locator("#result h1")).to_have_text("Redeemed")
    await page.click("#done")
    await expect(page.locator("#cleared")).to_be_visible()
    await expect(page.locator("#attract h1")).to_have_text("請出示您的條碼")
    everything = "[document.body.outerHTML, code.value, JSON.stringify(sessionStorage), JSON.stringify(localStorage), location.href].join()"
    left = await page.evaluate(everything)
    assert CAKE not in left and CAKE.replace("-", "") not in left and "栗子蛋糕" not in left and "Chestnut" not in left


async def test_core_ending_a_result_wipes_it_unless_the_customer_asked_to_stay(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    await shop.redeem(COFFEE)
    await page.click("#stay")
    shop.desk.show("counter", None)
    await asyncio.sleep(0.5)
    await expect(page.locator("#result h1")).to_have_text("核銷成功")
    await page.click("#done")
    await shop.redeem(CAKE)
    await expect(page.locator("#result h1")).to_have_text("核銷成功")
    shop.desk.show("counter", None)
    await expect(page.locator("#attract")).to_be_visible()


async def test_the_keyboard_alone_is_enough(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    for _ in range(10):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.id") == "by-typing":
            break
    outline = await page.evaluate(
        "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"
    )
    assert outline == "solid4px"
    await page.keyboard.press("Enter")
    await expect(page.locator("#code")).to_be_focused()
    await page.keyboard.type(COFFEE.replace("-", "").lower())
    await page.keyboard.press("Enter")
    await expect(page.locator("#result h1")).to_have_text("核銷成功")
    await expect(page.locator("#result h1")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.locator("#done")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#attract")).to_be_visible()


async def test_an_idle_customer_is_asked_and_then_wiped(browser: Browser, shop: Shop) -> None:
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    page = shop.mind(await context.new_page())
    await page.clock.install()
    await page.goto(f"{shop.url}/kiosk/counter")
    await page.keyboard.type("ABC")
    await page.clock.fast_forward(61_000)
    await expect(page.locator("#still")).to_be_visible()
    await page.click("#still-yes")
    await expect(page.locator("#still")).to_be_hidden()
    await expect(page.locator("#code")).to_have_value("ABC")
    await page.clock.fast_forward(61_000)
    await expect(page.locator("#still")).to_be_visible()
    await page.clock.run_for(21_000)
    await expect(page.locator("#attract")).to_be_visible()
    await expect(page.locator("#code")).to_have_value("")


async def test_markup_in_a_title_is_text(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    await shop.redeem(XSS)
    await expect(page.locator(f"{RESULT} .what")).to_have_text(ATTACK)
    glance = shop.mind(await browser.new_page())
    await glance.goto(f"{shop.url}/")
    await expect(glance.locator("#clock")).to_contain_text(":")  # it listens: what happens from now on is news
    await shop.redeem(XSS)
    await expect(glance.locator("#news")).to_contain_text("<img src=x")
    await asyncio.sleep(0.3)
    assert "owned" not in (await page.title(), await glance.title())
    assert await glance.locator("#news img").count() == 0


async def test_silence_of_core_is_never_called_a_result(browser: Browser, shop: Shop) -> None:
    page = await open_kiosk(browser, shop)
    await page.route("**/v1/redeem", lambda route: route.abort())
    await page.keyboard.type(COFFEE)
    await page.keyboard.press("Enter")
    await expect(page.locator("#result h1")).to_have_text("尚未收到結果", timeout=15_000)
    await page.unroute("**/v1/redeem")
    await page.click("#again")
    await expect(page.locator("#result h1")).to_have_text("核銷成功")
    assert len(shop.desk.presented) == 1
