"""How many strangers' phones are about: an estimate with its interval, from nothing that could name anybody.

Each address is hashed, keyed with a salt that lives in memory for one window, to one of 256 cells, so on a busy street several
phones share each cell and no cell can be turned back into an address. A window is cut into slots; a slot remembers which
cells were heard, and in which zone loudest. From that alone:

- how many phones lie behind the cells of a slot (linear counting: collisions are expected, so they can be taken out);
- how likely a phone that is here is heard in a slot, from the cells heard in the slot before *and* after. No rate of
  advertisements has to be known, and losses need no calibration;
- how many are here at once: the mean over slots, divided by that likelihood. A changed address counts twice for one slot
  only, unlike in a count of distinct addresses.

A phone that sends nothing cannot be counted, and some watches send what phones send: `MODEL_ERROR` stands for that and has
to be set per shop against a real count. Source for the cells: Whang et al., A linear-time probabilistic counting algorithm,
1990.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

CELLS: Final = 256  # at 200 phones several share most cells, and linear counting is still within 5 %
SLOTS: Final = 5  # per window: enough to see a phone before, in and after a slot
SALT_LIFE_S: Final = 300.0  # CNIL: anonymous within five minutes
THRESHOLD: Final = 5.0  # below it only "<5" is said
Z90: Final = 1.645  # two-sided 90 % of a normal distribution
MODEL_ERROR: Final = 0.06  # relative, one sigma; simulated crowds, all of whose phones send, need 0.04
PRIOR_HITS: Final = 8.0  # before anything is known, a phone is heard in 8 of 10 slots
PRIOR_PAIRS: Final = 10.0
MEMORY: Final = 0.8  # share of the likelihood's evidence that is kept from window to window


class Estimate(Struct, frozen=True):
    """How many phones are in a zone on average over a window; `value` is None below the threshold."""

    zone: str
    value: float | None
    low: float
    high: float


class Footfall:
    """The estimator; it holds counts and cells, no addresses.

    Args:
        sensor_zone: Zone of each receiver.
        window_s: Time one estimate covers, at most 300 s. A slot, a fifth of it, must exceed the radio's gaps.
        new_salt: Gives random bytes; asked once per window.
    """

    def __init__(self, sensor_zone: dict[str, str], window_s: float, new_salt: Callable[[], bytes]) -> None:
        if not 0 < window_s <= SALT_LIFE_S:
            raise ValueError("a window must not outlive its salt")
        self.window_s = window_s
        self._sensor_zone = sensor_zone
        self._zones = sorted(set(sensor_zone.values()))
        self._new_salt = new_salt
        self._salt = b""
        self._started_s: float | None = None
        self._slots: list[dict[int, tuple[int, str]]] = []
        self._hits = PRIOR_HITS
        self._pairs = PRIOR_PAIRS

    def hear(self, t_s: float, sensor: str, address: str, rssi_dbm: int) -> None:
        """Take one advertisement of a stranger's phone. A window that is over must be closed first, by `tick`."""
        zone = self._sensor_zone.get(sensor)
        if zone is None:
            return
        if self._started_s is None:
            self._start(t_s)
        cell = hashlib.blake2b(address.encode("utf-8", "surrogatepass"), key=self._salt, digest_size=1).digest()[0]
        slot = self._slots[self._slot_at(t_s)]
        if cell not in slot or slot[cell][0] < rssi_dbm:
            slot[cell] = (rssi_dbm, zone)

    def tick(self, t_s: float) -> list[Estimate]:
        """Close the window if its time is up; gives one estimate per zone then."""
        if self._started_s is None:
            self._start(t_s)
            return []
        if t_s < self._started_s + self.window_s:
            return []
        late = t_s >= self._started_s + 2 * self.window_s  # the machine slept: what was heard belongs to no window
        estimates = [] if late else self._estimate()
        self._start(t_s if late else self._started_s + self.window_s)
        return estimates

    def forget(self) -> None:
        """Drop the window that is open, salt included."""
        self._started_s = None
        self._slots = []
        self._salt = b""

    def _start(self, t_s: float) -> None:
        self._started_s = t_s
        self._salt = self._new_salt()[:64]
        self._slots = [{} for _ in range(SLOTS)]

    def _slot_at(self, t_s: float) -> int:
        assert self._started_s is not None  # noqa: S101 - for mypy; hear() starts the window
        return max(0, min(SLOTS - 1, int((t_s - self._started_s) / self.window_s * SLOTS)))

    def _estimate(self) -> list[Estimate]:
        likelihood, likelihood_error = self._likelihood()
        present = [phones_behind(len(slot)) for slot in self._slots]
        everywhere = sum(present) / SLOTS / likelihood
        heard = sum(len(slot) for slot in self._slots)
        estimates = []
        for zone in self._zones:
            share = sum(1 for slot in self._slots for _, loudest in slot.values() if loudest == zone) / heard if heard else 0.0
            count_error = _counting_error(present, share, likelihood)
            estimates.append(_state(zone, everywhere * share, count_error, likelihood, likelihood_error))
        return estimates

    def _likelihood(self) -> tuple[float, float]:
        """How likely a phone that is here is heard in a slot, and the relative error of that; takes this window into account."""
        hits, pairs = _recaptures(self._slots)
        self._hits = PRIOR_HITS * (1 - MEMORY) + self._hits * MEMORY + hits
        self._pairs = PRIOR_PAIRS * (1 - MEMORY) + self._pairs * MEMORY + pairs
        likelihood = min(1.0, max(0.05, self._hits / self._pairs))
        return likelihood, math.sqrt((1 - likelihood) / (likelihood * self._pairs))


def phones_behind(cells: int) -> float:
    """The number of phones that fill this many of the 256 cells on average; a full table says "at least so many"."""
    return -CELLS * math.log(1 - min(cells, CELLS - 0.5) / CELLS)


def _recaptures(slots: Sequence[dict[int, tuple[int, str]]]) -> tuple[float, float]:
    """Of the cells heard in a slot's two neighbours, how many were heard in it, chance collisions taken out."""
    hits = pairs = 0.0
    for before, slot, after in zip(slots, slots[1:], slots[2:], strict=False):
        around = before.keys() & after.keys()
        chance = len(slot) / CELLS
        if not around or chance > 0.95:
            continue
        seen = len(around & slot.keys()) / len(around)
        pairs += len(around)
        hits += len(around) * max(0.0, (seen - chance) / (1 - chance)) if seen < 1 else len(around)
    return hits, pairs


def _counting_error(present: Sequence[float], share: float, likelihood: float) -> float:
    """One sigma of a zone's mean over the slots: collisions, misses, and people who come and go between slots."""
    mean = sum(present) / len(present)
    load = mean / CELLS
    collisions = CELLS * (math.expm1(load) - load) * share
    misses = mean * share * (1 - likelihood) / len(present)
    spread = sum((value - mean) ** 2 for value in present) / len(present) * share
    return math.sqrt(collisions / len(present) + misses + spread) / likelihood


def _state(zone: str, value: float, count_error: float, likelihood: float, likelihood_error: float) -> Estimate:
    relative = math.hypot(likelihood_error, MODEL_ERROR)
    error = math.hypot(count_error, value * relative)
    high = value + Z90 * error
    if value < THRESHOLD:  # the bound never falls below the threshold: it would tell a group of four from one of two
        return Estimate(zone, None, 0.0, round(max(THRESHOLD, high), 1))
    return Estimate(zone, round(value, 1), round(max(0.0, value - Z90 * error), 1), round(high, 1))
