"""A box that is nobody yet: a label shown to its scanner, or pasted into its page, makes it a shop's box."""

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from playwright.async_api import async_playwright, expect

from cloud_bridge.hq.options import HqOptions
from cloud_bridge.ports import free_port
from gateway.clock import SystemClock
from gateway.config import GatewayConfig, parse
from gateway.events import CodePresented, DeviceChanged
from gateway.kiosk.enrol import make_app
from gateway.link import LinkClient, LinkServer
from gateway.units import run_enroll
from provisioning.enroll import is_enrolled
from provisioning.label import read_label, write_label
from provisioning.unit import EnrolDesk
from tests.cloud_bridge.hq.rig import Hq, cancel, headquarters, until

CONFIG = """
[store]
tenant = "demo"
store = "s1"
number = 1
gateway = "gw-s1"
name_zh = "台北一店"
[paths]
state = "{root}/state"
run = "{root}/run"
[bridge]
host = "localhost"
[core]
port = {port}
[[scanner]]
name = "counter"
source = "virtual"
"""


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[Hq]:
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"))) as running:
        yield running


@pytest.fixture
async def config() -> AsyncIterator[GatewayConfig]:
    with tempfile.TemporaryDirectory(prefix="sgw-") as folder:  # short: unix sockets allow 108 bytes
        yield parse(CONFIG.format(root=folder, port=free_port()))


@contextlib.asynccontextmanager
async def waiting(config: GatewayConfig) -> AsyncIterator["asyncio.Task[None]"]:
    """The unit, in this process."""
    unit = asyncio.create_task(run_enroll(config))
    try:
        yield unit
    finally:
        if not unit.done():
            await cancel(unit)


@contextlib.asynccontextmanager
async def driver(config: GatewayConfig, name: str = "scanner@counter") -> AsyncIterator[LinkClient]:
    link = LinkClient(config.link_path, name, SystemClock())
    running = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        await cancel(running)


def shown(text: str) -> CodePresented:
    return CodePresented("scanner@counter", secrets.token_hex(16), "]Q1", text.encode())


async def label_of(hq: Hq) -> str:
    return str((await hq.post("/api/boxes", {"store": "s1", "gateway": "gw-s1", "number": 1}))["label"])


async def test_a_label_before_the_scanner_enrols_the_box_and_ends_the_unit(hq: Hq, config: GatewayConfig) -> None:
    async with driver(config) as scanner, waiting(config) as unit:
        await scanner.state(shown("V1:SOME VOUCHER"))  # taken and dropped: nothing is served yet
        await scanner.state(shown(await label_of(hq)))
        async with asyncio.timeout(40):
            await unit
    assert is_enrolled(config.enrolment_dir)
    async with asyncio.timeout(2):  # the next start has nothing to wait for
        await run_enroll(config)


async def test_what_drivers_state_meanwhile_is_kept_for_core(hq: Hq, config: GatewayConfig) -> None:
    opened = DeviceChanged("locker@wall", "up", "", SystemClock().now())
    async with driver(config, "locker@wall") as locker, driver(config) as scanner:
        answer = locker.state(opened, "the-event")
        async with waiting(config) as unit:
            await until(lambda: locker.connected)
            scanner.state(shown(await label_of(hq)))
            async with asyncio.timeout(40):
                await unit
        assert not answer.done() and locker.unanswered == 1
        heard: list[tuple[str, object]] = []

        async def decide(_: str, name: str, event: object) -> bytes:
            heard.append((name, event))
            return b"now"

        core = LinkServer(config.link_path, SystemClock(), decide, lambda *_: None)
        serving = asyncio.create_task(core.serve())
        try:
            async with asyncio.timeout(30):
                assert await answer == b"now"
            assert heard == [("the-event", opened)]
        finally:
            await cancel(serving)


async def test_headquarters_that_is_away_is_asked_again_by_itself(hq: Hq, config: GatewayConfig) -> None:
    label = read_label(await label_of(hq))
    late = free_port()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection(label.host, label.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while piece := await source.read(65_536):
                sink.write(piece)
            sink.close()

        await asyncio.gather(pump(reader, far), pump(far_reader, writer))

    async with driver(config) as scanner, waiting(config) as unit:
        await scanner.state(shown(write_label(msgspec.structs.replace(label, port=late))))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{config.core.port}", trust_env=False) as page:
            state = {"reason": ""}
            while state["reason"] != "hq_unreachable":
                state = (await page.get("/enroll/state")).json()
                await asyncio.sleep(0.02)
        line = await asyncio.start_server(pipe, "127.0.0.1", late)  # the cable is plugged in
        async with line, asyncio.timeout(40):
            await unit
    assert is_enrolled(config.enrolment_dir)


@pytest.mark.slow
async def test_a_pasted_label_enrols_the_box_and_a_wrong_one_says_why(hq: Hq, config: GatewayConfig) -> None:
    base = f"http://127.0.0.1:{config.core.port}"
    async with waiting(config) as unit, httpx.AsyncClient(base_url=base, trust_env=False, follow_redirects=True) as page:
        await until(lambda: config.link_path.exists())
        first = (await page.get("/")).text
        assert "此機尚未註冊" in first and "This box is not enrolled yet" in first and "gw-s1" in first
        foreign = await page.post("/enroll", data={"code": "x"}, headers={"Origin": "http://evil.example"})
        assert foreign.status_code == 403
        await page.post("/enroll", data={"code": "nonsense"})
        while (await page.get("/enroll/state")).json()["state"] != "refused":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        refused = (await page.get("/kiosk/counter")).text  # whatever page somebody opens
        assert "這不是註冊標籤" in refused and 'data-reason="not_a_label"' in refused and '<div id="ways">' in refused
        await page.post("/enroll", data={"code": f"  {await label_of(hq)}\r\n"})
        while (await page.get("/enroll/state")).json()["state"] != "enrolled":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert "註冊完成" in (await page.get("/")).text
        async with asyncio.timeout(40):
            await unit
    assert is_enrolled(config.enrolment_dir)


async def test_a_taken_port_costs_the_page_only(hq: Hq, config: GatewayConfig) -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", config.core.port)
    async with taken, driver(config) as scanner, waiting(config) as unit:
        await scanner.state(shown(await label_of(hq)))
        async with asyncio.timeout(40):
            await unit


async def test_names_on_the_page_are_words_not_markup(config: GatewayConfig) -> None:
    desk = EnrolDesk(config, SystemClock())
    app = make_app("<script>", '"><b>', frozenset({"localhost"}), lambda: desk.standing, desk.present)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as page:
        text = (await page.get("/")).text
        assert "&lt;script&gt;" in text and "<b>" in text.replace("&quot;&gt;&lt;b&gt;", "") and '"><b>' not in text
        assert (await page.get("/", headers={"Host": "rebound.example"})).status_code == 400
        assert "script-src 'self'" in (await page.get("/")).headers["content-security-policy"]


@pytest.mark.browser
@pytest.mark.slow
async def test_a_person_with_a_browser_can_enrol_the_box(hq: Hq, config: GatewayConfig) -> None:
    async with waiting(config) as unit, async_playwright() as playwright:
        await until(lambda: config.link_path.exists())
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 390, "height": 844})  # a phone
        await page.goto(f"http://127.0.0.1:{config.core.port}/")
        await page.fill("#code", "nonsense")
        await page.click("button")
        await expect(page.locator("h1")).to_have_text("這不是註冊標籤")
        await page.fill("#code", await label_of(hq))
        await page.click("button")
        await expect(page.locator("h1")).to_have_text("註冊完成")
        async with asyncio.timeout(40):
            await unit
        await browser.close()
