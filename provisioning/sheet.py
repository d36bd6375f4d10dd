"""Draws enrolment labels on A4 sheets of eight stickers (99.1 x 67.7 mm), one label a box, as a PDF.

Drawn as a picture of 300 dots an inch, which any printer prints as it is and which needs no font in the PDF. Chinese words
are drawn where a CJK font is installed (Debian: `fonts-noto-cjk`); elsewhere the labels are in English only.
"""

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import segno
from msgspec import Struct
from PIL import Image, ImageDraw, ImageFont

DPI: Final = 300
PAGE: Final = (2480, 3508)  # A4
LABEL: Final = (1170, 800)
COLUMNS: Final = 2
ROWS: Final = 4
LEFT: Final = 55  # of the sheet; stickers stand 2.5 mm apart
GAP: Final = 30
TOP: Final = 153
QR_PX: Final = 560  # 47 mm: a module of a version 8 code is 0.8 mm, which a webcam reads at a hand's breadth
INK: Final = 0
CJK_FONTS: Final = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/noto/NotoSansTC-Regular.ttf",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/arphic/uming.ttc",
)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Sticker(Struct, frozen=True):
    """One label as printed."""

    code: str
    box: str
    store: str
    name_zh: str
    name_en: str
    timezone: str
    not_after_us: int

    @classmethod
    def of(cls, issued: dict[str, Any]) -> "Sticker":
        """The sticker of one box that headquarters has issued a label for."""
        return cls(
            issued["label"], issued["gateway"], issued["store"], issued["name_zh"], issued["name_en"], issued["timezone"],
            issued["not_after_us"],
        )  # fmt: skip

    @property
    def until(self) -> str:
        """The last day, by the shop's calendar."""
        return f"{datetime.fromtimestamp(self.not_after_us / 1e6, UTC).astimezone(ZoneInfo(self.timezone)):%Y-%m-%d}"


def cjk_font() -> Path | None:
    """An installed font with Chinese letters."""
    return next((path for path in map(Path, CJK_FONTS) if path.exists()), None)


def sheets(stickers: Sequence[Sticker], font: Path | None, drawn: Callable[[], None] = lambda: None) -> bytes:
    """A PDF of all labels, in their order; `drawn` is called after each.

    Args:
        stickers: At least one.
        font: For Chinese; None draws English only.
    """
    draw = Pen(font)
    pages: list[Image.Image] = []
    for place, sticker in enumerate(stickers):
        column, row = place % COLUMNS, place // COLUMNS % ROWS
        if place % (COLUMNS * ROWS) == 0:
            pages.append(Image.new("1", PAGE, 1))
        pages[-1].paste(draw.label(sticker), (LEFT + column * (LABEL[0] + GAP), TOP + row * LABEL[1]))
        drawn()
    out = io.BytesIO()
    pages[0].save(out, "PDF", resolution=DPI, save_all=True, append_images=pages[1:], title="Enrolment labels")
    return out.getvalue()


class Pen:
    """Draws labels; keeps the fonts it has opened."""

    def __init__(self, font: Path | None) -> None:
        self._font = font
        self._index = _traditional(font) if font is not None else 0
        self._sizes: dict[int, Font] = {}

    def label(self, sticker: Sticker) -> Image.Image:
        """One label, black on white."""
        picture = Image.new("L", LABEL, 255)
        draw = ImageDraw.Draw(picture)
        code = qr(sticker.code)
        picture.paste(code, (30, 110))
        draw.text((44, 34), "門市機器註冊標籤  Enrolment label" if self._font else "Enrolment label", INK, self._of(44))
        self._lines(draw, sticker)
        return picture.point(lambda value: 255 if value > 150 else 0).convert("1")

    def _lines(self, draw: ImageDraw.ImageDraw, sticker: Sticker) -> None:
        """Who it is for beside the code, and below it what to do where there is no scanner; long names are drawn smaller."""
        self.write(draw, self._words(sticker), (620, 128), (LABEL[0] - 650, LABEL[1] - 148))
        below = [("沒有掃描器：用手機掃螢幕上的碼，再拍此標籤", 26)] if self._font else []
        below.append(("No scanner: scan the code on the box's screen with a phone, then photograph this label", 23))
        self.write(draw, below, (44, 112 + QR_PX), (QR_PX, LABEL[1] - 120 - QR_PX))

    def write(self, draw: ImageDraw.ImageDraw, words: list[tuple[str, int]], place: tuple[int, int], room: tuple[int, int]) -> None:
        """Lines of text of a size each, in so much room; smaller where they would not fit."""
        lines: list[tuple[str, int, int]] = []
        for percent in range(100, 40, -10):
            lines = [
                (line, size * percent // 100, 12 * last)
                for text, size in words
                for line, last in self._wrapped(text, size * percent // 100, room[0])
            ]
            if sum(round(size * 1.32) + gap for _, size, gap in lines) - 12 <= room[1]:
                break
        top = place[1]
        for line, size, gap in lines:
            draw.text((place[0], top), line, INK, self._of(size))
            top += round(size * 1.32) + gap

    def _words(self, sticker: Sticker) -> list[tuple[str, int]]:
        plain = sticker.name_en or sticker.store
        if self._font is None:
            return [
                (sticker.box, 58), (plain, 42), (f"Shop {sticker.store}", 34), (f"Valid until {sticker.until}", 38),
                ("Power on, then hold this code before the box's own scanner.", 30), ("Works once. Until then, keep it to yourself.", 30),
            ]  # fmt: skip
        return [
            (sticker.box, 58), (sticker.name_zh or plain, 48), (f"{plain} ({sticker.store})", 32),
            (f"有效期限 Valid until {sticker.until}", 34),
            ("接上電源，將此碼對準本機的掃描器", 32), ("Power on, then hold this code before the box's own scanner", 26),
            ("限用一次；使用前請勿外流", 32), ("Works once. Until then, keep it to yourself", 26),
        ]  # fmt: skip

    def _wrapped(self, text: str, size: int, width: int) -> list[tuple[str, bool]]:
        """Broken at spaces where it is too wide, and between any letters where a word alone is; each line, and whether it is the last."""
        lines = [""]
        for word in text.replace(" ", " \0").split("\0"):
            if self._of(size).getlength(lines[-1] + word) > width and lines[-1]:
                lines.append("")
            for letter in word:
                if self._of(size).getlength(lines[-1] + letter) > width:
                    lines.append("")
                lines[-1] += letter
        return [(line, place == len(lines) - 1) for place, line in enumerate(lines)]

    def _of(self, size: int) -> Font:
        if size not in self._sizes:
            made: Font = ImageFont.truetype(str(self._font), size, self._index) if self._font else ImageFont.load_default(size)
            self._sizes[size] = made
        return self._sizes[size]


def _traditional(font: Path) -> int:
    """The face of a collection that has Taiwan's letter forms."""
    for index in range(12):
        try:
            family = ImageFont.truetype(str(font), 12, index).getname()[0] or ""
        except OSError:
            break
        if family.endswith(" TC"):
            return index
    return 0


def qr(text: str, side_px: int = QR_PX) -> Image.Image:
    """A QR code at level M, as large as fits into so many pixels, its white border included."""
    code = segno.make_qr(text, error="m", boost_error=False)
    modules = code.symbol_size(border=4)[0]
    scale = side_px // modules
    out = io.BytesIO()
    code.save(out, kind="png", scale=scale, border=4)
    with Image.open(out) as drawn:
        return drawn.convert("L")
