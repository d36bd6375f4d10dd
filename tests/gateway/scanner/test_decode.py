"""Codes are read to the byte, linear ones only on two libraries' word, and no picture breaks the reader."""

import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import segno
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gateway.errors import MalformedFrame
from gateway.scanner import decode
from gateway.scanner.decode import Gray


def qr(content: str | bytes, scale: int = 4) -> Gray:
    modules = np.array([list(row) for row in segno.make_qr(content, error="m").matrix_iter(scale=scale, border=4)])
    return np.where(modules > 0, 20, 240).astype(np.uint8)


def linear(content: str, kind: zxingcpp.BarcodeFormat, scale: int = 3) -> Gray:
    image = np.array(zxingcpp.create_barcode(content, kind).to_image(scale=scale))
    return np.pad(image, 40, constant_values=255).astype(np.uint8)


def test_a_qr_code_comes_with_text_format_and_centre() -> None:
    scene = np.full((400, 600), 200, np.uint8)
    picture = qr("PICKUP 42")
    scene[100 : 100 + picture.shape[0], 300 : 300 + picture.shape[1]] = picture
    ((text, name, (x, y)),) = decode.decode(scene)
    assert (text, name) == ("PICKUP 42", "QR Code")
    assert abs(x - (300 + picture.shape[1] / 2)) < 3 and abs(y - (100 + picture.shape[0] / 2)) < 3


@pytest.mark.parametrize("content", ["乾電池:1:105:".encode("big5"), "乾電池:1:105:".encode(), bytes(range(1, 200))])
def test_bytes_are_the_codes_own_whatever_either_library_makes_of_them(content: bytes) -> None:
    picture = qr(content)
    assert [reading.payload for reading in decode.read(picture)] == [content]
    assert [reading.payload for reading in decode._zbar(picture)] == [content]


def test_all_codes_of_a_picture_are_read() -> None:
    pictures = [qr(f"CODE {i}") for i in range(3)]
    assert {text for text, _, _ in decode.decode(np.hstack(pictures))} == {"CODE 0", "CODE 1", "CODE 2"}


@pytest.mark.parametrize(
    ("content", "kind", "symbology_id"),
    [
        ("4006381333931", zxingcpp.BarcodeFormat.EAN13, "]E0"),
        ("96385074", zxingcpp.BarcodeFormat.EAN8, "]E4"),
        ("/ABC+12", zxingcpp.BarcodeFormat.Code39Std, "]A0"),
        ("Voucher-7", zxingcpp.BarcodeFormat.Code128, "]C0"),
        ("12345670", zxingcpp.BarcodeFormat.ITF, "]I"),
    ],
)
def test_a_linear_code_is_believed_when_both_libraries_read_it(content: str, kind: zxingcpp.BarcodeFormat, symbology_id: str) -> None:
    (reading,) = decode.read(linear(content, kind))
    assert reading.confirmed
    assert (reading.payload, reading.text) == (content.encode(), content)
    assert reading.symbology_id.startswith(symbology_id)


def test_what_only_one_library_reads_is_not_believed() -> None:
    tally = decode._Tally(np.full((200, 300), 255, np.uint8))  # nothing there for the other one to agree with
    misread = decode.Reading("4006381333931", "EAN-13", "]E0", b"4006381333931", (50, 50, 200, 100), False)
    tally.feed("zbar", [misread])
    tally.feed("zbar", [misread])
    assert [reading.confirmed for reading in tally.readings()] == [False]
    tally.feed("zxing", [misread])
    assert [reading.confirmed for reading in tally.readings()] == [True]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999_999), st.sampled_from("01"))
def test_both_libraries_name_a_upc_by_the_same_thirteen_digits(body: int, system: str) -> None:
    digits = f"{system}{body:06}"
    try:
        picture = linear(digits, zxingcpp.BarcodeFormat.UPCE)
    except (ValueError, RuntimeError):
        return  # not every number has a short form
    zxing = [reading.payload for reading in decode._zxing(picture)]
    zbar = [reading.payload for reading in decode._zbar(picture)]
    assert len(zxing) == 1 and len(zxing[0]) == 13
    assert zbar in ([], zxing)


def test_a_mobile_carrier_keeps_its_plus_signs() -> None:
    assert [text for text, _, _ in decode.decode(linear("/+AB12C.", zxingcpp.BarcodeFormat.Code39Std))] == ["/+AB12C."]


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=70)))
def test_no_picture_of_any_size_breaks_the_reader(picture: Gray) -> None:
    high, wide = picture.shape
    for text, _, (x, y) in decode.decode(picture):
        assert text and -wide <= x <= 2 * wide and -high <= y <= 2 * high


def test_noise_stripes_and_plain_colours_hold_no_code() -> None:
    random = np.random.default_rng(5)
    stripes = np.tile(random.integers(0, 2, 640, dtype=np.uint8) * 255, (480, 1))
    for picture in (random.integers(0, 256, (480, 640), dtype=np.uint8), np.zeros((480, 640), np.uint8), stripes):
        assert decode.decode(picture) == []


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4, 3), np.uint8), np.zeros((40, 40)), np.zeros(9, np.uint8), "picture", None, np.zeros((10_000, 10_000), np.uint8)],
)
def test_what_is_no_gray_picture_is_refused_by_name(picture: Any) -> None:
    with pytest.raises(MalformedFrame):
        decode.decode(picture)


def test_a_picture_cut_out_of_another_needs_no_copy_by_the_caller() -> None:
    picture = np.full((300, 300), 255, np.uint8)
    code = qr("CUT")
    picture[20 : 20 + code.shape[0], 20 : 20 + code.shape[1]] = code
    assert [text for text, _, _ in decode.decode(picture[10:, 5:][::1, ::-1].T[::-1])] == ["CUT"]


def test_the_budget_ends_the_climb() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (480, 640), dtype=np.uint8)
    started = time.thread_time()
    decode.read(picture, 0.0)
    quick = time.thread_time() - started
    started = time.thread_time()
    decode.read(picture)
    assert quick < (time.thread_time() - started) / 3


def test_without_libzbar_matrix_codes_are_still_read_and_it_is_said_once() -> None:
    script = """
import ctypes.util, logging, sys
ctypes.util.find_library = lambda name: None
logging.basicConfig(stream=sys.stdout)
import numpy as np, zxingcpp
from gateway.scanner import decode
for content, kind in (("OK", zxingcpp.BarcodeFormat.QRCode), ("4006381333931", zxingcpp.BarcodeFormat.EAN13)):
    picture = np.pad(np.array(zxingcpp.create_barcode(content, kind).to_image(scale=4)), 40, constant_values=255)
    print([(reading.text, reading.confirmed) for reading in decode.read(picture)])
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "[('OK', True)]" in ended.stdout
    assert "[('4006381333931', False)]" in ended.stdout
    assert ended.stdout.count("libzbar0") == 2  # one warning, which names it and how to get it


def test_gs1_and_plain_code_128_are_told_apart_whoever_reads_them_first() -> None:
    element = "(01)09501101530003(10)AB12(21)77"
    image = np.array(zxingcpp.create_barcode(element, zxingcpp.BarcodeFormat.Code128, gs1=True).to_image(scale=3))
    picture = np.pad(image, 40, constant_values=255).astype(np.uint8)
    for reader, found in (("zxing", decode._zxing(picture)), ("zbar", decode._zbar(picture))):
        tally = decode._Tally(picture)
        tally.feed(reader, found)
        ((reading,),) = [tally.readings()]
        assert (reading.symbology_id, reading.payload, reading.confirmed) == ("]C1", b"010950110153000310AB12\x1d2177", True)


def test_a_sheet_of_labels_gives_every_label_though_their_text_is_one() -> None:
    label = qr("SAME LABEL")
    centres = [centre for _, _, centre in decode.decode(np.vstack([np.hstack([label] * 3)] * 2))]
    assert len({(round(x / label.shape[1]), round(y / label.shape[0])) for x, y in centres}) == len(centres) == 6
