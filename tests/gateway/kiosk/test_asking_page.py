"""The kiosk of a shop without a line: the phone's QR code is on the screen, and it is the one core signed."""

import io
import re

import numpy as np
import pytest
import zxingcpp
from PIL import Image
from playwright.async_api import Browser, expect

from gateway import asking
from gateway.asking import Ancestor, Asking
from gateway.rules import answers
from tests.conftest import TOKEN_KEY
from tests.gateway.kiosk.conftest import Shop

ADDRESS = asking.address(
    "https://hq.example",
    Asking(
        gateway="gw-tpe-001", epoch="12-5eed5eed", voucher_id="00000000000002a", asked_s=1_800_000_000,
        ancestors=(Ancestor("11-5eed5eed", 42, "00112233445566ff"),),
    ),
    TOKEN_KEY,
)  # fmt: skip


async def test_only_a_request_for_a_pass_is_drawn(shop: Shop) -> None:
    drawn = await shop.client.get("/v1/asking.svg", params={"text": ADDRESS})
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/svg+xml")
    for text in ("https://elsewhere.example/", ADDRESS[:-3], "", "A" * 5_000):
        assert (await shop.client.get("/v1/asking.svg", params={"text": text})).status_code in (404, 422)


@pytest.mark.browser
@pytest.mark.slow
async def test_the_screen_shows_the_phone_where_to_get_a_pass(browser: Browser, shop: Shop) -> None:
    page = shop.mind(await browser.new_page(viewport={"width": 1280, "height": 800}))
    await page.goto(f"{shop.url}/kiosk/counter")
    await expect(page.locator("#clock")).to_have_text(re.compile(r"\d\d:\d\d"))
    shop.desk.show("counter", answers.with_address(answers.refusal("needs_grant", 0, reference="00000000000002a"), ADDRESS))
    picture = page.locator("#result img.asking")
    await expect(picture).to_be_visible()
    await expect(page.locator("#result .next")).to_contain_text("掃描畫面上的 QR 碼")
    await page.wait_for_function("document.querySelector('#result img.asking').naturalWidth > 0")
    seen = np.asarray(Image.open(io.BytesIO(await page.screenshot(path="build/screenshots/kiosk-needs-a-pass.png"))).convert("L"))
    assert [found.text for found in zxingcpp.read_barcodes(seen)] == [ADDRESS]
