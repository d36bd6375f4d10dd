"""From signal strength to zone to visit, with time as an argument.

A zone's level is the power all its receivers hear together: a body between tag and receiver costs one of them 10 dB, seldom
all. Each receiver's level is smoothed lightly, since heavy smoothing costs more in delay than it saves in noise, and another
zone takes over only when it is clearly louder. Zones are published, metres never: across carry positions a distance from one
signal strength is no better than a constant guess.

A visit is one subject in one zone. It ends when the subject is in another zone, dated back to the last time its own zone was
the loudest, or when the subject has been silent for `exit_after_s`, dated back to when it was last heard. Nothing is ended
because this process ends: visits that were open are forgotten, and their subjects start new ones.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

SMOOTHING: Final = 0.3  # share of a new sample; 0.2 to 0.35 score alike on recorded walks with samples lost and noise added
MARGIN_DB: Final = 3.5  # how much louder another zone must be; 3 to 4 dB score alike, 5 dB misses doors when samples are lost
SETTLE_S: Final = 0.6  # time for every receiver to have a word before the first zone is believed; 4 frames of a LINE Beacon
STALE_S: Final = 10.0  # a receiver silent for so long says nothing about where the subject is now
MAX_BACKDATING_S: Final = 10.0  # who stands on a border for minutes was there all the same
MAX_SUBJECTS: Final = 4096
DB_PER_NEPER: Final = 10 / math.log(10)


class Tracker:
    """Where one subject is.

    Args:
        sensor_zone: Zone of each receiver; others are not listened to.
    """

    def __init__(self, sensor_zone: Mapping[str, str]) -> None:
        self._sensor_zone = sensor_zone
        self._level_dbm: dict[str, float] = {}
        self._heard_s: dict[str, float] = {}
        self._first_s = math.inf
        self.zone: str | None = None
        self.loudest_s = -math.inf  # when the current zone was last the loudest

    def feed(self, t_s: float, sensor: str, rssi_dbm: float) -> str | None:
        """Take one sample; gives the zone the subject is in now, None before the first sample of a known receiver."""
        if sensor not in self._sensor_zone:
            return self.zone
        fresh = t_s - self._heard_s.get(sensor, -math.inf) < STALE_S
        old_dbm = self._level_dbm[sensor] if fresh else rssi_dbm
        self._level_dbm[sensor] = old_dbm + SMOOTHING * (rssi_dbm - old_dbm)
        self._heard_s[sensor] = t_s
        levels = self._zone_levels(t_s)
        loudest = max(levels, key=levels.__getitem__)
        self._first_s = min(self._first_s, t_s)
        margin_db = 0.0 if t_s - self._first_s < SETTLE_S else MARGIN_DB
        if loudest != self.zone and levels[loudest] > levels.get(self.zone or "", -math.inf) + margin_db:
            self.zone = loudest
        if loudest == self.zone:
            self.loudest_s = t_s
        return self.zone

    def _zone_levels(self, t_s: float) -> dict[str, float]:
        power: dict[str, float] = {}
        for sensor, heard_s in self._heard_s.items():
            if t_s - heard_s < STALE_S:
                zone = self._sensor_zone[sensor]
                power[zone] = power.get(zone, 0.0) + math.exp(self._level_dbm[sensor] / DB_PER_NEPER)
        return {zone: DB_PER_NEPER * math.log(milliwatts) for zone, milliwatts in power.items()}


def tracker(sensor_zone: dict[str, str]) -> Tracker:
    """A tracker of one subject among these receivers."""
    return Tracker(sensor_zone)


class Entered(Struct, frozen=True):
    """A subject came into a zone."""

    visit_id: str
    subject: str
    zone: str
    enter_s: float


class Left(Struct, frozen=True):
    """A visit is over; `exit_s` is when the subject was last near."""

    visit_id: str
    subject: str
    zone: str
    enter_s: float
    exit_s: float


class _Visit(Struct):
    visit_id: str
    zone: str
    enter_s: float
    last_s: float
    tracker: Tracker
    settled: bool = False


class Visits:
    """The open visits of all subjects.

    Args:
        new_id: Gives a name nobody has used before, for each visit.
        exit_after_s: Silence that ends a visit.
        max_subjects: Beyond it the longest silent subject's visit is ended, so that memory stays bounded.
    """

    def __init__(
        self, sensor_zone: Mapping[str, str], exit_after_s: float, new_id: Callable[[], str], max_subjects: int = MAX_SUBJECTS
    ) -> None:
        self._sensor_zone = dict(sensor_zone)
        self._settle_s = SETTLE_S if len(set(sensor_zone.values())) > 1 else 0.0
        self._new_id = new_id
        self._max_subjects = max_subjects
        self._open: dict[str, _Visit] = {}
        self.exit_after_s = exit_after_s

    def __len__(self) -> int:
        return len(self._open)

    def hear(self, t_s: float, subject: str, sensor: str, rssi_dbm: float) -> list[Entered | Left]:
        """Take one sample of a subject; gives what it changed, in order."""
        if sensor not in self._sensor_zone:
            return []
        changes: list[Entered | Left] = []
        visit = self._open.get(subject)
        if visit is not None and t_s - visit.last_s >= self.exit_after_s:
            changes += self._close(subject)
            visit = None
        if visit is None:
            if len(self._open) >= self._max_subjects:
                changes += self._close(min(self._open, key=lambda known: self._open[known].last_s))
            visit = self._open[subject] = _Visit(self._new_id(), "", t_s, t_s, Tracker(self._sensor_zone))
        return changes + self._follow(t_s, subject, visit, sensor, rssi_dbm)

    def tick(self, t_s: float) -> list[Entered | Left]:
        """State the visits whose zone has settled, and end those of subjects silent for too long."""
        changes: list[Entered | Left] = []
        for subject, visit in list(self._open.items()):
            if t_s - visit.last_s >= self.exit_after_s:
                changes += self._close(subject)
            elif t_s - visit.enter_s >= self._settle_s:
                changes += _settle(subject, visit)
        return changes

    def _follow(self, t_s: float, subject: str, visit: _Visit, sensor: str, rssi_dbm: float) -> list[Entered | Left]:
        crossed_s = max(visit.tracker.loudest_s, t_s - MAX_BACKDATING_S, visit.enter_s)
        visit.last_s = t_s
        zone = visit.tracker.feed(t_s, sensor, rssi_dbm) or ""
        if not visit.settled:
            visit.zone = zone
            return _settle(subject, visit) if t_s - visit.enter_s >= self._settle_s else []
        if zone == visit.zone:
            return []
        left = Left(visit.visit_id, subject, visit.zone, visit.enter_s, crossed_s)
        visit.visit_id, visit.zone, visit.enter_s = self._new_id(), zone, crossed_s
        return [left, Entered(visit.visit_id, subject, zone, crossed_s)]

    def _close(self, subject: str) -> list[Entered | Left]:
        visit = self._open.pop(subject)
        return [*_settle(subject, visit), Left(visit.visit_id, subject, visit.zone, visit.enter_s, visit.last_s)]


def _settle(subject: str, visit: _Visit) -> list[Entered | Left]:
    """State the visit unless it is stated already."""
    if visit.settled:
        return []
    visit.settled = True
    return [Entered(visit.visit_id, subject, visit.zone, visit.enter_s)]
