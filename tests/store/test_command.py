"""`store-gateway store`, as a person or a script runs it, and what it leaves behind in logs."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow]
# Logs fit for a flash card: a busy shop's units say what changes and nothing for each advert, frame, row or request.
LINES = 12  # of a unit: its start, the line that is cut and mended, a device that comes
BYTES = 2_000
NANOBIND = re.compile(r"^(?:nanobind: .*| - .*|See https://nanobind.*)\n?", re.MULTILINE)  # zxing-cpp's binding, once at a process's end


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sgw-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def processes_of(folder: Path) -> list[int]:
    """Every process whose command line names the store's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(entry.name) != os.getpid() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def store(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "gateway", "store", "--folder", str(folder), *options]


Day = tuple[Path, "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def day() -> Iterator[Day]:
    """A headless day of three quarters of a minute, done."""
    with tempfile.TemporaryDirectory(prefix="sgw-", ignore_cleanup_errors=True) as name:
        options = ("--for", "45", "--headless")
        yield Path(name), subprocess.run(store(Path(name), *options), capture_output=True, text=True, timeout=200, check=False)


def test_the_login_link_on_the_terminal_is_whole(day: Day) -> None:
    folder, done = day
    login = json.loads((folder / "hq" / "addresses.json").read_text(encoding="ascii"))["login"]
    assert f" {login}\n" in done.stderr


def test_a_headless_day_ends_with_books_that_agree(day: Day) -> None:
    folder, done = day
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("SUMMARY ")
    summary = json.loads(last.removeprefix("SUMMARY "))
    assert set(summary["produced"]) >= {"visits", "redemptions", "refusals", "collections"}
    assert all(summary["produced"].values()), summary
    assert summary["produced"] == summary["stored"]
    assert 0 < summary["ready_s"] <= 90  # the aim of 20 s is for a machine that has nothing else to do
    assert processes_of(folder) == []


def test_a_busy_day_is_a_few_lines_of_log(day: Day) -> None:
    folder, done = day
    assert done.returncode == 0, done.stderr
    logs = {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder / "logs").glob("*.log"))}
    assert {"core", "bridge", "ble@radio", "scanner@counter", "locker@wall", "hq"} <= logs.keys()
    for unit, text in logs.items():
        said = re.sub(NANOBIND, "", text)
        assert len(said.splitlines()) <= LINES and len(said) <= BYTES, f"{unit} said:\n{said}"
        assert not re.search(r"\b[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}\b|V1:|SGE1:|\d{10,}", said), f"{unit} said:\n{said}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_starter_leaves_nothing_running(folder: Path, number: signal.Signals) -> None:
    with subprocess.Popen(store(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as starter:
        assert starter.stdout is not None
        for line in starter.stdout:
            if "ready in" in line:
                break
        assert len(processes_of(folder)) >= 8
        starter.send_signal(number)
        starter.stdout.read()
        assert starter.wait(timeout=30) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    ends_s = time.monotonic() + 15
    while processes_of(folder) and time.monotonic() < ends_s:
        time.sleep(0.1)
    assert processes_of(folder) == []
