"""Time as a parameter: every part that needs it is handed a `Clock`.

Durations come from CLOCK_BOOTTIME, which goes on during suspend and never jumps. The wall clock is only a claim: it is
T0 when HQ's signed time of the last day agrees with it, T1 when nothing contradicts it, T2 when it lies before something
that has certainly happened (the build, the last row, a signed time) or an hour away from HQ's word. What has happened moves on:
that floor rises with the monotonic clock, and with nothing else but a later such word.
"""

import time
from pathlib import Path
from typing import Final, Protocol

from gateway.events import Instant, TimeTrust

BUILT_US: Final = 1_788_220_800_000_000  # 2026-09-01: no wall clock of a running box can be before its software
HOLDOVER_NS: Final = 24 * 3600 * 10**9  # a Pi's crystal drifts below 5 s a day
DISAGREEMENT_US: Final = 3600 * 10**6  # NTP more than an hour off HQ's signed word is not believed (DESIGN section 2)


class Clock(Protocol):
    """What may be asked of time."""

    def now(self) -> Instant:
        """This instant, with what is known of its trust."""

    def boottime_ns(self) -> int:
        """Nanoseconds since boot, suspended time included; the same for every process of the box."""

    def bounds_us(self) -> tuple[int, int | None]:
        """The earliest and the latest that it can be, µs since 1970 UTC; None: nobody knows how late."""

    def hear_signed_time(self, signed_us: int) -> None:
        """Take HQ's signed time, microseconds since 1970 UTC."""

    def raise_floor(self, past_us: int) -> None:
        """Take a wall time that has certainly passed, such as the last row's."""


def read_boot_id() -> str:
    """Eight hex digits that change with every boot; `00000000` where the kernel tells none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return "0" * 8


class SystemClock:
    """The clock of the machine."""

    def __init__(self) -> None:
        self._boot_id = read_boot_id()
        self._floor: tuple[int, int] | None = None  # wall time that had passed, and the boot time when it had; None: the build's
        self._signed: tuple[int, int] | None = None  # signed wall time in µs, boot time in ns when it was heard

    def now(self) -> Instant:
        wall_us = time.time_ns() // 1000
        mono_ns = self.boottime_ns()
        return Instant(wall_us, mono_ns, self._boot_id, self._trust(wall_us, mono_ns))

    def boottime_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def bounds_us(self) -> tuple[int, int | None]:
        now = self.now()
        return (self._floor_us(now.mono_ns), None) if now.trust is TimeTrust.UNTRUSTED else (now.wall_us, now.wall_us)

    def hear_signed_time(self, signed_us: int) -> None:
        self.raise_floor(signed_us)
        mono_ns = self.boottime_ns()
        # A message that lay in a queue is old, not a reason to doubt a newer one.
        if (held_us := self._signed_now_us(mono_ns)) is None or signed_us > held_us - DISAGREEMENT_US:
            self._signed = (signed_us, mono_ns)

    def raise_floor(self, past_us: int) -> None:
        mono_ns = self.boottime_ns()
        if past_us > self._floor_us(mono_ns):
            self._floor = (past_us, mono_ns)

    def _floor_us(self, mono_ns: int) -> int:
        if self._floor is None:
            self._floor = (BUILT_US, mono_ns)
        return self._floor[0] + (mono_ns - self._floor[1]) // 1000

    def _signed_now_us(self, mono_ns: int) -> int | None:
        """What HQ's clock must say now; None: not heard for a day."""
        if self._signed is None or mono_ns - self._signed[1] >= HOLDOVER_NS:
            return None
        return self._signed[0] + (mono_ns - self._signed[1]) // 1000

    def _trust(self, wall_us: int, mono_ns: int) -> TimeTrust:
        signed_now_us = self._signed_now_us(mono_ns)
        if signed_now_us is not None:
            agrees = abs(wall_us - signed_now_us) < DISAGREEMENT_US
            return TimeTrust.SYNCED if agrees else TimeTrust.UNTRUSTED
        # HQ's clock and ours may differ by seconds while both are right, so the floor has a minute's slack.
        return TimeTrust.UNTRUSTED if wall_us < self._floor_us(mono_ns) - 60_000_000 else TimeTrust.HOLDOVER
