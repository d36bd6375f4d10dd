"""The benchmark measures what it says it measures."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as every
from benchmarks import footprint, installed, memory
from virtual_store.starter import UNITS

ROOT = Path(__file__).resolve().parents[2]
HOLDS_MB = 40


def run_python(code: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", code + "\nprint('ready', flush=True)\nimport time; time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


def test_memory_that_a_process_takes_is_seen() -> None:
    small, large = run_python(""), run_python(f"held = b'x' * ({HOLDS_MB} << 20)")
    try:
        assert HOLDS_MB - 2 < memory.pss_mb(large.pid) - memory.pss_mb(small.pid) < HOLDS_MB + 4
    finally:
        end(small)
        end(large)


@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel shows page frames to root only")
def test_as_if_alone_counts_shared_pages_once_and_those_of_strangers_in_full() -> None:
    one, other, stranger = run_python(""), run_python(""), run_python("")
    try:
        pids = {"one": one.pid, "other": other.pid}
        alone = memory.alone_mb(pids)
        assert alone["one"] > memory.pss_mb(one.pid)  # the stranger, and whatever Python runs here, takes no share any more
        by_itself = memory.alone_mb({"one": one.pid})["one"]
        assert alone["one"] + alone["other"] < 2 * by_itself - 1  # the interpreter itself is there once
    finally:
        for process in (one, other, stranger):
            end(process)


def test_processor_time_of_a_process_and_its_children_is_seen() -> None:
    busy = run_python("import time\nends = time.process_time() + 0.3\nwhile time.process_time() < ends: pass")
    try:
        assert 0.25 <= footprint.cpu_ticks(busy.pid) / footprint.TICKS_PER_S <= 2.0
    finally:
        end(busy)
    began = footprint.cpu_ticks(os.getpid())
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert footprint.cpu_ticks(os.getpid()) - began >= 0.25 * footprint.TICKS_PER_S


def window(cpu: float, pss: float) -> dict[str, Any]:
    return {"cpu": dict.fromkeys(UNITS, cpu), "pss": dict.fromkeys(UNITS, pss), "alone": {}, "load": 0.5}


def test_a_summary_is_one_flat_object_of_medians() -> None:
    flat = footprint.summary([window(0.1, 30.0), window(9.0, 31.0), window(0.2, 90.0)], {"install_mb_without_scanner": 70.0})
    assert flat["idle_cpu_pct"] == 1.0  # five times 0.2: a disturbed window does not count
    assert (flat["core_pss_mb"], flat["shop_pss_mb"], flat["install_mb_without_scanner"]) == (31.0, 155.0, 70.0)
    assert all(isinstance(value, int | float) for value in flat.values())
    assert footprint.AIMS.keys() <= flat.keys()
    assert "over" not in footprint.table(flat)
    assert footprint.table(flat | {"shop_pss_mb": 180.1}).count("over") == 1


def test_make_bench_runs_every_benchmark_there_is() -> None:
    runnable = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def main()" in path.read_text()}
    assert set(every.BENCHMARKS) == runnable - {"__main__", "crash", "asker"}  # a power-cut replay starts crash, and drain starts asker


@pytest.mark.slow
def test_the_program_measures_a_whole_store_within_its_aims() -> None:
    began_s = time.monotonic()
    options = ["--windows", "1", "--window", "5", "--settle", "20", "--skip-install", "--json"]
    done = subprocess.run([sys.executable, "-m", "benchmarks.footprint", *options], cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    flat = json.loads(re.fullmatch(r"SUMMARY (\{.*\})", lines[-1])[1])  # type: ignore[index]
    assert 20 < flat["core_pss_mb"] <= footprint.AIMS["core_pss_mb"]
    assert 80 < flat["shop_pss_mb"] <= footprint.AIMS["shop_pss_mb"]
    assert 0 < flat["idle_cpu_pct"] < 5  # a window this short and a machine this busy prove no more
    assert time.monotonic() - began_s > 20
    assert len(json.loads(lines[0])["windows"]) == 1


@pytest.mark.slow
def test_the_disk_a_box_needs_counts_compiled_files_wherever_this_shell_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    found = installed.without_scanner()
    assert found["install_packages"] > 20
    assert 50 < found["install_mb_without_scanner"] <= footprint.AIMS["install_mb_without_scanner"]
    assert not list(tmp_path.rglob("fastapi"))
