"""What the box takes: memory and processor time of its five processes at rest, and the disk of their libraries.

The store is started as `make store` does, but camera, radio and lock board are processes of their own (`surroundings.py`), and
neither they nor headquarters are counted. At rest means: a camera of 5 frames a second that sees a wall, 20 advertisements a
second, the line up, nobody redeems. It has redeemed and handed out a parcel before, so nothing is left to be loaded.

Memory is PSS (`/proc/PID/smaps_rollup`): a page that n processes share counts an nth in each. Headquarters shares pages with
the box here and not in a shop, so as root the pages are also counted as if the five were alone (`…_alone_mb`).
Processor time is `/proc/PID/stat`. Every number is the median of several windows.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import installed, memory
from benchmarks.surroundings import ApartPlan, compile_libraries, surroundings
from cloud_bridge.ports import free_port
from virtual_store.plan import Ports
from virtual_store.starter import UNITS, Starter

AIMS: Final = {"core_pss_mb": 60.0, "shop_pss_mb": 180.0, "idle_cpu_pct": 1.5, "install_mb_without_scanner": 75.0}
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
SEED: Final = 7


def cpu_ticks(pid: int) -> int:
    """Processor time of a process and the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[place]) for place in (11, 12, 13, 14))  # utime stime cutime cstime


async def warm_up(starter: Starter, settle_s: float) -> None:
    """A voucher is redeemed and refused, a parcel is put in and handed out; then the shop settles."""
    begun_s = time.monotonic()
    shoppers = starter.shoppers()
    await shoppers.sign_in()
    await shoppers.redeem_twice(0)
    await shoppers.collect(1)
    assert (shoppers.deeds.redeemed, shoppers.deeds.collected) == (1, 1), shoppers.deeds.surprises
    await asyncio.sleep(max(5.0, settle_s - (time.monotonic() - begun_s)))


async def windows(pids: dict[str, int], number: int, window_s: float) -> list[dict[str, Any]]:
    """One measurement per window: by unit the PSS in MB at its end, and the share of one core in percent."""
    found = []
    for _ in range(number):
        before, begun_s = {unit: cpu_ticks(pid) for unit, pid in pids.items()}, time.monotonic()
        await asyncio.sleep(window_s)
        passed_s = time.monotonic() - begun_s
        found.append(
            {
                "cpu": {unit: (cpu_ticks(pid) - before[unit]) / TICKS_PER_S / passed_s * 100 for unit, pid in pids.items()},
                "pss": {unit: memory.pss_mb(pid) for unit, pid in pids.items()},
                "alone": memory.alone_mb(pids),
                "load": os.getloadavg()[0],
            }
        )
    return found


async def measure(options: argparse.Namespace, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Start the store, warm it up, look at it, take it down."""
    compile_libraries()
    with tempfile.TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder:
        plan = ApartPlan(Path(folder), Ports(*(free_port() for _ in range(4))), SEED)
        async with surroundings(plan), Starter(plan, told) as starter:
            told("warming up")
            await warm_up(starter, options.settle)
            kept = starter.keeper.kept
            pids = {unit: kept[unit].pid for unit in UNITS}
            told(f"measuring {options.windows} windows of {options.window:g} s")
            found = await windows(pids, options.windows, options.window)
            assert pids == {unit: kept[unit].pid for unit in UNITS}, "a process was started again meanwhile"
            return found


def summary(found: list[dict[str, Any]], install: dict[str, float]) -> dict[str, Any]:
    """One flat object."""

    def median(of: Callable[[dict[str, Any]], float]) -> float:
        return round(statistics.median(of(window) for window in found), 2)

    flat: dict[str, Any] = {
        "core_pss_mb": median(lambda window: window["pss"]["core"]),
        "shop_pss_mb": median(lambda window: sum(window["pss"].values())),
        "idle_cpu_pct": median(lambda window: sum(window["cpu"].values())),
    }
    if all(window["alone"] for window in found):
        flat["core_pss_alone_mb"] = median(lambda window: window["alone"]["core"])
        flat["shop_pss_alone_mb"] = median(lambda window: sum(window["alone"].values()))
    for unit in UNITS:
        kind = unit.partition("@")[0]
        flat[f"{kind}_pss_mb"] = median(lambda window, unit=unit: window["pss"][unit])  # type: ignore[misc]
        flat[f"{kind}_cpu_pct"] = median(lambda window, unit=unit: window["cpu"][unit])  # type: ignore[misc]
    return flat | {"windows": len(found), "load_1m": median(lambda window: window["load"])} | install


def table(flat: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'process':<10}{'PSS MB':>10}{'CPU %':>10}"]
    for unit in UNITS:
        kind = unit.partition("@")[0]
        lines.append(f"{kind:<10}{flat[f'{kind}_pss_mb']:>10.1f}{flat[f'{kind}_cpu_pct']:>10.2f}")
    lines += [f"{'shop':<10}{flat['shop_pss_mb']:>10.1f}{flat['idle_cpu_pct']:>10.2f}", ""]
    lines.append(f"{'what':<30}{'measured':>10}{'aim':>8}{'ratio':>8}")
    for name, aim in AIMS.items():
        if name in flat:
            verdict = "" if flat[name] <= aim else "  over"
            lines.append(f"{name:<30}{flat[name]:>10.1f}{aim:>8.1f}{flat[name] / aim:>8.2f}{verdict}")
    if "shop_pss_alone_mb" in flat:
        lines.append(f"{'shop_pss_alone_mb':<30}{flat['shop_pss_alone_mb']:>10.1f}  (headquarters' sharing taken out)")
    if "install_s" in flat:
        lines.append(f"{flat['install_packages']:.0f} packages were installed and compiled in {flat['install_s']} s.")
    return "\n".join([*lines, f"Medians of {flat['windows']} windows; load of the machine {flat['load_1m']}."])


def main() -> None:
    """Entry of `python -m benchmarks.footprint`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description="Memory, idle CPU and disk of the box.")
    parser.add_argument("--json", action="store_true", help="every window as JSON instead of the table")
    parser.add_argument("--windows", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--window", type=float, default=60.0, metavar="S", help="seconds each (default: 60)")
    parser.add_argument("--settle", type=float, default=30.0, metavar="S", help="seconds before the first, a redemption included")
    parser.add_argument("--skip-install", action="store_true", help="do not measure the libraries' disk space")
    options = parser.parse_args()
    found = asyncio.run(measure(options, lambda sentence: print(f"· {sentence}", file=sys.stderr, flush=True)))
    flat = summary(found, {} if options.skip_install else installed.without_scanner())
    print(json.dumps({"windows": found, "aims": AIMS}) if options.json else table(flat))
    print(f"SUMMARY {json.dumps(flat)}", flush=True)


if __name__ == "__main__":
    main()
