"""Rows of one lane as one section of bytes: as they are, turned into columns, or only what they summed up to. Pure.

The first byte says which. `J`: a JSON array of [record_us, event]. `C`: columns, msgpack. `T`: a tombstone, JSON.

Columns know nothing of events. A row's text is cut at its JSON scalars; rows that are equal between the cuts share a *shape*,
and the scalars of a shape's rows become columns, each held in the smallest of a few ways. Since nothing is parsed but cut
and put together again, any bytes come back exactly, JSON or not.

Numbers are held as differences: to the row before, to the time of writing, or to a thousandth of another column (nanoseconds
beside microseconds). They lie byte plane by byte plane, so that zstd, which follows, finds the bytes that say nothing.
"""

import re
import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import inf, log2
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.errors import MalformedFrame

MAX_ROWS: Final = 2_000  # of a section
MAX_EVENTS_B: Final = 4 * 1024 * 1024  # of a section's events, unpacked
PLAIN: Final = b"J"
COLUMNS: Final = b"C"
TOMBSTONE: Final = b"T"

LAST_US: Final = 1 << 62
Micros = Annotated[int, Meta(ge=0, lt=LAST_US)]
Count = Annotated[int, Meta(ge=0, lt=LAST_US)]
Rows = list[tuple[int, bytes]]

# A scalar where JSON may have one. Looking back keeps keys out; a text that fools it is still put together as it was.
SCALAR: Final = re.compile(rb'(?<=[:,\[])("(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*"(?!:)|-?[0-9][0-9.eE+-]*|true|false|null)')
MAX_SHAPES: Final = 64
MAX_COLUMNS: Final = 64
MAX_WORDS: Final = 128
MIN_HEX_DIGITS: Final = 8
MAX_DIGITS: Final = 18  # below 2 ** 62
MAX_DECIMALS: Final = 6
MOST_DIGITS: Final = 32  # of any number that columns can hold
WHOLE: Final = (b"", b"")

BEFORE: Final = -1  # differences to the row before
NOTHING: Final = -2  # differences to nothing


class RollUp(Struct, frozen=True, array_like=True):
    """Rows that are gone, of one local day, type and zone."""

    day: str  # such as "2026-11-21"
    type: str
    zone: str  # empty where the type has none
    rows: Count
    dwell_s: float


class Tombstone(Struct, frozen=True, forbid_unknown_fields=True):
    """Rows that are gone: which, why, and what they summed up to."""

    first: Annotated[int, Meta(ge=1, lt=LAST_US)]
    last: Annotated[int, Meta(ge=1, lt=LAST_US)]
    reason: str  # "disk_full", "damaged" or "hq_lost"
    rollup: list[RollUp]


class Same(Struct, array_like=True, tag=0):
    """One text in every row."""

    text: bytes


class Words(Struct, array_like=True, tag=1):
    """A few texts, and one byte for each row that picks its own."""

    words: list[bytes]
    picks: bytes


class Numbers(Struct, array_like=True, tag=2):
    """Numbers as differences to `base`, each less `offset`. With `decimals`, so many of their digits are decimals."""

    base: int  # BEFORE, NOTHING, 0: the time of writing; from 1 an earlier column of whole numbers, itself not based on a column
    scale: Literal[1, 1000]  # times which the base is taken
    start: int  # the first number, where the base is the row before
    offset: int
    decimals: Annotated[int, Meta(ge=0, le=MAX_DECIMALS)]
    planes: Annotated[list[bytes], Meta(max_length=8)]  # lowest bytes of all differences first


class Digits(Struct, array_like=True, tag=3):
    """Strings of hexadecimal digits, all of one length."""

    size_b: Annotated[int, Meta(ge=1)]
    packed: bytes


class Texts(Struct, array_like=True, tag=4):
    """Anything else."""

    texts: list[bytes]


Column = Same | Words | Numbers | Digits | Texts


class Shape(Struct, array_like=True):
    """Rows that are equal but for their scalars: what stands around the columns, and the columns."""

    around: list[bytes]  # one more than columns
    columns: Annotated[list[Column], Meta(max_length=MAX_COLUMNS)]


class Section(Struct, array_like=True):
    """Rows as columns."""

    picks: Annotated[bytes, Meta(max_length=MAX_ROWS)]  # the shape of each row
    record_us: Numbers
    shapes: Annotated[list[Shape], Meta(max_length=MAX_SHAPES)]


_plain = msgspec.json.Decoder(list[tuple[Micros, msgspec.Raw]])
_section = msgspec.msgpack.Decoder(Section)
_tombstone = msgspec.json.Decoder(Tombstone)


# ---------------------------------------------------------------- packing


def pack_plain(rows: Sequence[tuple[int, bytes]]) -> bytes:
    """Rows as they are: (record_us, event). Each event is one JSON value without space around it."""
    return PLAIN + b"[" + b",".join([b"[%d,%b]" % row for row in rows]) + b"]"


def pack_tombstone(tombstone: Tombstone) -> bytes:
    """In place of rows that are gone."""
    return TOMBSTONE + msgspec.json.encode(tombstone)


def pack_columns(rows: Sequence[tuple[int, bytes]]) -> bytes:
    """Rows as columns: (record_us, event), events of any bytes.

    Raises:
        ValueError: More rows or bytes than `unpack` would take back, or a time before 1970.
    """
    times = [record_us for record_us, _ in rows]
    if len(rows) > MAX_ROWS or sum(len(event) for _, event in rows) > MAX_EVENTS_B or not _are_times(times):
        raise ValueError("rows that do not fit into a section")
    known: dict[tuple[bytes, ...], int] = {}
    picks, scalars = bytearray(), list[list[list[bytes]]]()
    for _, event in rows:
        around, values = _cut(event)
        if len(values) > MAX_COLUMNS or (around not in known and len(known) >= MAX_SHAPES - 1):
            around, values = WHOLE, [event]  # too many kinds of rows: this one is not cut
        pick = known.setdefault(around, len(known))
        if pick == len(scalars):
            scalars.append([])
        picks.append(pick)
        scalars[pick].append(values)
    shapes = [
        Shape(list(around), _pack_shape(scalars[pick], [us for us, of in zip(times, picks, strict=True) if of == pick]))
        for around, pick in known.items()
    ]
    return COLUMNS + msgspec.msgpack.encode(Section(bytes(picks), _pack_numbers(times, [], 0), shapes))


def _cut(event: bytes) -> tuple[tuple[bytes, ...], list[bytes]]:
    parts = SCALAR.split(event)
    return tuple(parts[::2]), parts[1::2]


def _pack_shape(rows: list[list[bytes]], record_us: list[int]) -> list[Column]:
    columns: list[Column] = []
    bases = [(0, record_us)]
    for number, texts in enumerate(zip(*rows, strict=True), start=1):
        column, whole = _pack_column(list(texts), bases)
        columns.append(column)
        if whole:
            bases = [bases[0], (number, whole)]
    return columns


def _pack_column(texts: list[bytes], bases: list[tuple[int, list[int]]]) -> tuple[Column, list[int]]:
    """The column, and its numbers if others may lean on them."""
    words = list(dict.fromkeys(texts))
    if len(words) == 1:
        return Same(words[0]), []
    as_words_b = sum(map(len, words)) + len(texts) * log2(len(words)) / 8 if len(words) <= MAX_WORDS else inf
    whole, decimals = _numbers(texts)
    if whole:
        column = _pack_numbers(whole, [] if decimals else bases, decimals)
        if sum(map(len, column.planes)) < as_words_b:
            return column, whole if column.base <= 0 and not decimals else []
    if as_words_b < inf:
        place = {word: at for at, word in enumerate(words)}
        return Words(words, bytes([place[text] for text in texts])), []
    return _pack_digits(texts) or Texts(texts), []


def _numbers(texts: list[bytes]) -> tuple[list[int], int]:
    """Whole numbers, and how many of their digits are decimals; none unless every text would come back as it is."""
    if max(map(len, texts)) > MAX_DIGITS:
        return [], 0
    try:
        if b"." not in texts[0]:
            whole = [int(text) for text in texts]
            return (whole, 0) if [b"%d" % number for number in whole] == texts else ([], 0)
        decimals = max(len(text) - 1 - text.find(b".") for text in texts)
        shifted = [(text.partition(b"."), text) for text in texts]
        whole = [int(before + after.ljust(decimals, b"0")) for (before, _, after), _ in shifted]
    except ValueError:
        return [], 0
    if not 1 <= decimals <= MAX_DECIMALS or [b"%a" % (number / 10**decimals) for number in whole] != texts:
        return [], 0
    return whole, decimals


def _pack_numbers(whole: list[int], bases: list[tuple[int, list[int]]], decimals: int) -> Numbers:
    """The way with the smallest differences."""
    ways: list[tuple[int, Literal[1, 1000], list[int]]] = [
        (BEFORE, 1, [after - before for before, after in pairwise(whole)]),
        (NOTHING, 1, whole),
    ]
    for place, base in bases:
        ways.append((place, 1, [number - other for number, other in zip(whole, base, strict=True)]))
        ways.append((place, 1000, [number - 1000 * other for number, other in zip(whole, base, strict=True)]))
    base_at, scale, differences = min(ways, key=lambda way: _spread_bits(way[2]))
    offset = min(differences, default=0)
    start = whole[0] if base_at == BEFORE and whole else 0
    return Numbers(base_at, scale, start, offset, decimals, _planes([difference - offset for difference in differences]))


def _spread_bits(differences: list[int]) -> float:
    """About how many bits they need; infinitely many if they do not fit into planes."""
    low, high = min(differences, default=0), max(differences, default=0)
    if low < -LAST_US or high >= LAST_US:
        return inf
    return sum([(difference - low).bit_length() for difference in differences])


def _planes(numbers: list[int]) -> list[bytes]:
    width = (max(numbers, default=0).bit_length() + 7) // 8
    raw = struct.pack(f"<{len(numbers)}Q", *numbers)
    return [raw[plane::8] for plane in range(width)]


def _pack_digits(texts: list[bytes]) -> Digits | None:
    size = len(texts[0]) - 2
    if size < MIN_HEX_DIGITS or size % 2 or any(len(text) != size + 2 for text in texts):
        return None
    try:
        digits = Digits(size // 2, bytes.fromhex(b"".join([text[1:-1] for text in texts]).decode("ascii")))
    except ValueError:
        return None
    return digits if [b'"%b"' % text for text in _digits(digits, len(texts))] == texts else None


# ---------------------------------------------------------------- unpacking


def unpack(section: bytes, first: int, limit: int = MAX_ROWS) -> Rows | Tombstone:
    """The rows of a section, or what stands in their place.

    Args:
        section: Untrusted, any bytes.
        first: Number of its first row; a tombstone must name the same.
        limit: Most rows; a tombstone may stand for more.

    Raises:
        MalformedFrame: No section, or larger than a section may be once unpacked.
    """
    try:
        if section[:1] == COLUMNS:
            rows = _unpack_columns(_section.decode(memoryview(section)[1:]), limit)
        elif section[:1] == PLAIN:
            rows = [(record_us, bytes(event)) for record_us, event in _plain.decode(memoryview(section)[1:])]
        elif section[:1] == TOMBSTONE:
            return _checked(_tombstone.decode(memoryview(section)[1:]), first)
        else:
            raise MalformedFrame("a section of an unknown kind")
    except (msgspec.DecodeError, ValueError, LookupError, ArithmeticError, struct.error, RecursionError) as error:
        raise MalformedFrame(f"a damaged section: {error}") from error
    if len(rows) > limit or len(rows) > MAX_ROWS:
        raise MalformedFrame(f"a section of {len(rows)} rows")
    return rows


def _checked(tombstone: Tombstone, first: int) -> Tombstone:
    if tombstone.first != first or tombstone.last < first:
        raise MalformedFrame("a tombstone for other rows")
    return tombstone


def _unpack_columns(section: Section, limit: int) -> Rows:
    if len(section.picks) > limit:
        raise MalformedFrame(f"a section of {len(section.picks)} rows")
    times = _whole(section.record_us, len(section.picks), {})
    if not _are_times(times):
        raise MalformedFrame("a section written at an impossible time")
    if len(section.shapes) == 1 and not any(section.picks):
        return list(zip(times, _events(section.shapes[0], times, MAX_EVENTS_B), strict=True))
    events, room_b = [], MAX_EVENTS_B
    for pick, shape in enumerate(section.shapes):
        made = _events(shape, [us for us, of in zip(times, section.picks, strict=True) if of == pick], room_b)
        room_b -= sum(map(len, made))
        events.append(iter(made).__next__)
    return [(us, events[pick]()) for us, pick in zip(times, section.picks, strict=True)]


def _are_times(record_us: list[int]) -> bool:
    return not record_us or (min(record_us) >= 0 and max(record_us) < LAST_US)


def _events(shape: Shape, record_us: list[int], room_b: int) -> list[bytes]:
    """The texts of a shape's rows."""
    if len(shape.around) != len(shape.columns) + 1:
        raise MalformedFrame("a shape whose columns have no place")
    rows = len(record_us)
    template = shape.around[0].replace(b"%", b"%%")
    known = {0: record_us}
    values: list[Sequence[bytes | int | float]] = []
    varying_b = 0
    for number, (column, after) in enumerate(zip(shape.columns, shape.around[1:], strict=True), start=1):
        if isinstance(column, Same):
            template += column.text.replace(b"%", b"%%")
        else:
            made, mark, most_b = _values(column, rows, known)
            if isinstance(column, Numbers) and column.base <= 0 and not column.decimals:  # no long chain of bases
                known[number] = made
            values.append(made)
            template += mark
            varying_b += most_b
        template += after.replace(b"%", b"%%")
    if rows * len(template) + varying_b > room_b:
        raise MalformedFrame(f"a section of more than {MAX_EVENTS_B} bytes")
    return [template % row for row in zip(*values, strict=True)] if values else [template % ()] * rows


def _values(column: Words | Numbers | Digits | Texts, rows: int, known: dict[int, list[int]]) -> tuple[list[Any], bytes, int]:
    """A column's values, how the template takes one, and the most bytes they become."""
    if isinstance(column, Numbers):
        whole = _whole(column, rows, known)
        if not column.decimals:
            return whole, b"%d", rows * MOST_DIGITS
        return [number / 10**column.decimals for number in whole], b"%a", rows * MOST_DIGITS
    if isinstance(column, Digits):
        return _digits(column, rows), b'"%b"', rows * (2 * column.size_b + 2)
    values = list(map(column.words.__getitem__, column.picks)) if isinstance(column, Words) else column.texts
    if len(values) != rows:
        raise MalformedFrame("a column of another length")
    return values, b"%b", sum(map(len, values))


def _digits(column: Digits, rows: int) -> list[bytes]:
    if len(column.packed) != rows * column.size_b:
        raise MalformedFrame("a column of another length")
    text, width = column.packed.hex().encode("ascii"), 2 * column.size_b
    return [text[at : at + width] for at in range(0, len(text), width)]


def _whole(column: Numbers, rows: int, known: dict[int, list[int]]) -> list[int]:
    held = max(rows - 1, 0) if column.base == BEFORE else rows
    raw = bytearray(8 * held)
    for place, plane in enumerate(column.planes):
        if len(plane) != held:
            raise MalformedFrame("a column of another length")
        raw[place::8] = plane
    differences, offset = struct.unpack(f"<{held}Q", raw), column.offset
    if column.base == BEFORE:
        return list(accumulate([difference + offset for difference in differences], initial=column.start))[:rows]
    if column.base == NOTHING:
        return [difference + offset for difference in differences]
    scale = column.scale
    return [scale * other + difference + offset for other, difference in zip(known[column.base], differences, strict=True)]
