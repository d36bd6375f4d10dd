"""The whole way of a new box, as a technician sees it: headquarters runs one command for three shops and prints one sheet; in each
shop somebody powers a box on and holds its label before its own camera. That is all anybody does."""

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cloud_bridge.hq.options import HqOptions
from cloud_bridge.ports import free_port
from provisioning.authority import Enrolment
from tests.cloud_bridge.hq.rig import Hq, headquarters
from virtual_store.shoppers import order

CSV = """store,number,name_zh,name_en
tpe-001,101,台北一店,Taipei No. 1
tpe-002,102,台北二店,Taipei No. 2
khh-001,301,高雄一店,Kaohsiung No. 1
"""
BOX = """
[store]
tenant = "demo"
store = "{store}"
number = {number}
gateway = "gw-{store}"
[paths]
state = "state"
run = "run"
[bridge]
host = "localhost"
[core]
port = {port}
[[scanner]]
name = "counter"
source = "virtual"
seed = 7
"""


class Person:
    """Whoever does something, and how much of it."""

    def __init__(self) -> None:
        self.commands = self.scans = self.typed_letters = 0

    async def command(self, *words: str) -> str:
        self.commands += 1
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", *words, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()

    async def hold(self, camera: Path, png: bytes) -> None:
        """Hold what was printed before a box's camera."""
        taken = False
        while not taken:  # the camera may still be coming up
            with contextlib.suppress(OSError):
                taken = (await order(camera, do="show_image", png=base64.b64encode(png).decode(), seconds=20))["ok"]
            await asyncio.sleep(0.05)
        self.scans += 1


def printed(pdf: Path) -> list[bytes]:
    """The sheet as it comes out of a printer, cut into labels; of each the left part, where its code is."""
    subprocess.run(["pdftoppm", "-r", "300", "-gray", "-png", str(pdf), str(pdf.with_suffix(""))], check=True)
    page = cv2.imread(str(next(pdf.parent.glob(f"{pdf.stem}*.png"))), cv2.IMREAD_GRAYSCALE)
    assert page is not None
    labels = []
    for place in range(3):
        left, top = 55 + place % 2 * 1200, 153 + place // 2 * 800
        ok, png = cv2.imencode(".png", np.ascontiguousarray(page[top + 90 : top + 710, left + 10 : left + 610]))
        assert ok
        labels.append(png.tobytes())
    return labels


async def box_comes_up(folder: Path, shop: dict[str, Any], label: bytes, technician: Person) -> float:
    """Power on, one scan, enrolled; seconds from the scan on."""
    (folder / "run").mkdir(parents=True)
    config = folder / "gateway.toml"
    config.write_text(BOX.format(store=shop["store"], number=shop["number"], port=free_port()))
    units = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", "run", unit, "--config", str(config))
        for unit in ("scanner@counter", "enroll")
    ]
    try:
        await technician.hold(folder / "run" / "camera-counter.ctl", label)
        shown_s = time.monotonic()
        async with asyncio.timeout(60):
            assert await units[1].wait() == 0
        return time.monotonic() - shown_s
    finally:
        for unit in units:
            if unit.returncode is None:
                unit.terminate()
                await unit.wait()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="apt-get install poppler-utils")
async def test_one_command_for_three_shops_and_one_scan_for_each_box(tmp_path: Path) -> None:
    office, technician = Person(), Person()
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"))) as hq:
        (tmp_path / "stores.csv").write_text(CSV, encoding="utf-8")
        pdf = tmp_path / "labels.pdf"
        out = await office.command(
            "hq", "batch", str(tmp_path / "stores.csv"), "--out", str(pdf), "--data", str(tmp_path / "hq"), "--json"
        )  # fmt: skip
        shops = json.loads(out)["issued"]
        assert len(shops) == 3
        with tempfile.TemporaryDirectory(prefix="sgw-") as short:
            for shop, label in zip(shops, printed(pdf), strict=True):
                took_s = await box_comes_up(Path(short) / shop["store"], shop, label, technician)
                assert took_s < 10
                await speaks(hq, Enrolment.load(Path(short) / shop["store"] / "state" / "enrolment"))
    assert (office.commands, technician.commands) == (1, 0)
    assert (technician.scans, technician.typed_letters) == (3, 0)


async def speaks(hq: Hq, enrolment: Enrolment) -> None:
    async with hq.connected(enrolment) as box:
        assert (await box.beat()).gateway == enrolment.facts.gateway
