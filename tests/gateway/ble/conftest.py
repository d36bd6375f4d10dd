"""A shop's configuration, a clock that is moved by hand, and a private D-Bus."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.ble.driver import Driver
from gateway.config import GatewayConfig, parse
from gateway.events import Instant, Stated, TimeTrust

TAG_UUID = "d0d2ce24-9efc-11e5-82c4-1c6a7a17ef38"
SHOP = """
[store]
tenant = "chain"
store = "s1"
number = 1
gateway = "box1"
[paths]
state = "{root}/state"
run = "{root}"
[bridge]
host = "localhost"
[ble]
radio = "{radio}"
exit_after_s = {exit_after_s}
seed = 7
[[ble.sensors]]
name = "hci0"
zone = "door"
[[ble.sensors]]
name = "hci1"
zone = "shelf"
[[ble.sensors]]
name = "hci2"
zone = "counter"
[[ble.tags]]
subject = "trolley-1"
ibeacon = "D0D2CE24-9EFC-11E5-82C4-1C6A7A17EF38/1/1"
[[ble.tags]]
subject = "trolley-2"
ibeacon = "D0D2CE24-9EFC-11E5-82C4-1C6A7A17EF38/1/2"
[[ble.tags]]
subject = "member-1"
kind = "member"
ibeacon = "D0D2CE24-9EFC-11E5-82C4-1C6A7A17EF38/2/1"
"""


class HandClock:
    """Moved by hand; the wall clock lies a billion seconds above the monotonic one."""

    def __init__(self, t_s: float = 1000.0) -> None:
        self.t_s = t_s

    def now(self) -> Instant:
        return Instant(round((self.t_s + 1e9) * 1e6), self.boottime_ns(), "test", TimeTrust.HOLDOVER)

    def boottime_ns(self) -> int:
        return round(self.t_s * 1e9)

    def bounds_us(self) -> tuple[int, int | None]:
        return self.now().wall_us, self.now().wall_us

    def hear_signed_time(self, signed_us: int) -> None:
        raise AssertionError("no driver hears signed time")

    def raise_floor(self, past_us: int) -> None:
        raise AssertionError("no driver raises the floor")


class Unit:
    """A driver without its process: what it states is kept with the time it was stated."""

    def __init__(self, config: GatewayConfig, window_s: float = 10.0) -> None:
        self.clock = HandClock()
        self.stated: list[tuple[float, Stated]] = []
        self.paused = False
        self.driver = Driver(config.ble, "ble@radio", self.clock, self._keep, window_s, lambda: self.paused)

    def _keep(self, event: Stated) -> None:
        self.stated.append((self.clock.t_s, event))

    def events(self, kind: type[Any]) -> list[Any]:
        return [event for _, event in self.stated if isinstance(event, kind)]


@pytest.fixture
def shop(tmp_path: Path) -> Callable[..., GatewayConfig]:
    """Make a configuration; `sensors=1` leaves only hci0."""

    def make(radio: str = "virtual", exit_after_s: float = 12.0, sensors: int = 3) -> GatewayConfig:
        text = SHOP.format(root=tmp_path, radio=radio, exit_after_s=exit_after_s)
        for extra in range(sensors, 3):
            block = f'[[ble.sensors]]\nname = "hci{extra}"\nzone = "{("door", "shelf", "counter")[extra]}"\n'
            assert block in text
            text = text.replace(block, "")
        return parse(text)

    return make


@pytest.fixture
def unit(shop: Callable[..., GatewayConfig]) -> Unit:
    return Unit(shop())


@pytest.fixture
def unit_of() -> Callable[..., Unit]:
    return Unit


class StandIn:
    """The bluetoothd stand-in as a subprocess; `tell` waits for its answer."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str) -> None:
        program = Path(__file__).with_name("bluez_stand_in.py")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), *arguments, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert await asyncio.wait_for(self._process.stdout.readline(), 20) == b"ready\n"

    async def tell(self, **command: Any) -> str:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(command).encode() + b"\n")
        return (await asyncio.wait_for(process.stdout.readline(), 10)).decode().strip()

    async def kill(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.communicate()
            self._process = None


@pytest.fixture
def system_bus(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A private D-Bus daemon; gives the environment of its clients."""
    address = f"unix:path={tmp_path}/bus"
    command = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        root = str(Path(__file__).parents[3])
        yield {"DBUS_SYSTEM_BUS_ADDRESS": address, "PYTHONPATH": root, "PATH": "/usr/bin:/bin"}
        daemon.terminate()


@pytest.fixture
async def bluetoothd(system_bus: dict[str, str]) -> AsyncIterator[StandIn]:
    stand_in = StandIn(system_bus)
    yield stand_in
    await stand_in.kill()
