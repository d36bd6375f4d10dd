"""The shop floor as screens show it: who that may be followed is where, and how many strangers there are about."""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from gateway.config import BleTable
from gateway.core.views import ZoneView
from gateway.events import OccupancyEstimated, VisitEnded, VisitStarted
from gateway.rules.marks import NOWHERE, RowPlace

FORGET_US: Final = 4 * 3600 * 1_000_000  # a visit whose end was never stated (its radio was killed) leaves the picture


class Floor:
    """Zones in the order of the configuration; nothing here is a fact, only a picture of facts."""

    def __init__(self, ble: BleTable) -> None:
        self._zones: dict[str, ZoneView] = {}
        for sensor in ble.sensors:
            view = ZoneView(zone=sensor.zone, name_zh=sensor.name_zh or sensor.zone, name_en=sensor.name_en or sensor.zone)
            self._zones.setdefault(sensor.zone, view)
        self._there: dict[str, tuple[str, str, int]] = {}  # visit to (zone, subject, since)

    def fold(self, event: VisitStarted | VisitEnded | OccupancyEstimated, place: RowPlace = NOWHERE) -> None:
        """Take an event of the radio."""
        zone = self._zones.get(event.zone) or ZoneView(zone=event.zone, name_zh=event.zone, name_en=event.zone)
        if isinstance(event, VisitStarted):
            self._there[event.visit_id] = (event.zone, event.subject, event.event_time.wall_us)
        elif isinstance(event, VisitEnded):
            self._there.pop(event.visit_id, None)
            zone = replace(zone, visits=zone.visits + 1)
        else:
            zone = replace(zone, estimate=event.estimate, low=event.low, high=event.high, estimated_us=event.event_time.wall_us)
        self._zones[event.zone] = zone

    def live_on(self, tell: Callable[..., None]) -> None:
        """Name the rows that this lives on: `tell(fold, *kinds)`."""
        tell(self.fold, VisitStarted, VisitEnded, OccupancyEstimated)

    def forget_radio(self) -> None:
        """The radio's process is gone and its open visits with it."""
        self._there.clear()

    def zones(self, now_us: int) -> list[ZoneView]:
        """Every zone, with who is there."""
        self._there = {visit: seen for visit, seen in self._there.items() if now_us - seen[2] < FORGET_US}
        inside = [(zone, subject) for zone, subject, _ in self._there.values()]
        return [replace(view, subjects=sorted({who for where, who in inside if where == view.zone})) for view in self._zones.values()]
