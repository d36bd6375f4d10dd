"""What surrounds a box in its shop, in processes of their own, so that a measurement of the box counts none of it.

The lock board is a process anyway. The camera is the virtual one behind a socket (`frames:`); the radio is real bleak, D-Bus
and a stand-in for bluetoothd, which hears advertisements at a steady rate. `python -m benchmarks.surroundings SOCKET CONTROL`
is the camera.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from gateway.clock import SystemClock
from virtual_store.plan import CHAIN_UUID, STORE_NUMBER, SUBJECTS, Plan

ROOT: Final = Path(__file__).resolve().parents[1]
STAND_IN: Final = ROOT / "tests" / "gateway" / "ble" / "bluez_stand_in.py"
CAMERA_FPS: Final = 5.0
ADVERTS_PER_S: Final = 20
PHONES: Final = 14  # beside the shop's own tags
SEED: Final = 7
IMPORTED: Final = (
    "gateway.units", "gateway.core.desk", "gateway.kiosk.app", "gateway.ble.driver", "gateway.ble.radio", "gateway.scanner.driver",
    "gateway.scanner.frames", "gateway.scanner.camera", "pyzbar.wrapper", "gateway.locker.driver", "cloud_bridge.__main__",
    "provisioning.authority", "cloud_bridge.hq.__main__", "gateway.locker.virtual", "benchmarks.surroundings",
    "gateway.scanner.virtual", "zoneinfo", "argon2",
)  # fmt: skip
APPLE: Final = 0x004C
ONE_ADAPTER: Final = '[[ble.sensors]]\nname = "hci0"\nzone = "entrance"\n\n'


class ApartPlan(Plan, frozen=True):
    """A virtual store whose box has devices as in a shop: a radio behind BlueZ, a camera behind a socket."""

    @property
    def camera_socket(self) -> Path:
        """Where the camera gives its pictures."""
        return self.folder / "shop" / "run" / "camera"

    def write(self) -> None:
        super().write()
        text = self.gateway_toml.read_text(encoding="utf-8")
        before, _, rest = text.partition("[[ble.sensors]]")
        text = before + ONE_ADAPTER + "[[ble.tags]]" + rest.partition("[[ble.tags]]")[2]
        text = _replaced(text, 'radio = "virtual"', 'radio = "bluez"')
        text = _replaced(text, 'source = "virtual"', f'source = "frames:{self.camera_socket}"\nframes_per_s = {CAMERA_FPS}')
        self.gateway_toml.write_text(text, encoding="utf-8")


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"the virtual store's configuration has changed: {old}"
    return text.replace(old, new)


def compile_libraries() -> None:
    """Have processes started from here on find everything compiled, as an installation leaves it, whatever this shell says.

    A process that compiles what it imports keeps the compiler's memory for its whole life.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(ROOT / "build" / "pycache")
    subprocess.run([sys.executable, "-c", f"import {', '.join(IMPORTED)}"], cwd=ROOT, check=True)


@contextlib.asynccontextmanager
async def surroundings(plan: ApartPlan) -> AsyncIterator[None]:
    """Camera and radio of the shop, until left."""
    plan.write()
    camera = [sys.executable, "-m", "benchmarks.surroundings", str(plan.camera_socket), str(plan.camera_control)]
    address = f"unix:path={plan.folder}/bus"
    bus = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address=1"]
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = address  # the box's processes inherit it
    with _running(camera), _running(bus), _running([sys.executable, str(STAND_IN)]) as bluetoothd:
        advertising = asyncio.create_task(_advertise(bluetoothd))
        try:
            yield
        finally:
            advertising.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await advertising


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that says a line once it is ready."""
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline(), f"{' '.join(command)} did not start"
            yield process
        finally:
            process.kill()


async def _advertise(bluetoothd: "subprocess.Popen[bytes]") -> None:
    """Tags and phones in turn, at a steady rate."""
    assert bluetoothd.stdin is not None and bluetoothd.stdout is not None
    adverts, loop = list(_adverts()), asyncio.get_running_loop()
    begun_s = loop.time()
    for number in range(sys.maxsize):
        order = adverts[number % len(adverts)] | {"rssi": -60 - number % 17}
        bluetoothd.stdin.write(json.dumps(order).encode() + b"\n")
        bluetoothd.stdin.flush()
        await asyncio.to_thread(bluetoothd.stdout.readline)
        await asyncio.sleep(max(0.0, begun_s + (number + 1) / ADVERTS_PER_S - loop.time()))


def _adverts() -> Iterator[dict[str, object]]:
    for minor, _ in enumerate(SUBJECTS, 1):
        identity = bytes.fromhex(CHAIN_UUID.replace("-", "")) + STORE_NUMBER.to_bytes(2, "big") + minor.to_bytes(2, "big")
        yield {"advert": f"C2:00:00:00:00:{minor:02X}", "manufacturer": {str(APPLE): (b"\x02\x15" + identity + b"\xc5").hex()}}
    for phone in range(PHONES):
        nearby = bytes([0x10, 0x05, 0x0B, 0x1C, phone, 0x55, 0xAA])
        yield {"advert": f"5A:00:00:00:00:{phone:02X}", "manufacturer": {str(APPLE): nearby.hex()}}


async def _be_camera(pictures: Path, control: Path) -> None:
    from gateway.scanner.virtual import VirtualCamera, serve_control

    camera = VirtualCamera(CAMERA_FPS, SEED, SystemClock())

    async def give(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Room for a whole picture, else the reader is woken for each piece of it, as no camera would.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write((await asyncio.to_thread(camera.grab)).tobytes())
                await writer.drain()

    pictures.unlink(missing_ok=True)
    async with await asyncio.start_unix_server(give, pictures), asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_control(camera, control))
        print("ready", flush=True)


if __name__ == "__main__":
    asyncio.run(_be_camera(Path(sys.argv[1]), Path(sys.argv[2])))
