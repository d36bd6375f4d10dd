"""Real units under the part of systemd that they talk to: ready when they serve, fed while they work, silent when they do not."""

import asyncio
import contextlib
import ctypes
import itertools
import json
import resource
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.config import load
from gateway.events import DeviceChanged
from gateway.link import LinkClient
from tests.systemd.box import Box, until

UNITS = ("core", "bridge", "ble@radio", "scanner@hand", "scanner@eye", "locker@wall")
BEAT = "WATCHDOG=1"


@pytest.fixture
def box() -> Iterator[Box]:
    """Its folder's path is short: unix sockets allow 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="box-") as folder, Box(Path(folder)) as made:
        yield made


def get(port: int, path: str = "/v1/store", timeout_s: float = 20) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout_s) as reply:
        json.load(reply)
        return int(reply.status)


def listening(port: int) -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", port))
    held.listen(256)
    return held


@contextlib.contextmanager
def locked(ledger: Path) -> Iterator[None]:
    """Somebody holds the ledger's write lock: the writing thread waits, everything else goes on."""
    connection = sqlite3.connect(ledger, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


# ---------------------------------------------------------------- ready


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_ready_and_goes_on_feeding_with_no_device_and_no_line(box: Box, unit: str) -> None:
    box.enrol()
    waits_s = {"ble@radio": 12.0, "scanner@eye": 12.0, "bridge": 6.0}.get(unit, 2.0)  # how slowly their loops may turn at rest
    box.start(unit, watchdog_s=waits_s)
    box.manager.wait(BEAT, 4, within_s=60)
    first = box.manager.heard[0][1]
    assert first[0] == "READY=1"
    assert box.manager.said("READY=1") == 1
    beats = [at for at, lines in box.manager.heard if BEAT in lines]
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(beats)]
    assert 0.25 * waits_s < sum(gaps_s) / len(gaps_s) < 0.9 * waits_s, "about half of what systemd waits"
    assert max(gaps_s) < waits_s


@pytest.mark.slow
def test_core_is_ready_when_it_serves_and_not_before(box: Box) -> None:
    box.enrol()
    box.start("core")
    box.manager.wait("READY=1")
    assert get(box.port) == 200
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(box.folder / "run" / "link.sock"))


@pytest.mark.slow
def test_a_unit_says_that_it_ends(box: Box) -> None:
    box.enrol()
    core = box.start("core")
    box.manager.wait("READY=1")
    core.send_signal(signal.SIGTERM)
    assert core.wait(15) == 0
    assert box.manager.said("STOPPING=1") == 1


@pytest.mark.slow
def test_a_box_that_is_not_enrolled_is_never_ready_and_not_started_again(box: Box) -> None:
    assert box.start("core").wait(15) == 78
    assert box.manager.said("READY=1") == 0


def test_without_systemd_nothing_is_said(box: Box) -> None:
    locker = box.start("locker@wall", environment={"NOTIFY_SOCKET": ""})
    until(lambda: _has_threads(locker.pid, 2), 40, "the driver never looked at its board")
    locker.send_signal(signal.SIGTERM)
    assert locker.wait(15) == 0
    box.manager.listen()
    assert box.manager.heard == []


def _has_threads(pid: int, count: int) -> bool:
    """The second thread of a locker's driver opens the line."""
    with contextlib.suppress(FileNotFoundError):
        return len(list(Path(f"/proc/{pid}/task").iterdir())) >= count
    return False


# ---------------------------------------------------------------- the watchdog


async def have_something_to_write(box: Box) -> None:
    """A scanner tells of itself; a second later the writing thread wants to commit that."""
    clock = SystemClock()
    link = LinkClient(load(box.config).link_path, "scanner@hand", clock)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(link.run())
        link.state(DeviceChanged("scanner@hand", "up", "", clock.now()))
        await asyncio.sleep(1.6)
        running.cancel()


@pytest.mark.slow
def test_a_ledger_that_does_not_answer_stops_the_feeding_though_pages_are_served(box: Box) -> None:
    box.enrol()
    box.start("core")
    box.manager.wait(BEAT, 2)
    with locked(box.ledger):
        asyncio.run(have_something_to_write(box))
        assert box.manager.counts(BEAT, 2.0) == 0, "SQLite itself waits five seconds"
        assert get(box.port) == 200
    box.manager.wait(BEAT, box.manager.said(BEAT) + 2)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["core", "locker@wall"])
def test_a_process_that_stands_still_is_not_fed(box: Box, unit: str) -> None:
    box.enrol()
    process = box.start(unit)
    box.manager.wait(BEAT, 2)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    assert box.manager.counts(BEAT, 2.5) == 0
    process.send_signal(signal.SIGCONT)
    box.manager.wait(BEAT, box.manager.said(BEAT) + 2)


@pytest.mark.slow
def test_a_disk_that_takes_nothing_does_not_starve_the_watchdog(box: Box) -> None:
    box.enrol()
    core = box.start("core")
    box.manager.wait(BEAT, 2)
    resource.prlimit(core.pid, resource.RLIMIT_FSIZE, (1, 1))  # every write to a file fails, as on a full disk
    assert box.manager.counts(BEAT, 4) >= 3
    assert core.poll() is None


# ---------------------------------------------------------------- credentials


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "papers"), [("core", {"hq.json", "sign.key"}), ("bridge", {"hq.json", "sign.key", "ca.crt", "tls.crt", "tls.key"})]
)
def test_what_systemd_loads_is_all_that_a_unit_reads_of_the_enrolment(box: Box, unit: str, papers: set[str]) -> None:
    loaded = box.enrol(box.folder / "credentials")
    for path in loaded.iterdir():
        if path.name not in papers:
            path.unlink()
    box.start(unit, environment={"CREDENTIALS_DIRECTORY": str(loaded)})
    box.manager.wait(BEAT, 2)


# ---------------------------------------------------------------- the listening socket


@pytest.mark.slow
def test_customers_who_come_while_core_is_away_are_served_when_it_is_back(box: Box) -> None:
    box.enrol()
    with listening(box.port) as held:
        first = box.start("core", held=held)
        box.manager.wait("READY=1")
        assert get(box.port) == 200
        first.send_signal(signal.SIGTERM)
        assert first.wait(15) == 0
        answers: list[int] = []
        customers = [threading.Thread(target=lambda: answers.append(get(box.port))) for _ in range(20)]
        for customer in customers:
            customer.start()
        time.sleep(0.3)
        assert answers == []
        box.start("core", held=held)
        for customer in customers:
            customer.join(timeout=20)
        assert answers == [200] * 20


@pytest.mark.slow
def test_a_restart_under_load_refuses_nobody(box: Box) -> None:
    box.enrol()
    outcomes: list[str] = []
    over = threading.Event()

    def customer() -> None:
        while not over.is_set():
            try:
                outcomes.append(str(get(box.port)))
            except (OSError, urllib.error.URLError) as error:
                outcomes.append(f"{time.monotonic():.2f} {type(error).__name__}: {error}")

    with listening(box.port) as held:
        core = box.start("core", held=held)
        box.manager.wait("READY=1")
        customers = [threading.Thread(target=customer) for _ in range(4)]
        for thread in customers:
            thread.start()
        for times in range(2, 5):
            time.sleep(0.3)
            core.send_signal(signal.SIGTERM)
            assert core.wait(15) == 0
            core = box.start("core", held=held)
            box.manager.wait("READY=1", times)
        time.sleep(0.3)
        over.set()
        for thread in customers:
            thread.join(timeout=20)
    assert len(outcomes) > 50
    assert set(outcomes) == {"200"}


# ---------------------------------------------------------------- the sandbox


@pytest.mark.slow
@pytest.mark.skipif(ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0, reason="needs a kernel with PR_SET_MDWE (6.3)")
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_needs_no_memory_that_is_both_written_and_run(box: Box, unit: str) -> None:
    box.enrol()
    process: subprocess.Popen[bytes] = box.start(unit, no_new_code=True)
    box.manager.wait(BEAT, 2)
    if unit == "core":
        assert get(box.port) == 200
    assert process.poll() is None
