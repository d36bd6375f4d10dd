"""Core's end of the link: what drivers state is decided in the order of its arrival, and answered after its commit.

An event counts once: what is on the disk already is answered at once, what is stated again while its commit is under way waits
for that commit.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.config import GatewayConfig
from gateway.core.floor import Floor
from gateway.core.knowledge import Knowledge
from gateway.core.lockers import Lockers
from gateway.core.requests import ConflictingKey
from gateway.core.road import Road
from gateway.core.views import UnitView, unit_view
from gateway.events import (
    AckArrived,
    AskArrived,
    BankSnapshotTaken,
    ClaimedArrived,
    CodePresented,
    CommandAnswered,
    DeviceChanged,
    DocumentArrived,
    DoorEdgeSensed,
    LineChanged,
    OccupancyEstimated,
    ParcelCollected,
    Row,
    Stated,
    VisitEnded,
    VisitStarted,
)
from gateway.rules.marks import RowPlace

log = logging.getLogger(__name__)

SEEN_EVENTS: Final = 50_000  # more than all drivers together keep unanswered


class Drivers:
    """Every process that joins.

    Args:
        present: Decides on a code at a station.
        collected: A parcel was taken; called after the commit.
        tell: Something shown has changed.
        claimed: Takes headquarters' word on a claim.
    """

    def __init__(
        self, config: GatewayConfig, knowledge: Knowledge, road: Road, lockers: Lockers, floor: Floor, *,
        present: Callable[[CodePresented, str], Awaitable[bytes]], collected: Callable[[ParcelCollected], None], tell: Callable[[], None],
        claimed: Callable[[bytes], None],
    ) -> None:  # fmt: skip
        self._config = config
        self._knowledge = knowledge
        self._road = road
        self._lockers = lockers
        self._floor = floor
        self._present = present
        self._collected = collected
        self._tell = tell
        self._claimed = claimed
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._committing: dict[str, asyncio.Future[bytes]] = {}  # by event id
        self._units = {unit: unit_view(unit, False) for unit in _units(config)}

    def views(self) -> list[UnitView]:
        """Every process, as screens show it."""
        return list(self._units.values())

    def see(self, event_id: str) -> None:
        """That event is on the disk, or will be before it is answered."""
        self._seen[event_id] = None
        if len(self._seen) > SEEN_EVENTS:
            self._seen.popitem(last=False)

    def fold(self, row: DeviceChanged, place: RowPlace) -> None:
        """A device came or went."""
        view = self._units.get(row.read_point)
        if view is not None:
            self._units[row.read_point] = unit_view(view.unit, view.connected, row.device_state, row.detail)

    def joined(self, unit: str, connected: bool) -> None:
        """A process joined or left."""
        known = self._units.get(unit, unit_view(unit, False))
        self._units[unit] = unit_view(unit, connected, known.device_state, known.detail)
        if unit == "bridge":
            if connected:
                self._road.tell_bridge()
            else:
                self._road.bridge_left()
        if unit.startswith("ble@") and not connected:
            self._floor.forget_radio()
        self._tell()

    def decide(self, unit: str, event_id: str, event: Stated) -> Awaitable[bytes]:
        """Take a driver's event; the awaitable is done after COMMIT and gives the answer."""
        match event:
            case CodePresented():
                return self._code(unit, event)
            case AckArrived() | AskArrived() | ClaimedArrived():
                self._hear(event)
            case DocumentArrived():
                return self._document(event)
            case _ if event_id in self._committing:
                return asyncio.shield(self._committing[event_id])
            case _ if event_id in self._seen:
                pass  # on the disk already
            case VisitStarted() | VisitEnded() | OccupancyEstimated() | DeviceChanged() | LineChanged():
                self.see(event_id)
                return self._then(event_id, self._knowledge.commit([event], event_id))
            case DoorEdgeSensed():
                return self._doors(event_id, self._lockers.edge(event))
            case BankSnapshotTaken():
                return self._doors(event_id, self._lockers.snapshot(event))
            case CommandAnswered():
                return self._doors(event_id, self._lockers.command_answered(event))
        return _nothing_to_commit()

    def _hear(self, event: AckArrived | AskArrived | ClaimedArrived) -> None:
        if isinstance(event, ClaimedArrived):
            self._claimed(event.payload)
        else:
            self._road.take(event)

    def _code(self, unit: str, event: CodePresented) -> Awaitable[bytes]:
        station = self._config.station_of(unit)
        try:
            return self._present(event, station.name if station else unit)
        except ConflictingKey:
            log.warning("%s used the same presentation_id for two codes", unit)
            return _nothing_to_commit()

    def _doors(self, event_id: str, rows: list[Row]) -> Awaitable[bytes]:
        self.see(event_id)
        self._tell()
        if not rows:
            return _nothing_to_commit()
        return self._then(event_id, self._knowledge.commit(rows, event_id), lambda: self._tell_collected(rows))

    def _tell_collected(self, rows: list[Row]) -> None:
        for row in rows:
            if isinstance(row, ParcelCollected):
                self._collected(row)

    async def _document(self, event: DocumentArrived) -> bytes:
        believed = await self._road.take_document(event)
        self._tell()
        return b"applied" if believed else b"refused"

    def _then(self, event_id: str, commit: "asyncio.Future[None]", act: Callable[[], None] | None = None) -> Awaitable[bytes]:
        answered = self._committing[event_id] = asyncio.get_running_loop().create_future()

        def settle(_: "asyncio.Future[None]") -> None:
            del self._committing[event_id]
            if act is not None:
                act()
            answered.set_result(b"")

        commit.add_done_callback(settle)
        return asyncio.shield(answered)


def _nothing_to_commit() -> Awaitable[bytes]:
    done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    done.set_result(b"")
    return done


def _units(config: GatewayConfig) -> list[str]:
    radios = [f"ble@{config.ble.name}"] if config.ble.sensors else []
    return [*radios, *(f"scanner@{s.name}" for s in config.scanners), *(f"locker@{s.name}" for s in config.lockers), "bridge"]
