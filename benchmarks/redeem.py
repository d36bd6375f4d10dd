"""Redeeming over HTTP: durable redemptions a second and how long they take, through a real core's doors.

The yardsticks run in turns with it: plain SQLite that makes one row durable at a time (WAL, synchronous=FULL; in a process of its
own); the same server's route that does nothing, `GET /healthz` (`noop`); and, harder, a route made for this that only reads its body
and answers, with neither framework nor access control around it (`bare_noop`). `_sd` means that each fsync takes 5 ms
longer, on both sides alike: the order of an SD card. Every number is a median of rounds; ratios are medians of each round's own.

Clients speak HTTP over connections that stay open, each as a paired till, each waiting for its answer before it asks again. Every
code is shown once. What comes back is counted against the ledger at the end.
"""

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import os
import secrets
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.aims import table
from benchmarks.ledger import SLOW_SYNC_US, compiled, redemption
from benchmarks.verify import verify_per_s
from gateway import memory
from gateway.chain import encode_event
from gateway.clock import SystemClock
from gateway.config import TillTable, parse
from gateway.events import VoucherRedeemed
from gateway.kiosk import app as application
from gateway.schema import migrate
from tests.conftest import SHOP
from tests.gateway.core.shop import voucher_token

AIMS: Final = {
    "rate_1_over_raw_sd": (">=", 0.7), "rate_16_over_raw_sd": (">=", 5.0), "p99_16_over_raw_p99_sd": ("<=", 4.0),
    "rate_16_over_noop": (">=", 0.4), "verify_per_s": (">=", 5_000.0),
}  # fmt: skip
MOST_CLIENTS: Final = 16
ANSWERED: Final = b"\r\n\r\n"


# ---------------------------------------------------------------- the shop, in a process of its own


async def be_shop(folder: Path) -> None:
    """A core with its doors open; prints its port and the keys of its tills, and answers `count` with its redemptions."""
    from tests.gateway.kiosk.real_shop import open_doors

    made = application.make_app

    def with_noop(desk: Any) -> Any:
        app = made(desk)
        app.router.routes.insert(0, Route("/noop", _nothing, methods=["POST"]))
        return app

    application.make_app = with_noop
    config = msgspec.structs.replace(parse(SHOP.format(root=folder)), till=TillTable(requests_per_s=100_000))
    migrate(config.ledger_path)
    async with open_doors(config, SystemClock()) as doors:
        keys = [await doors.shop.desk.devices.pair("pos", "counter", f"till {number}", "s-2") for number in range(MOST_CLIENTS)]
        memory.give_back()  # as every unit does when it has settled
        print(json.dumps({"port": int(doors.url.rpartition(":")[2]), "keys": keys}), flush=True)
        while (await asyncio.to_thread(sys.stdin.readline)).strip():
            print(len(doors.shop.rows(VoucherRedeemed)), flush=True)


async def _nothing(request: Request) -> Response:
    await request.body()
    return Response(b'{"decision":"nothing"}', media_type="application/json")


# ---------------------------------------------------------------- the yardstick, in a process of its own


def be_raw(folder: Path) -> None:
    """For each number of seconds on stdin: rows a second that plain SQLite makes durable one by one, and their p99 in seconds."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, at_us INTEGER, key TEXT, event BLOB, answer BLOB)")
    clock = SystemClock()
    print("ready", flush=True)
    for line in sys.stdin:
        waits, ends_s = list[float](), time.perf_counter() + float(line)
        begun_s = time.perf_counter()
        while time.perf_counter() < ends_s:
            row, answer = redemption(clock)
            began_s = time.perf_counter()
            values = (row.event_time.wall_us, answer.key, encode_event(row), answer.answer)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO row (at_us, key, event, answer) VALUES (?,?,?,?)", values)
            connection.execute("COMMIT")
            waits.append(time.perf_counter() - began_s)
        print(json.dumps([len(waits) / (time.perf_counter() - begun_s), p99(waits)]), flush=True)


def p99(waits: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(waits, n=100)[98]


# ---------------------------------------------------------------- the clients


async def clients(
    port: int, keys: list[str], path: str, codes: Iterator[str], seconds: float, method: str = "POST"
) -> tuple[float, float, int]:
    """As many as there are keys: answers a second, their p99 in seconds, and how many redeemed."""
    waits, redeemed, ends_s = list[float](), 0, time.perf_counter() + seconds

    async def one(key: str) -> None:
        nonlocal redeemed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        while (begun_s := time.perf_counter()) < ends_s:
            body = b'{"station":"counter","code":"%b","presentation_id":"%b"}' % (next(codes).encode(), secrets.token_hex(16).encode())
            sent = b"Content-Length: %d\r\n\r\n%b" % (len(body), body) if method == "POST" else b"\r\n"
            writer.write(head.encode() + sent)
            answer = await reader.readuntil(ANSWERED)
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            body = await reader.readexactly(length)
            waits.append(time.perf_counter() - begun_s)
            assert answer.startswith(b"HTTP/1.1 200"), answer + body
            redeemed += b'"decision":"redeemed"' in body
        writer.close()

    begun_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for key in keys:
            tasks.create_task(one(key))
    return len(waits) / (time.perf_counter() - begun_s), p99(waits), redeemed


class Codes:
    """New vouchers without end; signed before they are wanted."""

    def __init__(self) -> None:
        self._number = 1_000
        self._ready: list[str] = []

    def sign(self, count: int) -> None:
        """Have so many ready."""
        while len(self._ready) < count:
            self._number += 1
            self._ready.append(voucher_token(self._number).decode())

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._ready:
            self.sign(1)
        return self._ready.pop()


def durability(folder: Path, rounds: int, seconds: float, environment: dict[str, str]) -> dict[str, float]:
    """All sides in turns."""
    found: dict[str, list[float]] = {}
    with _process("--shop", folder, environment) as shop, _process("--raw", folder, environment) as raw:
        told, total = json.loads(_read(shop)), 0
        _read(raw)
        codes = Codes()
        gc.freeze()  # the clients' own pauses are not the shop's
        for _ in range(rounds):
            rate, wait_s = json.loads(_ask(raw, str(seconds)))
            _note(found, raw=rate, raw_p99_ms=wait_s * 1e3)
            for number in (1, MOST_CLIENTS):
                codes.sign(int(2_500 * seconds))
                rate, wait_s, redeemed = asyncio.run(clients(told["port"], told["keys"][:number], "/v1/redeem", codes, seconds))
                _note(found, **{f"rate_{number}": rate, f"p99_{number}_ms": wait_s * 1e3})
                total += redeemed
            _note(found, noop=asyncio.run(clients(told["port"], told["keys"], "/healthz", itertools.repeat("x"), seconds, "GET"))[0])
            _note(found, bare_noop=asyncio.run(clients(told["port"], told["keys"], "/noop", itertools.repeat("x"), seconds))[0])
        held = int(_ask(shop, "count"))
    assert held == total, f"{total} were told that they redeemed, the ledger holds {held}"
    return {name: statistics.median(values) for name, values in found.items()} | _ratios(found)


def _ratios(found: dict[str, list[float]]) -> dict[str, float]:
    pairs = {
        "rate_1_over_raw": ("rate_1", "raw"), "rate_16_over_raw": ("rate_16", "raw"), "p99_16_over_raw_p99": ("p99_16_ms", "raw_p99_ms"),
        "rate_16_over_noop": ("rate_16", "noop"), "rate_16_over_bare_noop": ("rate_16", "bare_noop"),
    }  # fmt: skip
    return {name: statistics.median(a / b for a, b in zip(found[x], found[y], strict=True)) for name, (x, y) in pairs.items()}


def _note(found: dict[str, list[float]], **values: float) -> None:
    for name, value in values.items():
        found.setdefault(name, []).append(value)


@contextlib.contextmanager
def _process(what: str, folder: Path, environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "benchmarks.redeem", what, str(folder)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _read(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _ask(process: "subprocess.Popen[str]", line: str) -> str:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return _read(process)


# ---------------------------------------------------------------- the whole


def measure(rounds: int, seconds: float) -> dict[str, float]:
    """One flat object."""
    with tempfile.TemporaryDirectory(prefix="rb-") as name:
        folder = Path(name)
        slow = os.environ | {"LD_PRELOAD": str(compiled(folder)), "SYNC_DELAY_US": str(SLOW_SYNC_US)}
        for place in ("bare", "slow"):
            (folder / place).mkdir()
        flat = durability(folder / "bare", rounds, seconds, dict(os.environ))
        flat |= {f"{key}_sd": value for key, value in durability(folder / "slow", rounds, seconds, slow).items()}
        flat["verify_per_s"] = statistics.median(verify_per_s(seconds) for _ in range(rounds))
    return {key: float(f"{value:.4g}") for key, value in flat.items()} | {"rounds": float(rounds)}


def main() -> None:
    """Entry of `python -m benchmarks.redeem`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redeem", description="Durable redemptions over HTTP.")
    parser.add_argument("--json", action="store_true", help="only the last line")
    parser.add_argument("--quick", action="store_true", help="two short rounds: the order of the numbers")
    parser.add_argument("--rounds", type=int, default=7, help="of each measurement (default: 7)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each round (default: 1.5)")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured (default: the system's for temporary files)")
    parser.add_argument("--shop", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shop is not None:
        asyncio.run(be_shop(options.shop))
        return
    if options.raw is not None:
        be_raw(options.raw)
        return
    if options.folder is not None:
        os.environ["TMPDIR"] = str(options.folder)
    flat = measure(2, 0.5) if options.quick else measure(options.rounds, options.seconds)
    if not options.json:
        print(table(flat, AIMS))
    print(f"SUMMARY {json.dumps(flat)}", flush=True)


if __name__ == "__main__":
    main()
