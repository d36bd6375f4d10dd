"""Lock boards and the serial line they hang on: the only door to pyserial.

A `Board` moves locks and reads door sensors, whatever its wire protocol. The line is opened by path each time, because an
adapter that was unplugged, or a virtual board that was restarted, comes back under a new name behind the same link. pyserial
blocks, so one worker thread per line does all its calls, each of them bounded; a line that fails is closed, and the next call
opens it again. A pulse is written once and never repeated here.
"""

import asyncio
import termios
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import serial

from gateway.config import LockerTable
from gateway.errors import DeviceError
from gateway.events import DoorState
from gateway.locker import cu16

# A CU16 answers within 20 ms and its 9 bytes take 5 ms; the latency timer of USB adapters adds 16 ms. Late is silent.
REPLY_S: Final = 0.12
QUIET_S: Final = 0.03  # a gap this long after a whole reply's worth of bytes: nothing better is coming
WRITE_S: Final = 0.2
MAX_REPLY_B: Final = 256  # a line that chatters without end is not listened to for longer
LINE_FAILURES: Final = (serial.SerialException, OSError, termios.error)  # a dead pseudo-terminal raises any of them

Reply = TypeVar("Reply")
Result = TypeVar("Result")


class Board(Protocol):
    """What the driver needs of a lock board; compartments are numbered from 1."""

    @property
    def connected(self) -> bool:
        """Whether the line is open; a connected board may still be silent."""

    async def unlock(self, compartment: int) -> None:
        """Pulse a lock once. Returning proves neither a pulse nor an open door.

        Raises:
            DeviceError: The line failed; whether the lock moved is unknown.
        """

    async def read_doors(self) -> dict[int, DoorState]:
        """What every door sensor says now, unconfirmed.

        Raises:
            DeviceError: The line failed, or no intact answer came in time.
        """

    async def close(self) -> None:
        """Let go of the line and of what is still unsent on it; the next call opens it again."""


class SerialLine:
    """A serial port by path, asked and answered in one worker thread."""

    def __init__(self, path: str, baud: int) -> None:
        self._path = path
        self._baud = baud
        self._port: serial.Serial | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="serial")

    @property
    def connected(self) -> bool:
        """Whether the port is open."""
        return self._port is not None

    async def send(self, request: bytes) -> None:
        """Write once.

        Raises:
            DeviceError: The line failed before or during the write.
        """
        await self._in_worker(lambda: self._write(request))

    async def exchange(self, request: bytes, feed: Callable[[bytes], list[Reply]], reply_b: int) -> Reply:
        """Write a request and give what `feed` first finds in the bytes that follow.

        Args:
            request: The bytes to send.
            feed: Called with each piece that arrives.
            reply_b: Length of a reply.

        Raises:
            DeviceError: The line failed, or no reply was found in `REPLY_S`.
        """
        return await self._in_worker(lambda: self._ask(request, feed, reply_b))

    async def close(self) -> None:
        """Close the port and drop what is unsent, so that an old pulse cannot reach a board that wakes up later."""
        await self._in_worker(self._drop)

    async def _in_worker(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._bounded, call)

    def _bounded(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except LINE_FAILURES as error:
            self._drop()
            raise DeviceError(f"the line {self._path} failed: {error}", "Check the cable, the adapter and the board's power") from error

    def _opened(self) -> serial.Serial:
        if self._port is None:
            # exclusive: two drivers on one bus would hear each other's replies.
            self._port = serial.Serial(self._path, self._baud, timeout=QUIET_S, write_timeout=WRITE_S, exclusive=True)
        return self._port

    def _write(self, request: bytes) -> None:
        port = self._opened()
        port.reset_input_buffer()
        port.write(request)

    def _ask(self, request: bytes, feed: Callable[[bytes], list[Reply]], reply_b: int) -> Reply:
        self._write(request)
        port = self._opened()
        give_up = time.monotonic() + REPLY_S
        received_b = 0
        while received_b < MAX_REPLY_B and time.monotonic() < give_up:
            piece = port.read(max(1, port.in_waiting))
            replies = feed(piece)
            if replies:
                return replies[0]
            received_b += len(piece)
            if not piece and received_b >= reply_b:
                break
        heard = f"{received_b} bytes of rubbish" if received_b else "nothing"
        raise DeviceError(f"the board on {self._path} said {heard}", "Check its power, its address and the two wires of the bus")

    def _drop(self) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        try:
            port.reset_output_buffer()
            port.close()
        except LINE_FAILURES:
            pass  # it is gone already


class Cu16Board:
    """One KR-CU16 board on a line of its own."""

    def __init__(self, line: SerialLine, address: int, compartments: int) -> None:
        self._line = line
        self._address = address
        self._compartments = compartments

    @property
    def connected(self) -> bool:
        """Whether the line is open."""
        return self._line.connected

    async def unlock(self, compartment: int) -> None:
        """Send one unlock frame; the board acknowledges nothing."""
        await self._line.send(cu16.unlock_request(self._address, compartment))

    async def read_doors(self) -> dict[int, DoorState]:
        """Ask for the hooks of all locks."""
        reader = cu16.status_reader(self._address)
        status = await self._line.exchange(cu16.status_request(self._address), reader.feed, cu16.STATUS_B)
        return status.doors(self._compartments)

    async def close(self) -> None:
        """Close the line."""
        await self._line.close()


def board_of(locker: LockerTable) -> Board:
    """The board a `[[locker]]` table describes; nothing is opened yet."""
    return Cu16Board(SerialLine(locker.port, locker.baud), locker.address, locker.compartments)
