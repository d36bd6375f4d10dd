"""Logs that a flash card and a person can bear: the same line at most `BURST` times a minute, the rest only counted.

Facts are in the ledger; a log says what an engineer would want to know once. Whatever repeats, such as a stranger's rubbish on the
broker or a page that fails at each request, comes from one place in the code, and that place is what is counted.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

BURST: Final = 5
WINDOW_S: Final = 60.0
FORMAT: Final = "%(levelname)s %(name)s: %(message)s"


class _Place(Struct):
    began_s: float
    said: int = 0
    kept_back: int = 0


class Sparse(logging.Filter):
    """Lets each place in the code speak `BURST` times in `WINDOW_S`; its next line says how many were kept back."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._places: dict[tuple[str, int], _Place] = {}  # as many as there are logging calls in the code

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is said."""
        now_s = self._now_s()
        place = self._places.setdefault((record.pathname, record.lineno), _Place(now_s))
        if now_s - place.began_s >= WINDOW_S:
            if place.kept_back:
                record.msg, record.args = f"{record.getMessage()} (and {place.kept_back} more since)", ()
            place.began_s, place.said, place.kept_back = now_s, 0, 0
        if place.said >= BURST:
            place.kept_back += 1
            return False
        place.said += 1
        return True


def to_stderr() -> None:
    """What every unit logs by: to its standard error, which is the journal's on a box."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(Sparse())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
