"""One fault again and again under load, then the reckoning: what was answered must be at headquarters, once."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from msgspec import Struct

from tests.cloud_bridge.hq.cluster import Cluster, cluster
from tests.faults.load import TILLS, Aisles, Till
from tests.faults.tap import Tap
from tests.store.running import RunningStore

VOUCHERS: Final = 200
BACK_WITHIN_S: Final = 60.0
DRAINED_WITHIN_S: Final = 120.0
FAULTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {  # by broker: what is killed, and which processes that may be
    "amqtt": {"core": ("core",), "bridge": ("bridge",), "broker and ingest": ("hq",)},
    "mosquitto": {"core": ("core",), "bridge": ("bridge",), "broker": ("broker",), "ingest": ("hq",)},
    "postgres": {"database": ("database",), "ingest": ("hq",)},  # amqtt, and headquarters on a PostgreSQL of its own
    "nats": {"core": ("core",), "bridge": ("bridge",), "broker": ("broker-n1", "broker-n2", "broker-n3"), "ingest": ("hq",)},
}


HqRow = tuple[str, dict[str, Any]]  # type and event


class Tally(Struct):
    """What came out of some cycles of one fault."""

    cycles: int = 0
    acked: int = 0  # answered redemptions, refusals and visits
    lost: int = 0  # of these, not at headquarters
    doubled: int = 0  # at headquarters more than once, or redeemed twice
    unexplained: int = 0  # produced, and neither received nor declared
    made: int = 0  # rows that crossed the broker
    resent: int = 0  # rows that crossed it again

    def add(self, other: "Tally") -> None:
        """Put another's cycles to these."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return self.lost == self.doubled == self.unexplained == 0

    def said(self) -> dict[str, Any]:
        """For the summary."""
        shown = {name: getattr(self, name) for name in ("cycles", "acked", "lost", "doubled", "unexplained")}
        return shown | {"resent_over_made": round(self.resent / self.made, 4) if self.made else 0.0}


class Round:
    """A store under load, and what its customers were told."""

    def __init__(self, store: RunningStore, chance: random.Random, database: Cluster | None = None) -> None:
        self._database = database
        ask = {"store": "tpe-001", "title_zh": "券", "title_en": "Voucher"}
        tokens = [str(store.hq_post("/api/vouchers", ask)["token"]) for _ in range(VOUCHERS)]
        self._store = store
        self._chance = chance
        self._tills = [Till(store.starter.plan.kiosk_url, tokens, chance.randrange(1 << 30)) for _ in range(TILLS)]
        self._aisles = Aisles(store, chance.randrange(1 << 30))
        addresses = json.loads((store.starter.plan.hq_dir / "addresses.json").read_text())
        others = [address.rpartition(":") for address in addresses.get("others", [])]
        self._tap = Tap(
            store.starter.plan.hq_dir,
            [(addresses["broker_host"], addresses["broker_port"]), *((host, int(port)) for host, _, port in others)],
        )

    def run(self, victims: tuple[str, ...], kills: int, told: Callable[[], object]) -> Tally:
        """Kill, `kills` times, then look whether all is there."""
        with contextlib.ExitStack() as ending:
            self._store.call(self._tap.start())
            ending.callback(lambda: self._store.call(self._tap.stop()))
            self._aisles.start()
            ending.callback(self._aisles.stop)
            for till in self._tills:
                till.start()
                ending.callback(till.closing.set)
            for _ in range(kills):
                time.sleep(self._chance.uniform(0.3, 2.5))
                self._kill(self._chance.choice(victims))
                told()
            time.sleep(1.0)
            for till in self._tills:
                till.closing.set()
            for till in self._tills:
                till.join(timeout=90)
                assert not till.is_alive() and not till.failure, till.failure or "a customer waits for ever"
            self._aisles.stop()
            self._store.until(self._is_drained, DRAINED_WITHIN_S, "the lanes did not drain")
        rows = list(rows_of(self._store.starter.plan.hq_dir / "hq.db") if self._database is None else rows_at(self._database.url()))
        tally = reckon(self._store, rows, [one for till in self._tills for one in till.told], self._aisles.answered)
        tally.cycles, tally.made, tally.resent = kills, self._tap.made, self._tap.resent
        return tally

    def _is_drained(self) -> bool:
        line = self._store.view()["line"]
        return bool(line["up"] and line["waiting"] == 0)

    def _kill(self, name: str) -> None:
        if name == "database":
            assert self._database is not None
            self._database.kill()
            time.sleep(self._chance.uniform(0.0, 1.5))
            self._database.start()
            return
        kept = self._store.starter.keeper.kept[name]
        pid = kept.pid
        os.kill(pid, signal.SIGKILL)
        self._store.until(lambda: kept.pid != pid, BACK_WITHIN_S, f"{name} was not started again")
        if name == "core":  # a process that is killed while it starts shows nothing
            self._store.view()


def reckon(store: RunningStore, rows: list[HqRow], told: list[tuple[str, dict[str, Any]]], visits: set[str]) -> Tally:
    """Compare what was answered with what headquarters holds."""
    tally = Tally()
    answers: dict[str, dict[str, Any]] = {}
    for presentation_id, answer in told:
        if answers.setdefault(presentation_id, answer) != answer:
            tally.doubled += 1  # the same request got two answers
    at_hq: dict[str, Counter[str]] = {kind: Counter() for kind in KEYS}
    vouchers: Counter[str] = Counter()
    for kind, event in rows:
        at_hq[kind][event[KEYS[kind]]] += 1
        if kind == "VoucherRedeemed":
            vouchers[event["voucher_id"]] += 1
    promised = {
        "VoucherRedeemed": {answer["redemption_id"] for answer in answers.values() if answer["decision"] == "redeemed"},
        "RedemptionRefused": {presented for presented, answer in answers.items() if answer["decision"] == "refused"},
        "VisitEnded": visits,
    }
    for kind, ids in promised.items():
        tally.acked += len(ids)
        tally.lost += len(ids - at_hq[kind].keys())
        tally.doubled += sum(times - 1 for times in at_hq[kind].values())
    tally.doubled += sum(times - 1 for times in vouchers.values())
    tally.unexplained = int(store.hq_get("/api/books")["unexplained"])
    return tally


KEYS: Final = {"VoucherRedeemed": "redemption_id", "RedemptionRefused": "presentation_id", "VisitEnded": "visit_id"}


def rows_at(url: str) -> Iterator[HqRow]:
    """The same of its PostgreSQL."""
    with psycopg.connect(url) as connection:
        for kind, event in connection.execute("SELECT type, event FROM rows WHERE type = ANY(%s)", (list(KEYS),)):
            yield kind, event if isinstance(event, dict) else json.loads(event)


def rows_of(path: Path) -> Iterator[HqRow]:
    """(type, event) of the rows that headquarters' file holds."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        kinds = ", ".join("?" * len(KEYS))
        for kind, event in connection.execute(f"SELECT type, event FROM rows WHERE type IN ({kinds})", tuple(KEYS)):
            yield kind, json.loads(event)
    finally:
        connection.close()


@contextmanager
def shop(broker: str, seed: int) -> Iterator[tuple[RunningStore, Cluster | None]]:
    """A fresh store on that broker; it is left where it is if something was wrong."""
    folder = Path(tempfile.mkdtemp(prefix="sgw-"))
    with contextlib.ExitStack() as ending:
        database = ending.enter_context(cluster()) if broker == "postgres" else None
        store = RunningStore(folder, seed, "amqtt" if database else broker, database.url() if database else "")
        ending.callback(store.close)
        yield store, database


def threads_left() -> list[str]:
    """Customers that did not go home."""
    return [thread.name for thread in threading.enumerate() if isinstance(thread, Till)]
