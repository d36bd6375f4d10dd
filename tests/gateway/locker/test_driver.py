"""The driver against real bytes: a virtual board on a pseudo-terminal below, a real link above."""

import asyncio
import os
import pty
import signal
import tty
from pathlib import Path

import pytest

from gateway.errors import DeviceError
from gateway.events import BankSnapshotTaken, CommandAnswered, DeviceChanged, DoorEdgeSensed, DoorState
from gateway.locker.board import Cu16Board, SerialLine
from tests.gateway.locker.bench import Bench


async def test_an_opening_carries_its_intent_and_so_does_the_closing(bench: Bench) -> None:
    await bench.start()
    bench.open(3, "intent-a")
    await bench.until(lambda: len(bench.edges()) == 2)
    assert bench.edges() == [(3, "open", "intent-a"), (3, "closed", "intent-a")]
    assert bench.outcomes() == {"intent-a": "pulsed"}
    assert await bench.pulses(3) == 1
    opened, closed = bench.all(DoorEdgeSensed)
    (answer,) = bench.all(CommandAnswered)
    assert answer.event_time.mono_ns < opened.event_time.mono_ns < closed.event_time.mono_ns


async def test_the_first_word_is_a_snapshot(bench: Bench) -> None:
    await bench.start_board()
    await bench.order("force", compartment=5)
    await bench.start_core()
    bench.start_driver()
    await bench.until(lambda: bench.all(BankSnapshotTaken))
    (snapshot,) = bench.all(BankSnapshotTaken)
    assert [n for n, door in snapshot.doors.items() if door is DoorState.OPEN] == [5]
    assert len(snapshot.doors) == 16
    assert bench.device_states() == ["up"]
    assert bench.edges() == []


async def test_a_forced_door_has_no_intent(bench: Bench) -> None:
    await bench.start()
    await bench.order("force", compartment=7)
    await bench.until(lambda: bench.edges())
    await bench.order("close", compartment=7)
    await bench.until(lambda: len(bench.edges()) == 2)
    assert bench.edges() == [(7, "open", None), (7, "closed", None)]


async def test_a_pulse_explains_only_its_own_compartment(bench: Bench) -> None:
    await bench.start(pull_after_s=None)
    bench.open(1, "intent-a")
    await bench.until(bench.outcomes)
    await bench.order("force", compartment=2)
    await bench.order("pull", compartment=1)
    await bench.until(lambda: len(bench.edges()) == 2)
    assert sorted(bench.edges()) == [(1, "open", "intent-a"), (2, "open", None)]


async def test_one_pulse_explains_one_opening(bench: Bench) -> None:
    await bench.start(pull_after_s=0.05, close_after_s=0.2)
    bench.open(1, "intent-a")
    await bench.until(lambda: len(bench.edges()) == 2)
    await bench.order("force", compartment=1)
    await bench.until(lambda: len(bench.edges()) == 3)
    assert bench.edges()[-1] == (1, "open", None)


@pytest.mark.slow
async def test_an_opening_long_after_its_pulse_was_forced(bench: Bench) -> None:
    await bench.start(pull_after_s=None)
    bench.open(1, "intent-a")
    await bench.until(bench.outcomes)
    await asyncio.sleep(3.1)
    await bench.order("force", compartment=1)
    await bench.until(bench.edges)
    assert bench.edges() == [(1, "open", None)]


async def test_a_jammed_door_is_pulsed_once_and_no_edge_is_made_up(bench: Bench) -> None:
    await bench.start()
    await bench.order("jam", compartment=4)
    bench.open(4, "intent-a")
    await bench.until(bench.outcomes)
    await asyncio.sleep(0.4)
    assert bench.outcomes() == {"intent-a": "pulsed"}
    assert bench.edges() == []
    assert await bench.pulses(4) == 1


async def test_two_intents_are_two_pulses_and_one_intent_twice_is_one(bench: Bench) -> None:
    await bench.start(pull_after_s=None)
    for intent_id in ("intent-a", "intent-b", "intent-b", "intent-a"):
        bench.open(6, intent_id)
    await bench.until(lambda: len(bench.all(CommandAnswered)) == 2)
    await asyncio.sleep(0.1)
    assert await bench.pulses(6) == 2
    assert len(bench.all(CommandAnswered)) == 2


async def test_all_doors_at_once_keep_their_intents_apart(bench: Bench) -> None:
    await bench.start(pull_after_s=0.3, close_after_s=0.9)
    for n in range(1, 17):
        bench.open(n, f"intent-{n}")
    await bench.until(lambda: len(bench.edges()) == 32)
    expected = {(n, door, f"intent-{n}") for n in range(1, 17) for door in ("open", "closed")}
    assert set(bench.edges()) == expected


@pytest.mark.parametrize(("bank", "compartment"), [("wall", 0), ("wall", 17), ("wall", 4096), ("floor", 1)])
async def test_a_compartment_that_is_not_here_moves_nothing(bench: Bench, bank: str, compartment: int) -> None:
    await bench.start()
    bench.open(compartment, "intent-a", bank=bank)
    await bench.until(bench.outcomes)
    assert bench.outcomes() == {"intent-a": "failed"}
    state = await bench.state()
    assert all(door["pulses"] == 0 for door in state["compartments"].values())


# ---------------------------------------------------------------- the bus fails


@pytest.mark.slow
async def test_a_silent_board_is_down_and_up_again_and_no_edges_are_invented(bench: Bench) -> None:
    await bench.start()
    await bench.order("silence")
    await bench.until(lambda: bench.device_states() == ["up", "down"])
    await bench.order("force", compartment=9)  # unseen: nobody may claim to know when
    bench.open(2, "intent-a")
    await bench.until(bench.outcomes)
    assert bench.outcomes() == {"intent-a": "failed"}
    await bench.order("speak")
    await bench.until(lambda: len(bench.all(BankSnapshotTaken)) == 2)
    assert bench.device_states() == ["up", "down", "up"]
    assert bench.all(BankSnapshotTaken)[-1].doors[9] is DoorState.OPEN
    assert bench.edges() == []
    assert await bench.pulses(2) == 0
    await bench.order("close", compartment=9)
    await bench.until(bench.edges)
    assert bench.edges() == [(9, "closed", None)]


@pytest.mark.slow
async def test_a_door_open_across_a_silence_keeps_its_intent_for_the_closing(bench: Bench) -> None:
    await bench.start(close_after_s=None)
    bench.open(2, "intent-a")
    await bench.until(bench.edges)
    await bench.order("silence")
    await bench.until(lambda: "down" in bench.device_states())
    await bench.order("speak")
    await bench.until(lambda: len(bench.all(BankSnapshotTaken)) == 2)
    await bench.order("close", compartment=2)
    await bench.until(lambda: len(bench.edges()) == 2)
    assert bench.edges() == [(2, "open", "intent-a"), (2, "closed", "intent-a")]


async def test_a_short_silence_is_nobodys_business(bench: Bench) -> None:
    await bench.start()
    await bench.order("silence")
    await asyncio.sleep(0.5)
    await bench.order("speak")
    bench.open(1, "intent-a")
    await bench.until(lambda: len(bench.edges()) == 2)
    assert bench.device_states() == ["up"]


async def test_a_bus_that_is_down_is_told_to_every_new_core(bench: Bench) -> None:
    await bench.start_core()
    bench.start_driver()  # there is no board at all
    await bench.until(lambda: bench.device_states() == ["down"])
    await bench.stop("core")
    await bench.start_core()
    await bench.until(lambda: bench.device_states() == ["down", "down"])
    assert "line" in bench.all(DeviceChanged)[0].detail
    assert bench.all(BankSnapshotTaken) == []


async def test_a_slow_board_still_serves(bench: Bench) -> None:
    await bench.start()
    await bench.order("slow", delay_s=0.06)
    bench.open(1, "intent-a")
    await bench.until(lambda: len(bench.edges()) == 2)
    assert bench.device_states() == ["up"]


async def test_a_lying_sensor_is_stated_as_it_lies(bench: Bench) -> None:
    await bench.start()
    await bench.order("lie", compartment=8)
    await bench.until(bench.edges)
    assert bench.edges() == [(8, "open", None)]  # who believes it is core's business


@pytest.mark.slow
async def test_garbled_answers_move_no_door_in_the_mind(bench: Bench) -> None:
    await bench.start(pull_after_s=0.1, close_after_s=None)
    await bench.order("corrupt", rate=0.2, requests=False)
    bench.open(11, "intent-a")
    await bench.until(bench.edges, timeout_s=20)
    await asyncio.sleep(5)
    await bench.order("close", compartment=11)
    # Noise may silence the bus for 2 s at a time; then the door's end is in the snapshot and not an edge.
    await bench.until(lambda: bench.believed()[11] is DoorState.CLOSED, timeout_s=20)
    assert bench.edges() in ([(11, "open", "intent-a"), (11, "closed", "intent-a")], [(11, "open", "intent-a")])
    assert await bench.pulses(11) == 1
    assert all(door["pulses"] == 0 for n, door in (await bench.state())["compartments"].items() if n != "11")


@pytest.mark.slow
async def test_with_every_byte_at_risk_a_door_still_opens_once_for_each_intent(bench: Bench) -> None:
    """Noise both ways: an unlock frame may be lost, is never repeated, and core's next intent tries again."""
    await bench.start(close_after_s=None)
    await bench.order("corrupt", rate=0.2)
    for attempt in range(12):
        bench.open(11, f"intent-{attempt}")
        await bench.until(lambda n=attempt: f"intent-{n}" in bench.outcomes())  # type: ignore[misc]
        await asyncio.sleep(0.2)
        if await bench.pulses(11):
            break
    await bench.order("corrupt", rate=0.0)
    await bench.until(lambda: bench.device_states()[-1] == "up")
    if not await bench.pulses(11):
        bench.open(11, "intent-last")
    await bench.until(lambda: bench.believed()[11] is DoorState.OPEN)
    pulsed = [intent_id for intent_id, outcome in bench.outcomes().items() if outcome == "pulsed"]
    assert await bench.pulses(11) == 1 <= len(pulsed)
    assert all(edge in [(11, "open", intent_id) for intent_id in pulsed] for edge in bench.edges())


async def test_an_adapter_that_echoes_is_understood(bench: Bench) -> None:
    """Half-duplex adapters hand back what was sent; here a wire between two pseudo-terminals does."""
    await bench.start_core()
    master, slave = pty.openpty()
    tty.setraw(slave)
    loop = asyncio.get_running_loop()

    def echo_and_answer() -> None:
        request = os.read(master, 100)
        os.write(master, request + bytes.fromhex("02 00 35 FF FF 00 00 03 38"))

    loop.add_reader(master, echo_and_answer)
    bench.start_driver(Cu16Board(SerialLine(os.ttyname(slave), 19200), 0, 16))
    await bench.until(lambda: bench.all(BankSnapshotTaken))
    assert set(bench.all(BankSnapshotTaken)[0].doors.values()) == {DoorState.CLOSED}
    await bench.stop("driver")
    loop.remove_reader(master)
    os.close(master)
    os.close(slave)


async def test_two_drivers_do_not_share_a_bus(bench: Bench) -> None:
    await bench.start()
    other = Cu16Board(SerialLine(str(bench.port), 19200), 0, 16)
    with pytest.raises(DeviceError, match="line"):
        await other.read_doors()
    assert not other.connected


# ---------------------------------------------------------------- commands come late


async def test_a_command_while_core_is_away_is_never_carried_out_later(bench: Bench) -> None:
    await bench.start()
    await bench.stop("core")
    await bench.until(lambda: not bench.link.connected)
    with pytest.raises(DeviceError):
        bench.open(1, "intent-a")
    await bench.start_core()
    await bench.until(lambda: len(bench.all(BankSnapshotTaken)) == 2)
    await asyncio.sleep(0.1)
    assert await bench.pulses(1) == 0


async def test_edges_wait_for_core_and_arrive_before_the_snapshot(bench: Bench) -> None:
    await bench.start()
    await bench.stop("core")
    await bench.until(lambda: not bench.link.connected)
    await bench.order("force", compartment=1)
    await bench.until(lambda: bench.link.unanswered == 1)
    await bench.order("close", compartment=1)
    await bench.until(lambda: bench.link.unanswered == 2)
    await bench.start_core()
    await bench.until(lambda: len(bench.all(BankSnapshotTaken)) == 2)
    kinds = [type(event).__name__ for event in bench.heard]
    assert kinds == ["DeviceChanged", "BankSnapshotTaken", "DoorEdgeSensed", "DoorEdgeSensed", "BankSnapshotTaken"]


class StalledBoard(Cu16Board):
    """A real board behind a line that can be made to hang in the kernel."""

    def __init__(self, port: Path) -> None:
        super().__init__(SerialLine(str(port), 19200), 0, 16)
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def read_doors(self) -> dict[int, DoorState]:
        doors = await super().read_doors()
        await self.flowing.wait()
        return doors


async def test_a_command_that_waited_too_long_behind_the_bus_is_late(bench: Bench) -> None:
    await bench.start_core()
    await bench.start_board()
    board = StalledBoard(bench.port)
    bench.start_driver(board)
    await bench.until(lambda: bench.all(BankSnapshotTaken))
    board.flowing.clear()
    await asyncio.sleep(0.1)
    bench.open(1, "intent-a", within_s=0.3)
    await asyncio.sleep(0.7)
    board.flowing.set()
    await bench.until(bench.outcomes)
    assert bench.outcomes() == {"intent-a": "late"}
    assert await bench.pulses(1) == 0


# ---------------------------------------------------------------- processes die


@pytest.mark.slow
async def test_a_killed_board_comes_back_behind_the_same_link_with_its_doors_as_they_were(bench: Bench) -> None:
    board = await bench.spawn("run_virtual")
    await bench.until_async(bench.state)
    await bench.start_core()
    bench.start_driver()
    await bench.until(lambda: bench.all(BankSnapshotTaken))
    bench.open(3, "intent-a")
    await bench.until(bench.edges)
    board.kill()
    await board.wait()
    await bench.until(lambda: bench.device_states() == ["up", "down"])
    blockers = pty.openpty()  # takes the freed number where the kernel has freed it, so that the new board gets another
    board = await bench.spawn("run_virtual")
    await bench.until(lambda: len(bench.all(BankSnapshotTaken)) == 2)
    assert await bench.pulses(3) == 1
    assert bench.device_states() == ["up", "down", "up"]
    bench.open(4, "intent-b")
    await bench.until(lambda: (4, "closed", "intent-b") in bench.edges())
    assert await bench.pulses(4) == 1
    for fd in blockers:
        os.close(fd)


@pytest.mark.slow
async def test_a_frozen_board_that_wakes_up_finds_no_old_pulse_on_its_line(bench: Bench) -> None:
    board = await bench.spawn("run_virtual")
    await bench.until_async(bench.state)
    await bench.start_core()
    bench.start_driver()
    await bench.until(lambda: bench.all(BankSnapshotTaken))
    board.send_signal(signal.SIGSTOP)
    bench.open(3, "intent-a")
    await bench.until(lambda: bench.device_states() == ["up", "down"])
    assert bench.outcomes() == {"intent-a": "pulsed"}  # the driver could not know yet; a pulse proves no open door
    board.send_signal(signal.SIGCONT)
    await bench.until(lambda: bench.device_states() == ["up", "down", "up"])
    assert await bench.pulses(3) == 0
    assert bench.edges() == []


@pytest.mark.slow
async def test_a_driver_that_slept_past_the_deadline_pulses_nothing_and_a_restarted_one_only_looks(bench: Bench) -> None:
    await bench.start_core()
    await bench.start_board()
    driver = await bench.spawn("run")
    await bench.until(lambda: bench.all(BankSnapshotTaken))
    driver.send_signal(signal.SIGSTOP)
    bench.open(5, "intent-a")
    await asyncio.sleep(3.2)
    driver.send_signal(signal.SIGCONT)
    await asyncio.sleep(0.5)
    assert await bench.pulses(5) == 0
    bench.open(5, "intent-b")
    await bench.until(lambda: bench.outcomes().get("intent-b") == "pulsed")
    driver.kill()
    await driver.wait()
    snapshots = len(bench.all(BankSnapshotTaken))
    driver = await bench.spawn("run")
    await bench.until(lambda: len(bench.all(BankSnapshotTaken)) > snapshots)
    await asyncio.sleep(0.5)
    assert await bench.pulses(5) == 1
