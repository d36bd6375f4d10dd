"""What a drain is measured against: one event a message, and SQLite alone."""

import asyncio
import secrets
import sqlite3
import sys
import time
from pathlib import Path
from typing import Final

from gateway.chain import encode_event
from tests.cloud_bridge.brokers.site import Box, Site
from tests.gateway.traffic import traffic

SINGLE_WINDOW: Final = 20
LOST_S: Final = 3.0
COMMIT_ROWS: Final = 1_000
# Headquarters as it is, but for how many messages it takes in one transaction.
ONE_BY_ONE: Final = (
    "import sys, cloud_bridge.hq.ingest as ingest; from gateway.units import run_unit; assert ingest.GROUP_MESSAGES > 1; "
    "ingest.GROUP_MESSAGES = 1; "
    "sys.exit(run_unit(['hq', '--config', sys.argv[1]]))"
)


class SingleSite(Site):
    """A headquarters that commits each message for itself."""

    def start(self, name: str) -> None:
        if name == "hq":
            self._commands["hq"] = [sys.executable, "-c", ONE_BY_ONE, str(self.folder / "hq.toml")]
        super().start(name)


async def singles(box: Box, first: int, count: int) -> float:
    """Events a second, one a message, so many under way, each acknowledged after its own commit."""
    messages = [box.batch(seq, seq) for seq in range(first, first + count)]
    begun_s, sent, done, moved_s = time.perf_counter(), 0, 0, time.perf_counter()
    while done < count:
        while box.mqtt.connected and sent < count and sent - done < SINGLE_WINDOW:
            box.mqtt.publish(box.topics.up(0), messages[sent], 1)
            sent += 1
        await asyncio.sleep(0.001)
        before, done = done, max((ack.mark for ack in box.acks()), default=first - 1) - first + 1
        moved_s = time.perf_counter() if done > before else moved_s
        if time.perf_counter() - moved_s > LOST_S:  # a machine that is too busy may lose a connection
            sent, moved_s = done, time.perf_counter()
        del box.heard[:-SINGLE_WINDOW]
    return count / (time.perf_counter() - begun_s)


def sample() -> list[tuple[int, bytes]]:
    """Rows of real traffic, as many as one commit takes."""
    return [(record_us, encode_event(event)) for record_us, event in traffic(COMMIT_ROWS)]


def raw(folder: Path, rows: int, events: list[tuple[int, bytes]]) -> float:
    """Rows a second that plain SQLite takes, `events` in each commit."""
    path = folder / f"raw-{secrets.token_hex(4)}.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, at_us INTEGER, event BLOB)")
    begun_s = time.perf_counter()
    for _ in range(0, rows, len(events)):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO row (at_us, event) VALUES (?, ?)", events)
        connection.execute("COMMIT")
    took_s = time.perf_counter() - begun_s
    connection.close()
    return rows / took_s
