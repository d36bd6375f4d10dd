"""A clock for measuring what happens after seconds and days that nobody waits for."""

from gateway.clock import SystemClock
from gateway.events import Instant, TimeTrust


class MovedClock(SystemClock):
    """The machine's clock and what was added to it, believed."""

    ahead_ns = 0

    def now(self) -> Instant:
        now = super().now()
        return Instant(now.wall_us + self.ahead_ns // 1000, self.boottime_ns(), now.boot_id, TimeTrust.SYNCED)

    def boottime_ns(self) -> int:
        return super().boottime_ns() + self.ahead_ns
