"""The CBOR reader: RFC 8949's own examples, one spelling for each item, any bytes are an item or malformed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MalformedFrame
from gateway.verifiers.cbor import MAX_B, MAX_DEPTH, MAX_ITEMS, Tagged, decode, encode

# RFC 8949, appendix A, as far as it goes without floats, simple values, bignums and indefinite lengths.
EXAMPLES: list[tuple[str, Any]] = [
    ("00", 0), ("01", 1), ("0a", 10), ("17", 23), ("1818", 24), ("1819", 25), ("1864", 100), ("1903e8", 1000), ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000), ("1bffffffffffffffff", 18446744073709551615), ("3bffffffffffffffff", -18446744073709551616),
    ("20", -1), ("29", -10), ("3863", -100), ("3903e7", -1000), ("40", b""), ("4401020304", bytes.fromhex("01020304")), ("60", ""),
    ("6161", "a"), ("6449455446", "IETF"), ("62225c", '"\\'), ("62c3bc", "ü"), ("63e6b0b4", "水"), ("64f0908591", "\U00010151"), ("80", []),
    ("83010203", [1, 2, 3]), ("8301820203820405", [1, [2, 3], [4, 5]]), ("a0", {}), ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}), ("826161a161626163", ["a", {"b": "c"}]), ("c11a514b67b0", Tagged(1, 1363896240)),
    ("d74401020304", Tagged(23, bytes.fromhex("01020304"))),
]  # fmt: skip
REFUSED = {
    "nothing": "", "cut short": "19", "a string cut short": "4401", "an array cut short": "8201", "something behind it": "0000",
    "a key twice": "a201010102", "a key twice, in two types that are equal": "a2616101616102", "a key that is a list": "a18001",
    "24 in two bytes": "180a", "255 in three bytes": "1900ff", "65535 in five bytes": "1a0000ffff", "a long head": "1b00000000ffffffff",
    "a length in two bytes": "5801ff", "a half float": "f93c00", "a double": "fb3ff199999999999a", "false": "f4", "null": "f6",
    "undefined": "f7", "an indefinite string": "5f42010243030405ff", "an indefinite array": "9fff", "an indefinite map": "bfff",
    "a reserved length": "1c", "a break": "ff", "text that is not UTF-8": "61ff", "a length beyond everything": "5bffffffffffffffff",
    "a count beyond everything": "9bffffffffffffffff", "a map beyond everything": "bbffffffffffffffff", "too deep": "81" * 20 + "00",
    "tags too deep": "c1" * 20 + "00", "too long": "59" + f"{MAX_B:04x}" + "00" * MAX_B,
}  # fmt: skip
ITEMS = st.recursive(
    st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-99_999, 99_999) | st.text(max_size=4) | st.binary(max_size=4), inner, max_size=4)
        | st.builds(Tagged, st.integers(0, 2**64 - 1), inner)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(("raw", "item"), EXAMPLES, ids=[raw for raw, _ in EXAMPLES])
def test_the_examples_of_the_rfc_are_read_and_written(raw: str, item: Any) -> None:
    assert decode(bytes.fromhex(raw)) == item
    assert encode(item).hex() == raw


@pytest.mark.parametrize("about", REFUSED)
def test_what_is_not_in_its_one_spelling_is_malformed(about: str) -> None:
    with pytest.raises(MalformedFrame):
        decode(bytes.fromhex(REFUSED[about]))


@given(ITEMS)
def test_what_was_written_is_read(item: Any) -> None:
    raw = encode(item)
    try:
        assert decode(raw) == item
    except MalformedFrame:
        assert len(raw) > MAX_B or _depth(item) > MAX_DEPTH or raw.count(b"") > MAX_ITEMS


@given(st.binary(max_size=200))
def test_any_bytes_are_an_item_or_malformed_and_an_item_has_one_spelling(raw: bytes) -> None:
    try:
        item = decode(raw)
    except MalformedFrame:
        return
    assert encode(item) == raw


@pytest.mark.parametrize("item", [1.5, None, {1: None}, 2**64, True, object()])
def test_what_is_not_read_is_not_written(item: Any) -> None:
    with pytest.raises(TypeError):
        encode(item)


def _depth(item: Any) -> int:
    inner = item if isinstance(item, list) else list(item.values()) if isinstance(item, dict) else []
    inner = [item.item] if isinstance(item, Tagged) else inner
    return 1 + max(map(_depth, inner), default=0)
