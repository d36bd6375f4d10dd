"""How fast one device may ask: a token bucket each, on the clock that cannot be set."""

from collections import OrderedDict
from typing import Final

from gateway.clock import Clock

BURST_S: Final = 2.0  # so many seconds' worth at once
MOST_BUCKETS: Final = 1_000  # the one unused for longest goes, and is full again when it comes back


class Pace:
    """One bucket for each name.

    Args:
        per_s: Requests a second that a bucket takes in the long run.
    """

    def __init__(self, clock: Clock, per_s: int) -> None:
        self._clock = clock
        self._per_s = per_s
        self._most = per_s * BURST_S
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()  # requests it would take, and when that was so (ns)

    def wait_s(self, name: str) -> float:
        """Count a request; 0.0: go on, else the seconds until the next would be taken, and this one does not count."""
        now_ns = self._clock.boottime_ns()
        held, since_ns = self._buckets.pop(name, (self._most, now_ns))
        held = min(self._most, held + (now_ns - since_ns) / 1e9 * self._per_s)
        taken = held >= 1.0
        self._buckets[name] = (held - 1.0 if taken else held, now_ns)
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1.0 - held) / self._per_s
