"""The line between a shop and headquarters as a thing that can be cut: a TCP relay in front of the broker, one per shop.

`up` passes bytes; `down` aborts what is connected and resets what tries; `silent` is a black hole: connections are accepted
and stay, nothing comes through. What was held in silence flows again afterwards, as TCP would retransmit it. For
demonstrations and tests; a real shop has a real line.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

PIECE_B: Final = 65_536


class Line(StrEnum):
    """State of a relay."""

    UP = "up"
    DOWN = "down"
    SILENT = "silent"


class Relay:
    """One shop's line."""

    def __init__(self, listen_host: str, listen_port: int, *brokers: tuple[str, int]) -> None:
        self.port = listen_port
        self.line = Line.UP
        self._listen_host = listen_host
        self._brokers = brokers
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; port 0 takes a free one."""
        self._server = await asyncio.start_server(self._carry, self._listen_host, self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Cut everything and stop listening."""
        if self._server is not None:
            self._server.close()
            self._abort()
            self._flowing.set()
            await self._server.wait_closed()

    def put(self, line: Line) -> None:
        """Change the line's state, at once."""
        self.line = line
        if line is Line.DOWN:
            self._abort()
        if line is Line.SILENT:
            self._flowing.clear()
        else:
            self._flowing.set()

    def _is_down(self) -> bool:
        return self.line is Line.DOWN

    def _abort(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_down():
            writer.transport.abort()
            return
        self._open.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            await self._flowing.wait()
            far_reader, far = await self._reach_broker()
            self._open.add(far)
            if not self._is_down():  # it may have changed while connecting
                await self._both_ways(reader, writer, far_reader, far)
        except OSError:
            pass  # the broker is away: the shop's end learns it by its own closing
        finally:
            for end in (writer, far):
                if end is not None:
                    self._open.discard(end)
                    end.transport.abort()

    async def _reach_broker(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The first broker that answers.

        Raises:
            OSError: None does.
        """
        for address in self._brokers[:-1]:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(*address)
        return await asyncio.open_connection(*self._brokers[-1])

    async def _both_ways(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far_reader: asyncio.StreamReader, far: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ExceptionGroup):  # a cut line ends both pumps with OSErrors
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, far))
                pumps.create_task(self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Raises OSError at the end, so that the other direction ends too."""
        while piece := await reader.read(PIECE_B):
            await self._flowing.wait()
            writer.write(piece)
            await writer.drain()
        raise ConnectionResetError("this end has closed")


class Lines:
    """The relays of all shops, by shop.

    Args:
        host: Where to listen.
        brokers: The broker's address and port; of a cluster, of each of its servers.
        port_of: The port for a shop's relay; the same after a restart.
    """

    def __init__(self, host: str, brokers: Sequence[tuple[str, int]], port_of: Callable[[str], int]) -> None:
        self._host = host
        self._brokers = brokers
        self._port_of = port_of
        self._relays: dict[str, Relay] = {}

    async def open(self, store: str) -> None:
        """Start a shop's relay, if it has none."""
        if store not in self._relays:
            relay = self._relays[store] = Relay(self._host, self._port_of(store), *self._brokers)
            await relay.start()

    def of(self, store: str) -> Relay | None:
        """A shop's relay."""
        return self._relays.get(store)

    def ports(self) -> dict[str, int]:
        """Where the relays listen, by shop."""
        return {store: relay.port for store, relay in self._relays.items()}

    async def close(self) -> None:
        """Stop them all."""
        for relay in self._relays.values():
            await relay.stop()
        self._relays.clear()
