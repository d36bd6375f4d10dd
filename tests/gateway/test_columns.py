"""Sections: whatever goes in comes out byte for byte, and whatever else is shown to the reader is refused in bounds."""

import contextlib
import time
from typing import Any

import msgspec
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.columns import (
    MAX_EVENTS_B,
    MAX_ROWS,
    Numbers,
    RollUp,
    Same,
    Section,
    Shape,
    Texts,
    Tombstone,
    Words,
    pack_columns,
    pack_plain,
    pack_tombstone,
    unpack,
)
from gateway.errors import MalformedFrame

from .traffic import traffic_rows

SCALARS = (
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4), max_leaves=8
)
TIMES = st.integers(0, (1 << 62) - 1)
JSON_ROWS = st.lists(st.tuples(TIMES, VALUES.map(msgspec.json.encode)), max_size=30)
ANY_ROWS = st.lists(st.tuples(TIMES, st.binary(max_size=60)), max_size=30)


@given(ANY_ROWS)
def test_any_bytes_come_back_as_they_were(rows: list[tuple[int, bytes]]) -> None:
    assert unpack(pack_columns(rows), 1) == rows


@given(JSON_ROWS)
def test_any_json_comes_back_as_it_was(rows: list[tuple[int, bytes]]) -> None:
    assert unpack(pack_columns(rows), 1) == rows
    assert unpack(pack_plain(rows), 1) == rows


@given(st.lists(st.tuples(st.integers(-(10**19), 10**19), st.floats(-1e7, 1e7).map(lambda number: round(number, 3)), TIMES), max_size=40))
def test_numbers_of_one_shape_come_back_digit_by_digit(numbers: list[tuple[int, float, int]]) -> None:
    rows = [(us, b'{"n":%d,"x":%a,"ns":%d,"t":%d}' % (whole, part, us * 1000 + whole % 1000, us)) for whole, part, us in numbers]
    assert unpack(pack_columns(rows), 1) == rows


@pytest.mark.parametrize(
    "texts",
    [
        ["00", "1"], ["-0", "0"], ["1e3", "2"], ["1.0", "1.50"], ["0.00001", "0.5"], [".5", "1.5"], ["1.", "2.5"], ["1_0", "2"],
        ["123456789012345678", "1"], ["9223372036854775807", "9223372036854775808"], ["-1.5", "1.5"], ["+1", "2"], ["1.1.1", "2.2"],
        ['"00aAbBcC"', '"11aAbBcC"'], ['"00112233"', '"4455 677"'], ['"0011223"', '"4455667"'], ['"\\"12345678\\""', '"x"'], ["%d", "%s"],
    ],
)  # fmt: skip
def test_numbers_and_digits_that_look_alike_are_kept_apart(texts: list[str]) -> None:
    rows = [(at, f'{{"a":{text},"b%":[{text},{text}]}}'.encode()) for at, text in enumerate(texts * 40)]
    assert unpack(pack_columns(rows), 1) == rows


def test_kinds_of_rows_without_end_stay_whole() -> None:
    rows = [(at, b'{"key-%d":%d}' % (at, at)) for at in range(300)] + [(9, b"[" + b"1," * 500 + b"1]")]
    assert unpack(pack_columns(rows), 1) == rows


def test_an_empty_section_is_a_section() -> None:
    assert unpack(pack_columns([]), 1) == unpack(pack_plain([]), 1) == []


def test_real_traffic_is_small_and_quick_to_read() -> None:
    """At most 20 bytes a row; a generous limit for the time, which `python -m benchmarks.ingest` measures."""
    rows = traffic_rows(1_000)
    section = pack_columns(rows)
    assert unpack(section, 1) == rows
    assert len(zstd.compress(section, 12)) / len(rows) <= 20
    assert len(zstd.compress(section, 12)) < 0.75 * len(zstd.compress(pack_plain(rows), 12))
    started_s = time.perf_counter()
    unpack(section, 1)
    assert (time.perf_counter() - started_s) / len(rows) < 50e-6


def test_a_tombstone_comes_back_and_names_its_own_rows() -> None:
    tombstone = Tombstone(5, 900, "disk_full", [RollUp("2026-11-21", "VisitEnded", "door", 12, 480.5)])
    assert unpack(pack_tombstone(tombstone), 5) == tombstone
    with pytest.raises(MalformedFrame):
        unpack(pack_tombstone(tombstone), 6)
    with pytest.raises(MalformedFrame):
        unpack(pack_tombstone(msgspec.structs.replace(tombstone, last=4)), 5)


@given(st.binary(max_size=200), st.sampled_from([b"", b"J", b"C", b"T"]))
def test_any_bytes_are_a_section_or_malformed(noise: bytes, kind: bytes) -> None:
    with contextlib.suppress(MalformedFrame):
        unpack(kind + noise, 1)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_section_with_bytes_changed_is_a_section_or_malformed(data: st.DataObject) -> None:
    rows = [(1000 * at, b'{"type":"A","id":"%08x","n":%d,"x":%a,"w":"%d"}' % (at * 7919, at, at / 8, at % 3)) for at in range(20)]
    section = bytearray(pack_columns(rows))
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(section) - 1), st.integers(0, 255)), min_size=1, max_size=4)):
        section[at] = byte
    with contextlib.suppress(MalformedFrame):
        unpack(bytes(section), 1)


def numbers(**changes: Any) -> Numbers:
    return msgspec.structs.replace(Numbers(-2, 1, 0, 0, 0, []), **changes)


def columns(section: Section) -> bytes:
    return b"C" + msgspec.msgpack.encode(section)


ROOM = b" " * (MAX_EVENTS_B // MAX_ROWS + 1)
FULL = bytes(MAX_ROWS)


@pytest.mark.parametrize(
    "section",
    [
        columns(Section(FULL, numbers(), [Shape([ROOM], [])])),  # one long text in every row
        columns(Section(FULL, numbers(), [Shape([b"", b""], [Same(ROOM)])])),
        columns(Section(FULL, numbers(), [Shape([b"", b""], [Words([ROOM], FULL)])])),
        columns(Section(FULL, numbers(), [Shape([b"%"], []), Shape([ROOM], [])])).replace(FULL, b"\x01" * MAX_ROWS),
        columns(Section(FULL + b"\0", numbers(), [Shape([b""], [])])),  # more rows than a section has
        columns(Section(b"\x05", numbers(), [Shape([b""], [])])),  # a shape that is not there
        columns(Section(b"\0", numbers(offset=-1), [Shape([b""], [])])),  # before 1970
        columns(Section(b"\0", numbers(offset=1 << 62), [Shape([b""], [])])),
        columns(Section(b"\0", numbers(base=0), [Shape([b""], [])])),  # the time of writing based on itself
        columns(Section(b"\0", numbers(), [Shape([b"", b""], [numbers(base=1)])])),  # a column based on itself
        columns(Section(b"\0", numbers(), [Shape([b"", b"", b"", b""], [numbers(), numbers(base=1), numbers(base=2)])])),  # a chain
        columns(Section(b"\0", numbers(), [Shape([b""], [numbers()])])),  # a column without a place
        columns(Section(b"\0", numbers(planes=[b"12"]), [Shape([b""], [])])),
        columns(Section(b"\0", numbers(), [Shape([b"", b""], [Texts([b"a", b"b"])])])),
        columns(Section(b"\0", numbers(), [Shape([b"", b""], [Words([b"a"], b"\x01")])])),
        columns(Section(b"\0", numbers(), [])).replace(b"\xc4\x01\0", b"\xc4\x01\0", 1),
        b"J[[1,2],[-1,2]]",
        b"J[[4611686018427387904,2]]",
        b"J" + b"[" * 100_000,
        b"J[[1," + b"[" * 100_000 + b"]" * 100_000 + b"]]",
        b"J[" + b"[1,2]," * MAX_ROWS + b"[1,2]]",
        b"T{}",
        b'T{"first":1,"last":0,"reason":"x","rollup":[]}',
        b"X",
        b"",
    ],
)
def test_a_section_that_lies_is_refused_at_once(section: bytes) -> None:
    started_s = time.perf_counter()
    with pytest.raises(MalformedFrame):
        unpack(section, 1)
    assert time.perf_counter() - started_s < 1


def test_more_rows_than_asked_for_are_refused() -> None:
    rows = [(1, b"{}"), (2, b"{}")]
    for section in (pack_plain(rows), pack_columns(rows)):
        assert unpack(section, 1, 2) == rows
        with pytest.raises(MalformedFrame):
            unpack(section, 1, 1)


@pytest.mark.parametrize("rows", [[(1, b"{}")] * (MAX_ROWS + 1), [(1, b"x" * (MAX_EVENTS_B + 1))], [(-1, b"{}")], [(1 << 62, b"{}")]])
def test_what_could_not_be_read_back_is_not_packed(rows: list[tuple[int, bytes]]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        pack_columns(rows)
