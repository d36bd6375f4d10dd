"""What is outside of the shop: headquarters as its own process, and the one line to it.

The guest reaches a single port of this machine. Behind it stands what a chain has before its servers, too: something that reads
the wanted name out of a TLS greeting and passes the bytes on unread, to headquarters' door for new boxes or to its broker.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cloud_bridge.hq.options import Addresses, read_addresses
from gateway.errors import StoreError
from tests.hardware.machine import Failed
from virtual_store.web import Web

STORE: Final = "rig-001"
GATEWAY: Final = "gw-rig-001"
NUMBER: Final = 901
TENANT: Final = "demo"
DOOR: Final = "door.hq.test"
BROKER: Final = "mqtt.hq.test"
GUEST_ADDRESS: Final = "10.0.2.100"
GUEST_PORT: Final = 1883
STORES_CSV: Final = f"store,number,name_zh,name_en,timezone,gateway\n{STORE},{NUMBER},試驗店,Rig,Asia/Taipei,{GATEWAY}\n"
HQ_TOML: Final = """\
data_dir = "{data}"
names = ["{broker}", "{door}"]
enrol_name = "{door}"
enrol_host = "{host}"
enrol_port = {port}
"""


class Headquarters:
    """A headquarters of one shop, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "hq"
        self.data.mkdir(parents=True)
        # Labels name the door's own port, and the guest knows one port only: some loopback address has it free.
        self.door_host = f"127.83.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
        options = HQ_TOML.format(data=self.data, broker=BROKER, door=DOOR, host=self.door_host, port=GUEST_PORT)
        (folder / "hq.toml").write_text(options, encoding="utf-8")
        with (folder / "hq.log").open("w") as log:
            command = [sys.executable, "-m", "gateway", "run", "hq", "--config", str(folder / "hq.toml"), "--with-parent"]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._log = folder / "hq.log"
        self.web = Web("")

    def wait(self) -> None:
        """Until it is ready.

        Raises:
            Failed: It ended, or never was.
        """
        for _ in range(600):
            if self._process.poll() is not None:
                break
            if (self.data / "addresses.json").exists():
                addresses = self.addresses()
                self.web = Web(addresses.http, addresses.admin_token)
                return
            time.sleep(0.1)
        raise Failed(f"headquarters did not come up: {self._log.read_text()[-300:]}")

    def addresses(self) -> Addresses:
        """Where it listens now."""
        return read_addresses(self.data)

    def announce(self, folder: Path) -> dict[str, Any]:
        """`store-gateway hq batch` for the shop: its label, and the first of its staff with a PIN."""
        (folder / "stores.csv").write_text(STORES_CSV, encoding="utf-8")
        command = [sys.executable, "-m", "gateway", "hq", "batch", str(folder / "stores.csv"), "--data", str(self.data), "--json"]
        done = subprocess.run([*command, "--out", str(folder / "labels.pdf")], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"`hq batch` failed: {done.stderr[-300:]}")
        (issued,) = json.loads(done.stdout)["issued"]
        return dict(issued)

    def get(self, path: str) -> Any:
        """Its API."""
        try:
            return self.web.call(path, None)
        except StoreError as error:
            raise Failed(f"headquarters: {error}") from error

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Its API."""
        try:
            return self.web.call(path, json.dumps(body).encode())
        except StoreError as error:
            raise Failed(f"headquarters: {error}") from error

    def vouchers(self, number: int) -> list[dict[str, Any]]:
        """So many new vouchers for the shop."""
        asked = {"store": STORE, "title_zh": "試驗券", "title_en": "Rig voucher", "valid_days": 30}
        return [self.post("/api/vouchers", asked) for _ in range(number)]

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


class TheLine:
    """Passes each TLS connection on by the name it asks for.

    Args:
        way: From a name to the address of who answers to it, or None.
    """

    def __init__(self, way: Callable[[str], tuple[str, int] | None]) -> None:
        self._way = way
        self.port = 0
        self.asked: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(timeout=10)

    async def _open(self) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(20):
                head = await reader.readexactly(5)
                body = await reader.readexactly(int.from_bytes(head[3:5], "big"))
            name = wanted_name(body)
            self.asked[name] = self.asked.get(name, 0) + 1
            way = self._way(name)
            if way is None:
                return
            other_reader, other_writer = await asyncio.open_connection(*way)
            other_writer.write(head + body)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(reader, other_writer))
                both.create_task(_pass_on(other_reader, writer))
        except* (OSError, EOFError, TimeoutError, IndexError):
            pass
        finally:
            writer.close()

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while some := await reader.read(65536):
            writer.write(some)
            await writer.drain()
    finally:
        writer.close()


def wanted_name(body: bytes) -> str:
    """The server name in a TLS greeting, empty if there is none.

    Raises:
        IndexError: No greeting.

    Source: RFC 8446, section 4.1.2; RFC 6066, section 3.
    """
    at = 4 + 2 + 32  # handshake header, version, random
    at += 1 + body[at]  # session
    at += 2 + int.from_bytes(body[at : at + 2], "big")  # ciphers
    at += 1 + body[at]  # compressions
    at += 2
    while at + 4 <= len(body):
        kind, size = int.from_bytes(body[at : at + 2], "big"), int.from_bytes(body[at + 2 : at + 4], "big")
        if kind == 0:
            return body[at + 9 : at + 4 + size].decode("ascii", "replace")
        at += 4 + size
    return ""


def build_wheel(root: Path, folder: Path) -> Path:
    """The project's wheel, built from this checkout without a network.

    Raises:
        Failed: It cannot be built.
    """
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "build", "--wheel", "--offline", "--no-build-isolation", "--out-dir", str(folder)]
    if not uv.exists():
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), "."]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env={**os.environ, "VIRTUAL_ENV": sys.prefix})
    wheels = sorted(folder.glob("store_gateway-*.whl"))
    if done.returncode or not wheels:
        raise Failed(f"no wheel: {done.stderr[-400:]}")
    return wheels[-1]
