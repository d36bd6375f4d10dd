"""A voucher as shoppers hold it before a camera: on a bright screen, on a dim one, on worn paper, as a bar code. PNG files."""

import cv2
import numpy as np
import segno
import zxingcpp
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
MODULE_PX = 8
INK, PAPER = 25, 235


def bright_screen(text: str) -> bytes:
    return _png(_qr(text, dark=10, light=250))


def dim_screen(text: str) -> bytes:
    """Hardly lit, in a dark case, with the glare of a lamp across it."""
    drawn = _qr(text, dark=14, light=72).astype(np.float64)
    across, down = np.meshgrid(np.linspace(0, 1, drawn.shape[1]), np.linspace(0, 1, drawn.shape[0]))
    glare = 30.0 * np.exp(-(((across - down) / 0.15) ** 2))
    seen = np.clip(drawn + glare, 0, 255).astype(np.uint8)
    return _png(cv2.copyMakeBorder(seen, 64, 64, 64, 64, cv2.BORDER_CONSTANT, value=(6,)))


def worn_paper(text: str) -> bytes:
    """Faded print, folded once, with a stain in a corner."""
    drawn = _qr(text, dark=95, light=205)
    side = drawn.shape[0]
    drawn[:, side // 3 : side // 3 + 5] = 225  # the fold: the print has broken off
    cv2.circle(drawn, (side - side // 6, side - side // 6), side // 12, (150,), -1)
    return _png(cv2.GaussianBlur(drawn, (0, 0), 2.0))


def bar_code(text: str) -> bytes:
    """Code 128."""
    bars = np.array(zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.Code128).to_image(scale=MODULE_PX))
    line = np.where(bars[bars.shape[0] // 2] < 128, INK, PAPER).astype(np.uint8)
    drawn = np.repeat(line[None, :], 60 * MODULE_PX, axis=0)
    quiet = 10 * MODULE_PX
    return _png(cv2.copyMakeBorder(drawn, quiet, quiet, quiet, quiet, cv2.BORDER_CONSTANT, value=(PAPER,)))


def _qr(text: str, dark: int, light: int) -> Grey:
    code = segno.make_qr(text, error="m", boost_error=False)
    modules = np.array([list(row) for row in code.matrix_iter(scale=MODULE_PX, border=4)], dtype=np.uint8)
    return np.where(modules > 0, dark, light).astype(np.uint8)


def _png(drawn: NDArray[np.generic]) -> bytes:
    fine, encoded = cv2.imencode(".png", np.asarray(drawn))
    assert fine
    return encoded.tobytes()
