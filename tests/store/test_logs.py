"""Logs fit for a flash card: a busy shop's units say what changes and nothing for each advert, frame, row or request."""

import json
import re
from pathlib import Path

import pytest

from tests.provisioning.shop import command

pytestmark = [pytest.mark.slow]

LINES = 12  # of a unit: its start, the line that is cut and mended, a device that comes
BYTES = 2_000
NANOBIND = re.compile(r"^(?:nanobind: .*| - .*|See https://nanobind.*)\n?", re.MULTILINE)  # zxing-cpp's binding, once at a process's end


def test_twenty_busy_seconds_are_a_few_lines(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("sgl")
    done = command("store", "--for", "20", "--headless", "--folder", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    stored = json.loads(re.findall(r"^SUMMARY (.*)$", done.stdout, re.MULTILINE)[-1])["stored"]
    assert stored["redemptions"] > 0 and stored["visits"] > 0
    logs = {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(folder, "logs").glob("*.log"))}
    assert {"core", "bridge", "ble@radio", "scanner@counter", "locker@wall", "hq"} <= logs.keys()
    for unit, text in logs.items():
        said = re.sub(NANOBIND, "", text)
        assert len(said.splitlines()) <= LINES and len(said) <= BYTES, f"{unit} said:\n{said}"
        assert not re.search(r"\b[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}\b|V1:|SGE1:|\d{10,}", said), f"{unit} said:\n{said}"
