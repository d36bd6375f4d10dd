"""The virtual board: its doors obey physics, outlive its process, and its faults can be ordered."""

import asyncio
import json
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.errors import DeviceError
from gateway.events import DoorState, Instant
from gateway.locker.cabinet import RELEASED_NS, Cabinet
from gateway.locker.virtual import board_control
from tests.gateway.locker.bench import Bench


class SteppedClock(SystemClock):
    """Time that passes when told."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_ns = 0

    def boottime_ns(self) -> int:
        return super().boottime_ns() + self.ahead_ns

    def now(self) -> Instant:
        return super().now()


def cabinet_in(folder: Path, clock: SteppedClock, pull_after_s: float | None = 0.4, close_after_s: float | None = 1.6) -> Cabinet:
    return Cabinet(folder / "doors.json", 4, pull_after_s, close_after_s, clock)


def test_the_hand_opens_a_released_door_and_closes_it(tmp_path: Path) -> None:
    clock = SteppedClock()
    cabinet = cabinet_in(tmp_path, clock)
    cabinet.pulse(2)
    doors = [cabinet.lock(2).door]
    for step_ns in (500_000_000, 2_000_000_000):
        clock.ahead_ns += step_ns
        doors.append(cabinet.lock(2).door)
    assert doors == [DoorState.CLOSED, DoorState.OPEN, DoorState.CLOSED]
    assert cabinet.lock(1).pulses == 0


def test_a_locked_door_does_not_give_to_a_hand_but_to_a_crowbar(tmp_path: Path) -> None:
    cabinet = cabinet_in(tmp_path, SteppedClock(), pull_after_s=None)
    cabinet.pull(1)
    assert cabinet.lock(1).door is DoorState.CLOSED
    cabinet.force(1)
    assert cabinet.lock(1).door is DoorState.OPEN


def test_a_released_door_that_nobody_pulls_latches_again(tmp_path: Path) -> None:
    clock = SteppedClock()
    cabinet = cabinet_in(tmp_path, clock, pull_after_s=None)
    cabinet.pulse(1)
    clock.ahead_ns += RELEASED_NS + 1_000_000_000
    cabinet.pull(1)
    assert cabinet.lock(1).door is DoorState.CLOSED


def test_a_jammed_bolt_counts_the_pulse_and_releases_nothing(tmp_path: Path) -> None:
    clock = SteppedClock()
    cabinet = cabinet_in(tmp_path, clock)
    cabinet.jam(1)
    cabinet.pulse(1)
    clock.ahead_ns += 1_000_000_000
    assert (cabinet.lock(1).door, cabinet.lock(1).pulses) == (DoorState.CLOSED, 1)


def test_doors_outlive_the_process_and_hands_finish_what_they_began(tmp_path: Path) -> None:
    clock = SteppedClock()
    first = cabinet_in(tmp_path, clock)
    first.force(1)
    first.jam(2)
    first.pulse(3)
    clock.ahead_ns += 1_000_000_000
    second = cabinet_in(tmp_path, clock)  # nothing was said to the first one: it was killed
    assert [lock.door for lock in second.locks()] == [DoorState.OPEN, DoorState.CLOSED, DoorState.OPEN, DoorState.CLOSED]
    assert second.lock(2).jammed
    assert second.lock(3).pulses == 1
    clock.ahead_ns += 1_000_000_000
    assert cabinet_in(tmp_path, clock).lock(3).door is DoorState.CLOSED


def test_after_a_reboot_hands_are_done(tmp_path: Path) -> None:
    clock = SteppedClock()
    cabinet_in(tmp_path, clock).pulse(3)
    file = tmp_path / "doors.json"
    world = json.loads(file.read_bytes())
    file.write_text(json.dumps(world | {"boot_id": "another!"}))
    assert cabinet_in(tmp_path, clock).lock(3).door is DoorState.CLOSED


def test_a_file_that_holds_no_doors_is_refused_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "doors.json").write_bytes(b"\xff\x00 not doors")
    with pytest.raises(DeviceError, match="Remove it"):
        cabinet_in(tmp_path, SteppedClock())


async def test_every_order_is_answered_with_the_state(bench: Bench) -> None:
    await bench.start_board(pull_after_s=None)
    await bench.order("lie", compartment=3)
    await bench.order("corrupt", rate=0.25)
    await bench.order("slow", delay_s=0.05)
    await bench.order("hand", pull_after_s=0.2)
    await bench.order("jam", compartment=4)
    state = await bench.order("silence")
    assert (state["silent"], state["lying"], state["corrupt_rate"], state["slow_s"]) == (True, [3], 0.25, 0.05)
    assert (state["pull_after_s"], state["close_after_s"]) == (0.2, None)
    assert state["compartments"]["4"] == {"door": "closed", "jammed": True, "pulses": 0}
    await bench.order("speak")
    state = await bench.order("honest", compartment=3)
    assert (state["silent"], state["lying"]) == (False, [])


@pytest.mark.parametrize(
    "order",
    [{"do": "dance"}, {"do": "jam"}, {"do": "jam", "compartment": 17}, {"do": "corrupt", "rate": 7}, {"do": "state", "door": 1}, {}],
)
async def test_a_wrong_order_is_refused_and_the_board_lives_on(bench: Bench, order: dict[str, object]) -> None:
    await bench.start_board()
    with pytest.raises(DeviceError):
        await board_control(bench.port, **order)
    assert (await bench.state())["silent"] is False


async def test_rubbish_on_the_control_socket_harms_nobody(bench: Bench) -> None:
    await bench.start_board()
    reader, writer = await asyncio.open_unix_connection(f"{bench.port}.ctl")
    for line in (b"\xff\xfe\n", b"[1, 2]\n", b"{\n"):
        writer.write(line)
        assert "error" in json.loads(await reader.readline())
    writer.write(b"x" * 100_000 + b"\n")
    assert await reader.read() == b""
    writer.close()
    await bench.state()


async def test_a_stopped_board_leaves_no_link_behind(bench: Bench) -> None:
    await bench.start_board()
    assert bench.port.is_symlink()
    await bench.stop("board")
    assert not bench.port.is_symlink()
    with pytest.raises(DeviceError, match="no virtual board"):
        await bench.state()
