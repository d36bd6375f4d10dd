"""What is said to systemd: only what is so, and only while it is so."""

import asyncio
import os
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gateway import health
from gateway.clock import SystemClock
from gateway.errors import DeviceError
from gateway.events import DoorState
from gateway.health import Watchdog, enrolment_dir, feeding_s, inherited_socket, tell
from gateway.link import LinkClient
from gateway.locker.driver import LockerDriver
from tests.conftest import until

BEAT = "WATCHDOG=1"


class Ear:
    """A service manager's socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.heard: list[list[str]] = []

    def said(self, line: str) -> int:
        """How often a line was said."""
        with suppress(BlockingIOError):
            while True:
                self.heard.append(self._socket.recv(4096).decode().split("\n"))
        return sum(line in lines for lines in self.heard)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    """It waits 200 ms for each word."""
    with tempfile.TemporaryDirectory(prefix="ear-") as folder:
        made = Ear(f"{folder}/notify")
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield made
        made.close()


@asynccontextmanager
async def running(*works: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


# ---------------------------------------------------------------- the words


def test_words_reach_a_socket_in_the_file_system(ear: Ear) -> None:
    assert tell("READY=1", "STATUS=serving")
    assert ear.said("READY=1") == 1
    assert ear.heard == [["READY=1", "STATUS=serving"]]


def test_words_reach_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"store-gateway-test-{os.getpid()}"
    ear = Ear(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    assert tell("STOPPING=1")
    assert ear.said("STOPPING=1") == 1
    ear.close()


def test_nobody_listening_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not tell("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not tell("READY=1")


def test_a_full_queue_never_blocks_the_loop(ear: Ear) -> None:
    began_s = time.monotonic()
    heard = [tell(BEAT) for _ in range(5_000)]
    assert not heard[-1]
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize(
    ("waits_us", "process", "feeds_s"),
    [("30000000", "", 15.0), ("30000000", "own", 15.0), ("30000000", "1", None), ("", "", None), ("0", "", None), ("soon", "", None)],
)
def test_feeding_is_at_half_of_what_systemd_waits(
    monkeypatch: pytest.MonkeyPatch, waits_us: str, process: str, feeds_s: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", waits_us)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if process:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if process == "own" else process)
    assert feeding_s() == feeds_s


def test_the_enrolment_is_what_systemd_loaded_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert enrolment_dir(tmp_path) == tmp_path
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/store-core.service")
    assert enrolment_dir(tmp_path) == Path("/run/credentials/store-core.service")


@pytest.mark.parametrize(("process", "count"), [("1", "1"), ("own", "0"), ("own", ""), ("own", "x"), ("", "1")])
def test_sockets_of_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch, process: str, count: str) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if process == "own" else process)
    monkeypatch.setenv("LISTEN_FDS", count)
    assert inherited_socket() is None


# ---------------------------------------------------------------- the watchdog


async def test_ready_is_said_once_and_not_before_every_loop_has_turned(ear: Ear) -> None:
    watchdog = Watchdog("bus", "ticks")
    async with running(watchdog.run()):
        await asyncio.sleep(0.05)
        watchdog.turned("bus")
        await asyncio.sleep(0.05)
        assert ear.said("READY=1") == 0
        watchdog.turned("ticks")
        await until(lambda: ear.said("READY=1") == 1)
        for _ in range(40):
            watchdog.turned("bus")
            watchdog.turned("ticks")
            await asyncio.sleep(0.01)
        assert ear.said("READY=1") == 1
        assert ear.said(BEAT) >= 3


async def test_one_loop_that_stands_still_starves_the_watchdog(ear: Ear) -> None:
    watchdog = Watchdog("grab", "decode")

    async def turn(loop: str, turns: asyncio.Event) -> None:
        while True:
            await turns.wait()
            watchdog.turned(loop)
            await asyncio.sleep(0.01)

    grabs, decodes = asyncio.Event(), asyncio.Event()
    grabs.set()
    decodes.set()
    async with running(turn("grab", grabs), turn("decode", decodes), watchdog.run()):
        await until(lambda: ear.said(BEAT) >= 2)
        decodes.clear()
        await asyncio.sleep(0.15)
        before = ear.said(BEAT)
        await asyncio.sleep(0.5)
        assert ear.said(BEAT) == before
        decodes.set()
        await until(lambda: ear.said(BEAT) > before)


async def test_a_loop_that_is_late_is_not_fed_until_it_is_in_time_again(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_LAG_S", 0.2)
    monkeypatch.setattr(health, "AGAIN_S", 0.1)
    async with running(Watchdog().run()):
        await until(lambda: ear.said(BEAT) >= 2)
        time.sleep(0.5)  # noqa: ASYNC251 - what a blocking call does to a loop
        before = ear.said(BEAT)
        await asyncio.sleep(0.02)
        assert ear.said(BEAT) == before
        assert any(line.startswith("STATUS=degraded") for lines in ear.heard for line in lines)
        await until(lambda: ear.said(BEAT) > before)


async def test_a_word_that_was_not_heard_is_said_again(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "AGAIN_S", 0.05)
    there = os.environ["NOTIFY_SOCKET"]
    monkeypatch.setenv("NOTIFY_SOCKET", f"{there}-not-yet")
    async with running(Watchdog().run()):
        await asyncio.sleep(0.15)
        monkeypatch.setenv("NOTIFY_SOCKET", there)
        await until(lambda: ear.said("READY=1") == 1)


async def test_without_systemd_the_watchdog_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    await asyncio.wait_for(Watchdog("never").run(), 1)


async def test_a_unit_that_nobody_watches_says_that_it_is_ready_and_no_more(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC")
    monkeypatch.setattr(health, "AGAIN_S", 0.05)
    await asyncio.wait_for(Watchdog().run(), 5)
    assert ear.said("READY=1") == 1


# ---------------------------------------------------------------- a driver


class StuckBoard:
    """A line whose driver in the kernel never returns; until then it is silent."""

    def __init__(self) -> None:
        self.stuck = threading.Event()
        self.freed = threading.Event()
        self.connected = False

    async def unlock(self, compartment: int) -> None:
        raise DeviceError(f"nothing hears of {compartment}")

    async def read_doors(self) -> dict[int, DoorState]:
        if self.stuck.is_set():
            await asyncio.to_thread(self.freed.wait)
        raise DeviceError("silent")

    async def close(self) -> None:
        return


@pytest.mark.slow
async def test_a_driver_whose_line_hangs_is_replaced_though_its_loop_is_free(ear: Ear, tmp_path: Path) -> None:
    clock, board, watchdog = SystemClock(), StuckBoard(), Watchdog("bus")
    link = LinkClient(tmp_path / "link.sock", "locker@wall", clock)
    driver = LockerDriver(board, "wall", 4, 20, link, clock, lambda: watchdog.turned("bus"))
    async with running(driver.run(), watchdog.run()):
        await until(lambda: ear.said(BEAT) >= 2)
        board.stuck.set()
        await asyncio.sleep(1.2)  # the longest pause between two tries of a silent bus, and a proof that was under way
        before = ear.said(BEAT)
        await asyncio.sleep(0.6)
        assert ear.said(BEAT) == before
        board.freed.set()
        await until(lambda: ear.said(BEAT) > before)
