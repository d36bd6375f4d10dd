"""The bridge reads no further than core names: the SQLite case behind that rule, with real processes.

Core is killed while a commit waits for its fsync. The commit is in the write-ahead log already, so whoever opens the file next
sees a row that a power cut may still take away; if it had reached headquarters, its number would come again with another row.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.config import StoreTable
from gateway.events import Stated
from gateway.ledger import LedgerReader
from gateway.link import LedgerReaches, LinkServer
from gateway.schema import migrate
from provisioning.enroll import enrol
from tests.cloud_bridge.brokers.site import Site, site_on

pytestmark = [pytest.mark.slow]
SHIM = Path(__file__).parents[2] / "benchmarks" / "shims" / "slowsync.c"
SYNC_S = 1.0
WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.events import RedemptionRefused
from gateway.ledger import Ledger

async def main():
    clock = SystemClock()
    ledger = Ledger(Path(sys.argv[1]), clock, "test", lambda: None, print)
    def row(number):
        return RedemptionRefused(f"p{number}", None, "forged", "counter", "scanner@counter", None, clock.now())
    await ledger.append([row(1)])
    print(ledger.reach[ledger.epoch.number][0], flush=True)
    second = ledger.append([row(2)])
    await asyncio.sleep(0.4)
    print("answered" if second.done() else "waiting", flush=True)
    await second

asyncio.run(main())
"""
SHOP = """
[store]
tenant = "demo"
store = "s1"
number = 1
gateway = "gw-a"
[paths]
state = "{root}/state"
run = "{root}/run"
[bridge]
host = "127.0.0.1"
port = {port}
server_name = "localhost"
"""


def killed_in_its_fsync(ledger: Path, shim: Path) -> int:
    """Write two rows, and kill the writer while the second one's commit waits for the disk; the last row it was told of."""
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(shim), str(SHIM)], check=True)
    slow = os.environ | {"LD_PRELOAD": str(shim), "SYNC_DELAY_US": str(int(SYNC_S * 1e6))}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(ledger)], env=slow, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        covered = int(writer.stdout.readline())
        assert writer.stdout.readline() == "waiting\n"
        writer.send_signal(signal.SIGKILL)
    return covered


def mark(site: Site) -> int:
    """How far headquarters has lane 0."""
    return max((entry["received"] for entry in site.ask("/api/books")["entries"] if entry["lane"] == 0), default=0)


async def has(site: Site, wanted: int) -> None:
    async with asyncio.timeout(30):
        while await asyncio.to_thread(mark, site) < wanted:  # noqa: ASYNC110 - another process moves it
            await asyncio.sleep(0.1)


async def test_a_row_that_no_fsync_has_covered_does_not_reach_headquarters(tmp_path: Path) -> None:
    for name in ("state", "run", "site"):
        (tmp_path / name).mkdir()
    ledger = tmp_path / "state" / "ledger.db"
    migrate(ledger)
    covered = await asyncio.to_thread(killed_in_its_fsync, ledger, tmp_path / "slowsync.so")
    reader = LedgerReader(ledger)
    epoch = reader.epochs()[-1].number
    seen = [row.seq for row in reader.rows(epoch, 0, 0, 1_000)]
    reader.close()
    assert seen == list(range(1, covered + 2)), "this SQLite hides what was not synchronised: the rule would be needless"
    told = LedgerReaches(epoch, {epoch: {0: covered}}, {})

    async def nothing() -> bytes:
        return b""

    def decide(unit: str, event_id: str, event: Stated) -> Awaitable[bytes]:
        return nothing()

    with site_on("amqtt", tmp_path / "site") as site:
        asked = {"store": "s1", "gateway": "gw-a", "number": 1, "name_zh": "門市", "name_en": "Shop"}
        label = site.ask("/api/boxes", asked)["label"]
        store = StoreTable(tenant="demo", store="s1", number=1, gateway="gw-a")
        await asyncio.to_thread(enrol, label, tmp_path / "state" / "enrolment", store, SystemClock())
        (tmp_path / "gateway.toml").write_text(SHOP.format(root=tmp_path, port=site.addresses.broker_port))
        core = LinkServer(tmp_path / "run" / "link.sock", SystemClock(), decide, lambda unit, there: None)
        serving = asyncio.ensure_future(core.serve())
        core.tell("bridge", told)
        command = [sys.executable, "-m", "gateway", "run", "bridge", "--config", str(tmp_path / "gateway.toml")]
        with (tmp_path / "bridge.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as bridge:  # noqa: ASYNC220 - starting takes no time
            try:
                await has(site, covered)
                await asyncio.sleep(3)
                assert await asyncio.to_thread(mark, site) == covered
                core.tell("bridge", LedgerReaches(epoch, {epoch: {0: covered + 1}}, {epoch: {0: covered}}))  # now it is on the disk
                await has(site, covered + 1)
            finally:
                bridge.terminate()
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
