"""A pop-up shop is set up: from a printed label to the first redeemed voucher, by the steps of docs/install.md."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_bridge.ports import free_port
from gateway.ledger import LedgerReader
from gateway.schema import migrate
from provisioning.install import Options, install
from tests.store.running import RunningStore
from virtual_store.shoppers import show

pytestmark = [pytest.mark.slow]
PROMISED_S = 30 * 60
STORES_CSV = "store,number,name_zh,name_en,timezone\npopup-hk,901,中環快閃店,Central pop-up,Asia/Hong_Kong\n"
# What the profile of a pop-up shop holds: one station, one camera, any line that reaches headquarters.
PROFILE = """
[store]
tenant = "demo"
store = "popup-hk"
number = 901
gateway = "gw-popup-hk"
name_zh = "中環快閃店"
name_en = "Central pop-up"
timezone = "Asia/Hong_Kong"
[paths]
state = "state"
run = "run"
[core]
port = {port}
[bridge]
host = "127.0.0.1"
port = {relay}
server_name = "localhost"
[[station]]
name = "counter"
scanners = ["counter"]
[[scanner]]
name = "counter"
source = "virtual"
seed = 3
"""


class Box:
    """A box that was taken out of its carton."""

    def __init__(self, folder: Path, relay: int) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "gateway.toml"
        for name in ("state", "run"):
            (folder / name).mkdir()
        self.config.write_text(PROFILE.format(port=self.port, relay=relay), encoding="utf-8")
        self._units: list[subprocess.Popen[bytes]] = []

    def start(self, unit: str) -> "subprocess.Popen[bytes]":
        """What systemd does when the target starts."""
        process = subprocess.Popen([sys.executable, "-m", "gateway", "run", unit, "--config", str(self.config), "--with-parent"])
        self._units.append(process)
        return process

    def stop(self) -> None:
        """Power off."""
        for process in self._units:
            process.terminate()
            process.wait(timeout=20)

    def view(self) -> Any:
        """The shop at a glance, or nothing while core is not there."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/store", timeout=5) as reply:
            return json.load(reply)
        return None


@pytest.fixture
def carton() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sgw-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def print_label(store: RunningStore, folder: Path) -> str:
    """Headquarters' one command; the text of the label's code."""
    sheet, stores = folder / "labels.pdf", folder / "stores.csv"
    stores.write_text(STORES_CSV, encoding="utf-8")
    command = [sys.executable, "-m", "gateway", "hq", "batch", str(stores), "--out", str(sheet), "--json"]
    done = subprocess.run([*command, "--data", str(store.starter.plan.hq_dir)], capture_output=True, text=True, check=True, timeout=60)
    assert sheet.read_bytes().startswith(b"%PDF")
    (issued,) = json.loads(done.stdout)["issued"]
    return str(issued["label"])


@pytest.mark.scenario("R76")
def test_a_pop_up_shop_redeems_within_half_an_hour_of_its_label(whole_store: RunningStore, carton: Path) -> None:
    began_s = time.monotonic()
    label = print_label(whole_store, carton)
    relays = whole_store.starter.plan.hq_dir / "addresses.json"
    whole_store.until(lambda: "popup-hk" in json.loads(relays.read_text())["relays"], 10, "the new shop has no line")
    (carton / "box").mkdir()
    (carton / "image").mkdir()
    box = Box(carton / "box", json.loads(relays.read_text())["relays"]["popup-hk"])
    steps = install(Options(carton / "image"))
    assert any(step.what.endswith("store.target") for step in steps)
    try:
        scanner, enroll = box.start("scanner@counter"), box.start("enroll")
        camera = box.folder / "run" / "camera-counter.ctl"
        whole_store.eventually(lambda: whole_store.call(show(camera, label, 20)), 20)
        assert enroll.wait(timeout=60) == 0
        migrate(box.folder / "state" / "ledger.db")
        box.start("core")
        box.start("bridge")
        whole_store.until(lambda: bool((view := box.view()) and view["line"]["up"] and "keys" in view["documents"]), 60, "no line")

        ask = {"store": "popup-hk", "title_zh": "快閃禮", "title_en": "Pop-up gift"}
        token = whole_store.hq_post("/api/vouchers", ask)["token"]
        whole_store.eventually(lambda: whole_store.call(show(camera, token)), 20)
        whole_store.until(lambda: bool(box.view()["counts"]["redemptions"] == 1), 30, "the voucher was not redeemed")
        assert time.monotonic() - began_s <= PROMISED_S
        whole_store.until(lambda: whole_store.hq_get("/api/stores/popup-hk/counts")["redemptions"] == 1, 20, "HQ never heard of it")
        assert scanner.poll() is None
    finally:
        box.stop()
    reader = LedgerReader(box.folder / "state" / "ledger.db")
    assert reader.counts()["VoucherRedeemed"] == 1
    reader.close()
