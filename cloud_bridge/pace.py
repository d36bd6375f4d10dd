"""How long an answer takes, and how much may be under way: what TCP knows of a path, told for batches. Pure.

The round trip is estimated as in RFC 6298 (smoothed mean and deviation), from batches that were sent once only (Karn's rule: an
answer to one that was sent twice may belong to either). The window of the slow lanes follows delay instead of loss, as LEDBAT
does (RFC 6817): it grows while answers come quickly and halves when they take longer than the delay that lane 0 may suffer.
"""

from typing import Final

MEAN_WEIGHT: Final = 1 / 8
DEVIATION_WEIGHT: Final = 1 / 4
DEVIATIONS: Final = 4.0
FIRST_PATIENCE_S: Final = 3.0  # before anything was measured: headquarters may be busy with ten thousand shops that just came back
SHORTEST_PATIENCE_S: Final = 0.15  # one slow fsync is not silence
LONGEST_TRIP_S: Final = 10.0  # an answer after an outage says little about the line

TARGET_S: Final = 0.3  # longest the slow lanes' own queue should get; lane 0 waits behind it
LEAST_WINDOW_B: Final = 32_768
FIRST_WINDOW_B: Final = 131_072
MOST_WINDOW_B: Final = 1_048_576


class RoundTrip:
    """From a batch's sending to its answer."""

    def __init__(self) -> None:
        self._mean_s = 0.0
        self._deviation_s = 0.0
        self._measured = False

    def measure(self, took_s: float) -> None:
        """One more, of a batch that was sent once."""
        took_s = min(max(0.0, took_s), LONGEST_TRIP_S)
        if not self._measured:
            self._mean_s, self._deviation_s, self._measured = took_s, took_s / 2, True
            return
        self._deviation_s += DEVIATION_WEIGHT * (abs(took_s - self._mean_s) - self._deviation_s)
        self._mean_s += MEAN_WEIGHT * (took_s - self._mean_s)

    @property
    def patience_s(self) -> float:
        """After which an answer is late."""
        if not self._measured:
            return FIRST_PATIENCE_S
        return min(LONGEST_TRIP_S, max(SHORTEST_PATIENCE_S, self._mean_s + DEVIATIONS * self._deviation_s))


class Window:
    """Bytes that may be under way unanswered."""

    def __init__(self) -> None:
        self.size_b = FIRST_WINDOW_B
        self._narrowed_s = -LONGEST_TRIP_S

    def answered(self, size_b: int, sent_s: float, now_s: float) -> None:
        """A batch of that size was answered; one that was sent before the last narrowing says nothing new about a long queue."""
        if now_s - sent_s <= TARGET_S:
            self.size_b = min(MOST_WINDOW_B, self.size_b + size_b)
        elif sent_s >= self._narrowed_s:
            self.narrow(now_s)

    def narrow(self, now_s: float) -> None:
        """An answer came late, or not at all."""
        self.size_b = max(LEAST_WINDOW_B, self.size_b // 2)
        self._narrowed_s = now_s
