"""The listening socket: uvicorn with limits below HTTP, ended by cancellation.

A connection has `REQUEST_S` to say a whole request head, again for each request on it, so half-sent requests hold nothing; a
reader that takes nothing is cut off.
Connections are capped, and those of other machines below that, so that the box's own kiosk always gets one. Where the cap is
reached, whoever has waited longest without having asked for anything is cut off, so half-sent requests, however many, keep
nobody out; who is being answered is never cut off for somebody new. uvicorn would
take the process's signals, raise them again, and wait for open event streams; here a cancelled task closes streams, then leaves.

On a box systemd holds the listening socket: while core restarts, customers wait in it instead of being refused.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.errors import ConfigError
from gateway.health import inherited_socket
from gateway.kiosk.guard import WHOLE
from gateway.kiosk.live import Changes

REQUEST_S: Final = 10.0
STALL_S: Final = 20.0  # a reader that takes nothing for so long is gone, and a polite close would wait for it for ever
MAX_CONNECTIONS: Final = 256
MAX_FROM_AFAR: Final = 192  # all other machines together
MAX_FROM_ONE: Final = 24  # one other machine; a phone's browser uses up to 7
LAST_IN_TURNS: Final = 10  # of the loop: what was accepted in its last one comes in some turns later
MAX_HEAD_B: Final = 16_384  # of a request
TICK_S: Final = 1.0  # uvicorn's own tenth of a second costs 0.24 % CPU on an idle box
FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 2\r\nconnection: close\r\n\r\n"


_log = logging.getLogger(__name__)


class Together(h11.Connection):
    """Holds the head of an answer back until its body begins: one write instead of two, and one packet."""

    _head: Sequence[bytes] = ()

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        """What is to be written now."""
        sent = super().send_with_data_passthrough(event)
        if isinstance(event, h11.Response):
            self._head = sent or ()
            return []
        if sent is not None:
            sent, self._head = [*self._head, *sent], ()
        return sent


class Door(H11Protocol):
    """One connection."""

    request_s = REQUEST_S
    stall_s = STALL_S
    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _waits_since_s = 0.0  # of the loop's clock: since when the next request is awaited
    _is_last = False  # the request that is awaited is the last one

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.conn = Together(h11.SERVER, MAX_HEAD_B)
        _answer_at_once(transport)
        super().connection_made(transport)
        crowd = self._crowd()
        if crowd and not self._make_room(crowd):
            transport.write(FULL)
            transport.close()
            return
        self._waits_since_s = self.loop.time()
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._has_asked() and not self.cycle.more_body:
            cast(dict[str, Any], self.cycle.scope)[WHOLE] = True
        if self._is_last and self._has_asked():
            self.cycle.keep_alive = False
        self._arm()

    def shutdown(self) -> None:
        """End after the answer under way. Who has just come in is still heard: closing would be a refusal in the customer's face."""
        self._is_last = True
        if self._has_asked():
            super().shutdown()

    def _has_asked(self) -> bool:
        return getattr(self, "cycle", None) is not None  # None before the first request, whatever its type says

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._moves()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(self.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._moves()
        super().resume_writing()

    def _moves(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _crowd(self) -> "list[Door]":
        """Those among whom this connection is one too many; none: there is room."""
        others = [door for door in self.connections if isinstance(door, Door) and door.client]
        own = self.client[0] if self.client else ""
        if _is_this_machine(own):
            return others if len(others) > MAX_CONNECTIONS else []
        of_one = [door for door in others if door.client and door.client[0] == own]
        afar = [door for door in others if door.client and not _is_this_machine(door.client[0])]
        return of_one if len(of_one) > MAX_FROM_ONE else afar if len(afar) > MAX_FROM_AFAR or len(others) > MAX_CONNECTIONS else []

    def _make_room(self, crowd: "list[Door]") -> bool:
        """Cut off the one that has waited longest without a whole request, those first that never had one."""
        waiting = [door for door in crowd if door is not self and door._is_waited_for()]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda door: (door._has_asked(), door._waits_since_s))
        oldest.transport.abort()
        self.connections.discard(oldest)
        return True

    def _is_waited_for(self) -> bool:
        """Whether it is its turn to send: it has asked for nothing, or not sent all of its request."""
        if self.transport.is_closing():
            return False
        cycle = getattr(self, "cycle", None)
        return cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started)

    def _arm(self) -> None:
        """Run the clock while a request head is awaited; its body has the guard's time, its answer its own."""
        answering = getattr(self.cycle, "response_complete", True) is False  # uvicorn's `cycle` is None before the first request
        if answering or self.timeout_keep_alive_task is not None:
            self._disarm()
            self._waits_since_s = self.loop.time()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.request_s, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.abort()


class DoorServer(uvicorn.Server):
    """uvicorn that is ended by cancelling `serve`."""

    def __init__(self, config: uvicorn.Config, changes: Changes) -> None:
        super().__init__(config)
        self._changes = changes
        self._cancelled = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals to the process."""
        yield

    async def main_loop(self) -> None:
        try:
            while not await self.on_tick(0):  # noqa: ASYNC110 - uvicorn renews its Date header by ticks
                await asyncio.sleep(TICK_S)
        except asyncio.CancelledError:
            self._cancelled = True  # kept for the end: first the streams and answers under way

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._changes.close()
        # asyncio drops what it has accepted when its server closes too soon: first take nobody new, then let the last ones in.
        for held in [held for server in self.servers for held in server.sockets]:
            asyncio.get_running_loop().remove_reader(held.fileno())
        for _ in range(LAST_IN_TURNS):
            await asyncio.sleep(0.005)
        await super().shutdown(sockets)
        if self._cancelled:
            raise asyncio.CancelledError


def open_door(host: str, port: int) -> socket.socket:
    """The listening socket: systemd's, where it holds one for this process, else an own one.

    Raises:
        ConfigError: As `listen`.
    """
    inherited = inherited_socket()
    if inherited is None:
        return listen(host, port)
    held = inherited.getsockname()
    if port and held[1] != port:
        # Serving at the old address beats not serving; the installer's next look finds this line.
        _log.warning("systemd listens on port %s, [core] says %s: run `store-gateway install` again", held[1], port)
    return inherited


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: Taken, not ours, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(256)
    except OSError as error:
        sock.close()
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}", _hint(error.errno)) from error
    sock.setblocking(False)
    return sock


def _hint(number: int | None) -> str:
    hints: dict[Any, str] = {
        errno.EADDRINUSE: "Another program uses this port: end it, or choose another `port` in [core]",
        errno.EADDRNOTAVAIL: "Set `host` in [core] to an address of this machine",
        errno.EACCES: "Choose a `port` above 1023 in [core]",
    }
    return hints.get(number, "Set `host` in [core] to an address of this machine, such as 127.0.0.1")


def _answer_at_once(transport: asyncio.Transport) -> None:
    """Switch off Nagle's algorithm: head and body are two writes, and the second would wait 40 ms for the first to be confirmed.

    asyncio does it only where the listening socket names its protocol, which ours or systemd's may not.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _is_this_machine(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
