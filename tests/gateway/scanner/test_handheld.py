"""What a hand-held scanner sends comes out to the byte, or not at all."""

import asyncio
import contextlib
import os
import tty
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.errors import DeviceError
from gateway.scanner.handheld import (
    INPUT_EVENT,
    KEY_IDLE_NS,
    KEYPAD_DIGITS,
    MAX_SCAN_B,
    SERIAL_IDLE_NS,
    US_LAYOUT,
    KeyboardScanner,
    KeyScans,
    Scan,
    ScanSource,
    SerialScanner,
    SerialScans,
)

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40).map(str.encode)
SHIFT, CTRL, ALT, ENTER = 42, 29, 56, 28
LETTER_KEYS = {code: pair for code, pair in US_LAYOUT.items() if code not in KEYPAD_DIGITS and code not in (55, 74, 78, 83, 98)}


class Typist:
    """A scanner that types: bytes to `struct input_event` records, one key every `gap_us`."""

    def __init__(self, gap_us: int = 3_000) -> None:
        self.now_us = 1_700_000_000_000_000
        self.gap_us = gap_us

    def key(self, code: int, value: int) -> bytes:
        self.now_us += self.gap_us
        stamp = divmod(self.now_us, 1_000_000)
        return INPUT_EVENT.pack(*stamp, 4, 4, code) + INPUT_EVENT.pack(*stamp, 1, code, value) + INPUT_EVENT.pack(*stamp, 0, 0, 0)

    def tap(self, code: int, modifier: int | None = None) -> bytes:
        stroke = self.key(code, 1) + self.key(code, 0)
        return stroke if modifier is None else self.key(modifier, 1) + stroke + self.key(modifier, 0)

    def type(self, payload: bytes) -> bytes:
        return b"".join(self._letter(byte) for byte in payload)

    def _letter(self, byte: int) -> bytes:
        for code, (plain, shifted) in LETTER_KEYS.items():
            if byte == plain:
                return self.tap(code)
            if byte == shifted:
                return self.tap(code, SHIFT)
            if byte == plain & 0x1F and byte < 32 and byte not in (10, 13):
                return self.tap(code, CTRL)
        digits = {digit: code for code, digit in KEYPAD_DIGITS.items()}
        return self.key(ALT, 1) + b"".join(self.tap(digits[int(d)]) for d in f"{byte:04}") + self.key(ALT, 0)


@given(st.lists(st.binary(min_size=1, max_size=30).filter(lambda p: p[:1] != b"]"), min_size=1, max_size=3), st.integers(1, 200))
def test_whatever_is_typed_is_read_back_to_the_byte(payloads: list[bytes], cut: int) -> None:
    typist, scans = Typist(), KeyScans()
    events = b"".join(typist.type(payload) + typist.tap(ENTER) for payload in payloads)
    found = [scan for i in range(0, len(events), cut) for scan in scans.feed(events[i : i + cut])]
    assert found == [Scan("]X0", payload) for payload in payloads]


@given(st.lists(PRINTABLE.filter(lambda p: p[:1] != b"]"), min_size=1, max_size=4), st.sampled_from([b"\r", b"\n", b"\r\n", b"\x03"]))
def test_serial_scans_come_out_whole_however_they_are_cut(payloads: list[bytes], suffix: bytes) -> None:
    scans, stream = SerialScans(), b"".join(payload + suffix for payload in payloads)
    found = [scan for i in range(len(stream)) for scan in scans.feed(stream[i : i + 1], i)]
    assert [scan.payload for scan in found] == payloads


def test_the_aim_identifier_is_taken_off() -> None:
    assert SerialScans().feed(b"\x02]C1010123456789012321A\x1d17\r", 0) == [Scan("]C1", b"010123456789012321A\x1d17")]
    typist = Typist()
    assert KeyScans().feed(typist.type(b"]Q1V1:TOKEN\x1d") + typist.tap(ENTER)) == [Scan("]Q1", b"V1:TOKEN\x1d")]
    assert SerialScans().feed(b"]Q1\r\r\n", 0) == []


def test_a_half_read_is_never_glued_to_the_next() -> None:
    serial, typist, keys = SerialScans(), Typist(), KeyScans()
    assert serial.feed(b"V1:HAL", 1) == []
    assert serial.feed(b"NEXT\r", 2 + SERIAL_IDLE_NS) == [Scan("]X0", b"NEXT")]
    half = typist.type(b"V1:HAL")
    typist.now_us += KEY_IDLE_NS // 1000 + 1
    assert keys.feed(half + typist.type(b"NEXT") + typist.tap(ENTER)) == [Scan("]X0", b"NEXT")]


def test_a_suffix_that_comes_too_late_ends_nothing() -> None:
    serial = SerialScans()
    assert serial.feed(b"HALF", 1) == []
    assert serial.feed(b"\r", 2 + SERIAL_IDLE_NS) == []
    assert serial.feed(b"NEXT\r", 3 + SERIAL_IDLE_NS) == [Scan("]X0", b"NEXT")]


def test_keys_the_kernel_lost_spoil_that_scan_only() -> None:
    typist, keys = Typist(), KeyScans()
    lost = INPUT_EVENT.pack(*divmod(typist.now_us, 1_000_000), 0, 3, 0)
    events = typist.type(b"V1:AB") + lost + typist.type(b"CD") + typist.tap(ENTER) + typist.type(b"NEXT") + typist.tap(ENTER)
    assert keys.feed(events) == [Scan("]X0", b"NEXT")]


def test_an_endless_scan_is_dropped_whole_and_bounded() -> None:
    serial = SerialScans()
    for _ in range(64):
        assert serial.feed(b"x" * 1024, 1) == []
    assert len(serial._assembly._raw) <= MAX_SCAN_B
    assert serial.feed(b"x\rNEXT\r", 1) == [Scan("]X0", b"NEXT")]


@given(st.lists(st.binary(max_size=400), max_size=8))
def test_no_bytes_break_the_readers(chunks: list[bytes]) -> None:
    serial, keys = SerialScans(), KeyScans()
    for i, chunk in enumerate(chunks):
        for scan in [*serial.feed(chunk, i), *keys.feed(chunk)]:
            assert 0 < len(scan.payload) <= MAX_SCAN_B and len(scan.symbology_id) == 3


async def _first(source: ScanSource, opened: asyncio.Event, count: int, found: list[Scan]) -> None:
    async with contextlib.aclosing(source.scans(opened.set)) as scans:  # type: ignore[type-var]
        async for scan in scans:
            found.append(scan)
            if len(found) == count:
                return


async def test_a_serial_scanner_is_read_through_a_real_terminal() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    opened, found = asyncio.Event(), list[Scan]()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(_first(SerialScanner(os.ttyname(slave), SystemClock()), opened, 2, found))
        await opened.wait()
        os.write(master, b"]Q1V1:ABC\r")
        await asyncio.sleep(0.05)
        os.write(master, b"40063")
        await asyncio.sleep(0.05)
        os.write(master, b"81333931\r\n")
    os.close(slave)
    os.close(master)
    assert found == [Scan("]Q1", b"V1:ABC"), Scan("]X0", b"4006381333931")]


async def test_a_serial_scanner_that_is_pulled_out_is_gone() -> None:
    master, slave = os.openpty()
    name, opened = os.ttyname(slave), asyncio.Event()
    with pytest.raises(ExceptionGroup) as gone:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(_first(SerialScanner(name, SystemClock()), opened, 1, []))
            await opened.wait()
            os.close(slave)
            os.close(master)
    assert gone.group_contains(DeviceError)


async def test_a_keyboard_scanner_is_read_from_its_device_file(tmp_path: Path) -> None:
    device = tmp_path / "event3"
    os.mkfifo(device)
    wire = os.open(device, os.O_RDWR)
    opened, found = asyncio.Event(), list[Scan]()
    typist = Typist()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(_first(KeyboardScanner(str(device)), opened, 1, found))
        await opened.wait()
        events = typist.type(b"]Q1V1:Abc-9") + typist.tap(ENTER)
        os.write(wire, events[:100])
        await asyncio.sleep(0.02)
        os.write(wire, events[100:])
    os.close(wire)
    assert found == [Scan("]Q1", b"V1:Abc-9")]


@pytest.mark.parametrize("source", [KeyboardScanner("/dev/input/none"), SerialScanner("/dev/ttyNONE", SystemClock())])
async def test_an_absent_scanner_is_a_device_error(source: ScanSource) -> None:
    with pytest.raises(DeviceError):
        await _first(source, asyncio.Event(), 1, [])
