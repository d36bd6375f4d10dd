"""A parcel's way through the wall, with a driver that comes and goes and a core that is killed."""

import asyncio
import sys
from pathlib import Path

import pytest

from gateway.core import lockers
from gateway.events import (
    CompartmentOpenIntended,
    DoorClosed,
    DoorEdgeSensed,
    DoorOpened,
    DoorState,
    IntentSettled,
    ParcelCollected,
    ParcelStaged,
    RedemptionRefused,
)
from gateway.link import LinkClient
from gateway.rules import answers
from tests.conftest import until
from tests.gateway.core.shop import ORDER_ID, Doors, Shop, no_commits, pickup_token, presented, typed

OPEN, CLOSED = DoorState.OPEN, DoorState.CLOSED


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An intent's door is waited for a tenth of a second."""
    monkeypatch.setattr(lockers, "DOOR_WITHIN_S", 0.1)


async def pulsed(doors: Doors, number: int) -> str:
    """The intent of the pulse of that number, once it has come."""
    await until(lambda: len(doors.pulses) >= number)
    return doors.pulses[number - 1][0]


async def staged(shop: Shop, doors: Doors) -> int:
    """Put the order's parcel in; the compartment."""
    answer = await shop.stage()
    assert answer.decision == "staging"
    assert answer.compartment is not None
    intent_id = await pulsed(doors, 1)
    await doors.move(answer.compartment, OPEN, intent_id)
    await doors.move(answer.compartment, CLOSED, intent_id)
    assert shop.state_of(answer.compartment) == "loaded"
    return answer.compartment


async def test_a_parcel_goes_in_and_comes_out(shop: Shop) -> None:
    doors = await shop.with_doors()
    assert shop.desk.orders()[0].state == "paid"
    number = await staged(shop, doors)
    assert shop.desk.orders()[0].state == "staged"
    assert shop.desk.screen("counter").state == "staging"  # staff stand elsewhere; the shopper's screen is not told
    answer = await shop.present(pickup_token())
    assert (answer.decision, answer.compartment, answer.order_number) == ("collecting", number, "A001")
    intent_id = await pulsed(doors, 2)
    await doors.move(number, OPEN, intent_id)
    assert shop.desk.orders()[0].state == "collecting"
    assert (await shop.present(pickup_token())).reason == "door_busy"
    await doors.move(number, CLOSED, intent_id)
    await until(lambda: shop.desk.screen("counter").state == "collected")
    assert shop.desk.orders()[0].state == "collected"
    assert (await shop.present(pickup_token())).reason == "already_collected"
    kinds = (CompartmentOpenIntended, DoorOpened, DoorClosed, ParcelStaged, ParcelCollected)
    assert [type(row) for row in shop.rows(*kinds)] == [
        CompartmentOpenIntended, DoorOpened, DoorClosed, ParcelStaged, CompartmentOpenIntended, DoorOpened, DoorClosed, ParcelCollected,
    ]  # fmt: skip
    assert len(doors.pulses) == 2


async def test_a_driver_that_leaves_in_between_tells_everything_when_it_is_back(shop: Shop) -> None:
    doors = await shop.with_doors()
    number = await staged(shop, doors)
    await shop.present(typed(0x2B))
    intent_id = await pulsed(doors, 2)
    await doors.leave()
    told = [doors.move(number, OPEN, intent_id), doors.move(number, CLOSED, intent_id)]
    await asyncio.sleep(0.02)
    assert shop.state_of(number) == "pickup_opening"
    doors.join()
    await asyncio.wait_for(asyncio.gather(*told), 10)
    assert shop.state_of(number) == "free"
    assert len(shop.rows(ParcelCollected)) == 1
    assert len(doors.pulses) == 2


async def test_the_intent_is_on_the_disk_before_the_pulse(shop: Shop) -> None:
    doors = await shop.with_doors()
    with no_commits(shop.config.ledger_path):
        staging = asyncio.create_task(shop.stage())
        await asyncio.sleep(0.1)
        assert doors.pulses == []
        assert not staging.done()
    await staging
    intent_id = await pulsed(doors, 1)
    assert [row.intent_id for row in shop.rows(CompartmentOpenIntended)] == [intent_id]


async def test_without_its_driver_no_door_is_promised(shop: Shop) -> None:
    doors = await shop.with_doors()
    await staged(shop, doors)
    await doors.leave()
    await until(lambda: not next(unit for unit in shop.desk.store_view().units if unit.unit == "locker@wall").connected)
    answer = await shop.present(pickup_token())
    assert (answer.reason, answer.reference) == ("locker_unavailable", ORDER_ID)
    assert [row.reason for row in shop.rows(RedemptionRefused)] == ["locker_unavailable"]
    assert len(shop.rows(CompartmentOpenIntended)) == 1
    doors.join()
    await until(lambda: doors.link.connected)
    await asyncio.sleep(0.05)
    assert len(doors.pulses) == 1  # nothing waited for the driver's return


async def test_a_door_that_does_not_open_gives_the_parcel_another_try(shop: Shop, impatient: None) -> None:
    doors = await shop.with_doors()
    number = await staged(shop, doors)
    first = await shop.desk.present(presented(pickup_token()), station="counter")
    assert answers.decode(first).decision == "collecting"
    await until(lambda: [row.outcome for row in shop.rows(IntentSettled)] == ["jammed"])
    assert shop.state_of(number) == "loaded"
    assert (await shop.present(pickup_token())).decision == "collecting"
    intent_id = await pulsed(doors, 3)
    await doors.move(number, OPEN, intent_id)
    await doors.move(number, CLOSED, intent_id)
    assert len(shop.rows(ParcelCollected)) == 1
    assert len({intent for intent, _ in doors.pulses}) == 3


@pytest.mark.parametrize("outcome", ["late", "failed"])
async def test_a_pulse_that_was_not_given_ends_its_intent(shop: Shop, outcome: str) -> None:
    doors = await shop.with_doors()
    answer = await shop.stage()
    await doors.answer(await pulsed(doors, 1), outcome)
    assert answer.compartment is not None
    assert shop.state_of(answer.compartment) == "free"
    assert [row.outcome for row in shop.rows(IntentSettled)] == [outcome]
    assert (await shop.stage()).decision == "staging"


async def test_a_pulse_alone_proves_nothing(shop: Shop) -> None:
    doors = await shop.with_doors()
    number = await staged(shop, doors)
    await shop.present(pickup_token())
    await doors.answer(await pulsed(doors, 2), "pulsed")
    assert shop.state_of(number) == "pickup_opening"
    assert shop.rows(ParcelCollected, IntentSettled) == []


async def test_a_jammed_deposit_goes_into_another_compartment(shop: Shop, impatient: None) -> None:
    await shop.with_doors()
    first = await shop.stage()
    assert first.compartment is not None
    await until(lambda: shop.state_of(first.compartment or 0) == "jammed")
    second = await shop.stage()
    assert second.decision == "staging"
    assert second.compartment != first.compartment


async def test_a_forced_door_is_told_and_its_compartment_serves_no_more(shop: Shop) -> None:
    doors = await shop.with_doors()
    number = await staged(shop, doors)
    await doors.move(number, OPEN)
    await doors.move(number, CLOSED)
    assert shop.state_of(number) == "forced"
    assert (await shop.present(pickup_token())).reason == "locker_unavailable"
    assert [row.intent_id for row in shop.rows(DoorOpened)][-1] is None
    assert shop.rows(ParcelCollected) == []


async def test_an_order_is_staged_once_and_only_where_there_is_room(shop: Shop) -> None:
    doors = await shop.with_doors()
    number = await staged(shop, doors)
    assert (await shop.stage()).reason == "already_staged"
    assert (await shop.stage("0000000000000ff")).reason == "unknown_order"
    assert (await shop.stage("00000000000002c")).reason == "order_cancelled"
    await shop.present(pickup_token())
    intent_id = await pulsed(doors, 2)
    await doors.move(number, OPEN, intent_id)
    await doors.move(number, CLOSED, intent_id)
    assert (await shop.stage()).reason == "already_collected"


@pytest.mark.parametrize(("bank", "compartment"), [("wall", 5), ("annex", 1)])
async def test_a_compartment_that_is_not_there_takes_no_parcel(shop: Shop, bank: str, compartment: int) -> None:
    await shop.with_doors()
    assert (await shop.stage(bank=bank, compartment=compartment)).reason == "no_free_compartment"


async def test_an_edge_stated_again_is_one_edge_also_after_a_restart(shop: Shop) -> None:
    doors = await shop.with_doors()
    number = await staged(shop, doors)
    await doors.leave()
    intent_rows = len(shop.rows())
    again = LinkClient(shop.config.link_path, "locker@wall", shop.clock)
    running = asyncio.create_task(again.run())
    assert number != 2
    event = DoorEdgeSensed("wall", 2, OPEN, None, shop.clock.now())
    for _ in range(2):
        await asyncio.wait_for(again.state(event, "edge-1"), 10)
    assert len(shop.rows()) == intent_rows + 1
    await shop.reopen()
    await asyncio.wait_for(again.state(event, "edge-1"), 10)
    assert len(shop.rows()) == intent_rows + 3  # the new epoch's first rows
    running.cancel()


async def test_an_edge_stated_again_before_its_commit_is_answered_only_with_it(shop: Shop) -> None:
    """The driver reconnected while the first statement waited for its fsync."""
    doors = await shop.with_doors()
    with no_commits(shop.config.ledger_path):
        event = DoorEdgeSensed("wall", 2, OPEN, None, doors.clock.now())
        asks = [asyncio.ensure_future(shop.desk.decide("locker@wall", "edge-1", event)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert not any(ask.done() for ask in asks)
    await asyncio.gather(*asks)
    assert len(shop.rows(DoorOpened)) == 1


@pytest.mark.parametrize("door", DoorState)
async def test_killed_between_intent_and_edge_core_asks_the_sensor_and_never_pulses(
    shop: Shop, tmp_path: Path, shop_text: str, door: DoorState, impatient: None
) -> None:
    """A real process, killed with -9 after its pulse; the driver's sensors decide what happened."""
    doors = await shop.with_doors()
    number = await staged(shop, doors)
    await shop.close()
    await until(lambda: not doors.link.connected)
    settings = tmp_path / "gateway.toml"
    settings.write_text(shop_text, encoding="utf-8")
    core = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gateway.core.desk_process", str(settings), cwd=Path(__file__).parents[3]
    )
    try:
        scanner = LinkClient(shop.config.link_path, "scanner@counter", shop.desk.clock)
        running = asyncio.create_task(scanner.run())
        await until(lambda: doors.link.connected and doors.link.unanswered == 0)
        answer = answers.decode(await asyncio.wait_for(scanner.state(presented(pickup_token())), 10))
        assert answer.decision == "collecting"
        running.cancel()
        core.kill()  # whether its command was obeyed, only the door can say
        await core.wait()
    finally:
        if core.returncode is None:
            core.kill()
    await asyncio.sleep(0.05)
    pulses = len(doors.pulses)
    doors.doors[number] = door
    doors.snapshots = False
    shop.config.link_path.unlink()
    await shop.open()
    await until(lambda: doors.link.connected)
    await asyncio.sleep(0.3)
    assert shop.state_of(number) == "pickup_opening"  # no sensor has spoken: nothing is given up
    await doors.snapshot()
    if door is OPEN:
        assert shop.state_of(number) == "pickup_open"
        await doors.move(number, CLOSED)
        assert shop.state_of(number) == "free"
        assert len(shop.rows(ParcelCollected)) == 1
    else:
        await until(lambda: [row.outcome for row in shop.rows(IntentSettled)] == ["unknown"])
        assert shop.state_of(number) == "loaded"
        assert shop.rows(ParcelCollected) == []
    assert len(doors.pulses) == pulses
