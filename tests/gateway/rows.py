"""Rows of every kind for property tests: whatever the types allow, edge cases among them."""

from typing import Any, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from gateway.chain import encode_event
from gateway.events import LANE_OF, Instant, Row, TimeTrust

# What a box can hold: 64-bit numbers, text without lone surrogates, finite floats.
WHOLE = st.integers(-(1 << 62), (1 << 62) - 1)
TEXT = st.text(max_size=20)
INSTANTS = st.builds(
    Instant,
    wall_us=st.one_of(WHOLE, st.integers(0, 4_102_444_800_000_000)),
    mono_ns=st.integers(0, (1 << 62) - 1),
    boot_id=st.text("0123456789abcdef", min_size=8, max_size=8),
    trust=st.sampled_from(TimeTrust),
)


def _fields(kind: type[Row]) -> st.SearchStrategy[Any]:
    with_types = {field.name: _of(field.type) for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **with_types)


def _of(kind: Any) -> st.SearchStrategy[Any]:
    simple: dict[Any, st.SearchStrategy[Any]] = {
        int: WHOLE, str: TEXT, float: st.floats(allow_nan=False, allow_infinity=False), Instant: INSTANTS, bool: st.booleans(),
    }  # fmt: skip
    if kind in simple:
        return simple[kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _fields(kind)  # type: ignore[arg-type]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is dict:
        return st.dictionaries(_of(arguments[0]), _of(arguments[1]), max_size=4)
    if origin is tuple:
        return st.tuples(*map(_of, arguments))
    if origin is list:
        return st.lists(_of(arguments[0]), max_size=4)
    if arguments:  # a union
        return st.one_of(*(st.none() if one is type(None) else _of(one) for one in arguments))
    return st.sampled_from(kind)


ROWS: st.SearchStrategy[Row] = st.one_of(*map(_fields, LANE_OF))  # type: ignore[arg-type]
PLACES = st.tuples(
    st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True),
    st.builds(lambda number, nonce: f"{number}-{nonce:08x}", st.integers(1, 10**6), st.integers(0, (1 << 32) - 1)),
    st.integers(0, 2),
    st.integers(1, (1 << 62) - 1),
    st.integers(0, 253_402_214_399_999_999),
)


def bytes_of(event: Row) -> bytes:
    """A row as the ledger writes it."""
    return encode_event(event)
