"""Printed sheets of vouchers, read back by the shop's own decoder as a printer would draw them."""

import asyncio
import csv
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cloud_bridge.hq.options import HqOptions
from gateway.commands import app
from gateway.scanner.decode import decode
from gateway.token import Claims, TokenKind, sign
from provisioning import voucher_sheet
from provisioning.sheet import cjk_font
from provisioning.voucher_sheet import GRIDS, Printed, files
from tests.cloud_bridge.hq.rig import headquarters
from tests.conftest import fixed_key

needs_pdftoppm = pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="apt-get install poppler-utils")


def printed(number: int, **more: str) -> Printed:
    claims = Claims(kind=TokenKind.VOUCHER, key_id=1, issuer=1, identifier=number, not_after_s=1_797_955_200)
    code = sign(claims, fixed_key(3))
    title = more.get("title_zh", f"咖啡券 {number}")
    return Printed(code, title, more.get("title_en", "Coffee"), "0000-0000-002A-1B", True, more.get("store", "tpe-001"), 1_797_955_200)


def read(pdf: bytes, folder: Path, per_page: int, dpi: int = 150) -> list[list[str]]:
    """The codes of each page, cut along its lines, as they stand there."""
    (folder / "sheet.pdf").write_bytes(pdf)
    subprocess.run(["pdftoppm", "-r", str(dpi), "-gray", "-png", str(folder / "sheet.pdf"), str(folder / "page")], check=True)
    (columns, rows), pages = GRIDS[per_page], []
    for path in sorted(folder.glob("page*.png")):
        page = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)
        assert page.shape == (1754, 1240), "A4"
        height, width = (1754 - 90) // rows, (1240 - 90) // columns
        cells = [
            page[45 + row * height : 45 + (row + 1) * height, 45 + at * width : 45 + (at + 1) * width]
            for row in range(rows)
            for at in range(columns)
        ]
        pages.append([text for cell in cells for text, _, _ in decode(np.ascontiguousarray(cell))])
        path.unlink()
    return pages


@pytest.mark.slow
@needs_pdftoppm
@pytest.mark.parametrize("per_page", [8, 24])  # 12: below
def test_every_code_of_the_sheets_is_read_in_its_place(tmp_path: Path, per_page: int) -> None:
    vouchers = [printed(number) for number in range(1, per_page + 3)]
    (pdf,) = files(vouchers, per_page, cjk_font())
    pages = read(pdf, tmp_path, per_page)
    assert pages == [[one.code for one in vouchers[:per_page]], [one.code for one in vouchers[per_page:]]]


def test_many_vouchers_make_several_files_and_memory_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voucher_sheet, "PAGES_A_FILE", 1)
    asked, drawn = list[int](), list[int]()

    def all_of_them() -> Iterator[Printed]:
        for number in range(20):
            asked.append(number)
            yield printed(number)

    made = files(all_of_them(), 8, None, lambda: drawn.append(1))
    assert next(made).startswith(b"%PDF") and (len(asked), len(drawn)) == (8, 8), "the others are not looked at yet"
    assert len(list(made)) == 2 and len(drawn) == 20


@pytest.mark.parametrize("font", [None, cjk_font()])
@pytest.mark.parametrize("per_page", sorted(GRIDS))
def test_the_longest_titles_stay_in_their_cell(per_page: int, font: Path | None) -> None:
    long = printed(1, title_zh="台北信義百貨公司地下二樓旗艦體驗店開幕感謝禮" * 3, title_en="Grand opening " * 5, store="s" * 40)
    cell = np.asarray(voucher_sheet.VoucherPen(font, per_page).voucher(long).convert("L"))
    inside = cell[4:-4, 4:-4]
    assert inside[:, -8:].min() == inside[:8].min() == inside[-8:].min() == 255, "nothing is cut off"
    assert inside[:, cell.shape[1] // 2 :].min() == 0


@pytest.mark.slow
@needs_pdftoppm
async def test_what_the_command_prints_are_the_codes_it_issued(tmp_path: Path) -> None:
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"))):
        (tmp_path / "v.csv").write_text("title_zh,title_en,count\n禮券,Gift,9\n", encoding="utf-8")
        words = ["hq", "issue", str(tmp_path / "v.csv"), "--codes", str(tmp_path / "c.csv"), "--out", str(tmp_path / "sheet-x.pdf")]
        done = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--per-page", "12", "--data", str(tmp_path / "hq")])
    assert done.exit_code == 0 and "sheet-x.pdf" in done.output
    codes = [row["token"] for row in csv.DictReader((tmp_path / "c.csv").read_text(encoding="utf-8").splitlines())]
    assert read((tmp_path / "sheet-x.pdf").read_bytes(), tmp_path, 12) == [codes] and len(set(codes)) == 9
