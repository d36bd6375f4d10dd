"""The locker wall at work: commits intents before pulses, listens to sensors, and lets no intent hang.

Decisions are `gateway.rules.pickup`'s; this module only joins them to the ledger, the link and the clock.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Final

from gateway.clock import Clock
from gateway.config import LockerTable
from gateway.core.views import CompartmentView
from gateway.errors import DeviceError
from gateway.events import (
    BankSnapshotTaken,
    CommandAnswered,
    CompartmentOpenIntended,
    DoorClosed,
    DoorEdgeSensed,
    DoorOpened,
    DoorState,
    Instant,
    IntentSettled,
    OpenCompartment,
    ParcelCollected,
    ParcelStaged,
    Row,
)
from gateway.rules.pickup import OPENING, Place, State, Wall, sensed

log = logging.getLogger(__name__)

DOOR_WITHIN_S: Final = 7.0  # 3 s until the command's deadline, 3 s for the door, 1 s for two reads of its sensor


class Lockers:
    """Compartments of all banks.

    Args:
        commit: Appends rows to the ledger and folds them here at once; the future is done after the fsync.
        order: Sends a command over the link, now or never.
    """

    def __init__(
        self,
        tables: list[LockerTable],
        clock: Clock,
        commit: Callable[[list[Row]], "asyncio.Future[None]"],
        order: Callable[[str, str, OpenCompartment], None],
    ) -> None:
        self._clock = clock
        self._commit = commit
        self._order = order
        self.wall = Wall([(table.name, number) for table in tables for number in range(1, table.compartments + 1)])
        self._doors: dict[Place, DoorState] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._resumed: set[str] = set()

    def live_on(self, tell: Callable[..., None]) -> None:
        """Name the rows that this lives on: `tell(fold, *kinds)`."""
        tell(self.wall.fold, CompartmentOpenIntended, IntentSettled, DoorOpened, DoorClosed, ParcelStaged, ParcelCollected)

    def resume(self) -> None:
        """After the history was folded: an intent without an outcome waits for its bank's first snapshot; nothing is pulsed."""
        self._resumed = {held.intent_id for held in self.wall.compartments.values() if held.state in OPENING}

    def intend(self, place: Place, purpose: str, order_id: str, actor: str, station: str, at: Instant) -> CompartmentOpenIntended:
        """The intent that must be on the disk before `pulse`."""
        return CompartmentOpenIntended(secrets.token_hex(8), place[0], place[1], purpose, order_id, actor, station, at)

    def pulse(self, intent: CompartmentOpenIntended) -> None:
        """After its commit: one pulse, now or never."""
        try:
            self._order(f"locker@{intent.bank}", intent.intent_id, OpenCompartment(bank=intent.bank, compartment=intent.compartment))
        except DeviceError as error:
            log.warning("compartment %s/%d was not opened: %s", intent.bank, intent.compartment, error)
            self._settle(intent.intent_id, "failed")
            return
        self._expect_door(intent.intent_id, "jammed")

    def edge(self, event: DoorEdgeSensed) -> list[Row]:
        """What a door edge proves."""
        place = (event.bank, event.compartment)
        self._doors[place] = event.door_state
        return self._proved(place, event.door_state, event.intent_id, event.event_time)

    def snapshot(self, event: BankSnapshotTaken) -> list[Row]:
        """What a driver's first look proves: every door that is not as it was left."""
        rows: list[Row] = []
        for number, door in event.doors.items():
            place = (event.bank, number)
            held = self.wall.compartments.get(place)
            forced_and_known = held is not None and held.state is State.FORCED and self._doors.get(place) == door
            self._doors[place] = door
            if not forced_and_known:
                rows += self._proved(place, door, None, event.event_time)
            if held is not None and held.intent_id in self._resumed:
                self._resumed.discard(held.intent_id)
                self._expect_door(held.intent_id, "unknown")  # its door may still be on its way, if only core was away
        return rows

    def command_answered(self, event: CommandAnswered) -> list[Row]:
        """A pulse that was not given ends its intent; one that was given waits for its door."""
        place = self.wall.by_intent(event.intent_id)
        if event.outcome == "pulsed" or place is None or self.wall.compartments[place].state not in OPENING:
            return []
        self._forget(event.intent_id)
        return [IntentSettled(event.intent_id, event.outcome, event.event_time)]

    def views(self, order_number: Callable[[str], str]) -> list[CompartmentView]:
        """The wall as screens show it."""
        return [
            CompartmentView(
                bank=bank, compartment=number, state=held.state, door=self._doors.get((bank, number), "unknown"),
                order_number=order_number(held.order_id) if held.order_id else "",
            )
            for (bank, number), held in sorted(self.wall.compartments.items())
        ]  # fmt: skip

    def _proved(self, place: Place, door: DoorState, intent_id: str | None, at: Instant) -> list[Row]:
        rows = sensed(self.wall, place, door, intent_id, at)
        if rows:
            self._forget(self.wall.compartments[place].intent_id)
        return rows

    def _expect_door(self, intent_id: str, otherwise: str) -> None:
        loop = asyncio.get_running_loop()
        self._timers[intent_id] = loop.call_later(DOOR_WITHIN_S, self._settle, intent_id, otherwise)

    def _settle(self, intent_id: str, outcome: str) -> None:
        self._forget(intent_id)
        place = self.wall.by_intent(intent_id)
        if place is not None and self.wall.compartments[place].state in OPENING:
            self._commit([IntentSettled(intent_id, outcome, self._clock.now())])

    def _forget(self, intent_id: str) -> None:
        timer = self._timers.pop(intent_id, None)
        if timer is not None:
            timer.cancel()
