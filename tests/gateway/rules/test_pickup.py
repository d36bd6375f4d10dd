"""The compartment machine: no parcel vanishes without a door, no door opens twice for one intent."""

from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
    TimeTrust,
)
from gateway.rules.pickup import OPEN, OPENING, TRANSITIONS, Input, Place, State, Wall, refusal_of_pickup, sensed

AT: Final = Instant(1_790_000_000_000_000, 0, "b", TimeTrust.HOLDOVER)
PLACE: Final = ("wall", 1)
ORDER: Final = "00000000000002b"


def intended(intent_id: str, purpose: str, order_id: str = ORDER, place: Place = PLACE) -> CompartmentOpenIntended:
    return CompartmentOpenIntended(intent_id, *place, purpose, order_id, "staff-1" if purpose == "deposit" else "shopper", "counter", AT)


def wall_with(*rows: Row) -> Wall:
    wall = Wall([PLACE])
    for row in rows:
        wall.fold(row)
    return wall


STEPS: Final[dict[State, list[Row]]] = {
    State.FREE: [],
    State.DEPOSIT_OPENING: [intended("d", "deposit")],
    State.DEPOSIT_OPEN: [intended("d", "deposit"), DoorOpened(*PLACE, "d", AT)],
    State.LOADED: [intended("d", "deposit"), DoorOpened(*PLACE, "d", AT), DoorClosed(*PLACE, "d", AT)],
}
STEPS[State.PICKUP_OPENING] = [*STEPS[State.LOADED], intended("p", "pickup")]
STEPS[State.PICKUP_OPEN] = [*STEPS[State.PICKUP_OPENING], DoorOpened(*PLACE, "p", AT)]
STEPS[State.JAMMED] = [*STEPS[State.DEPOSIT_OPENING], IntentSettled("d", "jammed", AT)]
STEPS[State.FORCED] = [DoorOpened(*PLACE, None, AT)]


def at(state: State) -> Wall:
    wall = wall_with(*STEPS[state])
    assert wall.compartments[PLACE].state is state
    return wall


def sense(wall: Wall, door: DoorState, intent_id: str | None = None) -> list[Row]:
    rows = sensed(wall, PLACE, door, intent_id, AT)
    for row in rows:
        wall.fold(row)
    return rows


def test_every_state_has_a_line_in_the_table_and_a_way_there() -> None:
    assert set(TRANSITIONS) == set(STEPS) == set(State)
    for state in State:
        at(state)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("happened", Input)
def test_what_the_table_does_not_know_changes_nothing(state: State, happened: Input) -> None:
    held = at(state).compartments[PLACE]
    before = (held.state, held.order_id, held.intent_id)
    if held.take(happened):
        assert held.state is TRANSITIONS[state][happened]
    else:
        assert (held.state, held.order_id, held.intent_id) == before


@pytest.mark.parametrize("state", State)
def test_a_door_that_opens_without_an_intent_is_forced(state: State) -> None:
    wall = at(state)
    rows = sense(wall, DoorState.OPEN, "of-another-door")
    if state in (*OPEN, State.FORCED):
        assert rows == []  # known to be open
        return
    assert rows == [DoorOpened(*PLACE, None, AT)]
    assert wall.compartments[PLACE].state is State.FORCED


@pytest.mark.parametrize(("state", "intent_id"), [(State.DEPOSIT_OPENING, "d"), (State.PICKUP_OPENING, "p")])
@pytest.mark.parametrize("named", [True, False])
def test_an_expected_door_is_explained_by_its_intent(state: State, intent_id: str, named: bool) -> None:
    wall = at(state)
    assert sense(wall, DoorState.OPEN, intent_id if named else None) == [DoorOpened(*PLACE, intent_id, AT)]
    assert wall.compartments[PLACE].state in OPEN


def test_a_deposit_is_staged_by_its_door() -> None:
    wall = at(State.DEPOSIT_OPEN)
    assert sense(wall, DoorState.CLOSED, "d") == [DoorClosed(*PLACE, "d", AT), ParcelStaged(ORDER, *PLACE, "staff-1", AT)]
    assert wall.compartments[PLACE].state is State.LOADED


def test_a_pickup_is_collected_by_its_door() -> None:
    wall = at(State.PICKUP_OPEN)
    assert sense(wall, DoorState.CLOSED, "p") == [DoorClosed(*PLACE, "p", AT), ParcelCollected(ORDER, *PLACE, "p", AT)]
    assert wall.compartments[PLACE].state is State.FREE
    assert wall.collected[ORDER] == AT
    assert wall.by_order(ORDER) is None


@pytest.mark.parametrize("state", [state for state in State if state not in OPEN])
def test_a_closed_door_alone_proves_neither_staging_nor_collection(state: State) -> None:
    rows = sense(at(state), DoorState.CLOSED, "p")
    assert not any(isinstance(row, ParcelStaged | ParcelCollected) for row in rows)


@pytest.mark.parametrize("outcome", ["jammed", "late", "failed", "unknown"])
def test_a_pickup_without_its_door_keeps_the_parcel_and_may_be_tried_again(outcome: str) -> None:
    wall = wall_with(*STEPS[State.PICKUP_OPENING], IntentSettled("p", outcome, AT))
    assert wall.compartments[PLACE].state is State.LOADED
    assert refusal_of_pickup(wall, ORDER) is None
    wall.fold(intended("p2", "pickup"))
    assert wall.compartments[PLACE].intent_id == "p2"


@pytest.mark.parametrize("outcome", ["late", "failed", "unknown"])
def test_a_pickup_that_was_given_up_and_opened_after_all_is_a_pickup(outcome: str) -> None:
    """The board may move the lock and lose its reply; the driver then names the intent with the edge."""
    wall = wall_with(*STEPS[State.PICKUP_OPENING], IntentSettled("p", outcome, AT))
    assert sense(wall, DoorState.OPEN, "p") == [DoorOpened(*PLACE, "p", AT)]
    assert sense(wall, DoorState.CLOSED, "p")[-1] == ParcelCollected(ORDER, *PLACE, "p", AT)


def test_the_deposits_pulse_explains_no_opening_after_the_parcel_was_staged() -> None:
    wall = at(State.LOADED)
    assert sense(wall, DoorState.OPEN, "d") == [DoorOpened(*PLACE, None, AT)]
    assert wall.compartments[PLACE].state is State.FORCED


def test_a_jammed_deposit_goes_elsewhere() -> None:
    wall = Wall([PLACE, ("wall", 2)])
    for row in STEPS[State.JAMMED]:
        wall.fold(row)
    assert wall.by_order(ORDER) is None
    assert wall.free() == ("wall", 2)
    assert refusal_of_pickup(wall, ORDER) == "being_prepared"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.FREE, "being_prepared"),
        (State.DEPOSIT_OPENING, "being_prepared"),
        (State.DEPOSIT_OPEN, "being_prepared"),
        (State.LOADED, None),
        (State.PICKUP_OPENING, "door_busy"),
        (State.PICKUP_OPEN, "door_busy"),
    ],
)
def test_an_owner_is_told_why_no_door_opens(state: State, reason: str | None) -> None:
    assert refusal_of_pickup(at(state), ORDER) == reason


def test_a_forced_compartment_keeps_its_order_and_serves_no_more() -> None:
    wall = at(State.LOADED)
    sense(wall, DoorState.OPEN)
    assert refusal_of_pickup(wall, ORDER) == "locker_unavailable"
    assert wall.free() is None
    assert wall.by_order(ORDER) == PLACE


def test_a_collected_order_opens_nothing_again() -> None:
    wall = at(State.PICKUP_OPEN)
    sense(wall, DoorState.CLOSED, "p")
    assert refusal_of_pickup(wall, ORDER) == "already_collected"


def test_a_door_nobody_configured_proves_nothing() -> None:
    assert sensed(at(State.FREE), ("annex", 9), DoorState.OPEN, None, AT) == []


class LockerWall(RuleBasedStateMachine):
    """Everything that can happen to three compartments in any order, edges stale, doubled and unexplained among it."""

    PLACES = (("wall", 1), ("wall", 2), ("annex", 1))
    ORDERS = tuple(f"order-{number}" for number in range(4))

    def __init__(self) -> None:
        super().__init__()
        self.wall = Wall(list(self.PLACES))
        self.rows: list[Row] = []
        self.intents: dict[str, CompartmentOpenIntended] = {}
        self.inside: dict[str, Place] = {}  # by the rows alone: staged and not yet collected

    def commit(self, rows: list[Row]) -> None:
        for row in rows:
            self.wall.fold(row)
            self.rows.append(row)
            if isinstance(row, ParcelStaged):
                assert row.order_id not in self.inside
                self.inside[row.order_id] = (row.bank, row.compartment)
            elif isinstance(row, ParcelCollected):
                self._collected_rightly(row)
                assert self.inside.pop(row.order_id) == (row.bank, row.compartment)

    def _collected_rightly(self, row: ParcelCollected) -> None:
        """Its door was sensed open and then closed, both under the pickup intent of this order."""
        place = (row.bank, row.compartment)
        doors = [each for each in self.rows if isinstance(each, DoorOpened | DoorClosed) and (each.bank, each.compartment) == place]
        opened, closed = doors[-2:]
        assert isinstance(opened, DoorOpened) and isinstance(closed, DoorClosed)
        intent = self.intents[row.intent_id]
        assert opened.intent_id == closed.intent_id == intent.intent_id
        assert (intent.purpose, intent.order_id, (intent.bank, intent.compartment)) == ("pickup", row.order_id, place)

    def intend(self, purpose: str, order_id: str, place: Place) -> None:
        intent = intended(f"i{len(self.intents)}", purpose, order_id, place)
        self.intents[intent.intent_id] = intent
        self.commit([intent])
        assert self.wall.by_intent(intent.intent_id) == place

    @rule(order_id=st.sampled_from(ORDERS))
    def staff_deposit(self, order_id: str) -> None:
        place = self.wall.free()
        if place is not None and self.wall.by_order(order_id) is None and order_id not in self.wall.collected:
            self.intend("deposit", order_id, place)

    @rule(order_id=st.sampled_from(ORDERS))
    def owner_scans(self, order_id: str) -> None:
        place = self.wall.by_order(order_id)
        if refusal_of_pickup(self.wall, order_id) is None:
            assert place is not None and self.inside[order_id] == place
            self.intend("pickup", order_id, place)

    @precondition(lambda self: self.intents)
    @rule(data=st.data(), door=st.sampled_from(DoorState))
    def door_moves_for_an_intent(self, data: st.DataObject, door: DoorState) -> None:
        """The right intent, a long finished one, or one of another door."""
        intent_id = data.draw(st.sampled_from(sorted(self.intents)))
        place = data.draw(st.sampled_from([(self.intents[intent_id].bank, self.intents[intent_id].compartment), *self.PLACES]))
        self.commit(sensed(self.wall, place, door, intent_id, AT))

    @rule(place=st.sampled_from(PLACES), door=st.sampled_from(DoorState))
    def door_moves_unexplained(self, place: Place, door: DoorState) -> None:
        self.commit(sensed(self.wall, place, door, None, AT))

    @precondition(lambda self: any(held.state in OPENING for held in self.wall.compartments.values()))
    @rule(data=st.data(), outcome=st.sampled_from(["jammed", "late", "failed", "unknown"]))
    def intent_is_given_up(self, data: st.DataObject, outcome: str) -> None:
        waiting = sorted(held.intent_id for held in self.wall.compartments.values() if held.state in OPENING)
        self.commit([IntentSettled(data.draw(st.sampled_from(waiting)), outcome, AT)])

    @rule()
    def the_power_goes(self) -> None:
        """What core knows after a start is what it knew before."""
        again = Wall(list(self.PLACES))
        for row in self.rows:
            again.fold(row)
        assert again.compartments == self.wall.compartments
        assert again.collected == self.wall.collected
        self.wall = again

    @invariant()
    def no_parcel_vanishes_without_a_door(self) -> None:
        for order_id, place in self.inside.items():
            assert self.wall.by_order(order_id) == place
            assert order_id not in self.wall.collected

    @invariant()
    def nobody_gets_a_compartment_that_is_not_empty(self) -> None:
        free = self.wall.free()
        assert free not in self.inside.values()

    @invariant()
    def an_order_is_in_one_compartment(self) -> None:
        held = [compartment.order_id for compartment in self.wall.compartments.values() if compartment.order_id]
        assert len(held) == len(set(held))


TestLockerWall = LockerWall.TestCase
TestLockerWall.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
