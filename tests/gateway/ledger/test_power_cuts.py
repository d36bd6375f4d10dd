"""A power cut at any moment, without hardware: nothing acknowledged is lost, nothing is unreadable, nothing counts as damage.

A ledger at work (`benchmarks.crash`: migration, starts, merging, trimming, days that pass) is watched by a shim that writes
down each write, fsync and name. From that, disks are built as a cut may leave them: `synced` holds only what an fsync had made
durable; `torn` beside it any part of the rest, sector by sector; `all` is what a kill leaves. Names become durable with
the next fsync of any file, as on ext4.
"""

import asyncio
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.crash import left

ROOT = Path(__file__).parents[3]
SHIM = ROOT / "tests" / "shims" / "powerlog.c"
SECTOR_B = 512
MODES = ("synced", "torn", "all")
CUTS = 40


class Disk:
    """One file: what is durable, what it is now, and what happened since the last fsync."""

    def __init__(self) -> None:
        self.durable, self.now = bytearray(), bytearray()
        self.pending: list[tuple[int, bytes | None]] = []

    def write(self, offset: int, content: bytes | None) -> None:
        _apply(self.now, offset, content)
        self.pending.append((offset, content))

    def sync(self) -> None:
        self.durable, self.pending = bytearray(self.now), []

    def torn(self, rng: random.Random) -> bytes:
        found = bytearray(self.durable)
        for offset, content in self.pending:
            if content is None:
                if rng.random() < 0.5:
                    _apply(found, offset, None)
                continue
            for at in range(0, len(content), SECTOR_B):
                if rng.random() < 0.5:
                    _apply(found, offset + at, content[at : at + SECTOR_B])
        return bytes(found)


def _apply(file: bytearray, offset: int, content: bytes | None) -> None:
    if len(file) < offset:
        file.extend(bytes(offset - len(file)))
    if content is None:
        del file[offset:]
    else:
        file[offset : offset + len(content)] = content


def records(log: bytes) -> Iterator[tuple[str, int, bytes, str]]:
    at = 0
    while (end := log.find(b"\n", at)) >= 0:
        op, offset, length, path = log[at:end].decode().split(" ", 3)
        at = end + 1 + int(length)
        yield op, int(offset), log[end + 1 : at], path


class Replay:
    """Goes along the log; `files` and `names` are the disk's, `acknowledged` what was said to be on it."""

    def __init__(self, ack: str) -> None:
        self._ack = ack
        self.files: dict[str, Disk] = {}
        self.names: dict[str, Disk] = {}
        self.acknowledged: list[str] = []

    def take(self, op: str, offset: int, content: bytes, path: str) -> None:
        if path == self._ack:
            self.acknowledged += content.decode().split()
        elif op == "rename":
            before, after = path.split("\t")
            self.files[after] = self.files.pop(before)
        elif op == "unlink":
            self.files.pop(path, None)
        elif op == "sync":
            if path in self.files:  # else a folder
                self.files[path].sync()
            self.names = dict(self.files)
        elif not path.endswith("-shm"):
            file = self.files.setdefault(path, Disk())
            if op in ("write", "truncate"):
                file.write(offset, content if op == "write" else None)
            elif op == "empty":
                file.write(0, None)

    def build(self, mode: str, rng: random.Random, folder: Path) -> None:
        for path, file in (self.names if mode == "synced" else self.files).items():
            if mode == "torn" and path not in self.names and rng.random() < 0.5:
                continue
            content = file.durable if mode == "synced" else file.now if mode == "all" else file.torn(rng)
            (folder / Path(path).name).write_bytes(content)


def watched(folder: Path, seconds: float) -> tuple[bytes, str]:
    """The log of a ledger that worked for so long, and the path its acknowledgements went to."""
    shim, root = folder / "powerlog.so", folder / "root"
    root.mkdir()
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(shim), str(SHIM), "-ldl"], check=True)
    places = {"POWERLOG_ROOT": str(root), "POWERLOG_ACK": str(folder / "ack"), "POWERLOG_FILE": str(folder / "log")}
    command = [sys.executable, "-m", "benchmarks.crash", "write", "--root", str(root), "--ack", str(folder / "ack")]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | places | {"LD_PRELOAD": str(shim)}) as process:
        ends_s = time.monotonic() + 30
        while not (folder / "ack").exists() and time.monotonic() < ends_s:
            time.sleep(0.05)
        time.sleep(seconds)
        process.kill()
    return (folder / "log").read_bytes(), str(folder / "ack")


async def cuts(folder: Path, seconds: float, number: int, seed: int) -> Counter[str]:
    """Cut the power so often; counts what was seen of the ledger's life, and fails at the first loss."""
    log, ack = await asyncio.to_thread(watched, folder, seconds)
    steps, rng, replay, seen = list(records(log)), random.Random(seed), Replay(ack), Counter[str]()
    begun = next(at for at, step in enumerate(steps) if step[3] == ack)
    chosen = {*rng.sample(range(begun, len(steps)), min(number, len(steps) - begun)), len(steps) - 1}
    for at, step in enumerate(steps):
        replay.take(*step)
        seen[step[0]] += 1
        for mode in MODES if at in chosen else ():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                replay.build(mode, rng, Path(place))
                present, trouble = await left(Path(place))
                assert trouble == [], f"step {at} of {len(steps)}, {mode}: {trouble}"
                lost = set(replay.acknowledged) - set(present)
                assert not lost, f"step {at} of {len(steps)}, {mode}: {len(lost)} acknowledged rows are lost"
                seen[f"cut {mode}"] += 1
    seen["acknowledged"] = len(replay.acknowledged)
    return seen


@pytest.fixture
def memory() -> Iterator[Path]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base, prefix="cuts-") as folder:
        yield Path(folder)


@pytest.mark.slow
async def test_no_power_cut_loses_what_was_acknowledged(memory: Path) -> None:
    logging.getLogger("gateway.ledger").setLevel(logging.CRITICAL)
    seen = await cuts(memory, 5.0, CUTS, seed=3)
    print(dict(seen))
    assert seen["sync"] > 100 and seen["acknowledged"] > 100 and min(seen[f"cut {mode}"] for mode in MODES) >= CUTS


async def test_the_replay_notices_a_writer_that_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    """Its own check: what was written without an fsync is gone from a synced disk, and torn on a torn one."""
    replay, rng = Replay("/ack"), random.Random(1)
    replay.take("open", 0, b"", "/disk/a")
    replay.take("write", 0, b"x" * 2048, "/disk/a")
    replay.take("sync", 0, b"", "/disk/a")
    replay.take("write", 1024, b"y" * 4096, "/disk/a")
    replay.take("write", 0, b"1\n", "/ack")
    found = {}
    for mode in MODES:
        (tmp_path / mode).mkdir()
        replay.build(mode, rng, tmp_path / mode)
        found[mode] = (tmp_path / mode / "a").read_bytes()
    assert found["synced"] == b"x" * 2048 and found["all"] == b"x" * 1024 + b"y" * 4096
    assert found["torn"] not in (found["synced"], found["all"]) and replay.acknowledged == ["1"]
