"""Logs stay small, whatever happens how often."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.logs import BURST, WINDOW_S, Sparse


class Ear(logging.Handler):
    """What gets through."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.heard: list[str] = []
        self.addFilter(Sparse(lambda: self.now_s))

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@pytest.fixture
def ear() -> Ear:
    return Ear()


def speaker(ear: Ear) -> logging.Logger:
    log = logging.Logger("spoken")
    log.addHandler(ear)
    return log


def test_what_repeats_is_said_a_few_times_and_then_counted(ear: Ear) -> None:
    log = speaker(ear)
    for number in range(1_000):
        if number == 999:
            ear.now_s += WINDOW_S
        log.warning("message %d was not understood", number)
    assert ear.heard[:BURST] == [f"message {number} was not understood" for number in range(BURST)]
    assert ear.heard[BURST:] == [f"message 999 was not understood (and {999 - BURST} more since)"]


def test_another_place_is_not_silenced(ear: Ear) -> None:
    log = speaker(ear)
    for _ in range(100):
        log.warning("noise")
    log.error("the ledger could not commit")
    assert ear.heard == ["noise"] * BURST + ["the ledger could not commit"]


def test_a_line_every_minute_is_always_said(ear: Ear) -> None:
    log = speaker(ear)
    for number in range(10):
        ear.now_s = number * WINDOW_S
        log.info("the line is %s", "up" if number % 2 else "down")
    assert len(ear.heard) == 10 and "more since" not in "".join(ear.heard)


def test_a_unit_logs_by_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import logging\nfrom gateway.logs import to_stderr\nto_stderr()\n"
        "for n in range(5000): logging.getLogger('x').warning('again %s', n)\nlogging.getLogger('y').info('after')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    said = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=True, timeout=30)
    assert said.stderr.splitlines() == [f"WARNING x: again {n}" for n in range(BURST)] + ["INFO y: after"]
