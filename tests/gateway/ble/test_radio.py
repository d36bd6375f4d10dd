"""The real unit in a process of its own, with real bleak on a private D-Bus, stating to a real link."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.ble.radio import SHORTEST_STALL_S, Silence
from gateway.clock import SystemClock
from gateway.config import GatewayConfig
from gateway.events import DeviceChanged, OccupancyEstimated, Stated, VisitEnded, VisitStarted
from gateway.link import LinkServer

IBEACON_1_1 = "0215d0d2ce249efc11e582c41c6a7a17ef3800010001c5"
UNIT = """
import asyncio, sys
from pathlib import Path
from gateway.ble.__main__ import run
from gateway.clock import SystemClock
from gateway.config import load
asyncio.run(run(load(Path(sys.argv[1])), "radio", SystemClock()))
"""
CONFIG = """
[store]
tenant = "chain"
store = "s1"
number = 1
gateway = "box1"
[paths]
state = "state"
run = "."
[bridge]
host = "localhost"
[ble]
exit_after_s = 1.5
[[ble.sensors]]
name = "hci0"
zone = "door"
[[ble.tags]]
subject = "trolley-1"
ibeacon = "D0D2CE24-9EFC-11E5-82C4-1C6A7A17EF38/1/1"
"""


class Core:
    """The other end of the link: keeps what is stated."""

    def __init__(self) -> None:
        self.stated: list[Stated] = []
        self.units: list[str] = []

    def decide(self, unit: str, _event_id: str, event: Stated) -> Awaitable[bytes]:
        self.units.append(unit)
        self.stated.append(event)
        committed: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        committed.set_result(b"")
        return committed

    async def until(self, wanted: Callable[[Stated], bool], timeout_s: float = 40.0) -> Any:
        async with asyncio.timeout(timeout_s):
            while True:
                for event in self.stated:
                    if wanted(event):
                        return event
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running_unit(folder: Path, environment: dict[str, str]) -> AsyncIterator[Core]:
    core = Core()
    (folder / "gateway.toml").write_text(CONFIG)
    server = LinkServer(folder / "link.sock", SystemClock(), core.decide, lambda _unit, _up: None)
    serving = asyncio.get_running_loop().create_task(server.serve())
    arguments = [sys.executable, "-c", UNIT, str(folder / "gateway.toml")]
    process = await asyncio.create_subprocess_exec(*arguments, env=environment, stderr=subprocess.PIPE)
    try:
        yield core
        assert process.returncode is None, await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def device(state: str) -> Callable[[Stated], bool]:
    return lambda event: isinstance(event, DeviceChanged) and event.device_state == state


async def advertise(bluetoothd: Any, times: int, rssi: int = -60, pause_s: float = 0.05) -> list[str]:
    answers = []
    for at in range(times):
        answers.append(await bluetoothd.tell(advert="C0:00:00:00:00:01", rssi=rssi + at % 3, manufacturer={"76": IBEACON_1_1}))
        await asyncio.sleep(pause_s)
    return answers


@pytest.mark.slow
async def test_the_shops_tag_in_the_air_becomes_a_visit(bluetoothd: Any, system_bus: dict[str, str], tmp_path: Path) -> None:
    await bluetoothd.start()
    async with running_unit(tmp_path, system_bus) as core:
        up = await core.until(device("up"))
        assert up.read_point == "ble@radio"
        assert set(await advertise(bluetoothd, 20)) == {"delivered"}
        started = await core.until(lambda event: isinstance(event, VisitStarted))
        assert (started.subject, started.zone) == ("trolley-1", "door")
        ended = await core.until(lambda event: isinstance(event, VisitEnded))
        assert ended.visit_id == started.visit_id
        assert 0.9 < ended.dwell_s < 3
        assert set(core.units) == {"ble@radio"}


@pytest.mark.slow
async def test_a_connection_is_no_advertisement(bluetoothd: Any, system_bus: dict[str, str], tmp_path: Path) -> None:
    await bluetoothd.start()
    async with running_unit(tmp_path, system_bus) as core:
        await core.until(device("up"))
        await advertise(bluetoothd, 3)
        await core.until(lambda event: isinstance(event, VisitStarted))
        await asyncio.sleep(1.0)
        assert await bluetoothd.tell(connected="C0:00:00:00:00:01") == "delivered"
        ended = await core.until(lambda event: isinstance(event, VisitEnded))
        assert ended.dwell_s < 0.6
        assert len([event for event in core.stated if isinstance(event, VisitStarted)]) == 1


@pytest.mark.slow
async def test_without_a_monitor_the_radio_says_that_it_limps(bluetoothd: Any, system_bus: dict[str, str], tmp_path: Path) -> None:
    await bluetoothd.start("--no-monitor")
    async with running_unit(tmp_path, system_bus) as core:
        limping = await core.until(device("degraded"))
        assert "--experimental" in limping.detail
        assert "filtered by the controller" in await advertise(bluetoothd, 3)
        await core.until(lambda event: isinstance(event, VisitStarted))
        await asyncio.sleep(2.5)  # beyond exit_after_s: one report in ten seconds is presence, for this radio
        assert not [event for event in core.stated if isinstance(event, VisitEnded)]


@pytest.mark.slow
async def test_a_restarted_bluetoothd_is_noticed_and_heard_again(bluetoothd: Any, system_bus: dict[str, str], tmp_path: Path) -> None:
    await bluetoothd.start()
    async with running_unit(tmp_path, system_bus) as core:
        await core.until(device("up"))
        await bluetoothd.kill()
        await core.until(device("down"), timeout_s=5)
        core.stated.clear()
        await bluetoothd.start()
        await core.until(device("up"), timeout_s=10)
        await advertise(bluetoothd, 3)
        await core.until(lambda event: isinstance(event, VisitStarted))


@pytest.mark.slow
async def test_a_restart_too_quick_to_see_is_noticed_by_its_new_name(bluetoothd: Any, system_bus: dict[str, str], tmp_path: Path) -> None:
    """The successor takes the name over without a gap, and scans for somebody else already."""
    await bluetoothd.start()
    successor = type(bluetoothd)(system_bus)
    async with running_unit(tmp_path, system_bus) as core:
        await core.until(device("up"))
        await asyncio.sleep(1.2)
        core.stated.clear()
        await successor.start("--discovering")
        assert "anew" in (await core.until(device("down"), timeout_s=5)).detail
        await core.until(device("up"), timeout_s=10)
        assert set(await advertise(successor, 3)) == {"delivered"}
        await core.until(lambda event: isinstance(event, VisitStarted))
        await successor.kill()


@pytest.mark.slow
async def test_a_bluetoothd_that_comes_late_is_waited_for(bluetoothd: Any, system_bus: dict[str, str], tmp_path: Path) -> None:
    async with running_unit(tmp_path, system_bus) as core:
        await core.until(device("down"))
        await bluetoothd.start()
        await core.until(device("up"))


@pytest.mark.slow
async def test_a_scan_that_somebody_ended_is_started_again(bluetoothd: Any, system_bus: dict[str, str], tmp_path: Path) -> None:
    await bluetoothd.start()
    async with running_unit(tmp_path, system_bus) as core:
        await core.until(device("up"))
        await bluetoothd.tell(end_scan=True)
        assert "ended" in (await core.until(device("down"))).detail
        core.stated.clear()
        await core.until(device("up"))
        assert set(await advertise(bluetoothd, 2)) == {"delivered"}


@pytest.mark.slow
async def test_a_scan_that_bluetoothd_holds_on_to_is_freed(bluetoothd: Any, system_bus: dict[str, str], tmp_path: Path) -> None:
    await bluetoothd.start()
    async with running_unit(tmp_path, system_bus) as core:
        await core.until(device("up"))
        await bluetoothd.tell(stick=True)
        await core.until(device("down"))
        core.stated.clear()
        assert set(await advertise(bluetoothd, 2)) == {"not scanning"}
        await core.until(device("up"))
        assert set(await advertise(bluetoothd, 3)) == {"delivered"}
        await core.until(lambda event: isinstance(event, VisitStarted))


def test_a_stall_is_longer_than_the_gaps_a_radio_lives_with() -> None:
    silence = Silence(0.0)
    assert silence.stall_s == SHORTEST_STALL_S
    for t_s in range(10, 200, 10):
        silence.heard(float(t_s))
    assert 35 < silence.stall_s <= 40
    assert not silence.stalled(190 + 35)
    assert silence.stalled(190 + 41)


def test_restarts_that_do_not_help_become_rarer() -> None:
    silence = Silence(0.0)
    restarts = [t_s for t_s in range(3600) if silence.stalled(float(t_s))]
    assert 5 <= len(restarts) <= 20
    assert restarts[1] - restarts[0] < restarts[3] - restarts[2]


def test_a_gap_that_a_restart_ended_is_not_learned() -> None:
    silence = Silence(0.0)
    silence.heard(1.0)
    assert silence.stalled(20.0)
    silence.heard(21.0)
    assert silence.stall_s == SHORTEST_STALL_S


def test_estimates_need_no_radio_of_strangers(shop: Callable[..., GatewayConfig], unit_of: Callable[..., Any]) -> None:
    unit = unit_of(shop(sensors=1))
    for _ in range(120):
        unit.clock.t_s += 0.25
        unit.driver.tick()
    assert {(event.zone, event.estimate, event.low) for event in unit.events(OccupancyEstimated)} == {("door", None, 0.0)}
