"""The printed table: one row for each promise, with what was seen."""

import time
from collections.abc import Callable

from msgspec import Struct

from gateway.errors import StoreError
from tests.hardware.machine import Failed, Skipped

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"


class Row(Struct, frozen=True):
    """What became of one promise."""

    name: str
    outcome: str
    seen: str
    took_s: float


class Table:
    """Runs what shows each promise, in order, and keeps what came of it.

    Args:
        told: Takes each row as soon as it is there.
        only: Names of the rows that are wanted; empty: all. Rows others stand on run anyway.
    """

    def __init__(self, told: Callable[[Row], None], only: list[str]) -> None:
        self.rows: list[Row] = []
        self._told = told
        self._only = only

    def show(self, name: str, how: Callable[[], str], *needs: str) -> None:
        """Add a row.

        Args:
            how: Shows it and says what was seen; raises Failed or Skipped.
            needs: Rows without which this one cannot be shown.
        """
        began_s = time.monotonic()
        missing = [need for need in needs if self.outcome(need) != PASS]
        if missing:
            self._add(name, SKIP, f"needs {', '.join(missing)}", began_s)
            return
        if self._only and name not in self._only:
            self._add(name, SKIP, "not asked for", began_s)
            return
        try:
            outcome, seen = PASS, how()
        except Skipped as reason:
            outcome, seen = SKIP, str(reason)
        except (Failed, StoreError) as error:
            outcome, seen = FAIL, str(error)
        self._add(name, outcome, seen, began_s)

    def skip(self, names: list[str], reason: str) -> None:
        """Rows that cannot be tried here."""
        for name in names:
            self._add(name, SKIP, reason, time.monotonic())

    def outcome(self, name: str) -> str:
        """What became of a row; empty: not there yet."""
        return next((row.outcome for row in self.rows if row.name == name), "")

    def _add(self, name: str, outcome: str, seen: str, began_s: float) -> None:
        row = Row(name, outcome, " ".join(seen.split()), round(time.monotonic() - began_s, 1))
        self.rows.append(row)
        self._told(row)
