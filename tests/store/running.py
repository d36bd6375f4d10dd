"""A whole virtual store for tests: real processes, held by a loop on a thread of its own, touched only through their doors."""

import asyncio
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cloud_bridge.hq.keeping import restore_command
from cloud_bridge.ports import free_port
from gateway.events import Lane
from gateway.ledger import LedgerReader
from gateway.locker.virtual import board_control
from virtual_store.plan import Plan, Ports
from virtual_store.shoppers import show
from virtual_store.starter import Starter

T = TypeVar("T")


class RunningStore:
    """A store that runs until `close`."""

    def __init__(self, folder: Path, seed: int = 7, broker: str = "amqtt", database: str = "") -> None:
        ports = Ports(*(free_port() for _ in range(4)))
        self.told: list[str] = []
        self.starter = Starter(Plan(folder, ports, seed, broker, database), self.told.append)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._leave = asyncio.Event()
        self._held = asyncio.run_coroutine_threadsafe(self._hold(), self._loop)
        self.until(lambda: self.starter.ready_s > 0 or self._held.done(), 60, "the store did not start")
        if self._held.done():
            self._held.result()

    async def _hold(self) -> None:
        async with self.starter:
            await self._leave.wait()

    def close(self) -> None:
        """End every process."""
        self._loop.call_soon_threadsafe(self._leave.set)
        self._held.result(timeout=30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the store's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    # ------------------------------------------------------------ doors

    def hq_get(self, path: str) -> Any:
        """HQ's API, signed in."""
        return self.call(self.starter.hq.get(path))

    def hq_post(self, path: str, body: dict[str, Any]) -> Any:
        """HQ's API, signed in."""
        return self.call(self.starter.hq.post(path, body))

    def shop_get(self, path: str) -> Any:
        """Core's API."""
        return self.call(self.starter.shop.get(path))

    def shop_post(self, path: str, body: dict[str, Any]) -> Any:
        """Core's API."""
        return self.call(self.starter.shop.post(path, body))

    def show(self, text: str, seconds: float = 2.5) -> None:
        """Hold a code before the shop's camera."""
        self.call(show(self.starter.plan.camera_control, text, seconds))

    def board(self, **order: Any) -> dict[str, Any]:
        """The virtual lock board's own word."""
        return self.call(board_control(self.starter.plan.gateway_toml.parent / "run" / "board", **order))

    def cut_line(self) -> None:
        """Cut the line to HQ, and wait until the shop has noticed."""
        self.call(self.starter.cut_line(False))
        self.until(lambda: not self.view()["line"]["up"], 15, "the shop did not notice the cut")

    def mend_line(self) -> None:
        """Mend it, and wait until the shop has noticed."""
        self.call(self.starter.cut_line(True))
        self.until(lambda: self.view()["line"]["up"], 20, "the shop did not notice that the line is back")

    def kill(self, name: str) -> None:
        """kill -9, and wait until another one runs in its place."""
        kept = self.starter.keeper.kept[name]
        pid = kept.pid
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: kept.pid != pid, 15, f"{name} was not started again")

    def restore_hq(self, backup: Path) -> None:
        """kill -9 headquarters, put a backup in the place of its database, and wait until another one runs."""
        kept = self.starter.keeper.kept["hq"]
        pid = kept.pid
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}/cwd").exists():
            time.sleep(0.001)
        restore_command(self.starter.plan.hq_dir, backup)
        self.until(lambda: kept.pid != pid, 15, "headquarters did not start again")

    # ------------------------------------------------------------ looking

    def view(self) -> Any:
        """The shop at a glance; waits while core is away."""
        return self.eventually(lambda: self.shop_get("/v1/store"), 20)

    def screen(self, station: str = "counter") -> Any:
        """What a station shows."""
        return self.eventually(lambda: self.shop_get(f"/v1/stations/{station}"), 20)

    def shown_after(self, before: int, state: str, station: str = "counter", within_s: float = 10) -> Any:
        """The first screen in a state that is newer than `before`."""

        def newer() -> bool:
            screen = self.screen(station)
            return bool(screen["number"] > before and screen["state"] == state)

        self.until(newer, within_s, f"{station} never showed {state}; it shows {self.screen(station)}")
        return self.screen(station)

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Events of a type in the shop's ledger, read from its file."""
        reader = LedgerReader(self.starter.ledger)
        try:
            found = [reader.rows(epoch.number, lane, 0, 10**9, 10**9) for epoch in reader.epochs() for lane in Lane]
        finally:
            reader.close()
        return [json.loads(row.event) for lane in found for row in lane if row.type == kind]

    def drained(self) -> None:
        """Wait until HQ has acknowledged every row."""
        self.until(lambda: self.view()["line"]["up"] and self.view()["line"]["waiting"] == 0, 45, "the lanes did not drain")

    def until(self, there: Callable[[], bool], within_s: float, otherwise: str) -> None:
        """Wait for something."""
        ends_s = time.monotonic() + within_s
        while not there():
            assert time.monotonic() < ends_s, f"{otherwise} {self.told[-5:]}"
            time.sleep(0.05)

    def eventually(self, ask: Callable[[], T], within_s: float) -> T:
        """The answer of something that may be away for a while."""
        ends_s = time.monotonic() + within_s
        while True:
            try:
                return ask()
            except Exception:
                if time.monotonic() > ends_s:
                    raise
                time.sleep(0.1)


@pytest.fixture(scope="module")
def whole_store() -> Iterator[RunningStore]:
    """A fresh store for the tests of one file. Its folder's path is short: unix sockets allow 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="sgw-", ignore_cleanup_errors=True) as folder:
        store = RunningStore(Path(folder))
        try:
            yield store
        finally:
            store.close()
