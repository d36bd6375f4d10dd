"""A box that lies switched off while headquarters revokes it: it is told when it is switched on, and never serves again."""

import asyncio
import contextlib
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from cloud_bridge.hq.options import HqOptions
from cloud_bridge.ports import free_port
from gateway.schema import migrate
from provisioning.authority import Enrolment
from tests.cloud_bridge.hq.rig import Hq, headquarters

CONFIG = """
[store]
tenant = "demo"
store = "s1"
number = 1
gateway = "gw-s1"
[paths]
state = "state"
run = "run"
[core]
port = {port}
[bridge]
host = "127.0.0.1"
port = {broker}
server_name = "localhost"
[[station]]
name = "counter"
[[station]]
name = "entrance"
"""


class OffAndOn:
    """A box with a switch: core and, with a line, the bridge, as real processes."""

    def __init__(self, folder: Path, broker_port: int) -> None:
        self.folder = folder
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.config = folder / "gateway.toml"
        self.config.write_text(CONFIG.format(port=port, broker=broker_port), encoding="utf-8")

    @contextlib.asynccontextmanager
    async def on(self, *, line: bool) -> AsyncIterator[None]:
        """Switched on, until the block ends."""
        units = [
            await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", "run", unit, "--config", str(self.config))
            for unit in (("core", "bridge") if line else ("core",))
        ]
        try:
            yield
        finally:
            for unit in units:
                unit.kill()  # as a plug that is pulled
                await unit.wait()


async def status(kiosk: httpx.AsyncClient, station: str, code: str) -> int:
    """What a kiosk with a key is told when a code is shown to it; asks again while core is not up."""
    body = {"station": station, "code": code, "presentation_id": secrets.token_hex(16)}
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.TransportError):
                return (await kiosk.post("/v1/redeem", json=body)).status_code
            await asyncio.sleep(0.1)


async def until_status(kiosk: httpx.AsyncClient, station: str, wanted: int, code: str) -> None:
    async with asyncio.timeout(60):
        while await status(kiosk, station, code) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def enrolled(hq: Hq, folder: Path) -> OffAndOn:
    enrolment = await hq.new_box()
    box = OffAndOn(folder, hq.addresses.broker_port)
    (folder / "state").mkdir()
    (folder / "run").mkdir()
    Path(enrolment.cert_path).parent.rename(folder / "state" / "enrolment")
    assert Enrolment.load(folder / "state" / "enrolment").facts.gateway == "gw-s1"
    await asyncio.to_thread(migrate, folder / "state" / "ledger.db")
    return box


@pytest.mark.slow
async def test_a_box_that_was_off_when_it_was_revoked_stops_serving_when_it_comes_back_and_for_good(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        hq = await stack.enter_async_context(headquarters(HqOptions(data_dir=str(tmp_path / "hq"))))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sgw-")))  # short: unix sockets allow 108 bytes
        box = await enrolled(hq, folder)
        asked = {"store": "s1", "title_zh": "試用包", "title_en": "Sample"}
        spent, kept = [(await hq.post("/api/vouchers", asked))["token"] for _ in range(2)]
        kiosks = {
            station: await stack.enter_async_context(httpx.AsyncClient(base_url=box.url, trust_env=False, timeout=10))
            for station in ("counter", "entrance")
        }

        async with box.on(line=True):
            for station, kiosk in kiosks.items():
                await until_status(kiosk, station, 401, spent)  # up, and the kiosk has no key yet
                assert (await kiosk.get(f"/kiosk/{station}")).status_code == 200  # the box's own screen gets one
            await until_decision(kiosks["counter"], spent, "redeemed")
            await drained(hq)

        await hq.post("/api/boxes/gw-s1/revoke")

        async with box.on(line=True):
            for station, kiosk in kiosks.items():
                await until_status(kiosk, station, 403, kept)
            page = await kiosks["entrance"].get("/kiosk/entrance")
            assert page.status_code == 403 and "本機已停用" in page.text and "This box was retired" in page.text
        async with box.on(line=False):  # it has heard it once: no line is needed to know it
            for station, kiosk in kiosks.items():
                assert await status(kiosk, station, kept) == 403
        assert (await hq.get("/api/stores/s1/counts"))["total"]["redemptions"] == 1


async def until_decision(kiosk: httpx.AsyncClient, code: str, wanted: str) -> None:
    """Until the shop's documents have come."""
    async with asyncio.timeout(60):
        while True:
            body = {"station": "counter", "code": code, "presentation_id": secrets.token_hex(16)}
            if (await kiosk.post("/v1/redeem", json=body)).json()["decision"] == wanted:
                return
            await asyncio.sleep(0.1)


async def drained(hq: Hq) -> None:
    async with asyncio.timeout(60):
        while (await hq.get("/api/stores/s1/counts"))["total"].get("redemptions") != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
