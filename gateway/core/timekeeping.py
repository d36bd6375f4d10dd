"""Notices when a wall clock nobody could believe has become one that HQ's signed time agrees with, and writes the moment down."""

from collections.abc import Callable

from gateway.clock import Clock
from gateway.events import ClockFixed, Row, TimeTrust


class ClockWatch:
    """Of one boot: rows written before the clock was right are dated by this one row, at headquarters."""

    def __init__(self, clock: Clock, commit: Callable[[list[Row]], object]) -> None:
        self._clock = clock
        self._commit = commit
        self._was_untrusted = False

    def heed(self, row: Row) -> None:
        """A row of the past: one of this very boot may have been written before the clock was right."""
        at, now = row.event_time, self._clock.now()
        self._was_untrusted |= at.boot_id == now.boot_id and at.trust is TimeTrust.UNTRUSTED

    def look(self) -> None:
        """Compare the clock with what it was."""
        now = self._clock.now()
        if now.trust is TimeTrust.UNTRUSTED:
            self._was_untrusted = True
        elif now.trust is TimeTrust.SYNCED and self._was_untrusted:
            self._was_untrusted = False
            self._commit([ClockFixed(now.boot_id, now.mono_ns, now.wall_us, now)])
