"""What is done about a disk that fills up: a reserve for money, given back to the disk in need; traffic is then only summed up."""

import contextlib
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from gateway.columns import RollUp, Tombstone

DISK_FULL: Final = "disk_full"


class Limits(Struct, frozen=True):
    """When a disk counts as nearly full."""

    low_b: int = 64 * 1024 * 1024  # below, foot traffic is rolled up; some 100,000 redemptions
    reserve_b: int = 8 * 1024 * 1024  # held back for money: some 10,000 redemptions without a line


class Room:
    """The reserve is a file of zeros beside the ledger's; it is given up once, and made anew when there is room again."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._folder = path.parent
        self._reserve = path.with_suffix(".reserve")
        self._limits = limits
        self.full = False
        self.look()

    def look(self) -> bool:
        """Ask the disk; returns whether it is nearly full."""
        stat = os.statvfs(self._folder)
        free_b = stat.f_bavail * stat.f_frsize
        # Not full again only with some room to spare, or it would come and go with every row.
        self.full = free_b < self._limits.low_b * (1.25 if self.full else 1)
        if not self.full and not self._reserve.exists() and free_b > self._limits.low_b + 2 * self._limits.reserve_b:
            self._hold_back()
        return self.full

    def _hold_back(self) -> None:
        with contextlib.suppress(OSError):
            descriptor = os.open(self._reserve, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._limits.reserve_b)
            finally:
                os.close(descriptor)

    def give_up(self) -> bool:
        """Give the reserve to the disk; False: there is none."""
        self.full = True
        try:
            self._reserve.unlink()
        except OSError:
            return False
        return True


class Summed(Struct, frozen=True):
    """What of an event goes into a roll-up."""

    type: str
    zone: str = ""
    dwell_s: float = 0.0


_summed = msgspec.json.Decoder(Summed)


def rolled_up(first: int, rows: list[tuple[int, bytes]], reason: str = DISK_FULL) -> Tombstone:
    """What rows (record_us, event) summed up to, by the shop's day, type and zone."""
    counts: Counter[tuple[str, str, str]] = Counter()
    dwell_s: dict[tuple[str, str, str], float] = {}
    for record_us, event in rows:
        what = _summed.decode(event)
        day = datetime.fromtimestamp(record_us / 1e6, UTC).astimezone().date().isoformat()
        counts[day, what.type, what.zone] += 1
        dwell_s[day, what.type, what.zone] = dwell_s.get((day, what.type, what.zone), 0.0) + what.dwell_s
    rollup = [RollUp(*group, number, round(dwell_s[group], 3)) for group, number in sorted(counts.items())]
    return Tombstone(first, first + len(rows) - 1, reason, rollup)
