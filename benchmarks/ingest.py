"""How fast headquarters takes rows into PostgreSQL, against the fastest way there is: raw COPY into a table without an index.

`python -m benchmarks.ingest` starts a PostgreSQL 15 and a mosquitto of its own on loopback. The rows are foot traffic as the
radio unit stated it a week ago, in columns as boxes send a backlog. Three runs take turns, so that whatever else the machine does meets
all of them:

- *copy*: the rows as COPY's text, made beforehand, into a table without index or partition, a commit for each message's rows;
- *db*: opened batches through `take` into the store: marks, counts, zones and who is there included, each batch committed;
- *mqtt*: signed messages of several boxes from mosquitto to the acknowledgement of the last, by one headquarters process.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
from msgspec import Struct

from cloud_bridge.envelope import Batch, Header, Piece, seal_blocks
from cloud_bridge.hq.postgres import PostgresStore
from cloud_bridge.hq.ready import make_ready
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.hq.store import Store
from cloud_bridge.hq.take import Verdict, take
from gateway.columns import Rows, pack_columns
from gateway.errors import BrokerError
from tests.cloud_bridge.hq.cluster import Cluster, cluster
from tests.cloud_bridge.hq.rig import Hq, TestBox, addresses_of, mosquitto
from tests.gateway.traffic import traffic_rows

AIMS: Final = {"db_over_copy": 0.5, "mqtt_over_copy": 0.3}
BLOCK_ROWS: Final = 1_000
MESSAGE_ROWS: Final = 2_000
BOXES: Final = 4
WEEK_S: Final = 7 * 86_400.0
WINDOW: Final = 4  # messages of a box under way, as its outbox allows
SILENCE_S: Final = 3.0  # after which a box sends again
PATIENCE_S: Final = 120.0
COLUMNS: Final = "id BIGINT, stream BIGINT, received_us BIGINT, seq BIGINT, record_us BIGINT, type TEXT, event TEXT"


class Rates(Struct):
    """Rows a second of every turn."""

    copy: list[float] = []
    db: list[float] = []
    mqtt: list[float] = []
    sqlite: list[float] = []


def message_parts(rows: Rows) -> Iterator[tuple[int, Rows]]:
    """(first, rows) of each message."""
    for at in range(0, len(rows), MESSAGE_ROWS):
        yield at + 1, rows[at : at + MESSAGE_ROWS]


def header(gateway: str, epoch: str, first: int, count: int, last: int) -> Header:
    """What a box says of a message."""
    return Header(
        gateway=gateway, epoch=epoch, proven=True, parent=None, parent_heads={}, lane=1, first=first, last=first + count - 1,
        head=f"{first + count - 1:032x}", current=epoch, last_seqs={1: last}, cursors={}, sent_us=time.time_ns() // 1000,
    )  # fmt: skip


# ---------------------------------------------------------------- the three ways


def copy_texts(rows: Rows) -> list[bytes]:
    """COPY's text, a message each."""
    received_us, texts = time.time_ns() // 1000, []
    for first, part in message_parts(rows):
        lines = []
        for seq, (record_us, event) in enumerate(part, first):
            kind = event[9 : event.index(b'"', 9)].decode()
            escaped = event.decode().replace("\\", "\\\\")
            lines.append(f"{seq}\t1\t{received_us}\t{seq}\t{record_us}\t{kind}\t{escaped}\n")
        texts.append("".join(lines).encode())
    return texts


def run_copy(url: str, texts: list[bytes]) -> float:
    """Seconds."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS raw; CREATE TABLE raw ({COLUMNS})")
        began_s = time.perf_counter()
        for text in texts:
            with connection.transaction(), connection.cursor().copy("COPY raw FROM STDIN") as copy:
                copy.write(text)
        return time.perf_counter() - began_s


async def run_db(store: Store, rows: Rows, turn: int) -> float:
    """Seconds."""
    gateway, ready = f"gw-{turn}", []
    for first, part in message_parts(rows):
        said = header(gateway, "1-a", first, len(part), len(rows))
        ready.append(make_ready(Batch(said, [Piece(first, first + len(part) - 1, part)])))
    began_s = time.perf_counter()
    for batch in ready:
        now_us = time.time_ns() // 1000
        (taken,) = await store.write(lambda db, batch=batch, now_us=now_us: take(db, [batch], now_us, told=False))  # type: ignore[misc]
        if taken.verdict is not Verdict.TAKEN:
            raise RuntimeError(f"a batch was not taken: {taken.verdict}")
    return time.perf_counter() - began_s


class Block(Struct, frozen=True):
    """A sealed block, as a ledger gives it."""

    first: int
    last: int
    section: bytes


def messages(box: TestBox, epoch: str, rows: Rows) -> list[bytes]:
    """What a box would send."""
    sealed = []
    for first, part in message_parts(rows):
        blocks = []
        for at in range(0, len(part), BLOCK_ROWS):
            some = part[at : at + BLOCK_ROWS]
            blocks.append(Block(first + at, first + at + len(some) - 1, pack_columns(some)))
        sealed.append(seal_blocks(header(box.box.gateway, epoch, first, len(part), len(rows)), blocks, box.enrolment.sign_key))
    return sealed


async def run_mqtt(boxes: list[TestBox], rows: Rows, turn: int) -> float:
    """Seconds until every box has the acknowledgement of its last row."""
    epoch = f"{turn}-a"
    sealed = [await asyncio.to_thread(messages, box, epoch, rows) for box in boxes]
    began_s = time.perf_counter()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        for box, of_box in zip(boxes, sealed, strict=True):
            tasks.create_task(_send(box, of_box))
    return time.perf_counter() - began_s


async def _send(box: TestBox, sealed: list[bytes]) -> None:
    """As a bridge does: a few messages under way, and again from headquarters' mark after a silence."""
    box.acks.clear()
    sent, marked, stirred_s = 0, 0, time.monotonic()
    while marked < len(sealed):
        await box.up.wait()
        try:
            while sent < min(len(sealed), marked + WINDOW):
                box.send_bytes(sealed[sent], box.box.up(1))
                sent += 1
        except BrokerError:
            sent = marked
        await asyncio.sleep(0.001)
        before, marked = marked, max((ack.mark // MESSAGE_ROWS for ack in box.acks), default=0)
        if marked > before:
            stirred_s = time.monotonic()
        elif time.monotonic() - stirred_s > SILENCE_S:
            sent, stirred_s = marked, time.monotonic()


# ---------------------------------------------------------------- all of it


@contextlib.asynccontextmanager
async def headquarters(folder: Path, url: str) -> Any:
    """A headquarters process on mosquitto and PostgreSQL, and its boxes, connected."""
    data = folder / "hq"
    binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with mosquitto(folder / "mosquitto", data, binary) as external:
        options = {"data_dir": str(data), "database": url, "host": external.host, "port": external.port}
        command = [sys.executable, "-m", "benchmarks.ingest", "--headquarters", json.dumps(options)]
        process = subprocess.Popen(command)  # noqa: ASYNC220 - before anything is measured
        try:
            addresses = await addresses_of(data, lambda: process.poll() is None, PATIENCE_S)
            from cloud_bridge.hq.options import HqOptions

            hq = Hq(HqOptions(data_dir=str(data)), addresses, folder)
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(hq.http.aclose)
                yield [
                    await stack.enter_async_context(hq.connected(await hq.new_box(f"s{at}", at), external.port))
                    for at in range(1, BOXES + 1)
                ]
        finally:
            process.terminate()
            process.wait(20)


async def be_headquarters(told: dict[str, Any]) -> None:
    """The measured process."""
    from cloud_bridge.hq.__main__ import run
    from cloud_bridge.hq.options import ExternalBroker, HqOptions

    broker = ExternalBroker(host=told["host"], port=told["port"], server_name="localhost")
    await run(HqOptions(data_dir=told["data_dir"], database=told["database"], external=broker))


async def measure(server: Cluster, folder: Path, rows: Rows, turns: int) -> Rates:
    """The ways, in turns."""
    rates, texts = Rates(), copy_texts(rows)
    raw_url = server.make_database("raw")
    postgres, sqlite = PostgresStore(server.make_database("db")), SqliteStore(folder / "hq.db")
    await postgres.open()
    await sqlite.open()
    async with headquarters(folder, server.make_database("whole")) as boxes:
        for turn in range(1, turns + 2):  # the first is not counted: tables are made, plans prepared
            found = (
                len(rows) / await asyncio.to_thread(run_copy, raw_url, texts),
                len(rows) / await run_db(postgres, rows, turn),
                BOXES * len(rows) / await run_mqtt(boxes, rows, turn),
                len(rows) / await run_db(sqlite, rows, turn),
            )
            if turn > 1:
                for kept, rate in zip((rates.copy, rates.db, rates.mqtt, rates.sqlite), found, strict=True):
                    kept.append(rate)
    await postgres.close()
    await sqlite.close()
    return rates


def summary(rates: Rates) -> dict[str, float]:
    """Medians, as ratios to the yardstick of the same turn."""
    middle = statistics.median

    def over(rate: list[float]) -> float:
        return round(middle(one / copy for one, copy in zip(rate, rates.copy, strict=True)), 3)

    return {
        "db_over_copy": over(rates.db), "mqtt_over_copy": over(rates.mqtt), "sqlite_over_copy": over(rates.sqlite),
        "copy_rows_per_s": round(middle(rates.copy)), "db_rows_per_s": round(middle(rates.db)),
        "mqtt_rows_per_s": round(middle(rates.mqtt)), "sqlite_us_per_row": round(1e6 / middle(rates.sqlite), 2),
        "turns": len(rates.copy), "load_1m": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def table(flat: dict[str, float]) -> str:
    """For people."""
    lines = [f"{'':<20}{'found':>12}{'aim':>8}"]
    for name, value in flat.items():
        aim = AIMS.get(name)
        verdict = "" if aim is None or value >= aim else "  short"
        lines.append(f"{name:<20}{value:>12}{aim if aim is not None else '':>8}{verdict}")
    return "\n".join(lines)


def main() -> None:
    """Entry of `python -m benchmarks.ingest`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description="Headquarters' ingest against raw COPY.")
    parser.add_argument("--json", action="store_true", help="every turn as JSON instead of the table")
    parser.add_argument("--rows", type=int, default=40_000, help="of a turn and, by MQTT, of a box (default: 40000)")
    parser.add_argument("--turns", type=int, default=7, help="how many (default: 7)")
    parser.add_argument("--headquarters", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.headquarters:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(be_headquarters(json.loads(options.headquarters)))
        return
    count = max(options.rows // MESSAGE_ROWS, 1) * MESSAGE_ROWS
    print(f"· {count} rows of traffic are made", file=sys.stderr, flush=True)
    rows = traffic_rows(count, tags=150, ago_s=WEEK_S)
    with cluster() as server, tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        rates = asyncio.run(measure(server, Path(folder), rows, options.turns))
    flat = summary(rates)
    turns = {"copy": rates.copy, "db": rates.db, "mqtt": rates.mqtt, "sqlite": rates.sqlite}
    print(json.dumps({"rows_per_s": turns, "aims": AIMS}) if options.json else table(flat))
    print(f"SUMMARY {json.dumps(flat)}", flush=True)


if __name__ == "__main__":
    main()
