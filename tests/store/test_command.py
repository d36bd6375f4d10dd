"""`store-gateway store`, as a person or a script runs it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow]


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


def test_a_headless_day_ends_with_books_that_agree(folder: Path) -> None:
    done = subprocess.run(store(folder, "--for", "45", "--headless"), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("SUMMARY ")
    summary = json.loads(last.removeprefix("SUMMARY "))
    assert set(summary["produced"]) >= {"visits", "redemptions", "refusals", "collections"}
    assert all(summary["produced"].values()), summary
    assert summary["produced"] == summary["stored"]
    assert summary["ready_s"] <= 20
    assert processes_of(folder) == []


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
