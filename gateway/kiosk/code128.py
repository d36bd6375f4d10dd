"""Code 128, drawn as SVG: for tills whose scanner reads bars and whose program knows no network.

Pairs of digits take one symbol (set C), everything else one letter each (set B). Source: ISO/IEC 15417:2007, table 1 and annex A.
"""

from typing import Final

# Widths of bar, space, bar, space, bar, space for symbols 0 to 105; 103 to 105 start sets A to C.
WIDTHS: Final = (
    "212222222122222221121223121322131222122213122312132212221213221312231212112232122132122231113222123122123221"
    "223211221132221231213212223112312131311222321122321221312212322112322211212123212321232121111323131123131321"
    "112313132113132311211313231113231311112133112331132131113123113321133121313121211331231131213113213311213131"
    "311123311321331121312113312311332111314111221411431111111224111422121124121421141122141221112214112412122114"
    "122411142112142211241211221114413111241112134111111242121142121241114212124112124211411212421112421211212141"
    "214121412121111143111341131141114113114311411113411311113141114131311141411131211412211214211232"
)
WIDTHS_EACH: Final = 6
STOP: Final = "2331112"
START_B: Final = 104
START_C: Final = 105
MODULUS: Final = 103
QUIET: Final = 10  # modules of white on each side
MAX_LETTERS: Final = 32


def symbols(text: str) -> list[int]:
    """The symbols of a text, start and check among them, stop not.

    Raises:
        ValueError: Empty, longer than 32 letters, or beyond printable ASCII.
    """
    if not 0 < len(text) <= MAX_LETTERS or not all(" " <= letter <= "~" for letter in text):
        raise ValueError("Code 128 is drawn of 1 to 32 printable ASCII letters")
    if text.isdigit() and len(text) % 2 == 0:
        found = [START_C, *(int(text[at : at + 2]) for at in range(0, len(text), 2))]
    else:
        found = [START_B, *(ord(letter) - 32 for letter in text)]
    check = (found[0] + sum(place * value for place, value in enumerate(found))) % MODULUS
    return [*found, check]


def svg(text: str, *, module_px: int = 3, height_px: int = 120) -> bytes:
    """A picture of it: black on white, quiet zones included, bars as tall as `height_px`.

    Raises:
        ValueError: As `symbols`.
    """
    printed = "".join(WIDTHS[WIDTHS_EACH * symbol : WIDTHS_EACH * (symbol + 1)] for symbol in symbols(text)) + STOP
    at, bars = QUIET, list[str]()
    for place, width in enumerate(map(int, printed)):
        if place % 2 == 0:
            bars.append(f"M{at} 0h{width}v{height_px}h-{width}z")
        at += width
    modules = at + QUIET
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {modules} {height_px}" width="{modules * module_px}" height="{height_px}"'
        f' preserveAspectRatio="none" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{modules}v{height_px}H0z"/>'
        f'<path d="{"".join(bars)}"/></svg>'
    ).encode()
