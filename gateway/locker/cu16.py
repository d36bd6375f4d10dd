"""Frames of lock boards of the KR-CU16 type, as bytes; no I/O.

RS-485, 19,200 baud 8N1. A request is 5 bytes, a status reply 9::

    02 | ADDR | CMD | 03 | SUM                         to the board
    02 | ADDR | 35 | H1 H2 | I1 I2 | 03 | SUM          from the board

ADDR: board in the high nibble, lock (0-15) in the low one; SUM: low byte of the sum of all bytes before it. H: hooks of
locks 0-7 and 8-15, a set bit is a closed door; I: the same for the infrared item sensors. The sum misses about one in 255
frames with two or more bytes changed, so nothing here is believed on one read: `gateway.locker.driver` wants two equal ones.
Compartments are numbered from 1, locks on the wire from 0.

Source: three public programs that agree on these bytes (golden vectors in the tests); the board's own manual was not at hand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar

from gateway.errors import MalformedFrame
from gateway.events import DoorState

STX: Final = 0x02
ETX: Final = 0x03
REQUEST_B: Final = 5
STATUS_B: Final = 9
LOCKS: Final = 16  # of one board
MAX_BOARD: Final = 14  # 15 in the high nibble speaks to the whole bus


class Op(IntEnum):
    """What a frame is for; only those this box sends or understands."""

    STATUS = 0x30
    UNLOCK = 0x31
    UNLOCK_ALL = 0x33  # never sent: doors are opened one by one, each with its intent
    STATUS_REPLY = 0x35


@dataclass(frozen=True)
class Request:
    """A frame to a board."""

    board: int
    lock: int
    op: Op


@dataclass(frozen=True)
class Status:
    """What a board says of its 16 locks; bit n is lock n."""

    board: int
    hooks: int  # set: closed
    items: int = 0  # set: the infrared beam is broken

    def doors(self, compartments: int) -> dict[int, DoorState]:
        """The doors of the first `compartments` locks; the rest are not wired and their bits mean nothing."""
        return {n: DoorState.CLOSED if self.hooks >> (n - 1) & 1 else DoorState.OPEN for n in range(1, compartments + 1)}


def status_request(board: int) -> bytes:
    """Ask a board for all its sensors."""
    return pack_request(Request(board, 0, Op.STATUS))


def unlock_request(board: int, compartment: int) -> bytes:
    """Pulse the lock of a compartment (from 1).

    Raises:
        ValueError: No such lock: a wrong nibble would open another door, on another board even.
    """
    return pack_request(Request(board, compartment - 1, Op.UNLOCK))


def pack_request(request: Request) -> bytes:
    """The bytes of a request.

    Raises:
        ValueError: Board or lock does not fit its nibble.
    """
    if not (0 <= request.board <= MAX_BOARD and 0 <= request.lock < LOCKS):
        raise ValueError(f"no lock {request.lock} on board {request.board}")
    return _summed(bytes([STX, request.board << 4 | request.lock, request.op, ETX]))


def pack_status(status: Status) -> bytes:
    """The bytes of a status reply, as a board sends it."""
    sensors = status.hooks.to_bytes(2, "little") + status.items.to_bytes(2, "little")
    return _summed(bytes([STX, status.board << 4, Op.STATUS_REPLY]) + sensors + bytes([ETX]))


def parse_request(frame: bytes) -> Request:
    """Read a request as a board does.

    Raises:
        MalformedFrame: Not 5 bytes, wrong frame bytes or sum, or a command that is none of `Op`.
    """
    _check(frame, REQUEST_B)
    try:
        return Request(frame[1] >> 4, frame[1] & 0x0F, Op(frame[2]))
    except ValueError as error:
        raise MalformedFrame(f"no command {frame[2]:#04x}") from error


def parse_status(frame: bytes, board: int) -> Status:
    """Read the status reply of one board.

    Args:
        frame: Untrusted, any length.
        board: The address that was asked; every other sender is refused.

    Raises:
        MalformedFrame: Not 9 bytes, wrong frame bytes or sum, another board, another command. Usual on a noisy line: ask again.
    """
    _check(frame, STATUS_B)
    if frame[1] != board << 4 or frame[2] != Op.STATUS_REPLY:
        raise MalformedFrame(f"not the status of board {board}")
    return Status(board, int.from_bytes(frame[3:5], "little"), int.from_bytes(frame[5:7], "little"))


Frame = TypeVar("Frame")


class FrameReader(Generic[Frame]):
    """Finds frames of one length in a stream with noise, echoes and torn frames; keeps less than one frame of bytes.

    Args:
        length: Bytes of a frame.
        parse: Its parser; what it refuses is stepped over byte by byte, so a torn frame does not swallow the next one.
    """

    def __init__(self, length: int, parse: Callable[[bytes], Frame]) -> None:
        self._length = length
        self._parse = parse
        self._kept = b""

    def feed(self, received: bytes) -> list[Frame]:
        """The frames that are complete now."""
        stream = self._kept + received
        frames: list[Frame] = []
        start = stream.find(STX)
        while 0 <= start <= len(stream) - self._length:
            try:
                frames.append(self._parse(stream[start : start + self._length]))
                start += self._length
            except MalformedFrame:
                start += 1
            start = stream.find(STX, start)
        self._kept = stream[start:] if start >= 0 else b""
        return frames


def status_reader(board: int) -> FrameReader[Status]:
    """A reader of one board's status replies."""
    return FrameReader(STATUS_B, lambda frame: parse_status(frame, board))


def request_reader() -> FrameReader[Request]:
    """A reader of requests, for the board's end of the line."""
    return FrameReader(REQUEST_B, parse_request)


def _summed(body: bytes) -> bytes:
    return body + bytes([sum(body) & 0xFF])


def _check(frame: bytes, length: int) -> None:
    if len(frame) != length or frame[0] != STX or frame[-2] != ETX:
        raise MalformedFrame("not a frame of this board")
    if frame[-1] != sum(frame[:-1]) & 0xFF:
        raise MalformedFrame("the sum of the frame is wrong")
