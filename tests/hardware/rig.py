"""The whole box on a real Linux in a virtual machine: installed, enrolled, used, hurt, each promise a row of the printed table.

    .venv/bin/python -m tests.hardware.rig --rig FOLDER

Runs on demand only; `README.md` beside this file says what is needed, what is shown and how long it takes.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from msgspec.structs import asdict

from tests.hardware import cuts, devices, faults
from tests.hardware.machine import Failed, Machine, find_rig
from tests.hardware.outside import BROKER, DOOR, GUEST_PORT, STORE, Headquarters, TheLine, build_wheel
from tests.hardware.shop import COMPARTMENTS, Shop
from tests.hardware.table import FAIL, PASS, SKIP, Row, Table
from tests.hardware.wall import Wall

ROOT: Final = Path(__file__).resolve().parents[2]
INSTALL, ENROL, SERVE = "installed", "enrolled by label", "all units active"
POWER, LYING = "power cuts, volatile disk", "lying disk"
ROWS: Final = (
    INSTALL, ENROL, SERVE, "voucher by camera", "tag by bluetoothd", "door by serial line", "killed, back", "hung, back",
    "line pulled", POWER, "everything once", "doctor", "switched off", LYING,
)  # fmt: skip


def main() -> int:
    """Run it; the exit status is 1 if any row failed."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # no machine is left running
    print_row: Callable[[Row], None] = (lambda row: None) if options.json else _print
    table = Table(print_row, options.only)
    began_s = time.monotonic()
    rig, missing = find_rig(options.rig)
    if missing:
        table.skip(list(ROWS), missing)
    else:
        with tempfile.TemporaryDirectory(prefix="rig-", ignore_cleanup_errors=True) as folder:
            _run(table, options, rig, Path(folder))
    if options.json:
        print(json.dumps([asdict(row) for row in table.rows], ensure_ascii=False, indent=1))
    counts = {outcome: sum(row.outcome == outcome for row in table.rows) for outcome in (PASS, FAIL, SKIP)}
    wrong = {row.name: row.seen for row in table.rows if row.outcome != PASS}
    summary = {key.lower(): n for key, n in counts.items()} | {
        "took_s": round(time.monotonic() - began_s),
        "seed": options.seed,
        "not_passed": wrong,
    }
    print(f"SUMMARY {json.dumps(summary, ensure_ascii=False)}")
    return 1 if counts[FAIL] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hardware.rig", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = Path(os.environ.get("RIG", ROOT.parent / "shared/tools/rig"))
    parser.add_argument(
        "--rig", type=Path, default=usual, help="folder of the rig; default: RIG, or ../shared/tools/rig beside the checkout"
    )
    parser.add_argument("--cuts", type=int, default=20, help="how many power cuts on the disk that keeps its word (20)")
    parser.add_argument("--lies", type=int, default=3, help="how many on the disk that does not (3)")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 10**6), help="of the moments of the power cuts")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="ROW",
        type=_row,
        help="the row that begins so, and those every other stands on; may be repeated",
    )
    parser.add_argument("--nice", type=int, default=15, help="how far everything else goes before the machine (15)")
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table; the SUMMARY line stays last")
    options = parser.parse_args()
    if options.only:
        options.only += [INSTALL, ENROL, SERVE]
    return options


def _row(text: str) -> str:
    found = [row for row in ROWS if row.startswith(text)]
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"no row, or more than one, begins so: {', '.join(ROWS)}")
    return found[0]


def _run(table: Table, options: argparse.Namespace, rig: Path, folder: Path) -> None:
    told: Callable[[str], None] = (lambda text: None) if options.json else (lambda text: print(text, flush=True))
    with ExitStack() as stack:
        headquarters = Headquarters(folder)
        stack.callback(headquarters.close)
        line = TheLine(lambda name: _way(headquarters, name))
        stack.callback(line.close)
        machine = Machine(rig, folder / "vm", options.nice, told)
        stack.callback(machine.cut)
        wall = Wall(machine.serial, folder / "wall.doors.json", COMPARTMENTS)
        stack.callback(wall.close)
        shop = Shop(machine, headquarters)
        honest = cuts.PowerCuts(shop, line.port, options.cuts, options.seed)
        lying = cuts.LyingDisk(shop, line.port, options.lies, options.seed)
        table.show(INSTALL, lambda: _install(shop, line, folder))
        table.show(ENROL, lambda: devices.enrol_by_label(shop), INSTALL)
        table.show(SERVE, lambda: devices.all_units(shop), ENROL)
        table.show("voucher by camera", lambda: devices.redeem_by_camera(shop), SERVE)
        table.show("tag by bluetoothd", lambda: devices.hear_a_tag(shop), SERVE)
        table.show("door by serial line", lambda: devices.open_a_door(shop, wall), SERVE)
        table.show("killed, back", lambda: faults.killed(shop), SERVE)
        table.show("hung, back", lambda: faults.hung(shop), SERVE)
        table.show("line pulled", lambda: faults.line_pulled(shop), SERVE)
        table.show(POWER, honest.show, SERVE)
        table.show("everything once", lambda: faults.everything_once(shop), SERVE)
        table.show("doctor", lambda: faults.doctor(shop), SERVE)
        table.show("switched off", lambda: _switch_off(machine), INSTALL)
        table.show(LYING, lying.show, SERVE)  # last: the disk may be no good afterwards


def _way(headquarters: Headquarters, name: str) -> tuple[str, int] | None:
    """Who answers to a name at headquarters."""
    if name == DOOR:
        return headquarters.door_host, GUEST_PORT
    relay = headquarters.addresses().relays.get(STORE) if name == BROKER else None
    return ("127.0.0.1", relay) if relay else None


def _install(shop: Shop, line: TheLine, folder: Path) -> str:
    wheel = build_wheel(ROOT, folder / "wheels")
    shop.headquarters.wait()
    issued = shop.headquarters.announce(folder)
    shop.label, shop.clerk = issued["label"], issued["staff"]
    up_s = shop.machine.boot(line.port, fresh=True)
    began_s = time.monotonic()
    shop.install(wheel)
    system = shop.machine.sh("uname -r; systemctl --version | head -1; python3 --version").split("\n")
    return f"{wheel.name} in {time.monotonic() - began_s:.0f} s, {up_s:.0f} s after power on; {', '.join(filter(None, system))}"


def _switch_off(machine: Machine) -> str:
    if not machine.off():
        raise Failed("it did not end in time")
    return "an orderly end"


def _print(row: Row) -> None:
    print(f"{row.outcome}  {row.name:25} {row.took_s:7.1f} s  {row.seen}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
