"""What durability costs: acknowledgements a second, how long they take, bytes written to the disk, bytes stored.

The yardstick is SQLite itself with the same durability (WAL, synchronous=FULL) on the same disk: one row a commit, and a hundred.
Both run in turns in one process, and every number is a median of rounds. `_sd` means that each fsync takes 5 ms longer, on both
sides alike: the order of an SD card, since a fast disk flatters whoever synchronises often.

Bytes are those of all write calls (`/proc/self/io`), the log, its folding in, merging and trimming included. In that part time is
moved on by hand, a second for each second's traffic, so that ten minutes of a shop take seconds.
"""

import argparse
import asyncio
import functools
import json
import os
import secrets
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from benchmarks.aims import table
from benchmarks.clocks import MovedClock
from gateway.chain import encode_event
from gateway.clock import SystemClock
from gateway.events import Instant, Row, VisitEnded, VisitStarted, VoucherRedeemed
from gateway.ledger import Ledger, StoredAnswer
from gateway.schema import migrate
from tests.gateway.traffic import traffic

AIMS: Final = {
    "acks_64_over_raw_row_sd": (">=", 40.0), "p99_64_over_p99_1_sd": ("<=", 2.5), "acks_64_over_raw_batch100_sd": (">=", 0.5),
    "acks_64_over_raw_batch100": (">=", 0.3), "traffic_bytes_written_per_event": ("<=", 600.0), "bytes_per_redemption": ("<=", 65_536.0),
    "bytes_per_redemption_16": ("<=", 16_384.0), "traffic_mb_per_million": ("<=", 25.0),
}  # fmt: skip
SLOW_SYNC_US: Final = 5_000
SHIM: Final = Path(__file__).with_name("shims") / "slowsync.c"
TRAFFIC_PER_S: Final = 50
REAL_ROWS: Final = 6_000


# ---------------------------------------------------------------- one process, durability


def redemption(clock: Any) -> tuple[Row, StoredAnswer]:
    """A use of a voucher, and its answer."""
    number = secrets.token_hex(16)
    row = VoucherRedeemed(number, f"1-{number[:8]}", 7, 1, "counter", "kiosk", None, 1, clock.now())
    answer = b'{"decision":"redeemed","reason":null,"reference":"%s","at_us":1795300000000000}' % number[:8].encode()
    return row, StoredAnswer(number, bytes.fromhex(number), answer)


def raw(path: Path, rows_a_commit: int, seconds: float) -> float:
    """Rows a second that plain SQLite makes durable."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, at_us INTEGER, key TEXT, event BLOB, answer BLOB)")
    rows, begun_s = 0, time.perf_counter()
    clock = SystemClock()
    while (passed_s := time.perf_counter() - begun_s) < seconds:
        made = [redemption(clock) for _ in range(rows_a_commit)]
        values = [(row.event_time.wall_us, answer.key, encode_event(row), answer.answer) for row, answer in made]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO row (at_us, key, event, answer) VALUES (?,?,?,?)", values)
        connection.execute("COMMIT")
        rows += rows_a_commit
    connection.close()
    return rows / passed_s


async def acks(ledger: Ledger, producers: int, seconds: float) -> tuple[float, float]:
    """Acknowledgements a second with so many producers, and the 99th percentile of their waiting in seconds."""
    clock, waits = SystemClock(), list[float]()
    ends_s = time.perf_counter() + seconds

    async def one() -> None:
        while (begun_s := time.perf_counter()) < ends_s:
            row, answer = redemption(clock)
            await ledger.append([row], answer=answer)
            waits.append(time.perf_counter() - begun_s)

    begun_s = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(producers)))
    return len(waits) / (time.perf_counter() - begun_s), statistics.quantiles(waits, n=100)[98]


async def durability(folder: Path, rounds: int, seconds: float) -> dict[str, float]:
    """Both sides in turns."""
    migrate(folder / "ledger.db")
    ledger = Ledger(folder / "ledger.db", SystemClock(), "benchmark", lambda: None, _fail)
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        found.setdefault("raw_row", []).append(raw(folder / "raw1.db", 1, seconds))
        found.setdefault("raw_batch100", []).append(raw(folder / "raw100.db", 100, seconds))
        for producers in (1, 64):
            rate, p99_s = await acks(ledger, producers, seconds)
            found.setdefault(f"acks_{producers}", []).append(rate)
            found.setdefault(f"p99_{producers}_ms", []).append(p99_s * 1e3)
    ledger.close()
    flat = {name: statistics.median(values) for name, values in found.items()}
    pairs = {
        "acks_64_over_raw_row": ("acks_64", "raw_row"), "acks_64_over_raw_batch100": ("acks_64", "raw_batch100"),
        "p99_64_over_p99_1": ("p99_64_ms", "p99_1_ms"),
    }  # fmt: skip
    for name, (above, below) in pairs.items():
        flat[name] = statistics.median(one / other for one, other in zip(found[above], found[below], strict=True))
    return flat


def _fail(error: Exception) -> None:
    raise error


# ---------------------------------------------------------------- one process, bytes


def written_b() -> int:
    """Bytes this process gave to write calls so far."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["wchar"])


async def bytes_of(folder: Path, work: Callable[[Ledger, MovedClock], Awaitable[int]]) -> float:
    """Bytes written for each event of some work, folding the log in at the end included."""
    folder.mkdir()
    migrate(folder / "ledger.db")
    clock = MovedClock()
    ledger = Ledger(folder / "ledger.db", clock, "benchmark", lambda: None, _fail)
    before_b = written_b()
    events = await work(ledger, clock)
    ledger.close()
    return (written_b() - before_b) / events


@functools.cache
def real_rows() -> list[Row]:
    """What the radio unit states in a few minutes of 50 rows a second."""
    return cast("list[Row]", [event for _, event in traffic(REAL_ROWS)])


def stated(number: int) -> Iterator[Row]:
    """So many rows: the real ones over and over, each time later and of other visits."""
    for at in range(0, number, REAL_ROWS):
        visits: dict[str, str] = {}
        for row in real_rows()[: number - at]:
            time_ = row.event_time
            later = Instant(time_.wall_us + at * 20_000, time_.mono_ns + at * 20_000_000, time_.boot_id, time_.trust)
            changed: dict[str, Any] = {"event_time": later}
            if isinstance(row, VisitStarted | VisitEnded):
                changed["visit_id"] = visits.setdefault(row.visit_id, secrets.token_hex(len(row.visit_id) // 2))
            yield msgspec.structs.replace(row, **changed)


async def foot_traffic(ledger: Ledger, clock: MovedClock, seconds: int, line_up: bool) -> int:
    """Real rows of the radio unit at 50 a second; with a line headquarters acknowledges each second's."""
    rows = stated(seconds * TRAFFIC_PER_S)
    number = ledger.epoch.number
    for _ in range(seconds):
        done = [ledger.append([next(rows)], source_id=secrets.token_hex(16)) for _ in range(TRAFFIC_PER_S)]
        await ledger.prove()  # taken by the writing thread, whose second begins now
        clock.ahead_ns += 1_000_000_000
        await ledger.prove()  # it sleeps by the machine's clock: this wakes it, and writes nothing
        await asyncio.gather(*done)
        if line_up:
            ledger.move_cursor(number, 1, ledger.reach[number][1])
    return seconds * TRAFFIC_PER_S


async def redemptions(ledger: Ledger, clock: MovedClock, number: int, clients: int) -> int:
    """So many, by clients that each wait for their answer."""

    async def client() -> None:
        for _ in range(number // clients):
            row, answer = redemption(clock)
            await ledger.append([row], answer=answer)

    await asyncio.gather(*(client() for _ in range(clients)))
    return number // clients * clients


async def stored_mb(folder: Path, rows: int) -> float:
    """Megabytes that a million rows of foot traffic take while they wait for a line."""
    folder.mkdir()
    migrate(folder / "ledger.db")
    clock = MovedClock()
    ledger = Ledger(folder / "ledger.db", clock, "benchmark", lambda: None, _fail)
    await foot_traffic(ledger, clock, rows // TRAFFIC_PER_S, line_up=False)
    ledger.close()
    connection = sqlite3.connect(folder / "ledger.db")
    (loose,) = connection.execute("SELECT count(*) FROM block WHERE lane=1 AND last-first<100").fetchone()
    connection.close()
    size_b = (folder / "ledger.db").stat().st_size
    print(f"  {rows} rows, {size_b} bytes, {loose} blocks not merged", file=sys.stderr)
    return size_b / rows


async def sizes(folder: Path, quick: bool) -> dict[str, float]:
    """Everything that is counted and not timed."""
    seconds = 120 if quick else 600
    return {
        "traffic_bytes_written_per_event": await bytes_of(folder / "t", lambda ledger, clock: foot_traffic(ledger, clock, seconds, True)),
        "traffic_bytes_written_per_event_offline": await bytes_of(
            folder / "o", lambda ledger, clock: foot_traffic(ledger, clock, seconds, False)
        ),
        "bytes_per_redemption": await bytes_of(folder / "r", lambda ledger, clock: redemptions(ledger, clock, 400, 1)),
        "bytes_per_redemption_16": await bytes_of(folder / "s", lambda ledger, clock: redemptions(ledger, clock, 1_600, 16)),
        "traffic_mb_per_million": await stored_mb(folder / "m", 20_000 if quick else 100_000),
    }


# ---------------------------------------------------------------- the whole


def compiled(folder: Path) -> Path:
    """The shim that makes an fsync slower."""
    shim = folder / "slowsync.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(shim), str(SHIM)], check=True)
    return shim


def part(name: str, options: argparse.Namespace, shim: Path | None = None) -> dict[str, float]:
    """A part of the measurement in a process of its own."""
    environment = os.environ | ({"LD_PRELOAD": str(shim), "SYNC_DELAY_US": str(SLOW_SYNC_US)} if shim else {})
    command = [sys.executable, "-m", "benchmarks.ledger", "--part", name, "--rounds", str(options.rounds)]
    command += ["--seconds", str(options.seconds), *(["--quick"] if options.quick else [])]
    asked = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    flat: dict[str, float] = json.loads(asked.stdout)
    return flat


def measure(options: argparse.Namespace) -> dict[str, float]:
    """One flat object."""
    with tempfile.TemporaryDirectory(prefix="lb-") as folder:
        shim = compiled(Path(folder))
        flat = part("durability", options) | {f"{name}_sd": value for name, value in part("durability", options, shim).items()}
        flat |= part("sizes", options)
    return {name: float(f"{value:.4g}") for name, value in flat.items()}


def main() -> None:
    """Entry of `python -m benchmarks.ledger`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description="Durable acknowledgements, and bytes on the disk.")
    parser.add_argument("--json", action="store_true", help="only the last line")
    parser.add_argument("--quick", action="store_true", help="fewer rows and seconds: the order of the numbers")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each round (default: 1.5)")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured (default: the system's for temporary files)")
    parser.add_argument("--part", choices=("durability", "sizes"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        os.environ["TMPDIR"] = str(options.folder)
    if options.part:
        with tempfile.TemporaryDirectory(prefix="lb-") as folder:
            place = Path(folder)
            found = durability(place, options.rounds, options.seconds) if options.part == "durability" else sizes(place, options.quick)
            print(json.dumps(asyncio.run(found)))
        return
    flat = measure(options)
    if not options.json:
        print(table(flat, AIMS))
    print(f"SUMMARY {json.dumps(flat)}", flush=True)


if __name__ == "__main__":
    main()
