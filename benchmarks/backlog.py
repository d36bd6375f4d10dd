"""A backlog of foot traffic and money as the real ledger writes and merges it, seconds of a shop in each commit."""

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.clocks import MovedClock
from gateway.events import EpochAdmitted, Event, Instant, Row, VisitEnded, VisitStarted, VoucherRedeemed
from gateway.ledger import Ledger, StoredAnswer
from tests.gateway.traffic import traffic

PATTERN_ROWS: Final = 3_000  # of real traffic; later ones are the same visits on later days under other numbers
COMMIT_ROWS: Final = 100
HOUR_S: Final = 3_600


def later(pattern: list[tuple[int, Event]], count: int) -> Iterator[Row]:
    """Traffic for ever: the pattern again, its visits under new numbers and its times moved on."""
    span_us = pattern[-1][0] - pattern[0][0] + 1_000_000
    for number in range(count):
        turn, place = divmod(number, len(pattern))
        event: Any = pattern[place][1]
        when = event.event_time
        moved = msgspec.structs.replace(when, wall_us=when.wall_us + turn * span_us, mono_ns=when.mono_ns + turn * span_us * 1000)
        if isinstance(event, VisitStarted | VisitEnded) and turn:
            visit = f"{int(event.visit_id[:8], 16) + turn & 0xFFFFFFFF:08x}{event.visit_id[8:]}"
            yield msgspec.structs.replace(event, visit_id=visit, event_time=moved)
        else:
            yield msgspec.structs.replace(event, event_time=moved)


class PastClock(MovedClock):
    """A clock that begins some time ago, so that what is written by hand does not lie in the future."""

    def __init__(self, ago_s: float) -> None:
        super().__init__()
        self._ago_us = int(ago_s * 1e6)

    def now(self) -> Instant:
        now = super().now()
        return msgspec.structs.replace(now, wall_us=now.wall_us - self._ago_us)


async def write_backlog(path: Path, rows: int, money: int, told: Callable[[str], object]) -> int:
    """Write it with the real ledger, a second of time for each commit, and let the ledger merge it; its epoch's number."""
    clock = PastClock(rows / COMMIT_ROWS + HOUR_S)

    def fail(error: Exception) -> None:
        raise error

    ledger = Ledger(path, clock, "benchmark", lambda: None, fail)
    await ledger.append([EpochAdmitted(ledger.epoch.name, "inherited", None, clock.now())])
    for _ in range(money):
        key = secrets.token_hex(16)
        row = VoucherRedeemed(key, f"1-{secrets.token_hex(8)}", 7, 1, "counter", "camera@counter", None, 1, clock.now())
        await ledger.append([row], answer=StoredAnswer(key, bytes.fromhex(key), b'{"decision":"redeemed"}'))
    made = later(traffic(min(PATTERN_ROWS, rows)), rows)
    for number in range(0, rows, COMMIT_ROWS):
        done = ledger.append(list(islice(made, COMMIT_ROWS)))
        await ledger.prove()
        clock.ahead_ns += 1_000_000_000
        await ledger.prove()
        await done
        if number % 50_000 == 0:
            told(f"backlog: {number} of {rows} rows written")
    clock.ahead_ns += HOUR_S * 10**9
    await _merged(path, ledger)
    number = ledger.epoch.number
    ledger.close()
    return number


async def _merged(path: Path, ledger: Ledger) -> None:
    """Wait until the ledger has merged what it will merge."""
    before, quiet = -1, 0
    while quiet < 8:
        await ledger.prove()
        await asyncio.sleep(0.25)
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            (blocks,) = connection.execute("SELECT COUNT(*) FROM block").fetchone()
        quiet = quiet + 1 if blocks == before else 0
        before = blocks
