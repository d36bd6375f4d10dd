"""Ends of the link for its tests: a core whose commits are done when the test says so, and raw peers of either side."""

import asyncio
import contextlib
from collections.abc import Awaitable
from pathlib import Path

from gateway.events import DeviceChanged, Stated
from gateway.link import LinkServer
from tests.conftest import VirtualClock, until


async def settle() -> None:
    """Long enough for anything that is under way on a local socket."""
    await asyncio.sleep(0.05)


class Core:
    """The server's end, whose commits are done when the test says so."""

    def __init__(self, path: Path, clock: VirtualClock) -> None:
        self.path = path
        self.clock = clock
        self.decided: list[tuple[str, str, Stated]] = []
        self.commits: list[asyncio.Future[bytes]] = []
        self.joined: list[tuple[str, bool]] = []
        self.commit_at_once = False
        self.server = LinkServer(path, clock, self._decide, lambda unit, here: self.joined.append((unit, here)))
        self._task: asyncio.Task[None] | None = None

    def _decide(self, unit: str, event_id: str, event: Stated) -> Awaitable[bytes]:
        self.decided.append((unit, event_id, event))
        commit: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.commits.append(commit)
        if self.commit_at_once:
            commit.set_result(b"ok")
        return commit

    async def start(self) -> None:
        self._task = asyncio.create_task(self.server.serve())
        await until(self.path.exists)

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await settle()

    async def restart(self) -> None:
        await self.stop()
        self.server = LinkServer(self.path, self.clock, self._decide, lambda unit, here: self.joined.append((unit, here)))
        await self.start()


def changed(core: Core, detail: str = "") -> DeviceChanged:
    return DeviceChanged("locker@wall", "up", detail, core.clock.now())


async def raw(core: Core, *frames: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(core.path)
    writer.writelines(frames)
    await writer.drain()
    return reader, writer


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def fake_core(path: Path, *frames: bytes) -> asyncio.Server:
    """A core that sends these frames to whoever comes."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(frames)
        await reader.read()
        writer.close()

    return await asyncio.start_unix_server(meet, path)
