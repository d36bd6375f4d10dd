"""The bars a till scans: read back by a library that has never seen our encoder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kiosk.code128 import MODULUS, STOP, WIDTHS, WIDTHS_EACH, svg, symbols

numpy = pytest.importorskip("numpy")
zxingcpp = pytest.importorskip("zxingcpp")


def read(text: str, module_px: int = 2) -> list[tuple[str, str]]:
    """What zxing-cpp reads in the bars as a printer would put them down."""
    printed = "".join(WIDTHS[WIDTHS_EACH * one : WIDTHS_EACH * (one + 1)] for one in symbols(text)) + STOP
    row = [255] * 10 * module_px
    for place, width in enumerate(map(int, printed)):
        row += [255 * (place % 2)] * width * module_px
    row += [255] * 10 * module_px
    return [(one.text, one.format.name) for one in zxingcpp.read_barcodes(numpy.array([row] * 60, dtype=numpy.uint8))]


@given(st.from_regex("[0-9]{12}", fullmatch=True) | st.from_regex("[ -~]{1,20}", fullmatch=True))
def test_another_reader_reads_what_was_written(text: str) -> None:
    assert read(text) == [(text, "Code128")]


def test_digits_go_in_pairs_so_the_bars_stay_short() -> None:
    assert len(symbols("291234567890")) == 1 + 6 + 1
    assert len(symbols("29123456789")) == 1 + 11 + 1


def test_every_symbol_is_eleven_modules_wide_and_no_two_are_alike() -> None:
    each = [WIDTHS[at : at + WIDTHS_EACH] for at in range(0, len(WIDTHS), WIDTHS_EACH)]
    assert len(set(each)) == MODULUS + 3
    assert {sum(map(int, widths)) for widths in each} == {11}


@pytest.mark.parametrize("text", ["", "x" * 33, "咖啡", "\n", "\x7f"])
def test_what_has_no_bars_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        svg(text)


def test_a_picture_says_how_large_it_is() -> None:
    picture = svg("291234567890").decode()
    assert 'width="363" height="120"' in picture
    assert picture.count("M") == 1 + 8 * 3 + 4  # the white ground, three bars each, the stop's four
