"""The ledger's benchmark measures what it says, with a yardstick that is really durable."""

import argparse
import asyncio
from pathlib import Path

from benchmarks import ledger


def test_both_sides_are_measured_in_turns(tmp_path: Path) -> None:
    found = asyncio.run(ledger.durability(tmp_path, rounds=1, seconds=0.2))
    assert {
        "acks_64",
        "acks_1",
        "raw_row",
        "raw_batch100",
        "acks_64_over_raw_row",
        "acks_64_over_raw_batch100",
        "p99_64_over_p99_1",
    } <= set(found)
    assert min(found.values()) > 0
    assert found["acks_64"] > found["acks_1"]


def test_every_aim_is_in_the_summary() -> None:
    keys = {"acks_64_over_raw_row", "acks_64_over_raw_batch100", "p99_64_over_p99_1"}
    counted = set(ledger.AIMS) - {f"{key}_sd" for key in keys} - keys
    assert counted == {"traffic_bytes_written_per_event", "bytes_per_redemption", "bytes_per_redemption_16", "traffic_mb_per_million"}


def test_the_shim_slows_an_fsync(tmp_path: Path) -> None:
    options = argparse.Namespace(rounds=1, seconds=0.3, quick=True)
    shim = ledger.compiled(tmp_path)
    assert ledger.part("durability", options, shim)["raw_row"] < 1 / (ledger.SLOW_SYNC_US * 1e-6)


def test_rows_are_real_and_none_comes_twice() -> None:
    rows = list(ledger.stated(ledger.REAL_ROWS + 50))
    again = rows[ledger.REAL_ROWS :]
    assert len({str(row) for row in rows}) == len(rows)
    assert [type(row) for row in again] == [type(row) for row in rows[:50]]
