"""A disk that fills up, on a real small file system: redemptions go on, foot traffic is only summed up, and nothing is unsaid."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.columns import Tombstone, unpack
from gateway.errors import LedgerError
from gateway.events import SubjectKind, VisitEnded
from gateway.ledger import Ledger, LedgerReader, Limits, StoredAnswer
from gateway.schema import migrate
from tests.conftest import VirtualClock
from tests.gateway.books import refused, wait
from tests.gateway.ledger.test_keeping import pass_time, traffic

MB = 1024 * 1024
LIMITS = Limits(low_b=3 * MB, reserve_b=1 * MB)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """8 MB, and nothing behind them."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def is_full(ledger: Ledger) -> bool:
    """Asked anew each time."""
    return ledger.full


def fill(folder: Path) -> Path:
    """Somebody else takes all the room there is."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        for piece in (64 * 1024, 1024):
            try:
                while True:
                    file.write(bytes(piece))
            except OSError:
                pass
    return filler


async def test_redemptions_go_on_while_traffic_is_summed_up(small_disk: Path, clock: VirtualClock) -> None:
    path, failures = small_disk / "ledger.db", list[LedgerError]()
    migrate(path)
    ledger = Ledger(path, clock, "test", lambda: None, failures.append, LIMITS)
    assert not is_full(ledger) and (small_disk / "ledger.reserve").stat().st_size == LIMITS.reserve_b
    await traffic(ledger, clock, 4)
    assert ledger.reach[1][1] == 200
    filler = fill(small_disk)
    for number in range(1_000):
        answer = StoredAnswer(f"k{number}", b"asked", bytes(200))
        await asyncio.wait_for(ledger.append([refused(clock, number)], answer=answer), 10)
        ended = VisitEnded("ble@radio", f"w{number}", "trolley", SubjectKind.TAG, "till", 1.5, clock.now())
        ledger.append([ended])
        if number % 50 == 49:
            await pass_time(ledger, clock, 21)
    assert failures == [] and is_full(ledger) and not (small_disk / "ledger.reserve").exists()
    assert ledger.reach[1] == {0: 1_001, 1: 1_200}
    reader = LedgerReader(path)
    stones = [unpack(block.section, block.first) for block in reader.blocks(1, 1, 0, 1_200, 1_200)]
    assert all(isinstance(stone, Tombstone) and stone.reason == "disk_full" for stone in stones)
    sums = [group for stone in stones if isinstance(stone, Tombstone) for group in stone.rollup]
    assert sum(group.rows for group in sums) == 1_200
    assert sum(group.dwell_s for group in sums if group.zone == "till") == pytest.approx(1_500.0)
    filler.unlink()
    await pass_time(ledger, clock, 30)
    await traffic(ledger, clock, 2)
    assert not is_full(ledger)
    assert len(reader.rows(1, 1, 1_200, 1_300)) == 100
    await wait(ledger.append([refused(clock, 999)]))
    reader.close()
    ledger.close()
    again = Ledger(path, clock, "test", lambda: None, failures.append, LIMITS)
    assert again.damage == [] and again.harmed == [] and again.reach[1] == {0: 1_002, 1: 1_300}
    assert len(again.answers()) == 1_000 and failures == []
    again.close()


async def test_a_start_on_a_full_disk_serves(small_disk: Path, clock: VirtualClock) -> None:
    path, failures = small_disk / "ledger.db", list[LedgerError]()
    migrate(path)
    ledger = Ledger(path, clock, "test", lambda: None, failures.append, LIMITS)
    await wait(ledger.append([refused(clock, 1)]))
    ledger.close()
    fill(small_disk)
    again = Ledger(path, clock, "test", lambda: None, failures.append, LIMITS)
    assert is_full(again) and again.damage == []
    await wait(again.append([refused(clock, 2)]))
    again.close()
    assert failures == []
