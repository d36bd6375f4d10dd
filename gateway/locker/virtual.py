"""A lock board that is not there: CU16 bytes on a pseudo-terminal, and orders to make it fail.

The physical world is the `Cabinet`; here are the electronics. They speak the bytes of `gateway.locker.cu16` and can fall
silent, lie, answer slowly or garble bytes both ways; a restart clears these faults, as switching it off would. Orders come
by the unix socket `<port>.ctl`, one JSON object a line, each answered by one line with the state (`board_control`).
"""

import asyncio
import contextlib
import errno
import json
import os
import pty
import random
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from gateway.clock import Clock, SystemClock
from gateway.errors import DeviceError
from gateway.events import DoorState
from gateway.locker import cu16
from gateway.locker.cabinet import Cabinet

BEAT_S: Final = 0.1
STALLED_NS: Final = 500_000_000  # a board that stood still so long finds its line empty: a UART keeps two bytes, a pty thousands
CONTROL_S: Final = 5.0  # a control socket that answers later than this is broken


class VirtualBoard:
    """The electronics between the cabinet and the line.

    Args:
        send: Puts bytes on the line, later if a delay in seconds is given.
    """

    def __init__(self, cabinet: Cabinet, address: int, seed: int, send: Callable[[bytes, float], None]) -> None:
        self._cabinet = cabinet
        self._address = address
        self._send = send
        self._random = random.Random(seed or None)
        self._requests = cu16.request_reader()
        self.silent = False
        self.lying: set[int] = set()  # compartments whose sensor is told inverted
        self.corrupt_rate = 0.0  # share of bytes garbled
        self.corrupt_requests = True  # both ways, as noise on a pair of wires does
        self.slow_s = 0.0

    def hear(self, received: bytes) -> None:
        """Take bytes from the line and act on the frames in them. A silent board hears nothing either."""
        if self.silent:
            return
        for request in self._requests.feed(self._garbled(received) if self.corrupt_requests else received):
            if request.board == self._address:
                self._obey(request)

    def _obey(self, request: cu16.Request) -> None:
        wired = len(self._cabinet.locks())
        if request.op is cu16.Op.STATUS:
            self._send(self._garbled(cu16.pack_status(cu16.Status(self._address, self._hooks()))), self.slow_s)
        elif request.op is cu16.Op.UNLOCK and request.lock < wired:
            self._cabinet.pulse(request.lock + 1)
        elif request.op is cu16.Op.UNLOCK_ALL:
            for compartment in range(1, wired + 1):
                self._cabinet.pulse(compartment)

    def _hooks(self) -> int:
        hooks = 0
        for compartment, lock in enumerate(self._cabinet.locks(), start=1):
            closed = (lock.door is DoorState.CLOSED) != (compartment in self.lying)
            hooks |= closed << (compartment - 1)
        return hooks

    def _garbled(self, frame: bytes) -> bytes:
        if not self.corrupt_rate:
            return frame
        return bytes(byte ^ self._random.randrange(1, 256) if self._random.random() < self.corrupt_rate else byte for byte in frame)


class PseudoTerminal:
    """The board's end of a pseudo-terminal whose other end has a stable link."""

    def __init__(self, port: Path, clock: Clock) -> None:
        self._port = port
        self._clock = clock
        self._beat_ns = clock.boottime_ns()
        # The slave end stays open here: without any opener the master would fail with EIO.
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._device = os.ttyname(self._slave)
        fresh = port.with_name(port.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self._device)
        fresh.replace(port)

    def listen(self, hear: Callable[[bytes], None]) -> None:
        """Have `hear` called with what the other end writes."""
        asyncio.get_running_loop().add_reader(self._master, self._receive, hear)

    async def beat(self) -> None:
        """Run for as long as the board does; a pause in it shows that the process stood still."""
        while True:
            if self._stood_still():
                with contextlib.suppress(BlockingIOError):
                    os.read(self._master, 65536)
            self._beat_ns = self._clock.boottime_ns()
            await asyncio.sleep(BEAT_S)

    def _receive(self, hear: Callable[[bytes], None]) -> None:
        stale = self._stood_still()
        with contextlib.suppress(BlockingIOError):
            received = os.read(self._master, 4096)
            if not stale:
                hear(received)

    def _stood_still(self) -> bool:
        return self._clock.boottime_ns() - self._beat_ns > STALLED_NS

    def send(self, reply: bytes, delay_s: float) -> None:
        """Put bytes on the line, after a while if asked to."""
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._write, reply)
        else:
            self._write(reply)

    def _write(self, reply: bytes) -> None:
        try:
            os.write(self._master, reply)
        except BlockingIOError:
            pass  # nobody reads; a wire would not wait either
        except OSError as error:
            if error.errno != errno.EBADF:  # closed while a slow answer was under way
                raise

    def close(self) -> None:
        """Unplug; the link goes too if it is still ours."""
        asyncio.get_running_loop().remove_reader(self._master)
        with contextlib.suppress(OSError):
            if str(self._port.readlink()) == self._device:
                self._port.unlink()
        os.close(self._master)
        os.close(self._slave)


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the control socket; `do` says which of the others count."""

    do: str
    compartment: int = 0
    rate: Annotated[float, Meta(ge=0, le=1)] = 0.0  # corrupt: share of bytes garbled
    requests: bool = True  # corrupt: garble requests as well as replies
    delay_s: Annotated[float, Meta(ge=0, le=60)] = 0.0  # slow: before each reply
    pull_after_s: Annotated[float, Meta(ge=0, le=3600)] | None = None  # hand: none pulls
    close_after_s: Annotated[float, Meta(ge=0, le=3600)] | None = None  # hand: none closes


class Control:
    """Carries out the orders of the control socket."""

    def __init__(self, cabinet: Cabinet, board: VirtualBoard) -> None:
        self._cabinet = cabinet
        self._board = board
        self._of_door: dict[str, Callable[[int], None]] = {
            "pull": cabinet.pull,
            "close": cabinet.close,
            "force": cabinet.force,
            "jam": cabinet.jam,
            "unjam": cabinet.unjam,
            "lie": board.lying.add,
            "honest": board.lying.discard,
        }
        self._of_board: dict[str, Callable[[Order], None]] = {
            "silence": self._silence,
            "speak": self._speak,
            "corrupt": self._corrupt,
            "slow": self._slow,
            "hand": self._hand,
            "state": lambda order: None,
        }

    def answer(self, line: bytes) -> dict[str, Any]:
        """Carry out one order; any bytes give an answer."""
        try:
            self._carry_out(msgspec.json.decode(line, type=Order))
        except (msgspec.DecodeError, DeviceError, UnicodeDecodeError) as error:
            return {"error": str(error)}
        return self.state()

    def state(self) -> dict[str, Any]:
        """Everything there is to see, the physical world by compartment."""
        doors = {
            str(n): {"door": str(lock.door), "jammed": lock.jammed, "pulses": lock.pulses}
            for n, lock in enumerate(self._cabinet.locks(), start=1)
        }
        return {
            "compartments": doors,
            "silent": self._board.silent,
            "lying": sorted(self._board.lying),
            "corrupt_rate": self._board.corrupt_rate,
            "slow_s": self._board.slow_s,
            "pull_after_s": self._cabinet.pull_after_s,
            "close_after_s": self._cabinet.close_after_s,
        }

    def _carry_out(self, order: Order) -> None:
        if order.do in self._of_board:
            self._of_board[order.do](order)
        elif order.do in self._of_door:
            self._cabinet.lock(order.compartment)  # refuses one that is not there
            self._of_door[order.do](order.compartment)
        else:
            raise DeviceError(f"nobody knows the order {order.do!r}", f"Known: {', '.join([*self._of_door, *self._of_board])}")

    def _silence(self, order: Order) -> None:
        self._board.silent = True

    def _speak(self, order: Order) -> None:
        self._board.silent = False

    def _corrupt(self, order: Order) -> None:
        self._board.corrupt_rate, self._board.corrupt_requests = order.rate, order.requests

    def _slow(self, order: Order) -> None:
        self._board.slow_s = order.delay_s

    def _hand(self, order: Order) -> None:
        self._cabinet.pull_after_s, self._cabinet.close_after_s = order.pull_after_s, order.close_after_s


async def run_board(
    port: Path,
    compartments: int,
    *,
    pull_after_s: float | None,
    close_after_s: float | None,
    seed: int,
    address: int = 0,
    clock: Clock | None = None,
) -> None:
    """Be a board until cancelled.

    Args:
        port: Where the link to the pseudo-terminal is kept; its doors and its control socket lie beside it.
        compartments: Locks wired to the board.
        pull_after_s: From a pulse to the hand that pulls the door; None: no hand.
        close_after_s: From a pulse to the hand that closes it; None: it stays open.
        seed: Of the garbled bytes; 0 takes a new one at each start.
        address: The board's address on the bus.
        clock: The machine's when left out.

    Raises:
        DeviceError: The file of doors cannot be read as one.
    """
    port.parent.mkdir(parents=True, exist_ok=True)
    clock = clock or SystemClock()
    cabinet = Cabinet(_beside(port, ".doors.json"), compartments, pull_after_s, close_after_s, clock)
    cabinet.save()
    terminal = PseudoTerminal(port, clock)
    board = VirtualBoard(cabinet, address, seed, terminal.send)
    control_path = _beside(port, ".ctl")
    control_path.unlink(missing_ok=True)
    server: asyncio.Server | None = None
    try:
        terminal.listen(board.hear)
        server = await asyncio.start_unix_server(_orders_of(Control(cabinet, board)), control_path)
        await terminal.beat()
    finally:
        terminal.close()
        if server is not None:
            server.close()
            control_path.unlink(missing_ok=True)


def _orders_of(control: Control) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):  # ValueError: a line longer than the reader's limit
            while line := await reader.readline():
                writer.write(json.dumps(control.answer(line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    return obey


async def board_control(path: Path, **order: Any) -> dict[str, Any]:
    """Give one order to the virtual board of a port and return its answer.

    Args:
        path: The board's port.
        order: `do` and what belongs to it, such as `do="force", compartment=3`.

    Raises:
        DeviceError: No board is there, or the order was refused.
    """
    try:
        async with asyncio.timeout(CONTROL_S):
            reader, writer = await asyncio.open_unix_connection(_beside(path, ".ctl"))
            try:
                writer.write(json.dumps(order).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
        answer: dict[str, Any] = json.loads(line)
    except (OSError, TimeoutError, json.JSONDecodeError) as error:
        raise DeviceError(f"no virtual board answers at {path}", "Start it; `make store` does") from error
    if "error" in answer:
        raise DeviceError(answer["error"])
    return answer


def _beside(port: Path, suffix: str) -> Path:
    return port.with_name(port.name + suffix)
