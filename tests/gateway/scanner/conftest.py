"""A counter with one scanner: real link, real tokens, a clock that stands still when told to."""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import token
from gateway.clock import SystemClock
from gateway.config import BridgeTable, GatewayConfig, PathsTable, ScannerTable, StoreTable
from gateway.events import CodePresented, DeviceChanged, Stated
from gateway.link import LinkServer
from gateway.scanner.__main__ import run

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


class Hand:
    """A clock moved by hand; only what scanners ask of a clock."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000

    def boottime_ns(self) -> int:
        return self.now_ns


class Shop:
    """Core's end of the link, which remembers what it was told, and the scanner processes that talk to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.stated: list[tuple[str, str, Stated]] = []
        self.answers = True
        self._tasks: list[asyncio.Task[None]] = []
        self.core: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Core comes up."""
        server = LinkServer(self.folder / "link.sock", self.clock, self._decide, lambda unit, here: None)
        self.core = asyncio.get_running_loop().create_task(server.serve())

    async def close(self) -> None:
        """Core goes away."""
        if self.core is not None:
            await _ended(self.core)
            self.core = None

    def start(self, name: str, source: str, seed: int = 0) -> Path:
        """A scanner process comes up; returns where its control socket will be."""
        table = ScannerTable(name, source, 8.0, seed)
        store = StoreTable("acme", "s1", 1, "s1-a")
        paths = PathsTable(state=str(self.folder), run=str(self.folder))
        config = GatewayConfig(store=store, paths=paths, bridge=BridgeTable("127.0.0.1"), scanners=[table])
        self._tasks.append(asyncio.get_running_loop().create_task(run(config, name, self.clock)))
        return self.folder / f"camera-{name}.ctl"

    async def end(self) -> None:
        for task in self._tasks:
            await _ended(task)
        await self.close()

    def codes(self, name: str = "") -> list[CodePresented]:
        """What was presented, in order, repeats included."""
        found = [event for _, _, event in self.stated if isinstance(event, CodePresented)]
        return [event for event in found if event.read_point.endswith(name)]

    def device_states(self) -> list[str]:
        return [event.device_state for _, _, event in self.stated if isinstance(event, DeviceChanged)]

    async def until(self, true: Callable[[], bool], timeout_s: float = 40.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not true():  # noqa: ASYNC110 - what is waited for lies on both ends of a socket
                await asyncio.sleep(0.02)

    def _decide(self, unit: str, event_id: str, event: Stated) -> "asyncio.Future[bytes]":
        self.stated.append((unit, event_id, event))
        committed: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self.answers:
            committed.set_result(b"")
        return committed


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def run_folder() -> Iterator[Path]:
    """Unix sockets have short names only."""
    folder = Path(tempfile.mkdtemp(prefix="scan"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def shop(run_folder: Path) -> AsyncIterator[Shop]:
    shop = Shop(run_folder)
    yield shop
    await shop.end()


@pytest.fixture
def make_token() -> Callable[[], str]:
    def make() -> str:
        claims = token.Claims(
            kind=token.TokenKind.VOUCHER, key_id=7, issuer=1, identifier=secrets.randbits(60), store=1, not_after_s=2_000_000_000
        )
        return token.sign(claims, KEY)

    return make


@pytest.fixture
def hand() -> Hand:
    return Hand()
