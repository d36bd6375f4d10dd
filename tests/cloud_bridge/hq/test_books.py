"""`store-gateway hq books` against a running headquarters, as a program and as a person sees it."""

import asyncio
import json
import subprocess
import sys

from cloud_bridge.hq.commands import books_table
from gateway.columns import Tombstone

from .rig import Hq, redeemed, wire


async def books(hq: Hq, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway", "hq", "books", "--data", hq.options.data_dir, *options]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)


async def test_the_books_are_printed_and_their_exit_status_says_whether_they_close(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        await box.send(box.batch([wire(n, redeemed(n)) for n in (1, 2, 3)], last={0: 5}))
        await box.send(box.batch([], lane=1, tombstone=Tombstone(1, 40, "disk_full", []), head="ab", last={0: 5, 1: 40}))
        printed = await books(demo, "--json", "--counted")
        assert printed.returncode == 0, printed.stderr
        found = json.loads(printed.stdout)
        shown = {name: found[name] for name in ("produced", "received", "declared", "closed", "waiting", "unexplained")}
        assert shown == {"produced": 45, "received": 3, "declared": 40, "closed": 0, "waiting": 2, "unexplained": 0}
        assert [(entry["lane"], entry["epoch"]) for entry in found["entries"]] == [(0, "1-abc"), (1, "1-abc")]
        table = await books(demo)
        assert table.returncode == 0
        assert "traffic" in table.stdout and "45" in table.stdout


def test_numbers_that_must_not_be_are_red() -> None:
    from rich.console import Console

    sums = {"produced": 5, "received": 4, "declared": 0, "closed": 0, "waiting": 0, "unexplained": 1, "quarantined": 0}
    entry = sums | {"store": "s1", "gateway": "g", "epoch": "1-a", "lane": 0, "alive": True}
    console = Console(width=160, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(books_table(sums | {"entries": [entry]}))
    assert "\x1b[31m1\x1b[0m" in capture.get()
