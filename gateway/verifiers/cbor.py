"""CBOR (RFC 8949), as much as a CWT needs and not a byte more: read before anything is verified, so strict and small (ADR 20).

Whole numbers, byte and text strings, arrays, maps and tags; each in its one shortest spelling, of definite length, nothing twice in
a map. Floats, simple values, bignums and everything tags could mean are refused. Bounded in depth, items and bytes.
"""

from typing import Any, Final

from msgspec import Struct

from gateway.errors import MalformedFrame

MAX_B: Final = 2_048
MAX_DEPTH: Final = 6
MAX_ITEMS: Final = 128
UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG = range(7)
WIDTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}


class Tagged(Struct, frozen=True):
    """An item and the tag before it."""

    tag: int
    item: Any


def decode(data: bytes) -> Any:
    """The one item in `data`: int, bytes, str, list, dict or `Tagged`.

    Raises:
        MalformedFrame: Not that, or not in its one spelling.
    """
    if len(data) > MAX_B:
        raise MalformedFrame(f"more than {MAX_B} bytes of CBOR")
    reader = _Reader(data)
    item = reader.item(0)
    if reader.at != len(data):
        raise MalformedFrame("CBOR with something behind it")
    return item


def encode(item: Any) -> bytes:
    """An item as bytes; maps in the order they are in.

    Raises:
        TypeError: Something `decode` would not give.
    """
    if isinstance(item, int) and not isinstance(item, bool):
        return _head(UINT, item) if item >= 0 else _head(NEGATIVE, -1 - item)
    if isinstance(item, bytes):
        return _head(BYTES, len(item)) + item
    if isinstance(item, str):
        encoded = item.encode("utf-8")
        return _head(TEXT, len(encoded)) + encoded
    if isinstance(item, list):
        return _head(ARRAY, len(item)) + b"".join(encode(one) for one in item)
    if isinstance(item, dict):
        return _head(MAP, len(item)) + b"".join(encode(key) + encode(value) for key, value in item.items())
    if isinstance(item, Tagged):
        return _head(TAG, item.tag) + encode(item.item)
    raise TypeError(f"no CBOR for {type(item).__name__}")


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for info, width in WIDTHS.items():
        if number < 1 << 8 * width:
            return bytes([major << 5 | info]) + number.to_bytes(width, "big")
    raise TypeError("no CBOR for numbers of more than 64 bits")


class _Reader:
    """Takes items from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0
        self._items = 0

    def item(self, depth: int) -> Any:
        self._items += 1
        if depth > MAX_DEPTH or self._items > MAX_ITEMS:
            raise MalformedFrame("CBOR too deep or of too many items")
        major, number = self._head()
        if major == UINT:
            return number
        if major == NEGATIVE:
            return -1 - number
        if major == BYTES:
            return self._take(number)
        if major == TEXT:
            return self._text(number)
        if major == ARRAY:
            return [self.item(depth + 1) for _ in range(self._count(number))]
        return self._map(number, depth) if major == MAP else Tagged(number, self.item(depth + 1))

    def _map(self, number: int, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for _ in range(self._count(number)):
            key = self.item(depth + 1)
            if not isinstance(key, int | str | bytes) or key in found:
                raise MalformedFrame("a map with a key twice, or with one that is no number or string")
            found[key] = self.item(depth + 1)
        return found

    def _text(self, number: int) -> str:
        try:
            return self._take(number).decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedFrame("a text that is not UTF-8") from error

    def _count(self, number: int) -> int:
        if number > MAX_ITEMS:
            raise MalformedFrame("CBOR of too many items")
        return number

    def _head(self) -> tuple[int, int]:
        initial = self._take(1)[0]
        major, info = initial >> 5, initial & 31
        if major > TAG:
            raise MalformedFrame("floats and simple values are not read here")
        if info < 24:
            return major, info
        if info not in WIDTHS:
            raise MalformedFrame("CBOR of indefinite length")
        number = int.from_bytes(self._take(WIDTHS[info]), "big")
        if number < 24 or (info > 24 and number < 1 << 4 * WIDTHS[info]):
            raise MalformedFrame("a number not in its shortest spelling")
        return major, number

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise MalformedFrame("CBOR cut short")
        self.at += count
        return self._data[self.at - count : self.at]
