"""From a gray picture to the codes in it: a ladder of ever dearer attempts under a CPU budget.

zxing-cpp without rotation, zxing-cpp with everything, zbar; then both on copies (twice as large, or 640 wide; contrast; edges;
threshold), last zxing-cpp on turned copies. The first rung with a believed code ends the climb.

Belief: a matrix code carries Reed-Solomon, so one read is enough. A linear code has at best one check digit and is misread in
real shops, so zxing-cpp *and* zbar must read the same text off the same picture; what only one of them reads is returned by
`read` with `confirmed` False, for a vote across frames, and is left out of `decode`.

Bytes are the code's own: neither library's guess of a character set touches `payload`.
"""

import ctypes
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
import zxingcpp
from numpy.typing import NDArray

from gateway.errors import MalformedFrame

Gray: TypeAlias = NDArray[np.uint8]
Affine: TypeAlias = NDArray[np.float64]  # 2x3, from a copy's pixels to the picture's

MAX_PIXELS: Final = 64_000_000  # a 64-megapixel phone picture; a camera frame has 2
DECODE_BUDGET_S: Final = 0.6  # CPU time; a picture without a code climbs the whole ladder in 0.1 (VGA) to 0.6 s
MIN_SIDE: Final = 8  # nothing smaller holds a code, and zbar asserts on less
MIN_DATA_MATRIX: Final = 8  # letters; shorter ones are found in packaging texture (notes: 2 of 6 false reads)
MIN_ITF: Final = 6  # interleaved 2 of 5 has no check: two bars of a picture frame read as "00"

log = logging.getLogger(__name__)
cv2.setNumThreads(1)  # the box has few cores, and they serve customers


@dataclass(frozen=True, slots=True)
class Reading:
    """One code in one picture; pixels are those of the picture handed in."""

    text: str
    format: str
    symbology_id: str  # AIM identifier, such as "]Q1"
    payload: bytes
    box: tuple[float, float, float, float]  # left, top, right, bottom
    confirmed: bool

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box."""
        left, top, right, bottom = self.box
        return ((left + right) / 2, (top + bottom) / 2)


FORMATS: Final = zxingcpp.BarcodeFormats(
    [
        zxingcpp.BarcodeFormat.QRCode,
        zxingcpp.BarcodeFormat.EANUPC,
        zxingcpp.BarcodeFormat.Code128,
        zxingcpp.BarcodeFormat.Code39Std,  # full ASCII would turn the "+A" of a mobile carrier into "a"
        zxingcpp.BarcodeFormat.DataBar,
        zxingcpp.BarcodeFormat.DataBarExp,
        zxingcpp.BarcodeFormat.DataMatrix,
        zxingcpp.BarcodeFormat.ITF,
    ]
)
MATRIX: Final = ("]Q", "]d")
# DataBar's checksums are modulo 79 and 211, and zbar's reader of it asserts on photographs: zxing-cpp is believed alone.
BELIEVED_ALONE: Final = (*MATRIX, "]e")
ZBAR_BINARY: Final = 4  # ZBAR_CFG_BINARY of zbar.h 0.23: the bytes of a QR code as they are
ZBAR_TYPES: Final[dict[int, tuple[str, str]]] = {  # zbar_symbol_type_t to name and AIM identifier
    8: ("EAN-8", "]E4"),
    9: ("UPC-E", "]E0"),
    12: ("UPC-A", "]E0"),
    13: ("EAN-13", "]E0"),
    25: ("ITF", "]I0"),
    39: ("Code 39", "]A0"),
    64: ("QR Code", "]Q1"),
    128: ("Code 128", "]C0"),
}


def decode(gray: Gray) -> list[tuple[str, str, tuple[float, float]]]:
    """Text, format and centre of every believed code.

    Raises:
        MalformedFrame: Not a two-dimensional array of bytes, or absurdly large.
    """
    return [(found.text, found.format, found.centre) for found in read(gray) if found.confirmed]


def read(gray: Gray, budget_s: float = DECODE_BUDGET_S) -> list[Reading]:
    """Every code, unconfirmed linear ones too.

    Args:
        budget_s: CPU seconds of this thread after which no further rung is begun; 0 is one quick look. A rung once begun
            is finished: at most 20 ms at 640x480, 130 ms at 1920x1080.

    Raises:
        MalformedFrame: As `decode`.
    """
    gray = _checked(gray)
    if min(gray.shape) < MIN_SIDE:
        return []
    tally = _Tally(gray)
    started_s = time.thread_time()
    for number, rung in enumerate(_ladder(gray)):
        tally.feed(*rung())
        settled = tally.believed and (number > 0 or not tally.crowded)
        if settled or time.thread_time() - started_s >= budget_s:
            break
    return tally.readings()


def _checked(picture: Any) -> Gray:
    if not isinstance(picture, np.ndarray) or picture.ndim != 2 or picture.dtype != np.uint8:
        raise MalformedFrame("not a gray picture", "Hand in a two-dimensional array of uint8")
    if picture.size > MAX_PIXELS:
        raise MalformedFrame(f"a picture of {picture.size} pixels", "Scale it down first")
    return np.ascontiguousarray(picture)


@dataclass(slots=True)
class _Find:
    """One code of the picture, and who has read it."""

    reading: Reading
    readers: set[str]

    def is_same(self, other: Reading) -> bool:
        """Same text, same place: a sheet of labels carries one text many times."""
        if other.payload != self.reading.payload:
            return False
        (left, top, right, bottom), (x, y) = self.reading.box, other.centre
        slack = 0.25 * max(right - left, bottom - top)  # zbar's box of a linear code is one scan line
        return left - slack <= x <= right + slack and top - slack <= y <= bottom + slack


class _Tally:
    """What was read off one picture."""

    def __init__(self, gray: Gray) -> None:
        self._gray = gray
        self._finds: list[_Find] = []

    def feed(self, reader: str, readings: list[Reading]) -> None:
        for reading in readings:
            find = next((find for find in self._finds if find.is_same(reading)), None)
            if find is None:
                self._finds.append(_Find(self._examined(reader, reading), {reader}))
            elif not find.reading.confirmed:
                find.readers.add(reader)
                better = reading if reader == "zxing" else find.reading
                find.reading = replace(better, confirmed=len(find.readers) > 1)

    def _examined(self, reader: str, reading: Reading) -> Reading:
        """Ask the other library about the neighbourhood only: a few ms."""
        if reading.confirmed:
            return reading
        patch = _neighbourhood(self._gray, reading.box)
        other = _zbar if reader == "zxing" else _zxing
        for copy in (patch, cv2.resize(patch, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)):
            for found in other(_as_gray(copy)):
                if found.payload == reading.payload:
                    named = found if reader == "zbar" else reading  # zxing-cpp tells GS1 from plain
                    return replace(named, box=reading.box, confirmed=True)
        return reading

    @property
    def believed(self) -> bool:
        return any(find.reading.confirmed for find in self._finds)

    @property
    def crowded(self) -> bool:
        """Several codes: the quick look may have missed some of them."""
        return len(self._finds) > 1

    def readings(self) -> list[Reading]:
        return [find.reading for find in self._finds]


Rung: TypeAlias = Callable[[], tuple[str, list[Reading]]]


def _ladder(gray: Gray) -> Iterator[Rung]:
    yield lambda: ("zxing", _zxing(gray, thorough=False))
    yield lambda: ("zxing", _zxing(gray))
    yield lambda: ("zbar", _zbar(gray))
    for copy, back in _copies(gray):
        yield functools.partial(_read_copy, "zxing", copy, back)
        yield functools.partial(_read_copy, "zbar", copy, back)
    for degrees in (45, 22, -22):
        turned, back = _turn(gray, degrees)
        yield functools.partial(_read_copy, "zxing", turned, back)


def _read_copy(reader: str, copy: Gray, back: Affine) -> tuple[str, list[Reading]]:
    found = _zxing(copy) if reader == "zxing" else _zbar(copy)
    return reader, [replace(reading, box=_moved(reading.box, back)) for reading in found]


def _moved(box: tuple[float, float, float, float], back: Affine) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    corners = np.array([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]]) @ back.T
    return _bounds(corners)


def _bounds(points: Any) -> tuple[float, float, float, float]:
    corners = np.asarray(points, dtype=float)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


# ---------------------------------------------------------------- copies


def _copies(gray: Gray) -> Iterator[tuple[Gray, Affine]]:
    longest = max(gray.shape)
    same = np.eye(2, 3)
    if longest < 900:
        yield _as_gray(cv2.resize(gray, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)), same / 2
    if longest > 1000:
        scale = 640 / longest
        yield _as_gray(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)), same / scale
    yield _as_gray(cv2.createCLAHE(3.0, (8, 8)).apply(gray)), same
    yield _as_gray(cv2.addWeighted(gray, 2.2, cv2.GaussianBlur(gray, (0, 0), 3), -1.2, 0)), same
    window = max(15, (longest // 24) | 1)
    yield _as_gray(cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, window, 4)), same


def _turn(gray: Gray, degrees: float) -> tuple[Gray, Affine]:
    height, width = gray.shape
    matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0))
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    wide, high = int(height * sine + width * cosine), int(height * cosine + width * sine)
    matrix[:, 2] += (wide - width) / 2, (high - height) / 2
    turned = cv2.warpAffine(gray, matrix, (wide, high), flags=cv2.INTER_LINEAR, borderValue=255)
    return _as_gray(turned), np.asarray(cv2.invertAffineTransform(matrix), dtype=np.float64)


def _neighbourhood(gray: Gray, box: tuple[float, float, float, float]) -> Gray:
    left, top, right, bottom = box
    margin = 0.2 * max(right - left, bottom - top) + 16
    rows = slice(max(0, int(top - margin)), max(0, int(bottom + margin)) + 1)
    columns = slice(max(0, int(left - margin)), max(0, int(right + margin)) + 1)
    patch = gray[rows, columns]
    return np.ascontiguousarray(patch) if min(patch.shape) >= MIN_SIDE else gray


def _as_gray(image: Any) -> Gray:
    return np.ascontiguousarray(image, dtype=np.uint8)


# ---------------------------------------------------------------- zxing-cpp


def _zxing(gray: Gray, thorough: bool = True) -> list[Reading]:
    found = zxingcpp.read_barcodes(
        gray,
        formats=FORMATS,
        try_rotate=thorough,
        try_downscale=thorough,
        try_invert=thorough,
        text_mode=zxingcpp.TextMode.Plain,
    )
    return [_zxing_reading(code) for code in found if _plausible(code.symbology_identifier, code.bytes)]


def _zxing_reading(code: zxingcpp.Barcode) -> Reading:
    corners = [code.position.top_left, code.position.top_right, code.position.bottom_right, code.position.bottom_left]
    return Reading(
        text=code.text,
        format=str(code.format),
        symbology_id=code.symbology_identifier,
        payload=bytes(code.bytes),
        box=_bounds([(corner.x, corner.y) for corner in corners]),
        confirmed=code.symbology_identifier.startswith(BELIEVED_ALONE),
    )


def _plausible(symbology_id: str, payload: bytes) -> bool:
    if symbology_id.startswith("]d"):
        return len(payload) >= MIN_DATA_MATRIX
    if symbology_id.startswith("]I"):
        return len(payload) >= MIN_ITF
    return len(payload) > 0


# ---------------------------------------------------------------- zbar


@functools.cache
def _zbar_library() -> Any:
    """pyzbar's binding, or None on a box without libzbar0: linear codes then need votes across frames."""
    try:
        from pyzbar import wrapper
    except (ImportError, OSError):
        log.warning("libzbar0 is missing: linear codes are read more slowly. `apt install libzbar0` brings it")
        return None
    return wrapper


def _zbar(gray: Gray) -> list[Reading]:
    library = _zbar_library()
    if library is None:
        return []
    scanner, image = library.zbar_image_scanner_create(), library.zbar_image_create()
    try:
        library.zbar_image_scanner_set_config(scanner, 0, library.ZBarConfig.CFG_ENABLE, 0)
        for kind in ZBAR_TYPES:
            library.zbar_image_scanner_set_config(scanner, kind, library.ZBarConfig.CFG_ENABLE, 1)
        library.zbar_image_scanner_set_config(scanner, 64, ZBAR_BINARY, 1)
        pixels = gray.tobytes()
        library.zbar_image_set_format(image, int.from_bytes(b"Y800", "little"))
        library.zbar_image_set_size(image, gray.shape[1], gray.shape[0])
        library.zbar_image_set_data(image, ctypes.cast(ctypes.c_char_p(pixels), ctypes.c_void_p), len(pixels), None)
        library.zbar_scan_image(scanner, image)
        return [_zbar_reading(library, symbol) for symbol in _zbar_symbols(library, image)]
    finally:
        library.zbar_image_destroy(image)
        library.zbar_image_scanner_destroy(scanner)


def _zbar_symbols(library: Any, image: Any) -> Iterable[Any]:
    symbol = library.zbar_image_first_symbol(image)
    while symbol:
        if symbol.contents.type in ZBAR_TYPES and library.zbar_symbol_get_loc_size(symbol) > 0:
            yield symbol
        symbol = library.zbar_symbol_next(symbol)


def _zbar_reading(library: Any, symbol: Any) -> Reading:
    name, symbology_id = ZBAR_TYPES[symbol.contents.type]
    payload = ctypes.string_at(library.zbar_symbol_get_data(symbol), library.zbar_symbol_get_data_length(symbol))
    places = range(library.zbar_symbol_get_loc_size(symbol))
    if symbology_id == "]E0":
        payload = _ean_13(payload, name)
    return Reading(
        text=payload.decode("utf-8", "replace"),
        format=name,
        symbology_id=symbology_id,
        payload=payload,
        box=_bounds([(library.zbar_symbol_get_loc_x(symbol, i), library.zbar_symbol_get_loc_y(symbol, i)) for i in places]),
        confirmed=symbology_id.startswith(MATRIX),
    )


def _ean_13(digits: bytes, name: str) -> bytes:
    """Thirteen digits, as AIM's ]E0 and zxing-cpp have them, of any UPC."""
    if name == "UPC-E" and len(digits) == 8:
        system, body, last, check = digits[:1], digits[1:6], digits[6:7], digits[7:]
        middle = {
            b"0": body[:2] + b"00000" + body[2:],
            b"1": body[:2] + b"10000" + body[2:],
            b"2": body[:2] + b"20000" + body[2:],
            b"3": body[:3] + b"00000" + body[3:],
            b"4": body[:4] + b"00000" + body[4:],
        }.get(last, body + b"0000" + last)
        digits = system + middle + check
    return digits.rjust(13, b"0")
