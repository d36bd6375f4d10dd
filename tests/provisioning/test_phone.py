"""A phone in the shop enrols a box that has no scanner: it photographs the label, and nobody types a letter."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import segno
from playwright.async_api import Page, Playwright, async_playwright, expect

from cloud_bridge.hq.options import HqOptions
from gateway.config import GatewayConfig
from gateway.kiosk import enrol, neighbours
from gateway.kiosk.enrol import SETTING, SHOP, TRIES, make_app
from gateway.scanner.decode import decode
from provisioning.enroll import is_enrolled
from provisioning.sheet import Pen, Sticker, cjk_font
from provisioning.unit import WAITING, Standing
from tests.cloud_bridge.hq.rig import Hq, headquarters, until
from tests.provisioning.test_unit import config, label_of, waiting

__all__ = ["config"]
SERVICE = Path(__file__).parents[2] / "systemd" / "store-enroll.service"
needs_network = pytest.mark.skipif(not neighbours.networks(), reason="this machine has loopback only, so nobody can be near it")


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[Hq]:
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"))) as running:
        yield running


@pytest.fixture
def in_the_shop(monkeypatch: pytest.MonkeyPatch) -> str:
    """The page listens to the shop's network, as the unit's file asks; where a phone finds this machine."""
    monkeypatch.setenv(SETTING, SHOP)
    return str(neighbours.networks()[0].ip)


def photo(code: str, seed: int = 3) -> bytes:
    """A printed label as a phone's 12 megapixel camera takes it: askew, in perspective, badly lit, noisy, as a JPEG."""
    sticker = Sticker(code, "gw-s1", "s1", "台北一店", "Taipei No. 1", "Asia/Taipei", 1_798_000_000_000_000)
    label = np.asarray(Pen(cjk_font()).label(sticker).convert("L"), np.uint8)
    height, width = label.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    held = np.array([[620, 1180], [2480, 1010], [2590, 2390], [560, 2460]], np.float32)
    view = cv2.warpPerspective(label, cv2.getPerspectiveTransform(corners, held), (3024, 4032), borderValue=(96,))
    light = np.linspace(0.55, 1.0, 4032)[:, None] * np.linspace(1.0, 0.8, 3024)[None, :]
    noise = np.random.default_rng(seed).normal(0, 6, view.shape)
    taken = np.clip(cv2.GaussianBlur(view, (0, 0), 1.5) * light + noise, 0, 255).astype(np.uint8)
    ok, jpeg = cv2.imencode(".jpg", taken, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert ok
    return jpeg.tobytes()


async def open_page(playwright: Playwright, keys: list[str], touch: bool) -> Page:
    browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--no-proxy-server"])
    width, height = (390, 844) if touch else (1280, 1000)
    page = await (await browser.new_context(viewport={"width": width, "height": height}, has_touch=touch)).new_page()
    await page.expose_function("struck", lambda key: keys.append(key))  # playwright marks what it is given
    await page.add_init_script("addEventListener('keydown', (event) => struck(event.key), true)")
    await page.add_init_script("addEventListener('input', (event) => event.target.type !== 'file' && struck('typed'), true)")
    return page


async def take(phone: Page, jpeg: bytes) -> None:
    await phone.set_input_files("#photo", {"name": "IMG_0001.jpg", "mimeType": "image/jpeg", "buffer": jpeg})


@needs_network
@pytest.mark.browser
@pytest.mark.slow
async def test_a_photo_of_the_label_enrols_the_box_and_nobody_types(hq: Hq, config: GatewayConfig, in_the_shop: str) -> None:
    assert config.core.host == "127.0.0.1", "core itself stays where it was"
    keys: list[str] = []
    async with waiting(config) as unit, async_playwright() as playwright:
        await until(config.link_path.exists)
        screen = await open_page(playwright, keys, touch=False)
        await screen.goto(f"http://127.0.0.1:{config.core.port}/kiosk/counter")
        shown = cv2.imdecode(np.frombuffer(await screen.locator("#for-phones").screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert shown is not None
        ((address, _, _),) = decode(np.ascontiguousarray(shown, np.uint8))
        assert address == f"http://{in_the_shop}:{config.core.port}/"

        phone = await open_page(playwright, keys, touch=True)
        await phone.goto(address)  # what a phone's camera app does with that code
        await expect(phone.locator("#for-phones")).to_have_count(0)
        assert not await phone.evaluate("isSecureContext"), "this must work without HTTPS"
        await take(phone, cv2.imencode(".jpg", np.full((900, 900), 90, np.uint8))[1].tobytes())  # the wall beside it
        await expect(phone.locator("#unread")).to_be_visible()
        await take(phone, photo(await label_of(hq)))
        await expect(phone.locator("h1")).to_have_text("註冊完成", timeout=15_000)
        async with asyncio.timeout(40):
            await unit
        assert keys == []
        await phone.keyboard.press("x")  # they would have been counted
        await until(lambda: keys == ["x"])
        await phone.context.browser.close()  # type: ignore[union-attr]
        await screen.context.browser.close()  # type: ignore[union-attr]
    assert is_enrolled(config.enrolment_dir)


@needs_network
async def test_the_door_to_the_shop_is_open_only_until_the_box_is_enrolled(hq: Hq, config: GatewayConfig, in_the_shop: str) -> None:
    async with waiting(config) as unit, httpx.AsyncClient(base_url=f"http://{in_the_shop}:{config.core.port}", trust_env=False) as phone:
        await until(config.link_path.exists)
        assert "此機尚未註冊" in (await phone.get("/")).text
        assert (await phone.get("/", headers={"Host": "rebound.example"})).status_code == 400
        assert (await phone.post("/enroll", data={"code": "x"}, headers={"Origin": "http://evil.example"})).status_code == 403
        assert (await phone.post("/enroll", data={"code": "x" * 70_000})).status_code == 413
        await phone.post("/enroll", data={"code": await label_of(hq)})
        async with asyncio.timeout(40):
            await unit
        with pytest.raises(httpx.ConnectError):
            await phone.get("/")


@needs_network
async def test_without_the_setting_a_phone_finds_nobody(config: GatewayConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    async with waiting(config), httpx.AsyncClient(trust_env=False) as phone:
        await until(config.link_path.exists)
        with pytest.raises(httpx.ConnectError):
            await phone.get(f"http://{neighbours.networks()[0].ip}:{config.core.port}/")
        own = (await phone.get(f"http://127.0.0.1:{config.core.port}/")).text
        assert "此機尚未註冊" in own and "for-phones" not in own


@needs_network
async def test_whoever_comes_from_another_network_is_hung_up_on(
    config: GatewayConfig, in_the_shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "networks", lambda: [])  # this machine stands elsewhere now
    monkeypatch.setattr(enrol, "networks", lambda: [])
    async with waiting(config), httpx.AsyncClient(trust_env=False) as somebody:
        await until(config.link_path.exists)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await somebody.get(f"http://{in_the_shop}:{config.core.port}/")
        assert (await somebody.get(f"http://127.0.0.1:{config.core.port}/")).status_code == 200


async def test_an_address_that_hands_in_labels_without_end_waits_and_others_do_not() -> None:
    handed: list[str] = []
    app = make_app("gw-s1", "s1", frozenset({"localhost"}), lambda: Standing(0, "waiting", "", WAITING), handed.append)

    def of(address: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 1)), base_url="http://localhost")

    async with of("192.168.1.7") as one, of("192.168.1.8") as other:
        statuses = [(await one.post("/enroll", data={"code": str(number)})).status_code for number in range(TRIES + 3)]
        assert statuses == [303] * TRIES + [429] * 3 and len(handed) == TRIES
        assert "試太多次了" in (await one.post("/enroll", data={"code": "x"})).text
        assert (await one.get("/enroll/state")).status_code == 200
        assert (await other.post("/enroll", data={"code": "y"})).status_code == 303


def test_tries_come_back_with_time() -> None:
    tries = enrol._Tries()
    assert [tries.take("a", 0.0) for _ in range(TRIES + 1)] == [True] * TRIES + [False]
    assert not tries.take("a", enrol.TRY_S * 0.9) and tries.take("a", enrol.TRY_S * 1.1)
    for number in range(2 * enrol.ADDRESSES):
        tries.take(str(number), 0.0)
    assert len(tries._left) <= enrol.ADDRESSES


def test_a_box_under_systemd_asks_for_the_shops_network() -> None:
    assert re.search(rf"^Environment=.*\b{SETTING}={SHOP}\b", SERVICE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("whole_b", "as_a_link", "as_it_is"), [(204, 13, 10), (124, 10, 8)])
def test_a_label_as_a_link_would_be_a_larger_code(whole_b: int, as_a_link: int, as_it_is: int) -> None:
    """Why the label's text stays what it is (ADR 10): the longest one and a usual one."""
    link = f"http://192.168.100.100:8080/enroll#{'x' * -(-4 * whole_b // 3)}"  # base64url: letters that an address may hold
    plain = "SGE1:" + "A" * (3 * whole_b // 2)
    assert [int(segno.make_qr(text, error="m", boost_error=False).version) for text in (link, plain)] == [as_a_link, as_it_is]


async def test_a_closed_port_is_no_door(config: GatewayConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address this machine does not have costs the page only."""
    monkeypatch.setenv(SETTING, "203.0.113.77")
    async with waiting(config):
        await until(config.link_path.exists)
        with contextlib.closing(socket.socket()) as nobody:
            assert nobody.connect_ex(("127.0.0.1", config.core.port)) != 0
