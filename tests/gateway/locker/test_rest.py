"""A wall of closed doors is looked at less often, and nothing is sensed late for it."""

import asyncio
import time
from collections.abc import Callable

import pytest

from gateway.clock import SystemClock
from gateway.locker.board import Cu16Board, Reply, SerialLine
from gateway.locker.driver import AT_REST, AT_REST_S, LockerDriver
from tests.gateway.locker.bench import BANK, COMPARTMENTS, POLL_MS, UNIT, Bench

WATCHED_S = 0.8


class CountedLine(SerialLine):
    """A serial line that counts how often it was asked."""

    asked = 0

    async def exchange(self, request: bytes, feed: Callable[[bytes], list[Reply]], reply_b: int) -> Reply:
        self.asked += 1
        return await super().exchange(request, feed, reply_b)


async def looks(line: CountedLine) -> int:
    before = line.asked
    await asyncio.sleep(WATCHED_S)
    return line.asked - before


async def start(bench: Bench) -> CountedLine:
    line = CountedLine(str(bench.port), 19200)
    await bench.start_core()
    await bench.start_board(pull_after_s=None)
    bench.start_driver(Cu16Board(line, 0, COMPARTMENTS))
    await bench.until(lambda: bench.believed())
    return line


@pytest.mark.slow
async def test_closed_doors_are_looked_at_less_often_than_open_ones(bench: Bench) -> None:
    line = await start(bench)
    at_rest = await looks(line)
    assert at_rest <= WATCHED_S / (AT_REST * POLL_MS / 1000) + 2
    await bench.order("force", compartment=3)
    await bench.until(lambda: bench.edges())
    assert await looks(line) > 1.5 * at_rest
    await bench.order("close", compartment=3)
    await bench.until(lambda: len(bench.edges()) == 2)
    assert await looks(line) < 1.5 * at_rest


@pytest.mark.slow
async def test_a_bank_that_was_just_pulsed_is_watched_closely_though_no_door_is_open_yet(bench: Bench) -> None:
    line = await start(bench)
    at_rest = await looks(line)
    bench.open(3, "intent-a")
    await bench.until(bench.outcomes)
    assert await looks(line) > 1.5 * at_rest


@pytest.mark.slow
async def test_a_forced_door_is_seen_within_half_a_second_at_the_usual_pace(bench: Bench) -> None:
    await bench.start_core()
    await bench.start_board(pull_after_s=None)
    board = Cu16Board(SerialLine(str(bench.port), 19200), 0, COMPARTMENTS)
    driver = LockerDriver(board, BANK, COMPARTMENTS, 100, bench.link, SystemClock())
    async with asyncio.TaskGroup() as parts:
        running = [parts.create_task(bench.link.run()), parts.create_task(driver.run())]
        await bench.until(lambda: bench.believed())
        for number in range(3):
            await asyncio.sleep(AT_REST_S * (0.6 + number / 4))
            forced_s = time.monotonic()
            await bench.order("force", compartment=number + 1)
            await bench.until(lambda seen=number: len(bench.edges()) > 2 * seen)  # type: ignore[misc]
            assert time.monotonic() - forced_s < 0.5, UNIT
            await bench.order("close", compartment=number + 1)
            await bench.until(lambda seen=number: len(bench.edges()) > 2 * seen + 1)  # type: ignore[misc]
        for task in running:
            task.cancel()
