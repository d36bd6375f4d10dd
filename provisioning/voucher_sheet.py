"""Draws vouchers on A4 sheets to cut apart: QR code, title, letters to type, last day. Of many, several files of 40 sheets.

Pictures of 300 dots an inch, as in `sheet`. Sizes: 8 a sheet (QR 50 mm), 12 (41 mm) or 24 (29 mm: a module is 0.6 mm).
"""

import io
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct
from PIL import Image, ImageDraw

from provisioning.sheet import DPI, PAGE, Pen, qr

MARGIN: Final = 90
GRIDS: Final = {8: (2, 4), 12: (2, 6), 24: (3, 8)}  # columns, rows
PAGES_A_FILE: Final = 40  # some 40 MB while they are drawn
QR_OF: Final = {8: 600, 12: 490, 24: 350}  # px
SIZES: Final = {8: (46, 34), 12: (42, 30), 24: (34, 24)}  # of the title and of what is below it


class Printed(Struct, frozen=True):
    """One voucher as printed."""

    code: str
    title_zh: str
    title_en: str
    short_code: str
    typed: bool  # whether the letters may be typed in the shop
    store: str  # empty: any
    not_after_s: int
    timezone: str = "Asia/Taipei"

    @property
    def until(self) -> str:
        """The last day."""
        return f"{datetime.fromtimestamp(self.not_after_s, UTC).astimezone(ZoneInfo(self.timezone)):%Y-%m-%d}"


def files(
    vouchers: Iterable[Printed], per_page: int, font: Path | None, drawn: Callable[[], None] = lambda: None
) -> Iterator[bytes]:  # fmt: skip
    """PDFs of all vouchers, in their order; `drawn` is called after each voucher.

    Args:
        vouchers: Any number; read as they are drawn.
        per_page: 8, 12 or 24.
        font: For Chinese; None draws English only.
    """
    pen, waiting = VoucherPen(font, per_page), iter(vouchers)
    while part := list(islice(waiting, per_page * PAGES_A_FILE)):
        pages = [pen.page(part[start : start + per_page], drawn) for start in range(0, len(part), per_page)]
        out = io.BytesIO()
        pages[0].save(out, "PDF", resolution=DPI, save_all=True, append_images=pages[1:], title="Vouchers")
        yield out.getvalue()


class VoucherPen(Pen):
    """Draws vouchers, so many a page."""

    def __init__(self, font: Path | None, per_page: int) -> None:
        super().__init__(font)
        self._columns, rows = GRIDS[per_page]
        self._cell = (PAGE[0] - 2 * MARGIN) // self._columns, (PAGE[1] - 2 * MARGIN) // rows
        self._qr_px, self._text = QR_OF[per_page], SIZES[per_page]
        self._chinese = font is not None

    def page(self, vouchers: list[Printed], drawn: Callable[[], None]) -> Image.Image:
        """A sheet, black on white."""
        sheet = Image.new("1", PAGE, 1)
        for place, one in enumerate(vouchers):
            left, top = MARGIN + place % self._columns * self._cell[0], MARGIN + place // self._columns * self._cell[1]
            sheet.paste(self.voucher(one), (left, top))
            drawn()
        return sheet

    def voucher(self, one: Printed) -> Image.Image:
        """One voucher with its frame."""
        picture = Image.new("L", self._cell, 255)
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, 0, self._cell[0] - 1, self._cell[1] - 1), outline=170)  # where to cut
        code = qr(one.code, self._qr_px)
        picture.paste(code, (10, (self._cell[1] - code.height) // 2))
        self.write(draw, self._about(one), (code.width + 14, 30), (self._cell[0] - code.width - 34, self._cell[1] - 60))
        return picture.point(lambda value: 255 if value > 150 else 0).convert("1")

    def _about(self, one: Printed) -> list[tuple[str, int]]:
        title, small = self._text
        titles = [(one.title_zh, title)] if self._chinese else []
        if one.title_en not in ("", one.title_zh) or not self._chinese:
            titles.append((one.title_en if one.title_en.isascii() or self._chinese else "Voucher", small))
        shop = [(f"門市 Shop {one.store}" if self._chinese else f"Shop {one.store}", small)] if one.store else []
        letters = "" if one.typed else "（請掃碼 scan only）" if self._chinese else " (scan only)"
        until = f"有效期限 Valid until {one.until}" if self._chinese else f"Valid until {one.until}"
        return [*titles, *shop, (one.short_code + letters, small), (until, small)]
