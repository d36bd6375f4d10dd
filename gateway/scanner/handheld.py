"""Hand-held scanners: as a keyboard (evdev) or as a serial line. Both give bytes and an AIM symbology identifier.

A scan ends with its suffix (Enter, Tab; CR, LF, ETX). Keys or bytes that stop without one are a half-read: they are thrown
away, never glued to the next scan. A scanner set to send AIM identifiers (`]Q1…`) has them taken off; else the code counts as
`]X0`, unknown. Keyboards speak a US layout of our own, whatever the console thinks; control letters, keypad digits and
Alt with keypad digits (how scanners send what has no key) are understood. What has no key on a US board needs the serial line.
"""

import asyncio
import errno
import fcntl
import os
import re
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import serial

from gateway.clock import Clock
from gateway.codes import MAX_PAYLOAD_B
from gateway.errors import DeviceError

NS_PER_S: Final = 1_000_000_000
KEY_IDLE_NS: Final = 200_000_000  # a scanner's keys are some ms apart, with radio ones up to 50; the next scan is a second away
SERIAL_IDLE_NS: Final = 500_000_000  # measured between our reads, so a busy box must fit in
MAX_SCAN_B: Final = MAX_PAYLOAD_B + 3
UNKNOWN: Final = "]X0"
AIM_PREFIX: Final = re.compile(rb"\][A-Za-z][0-9A-Za-z]")
READ_B: Final = 4096


@dataclass(frozen=True, slots=True)
class Scan:
    """One pull of the trigger."""

    symbology_id: str
    payload: bytes


def scan_of(raw: bytes) -> Scan | None:
    """The scan in what a scanner sent between two suffixes; None when there is nothing in it."""
    prefix = AIM_PREFIX.match(raw)
    symbology_id, payload = (raw[:3].decode("ascii"), raw[3:]) if prefix else (UNKNOWN, raw)
    return Scan(symbology_id, payload) if 0 < len(payload) <= MAX_PAYLOAD_B else None


@dataclass(slots=True)
class Assembly:
    """Puts bytes together until a suffix; what comes after a silence begins anew. Bounded: an overlong scan is dropped whole."""

    idle_ns: int
    _raw: bytearray = field(default_factory=bytearray)
    _last_ns: int = 0
    _spoiled: bool = False

    def add(self, byte: int, now_ns: int) -> None:
        """Take one byte."""
        if now_ns - self._last_ns > self.idle_ns:
            self.drop()
        self._last_ns = now_ns
        if len(self._raw) >= MAX_SCAN_B:
            self._spoiled = True
        elif not self._spoiled:
            self._raw.append(byte)

    def finish(self, now_ns: int) -> Scan | None:
        """The suffix came."""
        late = now_ns - self._last_ns > self.idle_ns
        raw = b"" if late or self._spoiled else bytes(self._raw)
        self.drop()
        return scan_of(raw)

    def spoil(self) -> None:
        """Something in between was lost: nothing is believed up to the next suffix or silence."""
        self._spoiled = True

    def drop(self) -> None:
        """Begin anew."""
        self._raw.clear()
        self._spoiled = False


# ---------------------------------------------------------------- serial


class SerialScans:
    """Bytes of a serial scanner to scans. Layout: ``[STX] payload CR|LF|ETX``."""

    def __init__(self) -> None:
        self._assembly = Assembly(SERIAL_IDLE_NS)

    def feed(self, received: bytes, now_ns: int) -> list[Scan]:
        """Take what arrived. Total, any cut."""
        scans = []
        for byte in received:
            if byte in b"\r\n\x03":
                scans.append(self._assembly.finish(now_ns))
            elif byte == 0x02:
                self._assembly.drop()
            else:
                self._assembly.add(byte, now_ns)
        return [scan for scan in scans if scan is not None]


# ---------------------------------------------------------------- evdev

INPUT_EVENT: Final = struct.Struct("llHHi")  # input.h, 64-bit: seconds, microseconds, type, code, value; 24 bytes
EV_SYN, EV_KEY, SYN_DROPPED = 0, 1, 3
EVIOCGRAB: Final = 0x40044590  # _IOW('E', 0x90, int)
KEY_LEFTCTRL, KEY_RIGHTCTRL = 29, 97
KEY_LEFTSHIFT, KEY_RIGHTSHIFT = 42, 54
KEY_LEFTALT, KEY_RIGHTALT = 56, 100
SUFFIX_KEYS: Final = frozenset({28, 96, 15})  # Enter, keypad Enter, Tab
MODIFIERS: Final[dict[int, str]] = {
    KEY_LEFTCTRL: "ctrl", KEY_RIGHTCTRL: "ctrl", KEY_LEFTSHIFT: "shift", KEY_RIGHTSHIFT: "shift", KEY_LEFTALT: "alt", KEY_RIGHTALT: "alt",
}  # fmt: skip
KEYPAD_DIGITS: Final = {82: 0, 79: 1, 80: 2, 81: 3, 75: 4, 76: 5, 77: 6, 71: 7, 72: 8, 73: 9}


def _us_layout() -> dict[int, tuple[int, int]]:
    """Key code to the bytes without and with shift."""
    rows = [
        (2, "1234567890-=", "!@#$%^&*()_+"),
        (16, "qwertyuiop[]", "QWERTYUIOP{}"),
        (30, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
        (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
        (57, " ", " "),
        (55, "*", "*"),
        (74, "-", "-"),
        (78, "+", "+"),
        (83, ".", "."),
        (98, "/", "/"),
    ]
    keys = {first + i: (ord(a), ord(b)) for first, plain, shifted in rows for i, (a, b) in enumerate(zip(plain, shifted, strict=True))}
    return keys | {code: (ord(str(digit)), ord(str(digit))) for code, digit in KEYPAD_DIGITS.items()}


US_LAYOUT: Final = _us_layout()


class KeyScans:
    """`struct input_event` bytes to scans. Gaps are taken from the kernel's own stamps, so our own delays count for nothing."""

    def __init__(self) -> None:
        self._assembly = Assembly(KEY_IDLE_NS)
        self._rest = b""
        self._held: set[int] = set()
        self._alt_digits = ""

    def feed(self, received: bytes) -> list[Scan]:
        """Take what arrived. Total, any cut."""
        self._rest += received
        whole = len(self._rest) // INPUT_EVENT.size * INPUT_EVENT.size
        events, self._rest = self._rest[:whole], self._rest[whole:]
        scans = [self._take(*event) for event in INPUT_EVENT.iter_unpack(events)]
        return [scan for scan in scans if scan is not None]

    def _take(self, seconds: int, micros: int, kind: int, code: int, value: int) -> Scan | None:
        stamp_ns = seconds * NS_PER_S + micros * 1000
        if kind == EV_SYN and code == SYN_DROPPED:
            self._held.clear()
            self._assembly.spoil()
        if kind != EV_KEY:
            return None
        if code in MODIFIERS:
            self._hold(code, value, stamp_ns)
        elif value == 1 and code in SUFFIX_KEYS:
            return self._assembly.finish(stamp_ns)
        elif value == 1:
            self._press(code, stamp_ns)
        return None

    def _hold(self, code: int, value: int, stamp_ns: int) -> None:
        if value:
            self._held.add(code)
            return
        self._held.discard(code)
        if MODIFIERS[code] == "alt" and self._alt_digits:
            self._assembly.add(int(self._alt_digits) & 0xFF, stamp_ns)
            self._alt_digits = ""

    def _press(self, code: int, stamp_ns: int) -> None:
        held = {MODIFIERS[key] for key in self._held}
        if "alt" in held:
            if code in KEYPAD_DIGITS:
                self._alt_digits = (self._alt_digits + str(KEYPAD_DIGITS[code]))[-4:]
            return
        if code in US_LAYOUT:
            byte = US_LAYOUT[code]["shift" in held]
            self._assembly.add(byte & 0x1F if "ctrl" in held else byte, stamp_ns)


# ---------------------------------------------------------------- the devices


class ScanSource(Protocol):
    """A hand-held scanner."""

    def scans(self, opened: Callable[[], None]) -> AsyncIterator[Scan]:
        """Open it, call `opened`, and give scans until cancelled. Raises DeviceError: it is not there, or has gone."""


@dataclass(frozen=True, slots=True)
class SerialScanner:
    """A scanner on a serial line; give it a stable name under `/dev/serial/by-id`. Its baud rate means nothing on USB."""

    device: str
    clock: Clock

    async def scans(self, opened: Callable[[], None]) -> AsyncIterator[Scan]:
        try:
            port = serial.Serial(self.device, baudrate=9600, timeout=0, exclusive=True)
        except (serial.SerialException, OSError) as error:
            raise _gone(self.device) from error
        try:
            opened()
            parser = SerialScans()
            async for received in _received(port.fileno(), self.device):
                for scan in parser.feed(received, self.clock.boottime_ns()):
                    yield scan
        finally:
            port.close()


@dataclass(frozen=True, slots=True)
class KeyboardScanner:
    """A scanner that types; give it a stable name under `/dev/input/by-id`. It is grabbed: its keys reach nobody else."""

    device: str

    async def scans(self, opened: Callable[[], None]) -> AsyncIterator[Scan]:
        try:
            fd = os.open(self.device, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise _gone(self.device) from error
        try:
            _grab(fd, self.device)
            opened()
            parser = KeyScans()
            async for received in _received(fd, self.device):
                for scan in parser.feed(received):
                    yield scan
        finally:
            os.close(fd)


def _grab(fd: int, device: str) -> None:
    try:
        fcntl.ioctl(fd, EVIOCGRAB, 1)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):  # a pipe of recorded events has nobody to be kept from
            raise _gone(device) from error


async def _received(fd: int, device: str) -> AsyncIterator[bytes]:
    while True:
        await _readable(fd)
        try:
            received = os.read(fd, READ_B)
        except OSError as error:
            raise _gone(device) from error
        if not received:  # said to be readable, and nothing there: how a pulled plug looks
            raise _gone(device)
        yield received


async def _readable(fd: int) -> None:
    """Wait once; a standing watch would ring again for bytes already taken, and then look like a pulled plug."""
    loop = asyncio.get_running_loop()
    rung = asyncio.Event()
    loop.add_reader(fd, rung.set)
    try:
        await rung.wait()
    finally:
        loop.remove_reader(fd)


def _gone(device: str) -> DeviceError:
    return DeviceError(f"no scanner at {device}", "Look at its cable, and whether the unit's user may open it")
