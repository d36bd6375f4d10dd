"""The compartment machine: which doors may be opened, and what their sensors prove.

Rules the table obeys. No pulse without a durable intent, and one intent is at most one pulse. `collected` and `staged` only
after a door was sensed open and closed again. A door that opens without an intent is forced, and its compartment serves no
more until staff have looked. After a power cut the sensors are asked; nothing is ever pulsed to find out: an intent without
an outcome behind a closed door goes back to the state before it, behind an open door it goes on from the open state.
A pickup that was given up may still have moved its lock: an opening that its own pulse explains is a pickup after all.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from gateway.events import (
    CompartmentOpenIntended,
    DoorClosed,
    DoorOpened,
    DoorState,
    Instant,
    IntentSettled,
    ParcelCollected,
    ParcelStaged,
    Row,
)
from gateway.rules.marks import NOWHERE, RowPlace, beyond
from gateway.signed import OrderStand


class State(StrEnum):
    """Of one compartment."""

    FREE = "free"
    DEPOSIT_OPENING = "deposit_opening"
    DEPOSIT_OPEN = "deposit_open"
    LOADED = "loaded"
    PICKUP_OPENING = "pickup_opening"
    PICKUP_OPEN = "pickup_open"
    JAMMED = "jammed"
    FORCED = "forced"


class Input(StrEnum):
    """What can happen to one."""

    DEPOSIT = "deposit"  # an intent to put a parcel in was committed
    PICKUP = "pickup"  # an intent to take it out was committed
    DOOR_OPENED = "door_opened"  # explained by this compartment's intent
    DOOR_FORCED = "door_forced"  # explained by none
    DOOR_CLOSED = "door_closed"
    NO_DOOR = "no_door"  # pulsed, and no door opened in time
    NOT_PULSED = "not_pulsed"  # late, failed, or the power went and the door is closed


TRANSITIONS: Final[dict[State, dict[Input, State]]] = {
    State.FREE: {Input.DEPOSIT: State.DEPOSIT_OPENING, Input.DOOR_FORCED: State.FORCED},
    State.DEPOSIT_OPENING: {
        Input.DOOR_OPENED: State.DEPOSIT_OPEN,
        Input.DOOR_FORCED: State.FORCED,
        Input.NO_DOOR: State.JAMMED,
        Input.NOT_PULSED: State.FREE,
    },
    State.DEPOSIT_OPEN: {Input.DOOR_CLOSED: State.LOADED},
    State.LOADED: {Input.PICKUP: State.PICKUP_OPENING, Input.DOOR_OPENED: State.PICKUP_OPEN, Input.DOOR_FORCED: State.FORCED},
    # A door that jams keeps the parcel: the code stays good and may be scanned again.
    State.PICKUP_OPENING: {
        Input.DOOR_OPENED: State.PICKUP_OPEN,
        Input.DOOR_FORCED: State.FORCED,
        Input.NO_DOOR: State.LOADED,
        Input.NOT_PULSED: State.LOADED,
    },
    State.PICKUP_OPEN: {Input.DOOR_CLOSED: State.FREE},
    State.JAMMED: {Input.DOOR_FORCED: State.FORCED},
    State.FORCED: {},
}
OPENING: Final = (State.DEPOSIT_OPENING, State.PICKUP_OPENING)
OPEN: Final = (State.DEPOSIT_OPEN, State.PICKUP_OPEN)
BEHIND_A_DOOR: Final = ("staged", "collecting")  # states of an order, as HQ names them


class Compartment(Struct):
    """One compartment and what is in it."""

    state: State = State.FREE
    order_id: str = ""
    intent_id: str = ""
    actor: str = ""
    station: str = ""

    def take(self, happened: Input) -> bool:
        """Follow the table; False where it knows no such step, and nothing changes."""
        following = TRANSITIONS[self.state].get(happened)
        if following is None:
            return False
        self.state = following
        if following in (State.FREE, State.JAMMED):  # a parcel whose door jammed was never put in: it may go elsewhere
            self.order_id = self.intent_id = self.actor = self.station = ""
        elif happened is Input.DOOR_CLOSED:
            self.intent_id = ""  # the deposit is over: its pulse explains no further opening
        return True

    def explained(self, intent_id: str | None) -> bool:
        """Whether an opening that names this intent, or none, is the one an intent here asked for."""
        if Input.DOOR_OPENED not in TRANSITIONS[self.state] or not self.intent_id:
            return False
        # The sensor may answer before the driver's word on the pulse; but only while a door is expected.
        return intent_id == self.intent_id or (intent_id is None and self.state in OPENING)


Place = tuple[str, int]  # bank and compartment


class Wall:
    """All compartments of the store, and the orders that went through them."""

    def __init__(self, places: list[Place]) -> None:
        self.compartments: dict[Place, Compartment] = {place: Compartment() for place in places}
        self.collected: dict[str, Instant] = {}
        self._touched: dict[str, RowPlace] = {}  # order to the last row that names it

    def fold(self, event: Row, place: RowPlace = NOWHERE) -> None:
        """Take a committed or just decided event."""
        if isinstance(event, CompartmentOpenIntended | ParcelStaged | ParcelCollected):
            self._touched[event.order_id] = place
        match event:
            case CompartmentOpenIntended():
                self._intend(event)
            case DoorOpened():
                held = self._at(event.bank, event.compartment)
                explained = event.intent_id is not None and held.explained(event.intent_id)
                held.take(Input.DOOR_OPENED if explained else Input.DOOR_FORCED)
            case DoorClosed():
                self._at(event.bank, event.compartment).take(Input.DOOR_CLOSED)
            case IntentSettled():
                found = self.by_intent(event.intent_id)
                if found is not None:
                    self.compartments[found].take(Input.NO_DOOR if event.outcome == "jammed" else Input.NOT_PULSED)
            case ParcelCollected():
                self.collected[event.order_id] = event.event_time
            case _:
                pass

    def adopt(self, stands: Iterable[OrderStand], marks: Mapping[int, int], at: Instant) -> None:
        """Put orders where HQ last saw them, except those of which this ledger tells something HQ had not heard by `marks`."""
        news = [stand for stand in stands if not beyond(self._touched.get(stand.order_id, NOWHERE), marks)]
        held = [stand for stand in news if stand.state in BEHIND_A_DOOR]
        moved = [stand for stand in held if self.by_order(stand.order_id) != (stand.bank, stand.compartment)]
        for stand in news:
            if stand.state == "collected":
                self._clear(stand.order_id)
                self.collected[stand.order_id] = replace(at, wall_us=stand.at_us)
        for stand in moved:
            self._clear(stand.order_id)
        for stand in moved:
            there = self.compartments.get((stand.bank, stand.compartment))
            if there is not None and there.state is State.FREE:
                there.state, there.order_id = State.LOADED, stand.order_id

    def _clear(self, order_id: str) -> None:
        place = self.by_order(order_id)
        if place is not None:
            self.compartments[place] = Compartment()

    def _at(self, bank: str, compartment: int) -> Compartment:
        return self.compartments.setdefault((bank, compartment), Compartment())

    def _intend(self, event: CompartmentOpenIntended) -> None:
        compartment = self._at(event.bank, event.compartment)
        if compartment.take(Input(event.purpose)):
            compartment.order_id, compartment.intent_id = event.order_id, event.intent_id
            compartment.actor, compartment.station = event.actor, event.station

    def by_intent(self, intent_id: str) -> Place | None:
        """Where an intent is under way."""
        return next(
            (place for place, held in self.compartments.items() if held.intent_id == intent_id and held.state in OPENING + OPEN), None
        )

    def by_order(self, order_id: str) -> Place | None:
        """Where an order's parcel is, or is about to be."""
        return next((place for place, held in self.compartments.items() if held.order_id == order_id), None)

    def free(self, bank: str | None = None) -> Place | None:
        """A compartment for a deposit: the lowest number."""
        return next(
            (place for place, held in sorted(self.compartments.items()) if held.state is State.FREE and bank in (None, place[0])), None
        )


def refusal_of_pickup(wall: Wall, order_id: str) -> str | None:
    """Why no door opens for the owner of this order; None: one does."""
    if order_id in wall.collected:
        return "already_collected"
    place = wall.by_order(order_id)
    if place is None:
        return "being_prepared"
    return {
        State.LOADED: None,
        State.DEPOSIT_OPENING: "being_prepared",
        State.DEPOSIT_OPEN: "being_prepared",
        State.PICKUP_OPENING: "door_busy",
        State.PICKUP_OPEN: "door_busy",
    }.get(wall.compartments[place].state, "locker_unavailable")


def sensed(wall: Wall, place: Place, door: DoorState, intent_id: str | None, at: Instant) -> list[Row]:
    """What a door edge proves, as rows; nothing if the store knew it already (an edge may be stated twice)."""
    held = wall.compartments.get(place)
    if held is None:
        return []
    bank, compartment = place
    if door is DoorState.OPEN:
        if held.state in OPEN or held.state is State.FORCED:
            return []
        return [DoorOpened(bank, compartment, held.intent_id if held.explained(intent_id) else None, at)]
    if held.state is State.DEPOSIT_OPEN:
        return [DoorClosed(bank, compartment, held.intent_id, at), ParcelStaged(held.order_id, bank, compartment, held.actor, at)]
    if held.state is State.PICKUP_OPEN:
        return [DoorClosed(bank, compartment, held.intent_id, at), ParcelCollected(held.order_id, bank, compartment, held.intent_id, at)]
    return [DoorClosed(bank, compartment, None, at)] if held.state is State.FORCED else []
