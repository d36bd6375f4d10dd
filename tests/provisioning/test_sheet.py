"""The printed sheet: looked at as a printer would draw it, and read back by the shop's own decoder."""

import secrets
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.scanner.decode import decode
from provisioning.label import Label, write_label
from provisioning.sheet import Pen, Sticker, cjk_font, sheets

needs_pdftoppm = pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="apt-get install poppler-utils")


def sticker(number: int) -> Sticker:
    label = Label(
        host="enrol.example.com.tw", port=8443, box=f"gw-tpe-{number:03}", authority=b"\x02" + secrets.token_bytes(32),
        headquarters=secrets.token_bytes(32), secret=secrets.token_bytes(16), not_after_s=1_798_000_000,
    )  # fmt: skip
    return Sticker(
        write_label(label), label.box, f"tpe-{number:03}", f"台北{number}店", f"Taipei No. {number}", "Asia/Taipei", 1_798_000_000_000_000
    )


def pictures(pdf: bytes, folder: Path, dpi: int = 150) -> list[NDArray[np.uint8]]:
    (folder / "labels.pdf").write_bytes(pdf)
    subprocess.run(["pdftoppm", "-r", str(dpi), "-gray", "-png", str(folder / "labels.pdf"), str(folder / "page")], check=True)
    return [np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8) for path in sorted(folder.glob("page*.png"))]


@pytest.mark.slow
@needs_pdftoppm
@pytest.mark.parametrize("font", [None, cjk_font()])
def test_every_label_of_the_sheet_can_be_read_by_the_shops_scanner(tmp_path: Path, font: Path | None) -> None:
    stickers = [sticker(number) for number in range(1, 11)]
    pages = pictures(sheets(stickers, font), tmp_path)
    assert [page.shape for page in pages] == [(1754, 1240)] * 2  # A4
    read = set()
    for page in pages:
        for row in range(4):
            for column in range(2):
                place = page[77 + row * 400 : 77 + (row + 1) * 400, 28 + column * 600 : 28 + column * 600 + 585]
                read |= {text for text, _, _ in decode(np.ascontiguousarray(place))}
    assert read == {one.code for one in stickers}


@needs_pdftoppm
@pytest.mark.skipif(cjk_font() is None, reason="apt-get install fonts-noto-cjk")
def test_the_words_are_chinese_first_where_a_font_is_and_english_elsewhere(tmp_path: Path) -> None:
    one = sticker(1)
    chinese, english = ((tmp_path / name) for name in ("zh", "en"))
    for folder, font in ((chinese, cjk_font()), (english, None)):
        folder.mkdir()
        (page,) = pictures(sheets([one], font), folder)
        words = page[77:477, 28 + 310 : 28 + 585]  # beside the code
        assert 0.02 < float((words < 128).mean()) < 0.4
    first, second = (cv2.imread(str(next(folder.glob("page*.png"))), cv2.IMREAD_GRAYSCALE) for folder in (chinese, english))
    assert first is not None and second is not None and not np.array_equal(first, second)


@pytest.mark.parametrize("font", [None, cjk_font()])
def test_the_longest_names_stay_on_their_sticker(font: Path | None) -> None:
    long = Sticker(
        sticker(1).code, "gw-" + "x" * 37, "store-" + "x" * 34, "台北信義百貨公司地下二樓旗艦體驗店第一櫃", "Taipei " * 9, "Asia/Taipei", 0
    )
    drawn = np.asarray(Pen(font).label(long).convert("L"))
    assert drawn[:, :20].min() == drawn[:, -20:].min() == drawn[-6:].min() == 255, "white to the edge: nothing is cut off"
    assert drawn[-120:-6].min() == 0


def test_the_last_day_is_told_by_the_shops_calendar() -> None:
    late = Sticker("x", "b", "s", "", "", "Asia/Taipei", 1_797_955_200_000_000)  # 16:00 UTC: past midnight in Taipei
    assert late.until == "2026-12-23"
    assert Sticker("x", "b", "s", "", "", "Europe/London", late.not_after_us).until == "2026-12-22"
