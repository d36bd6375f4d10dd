"""What core knows: folded from the chain at its start, and from each row in the moment it is decided.

Every part of core names the rows it lives on. A row counts as soon as it is decided, so that the next decision sees it; nobody
is told of it before its commit. Rows of lane 0 are numbered here as the ledger will number them: in the order of their commits.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from gateway.clock import Clock
from gateway.events import (
    LANE_OF,
    Lane,
    ParcelCollected,
    RedemptionRefused,
    RedemptionReversed,
    Row,
    TimeTrust,
    VisitEnded,
    VoucherRedeemed,
)
from gateway.ledger import Ledger, StoredAnswer, StoredDocument
from gateway.rules.marks import RowPlace

COUNTED: Final = {
    VisitEnded: "visits", VoucherRedeemed: "redemptions", RedemptionReversed: "reversals", RedemptionRefused: "refusals",
    ParcelCollected: "collections",
}  # fmt: skip
Fold = Callable[[Any, RowPlace], None]


class Knowledge:
    """Hands each row to those who live on its kind."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._folds: dict[type[Row], list[Fold]] = {}
        self._last = 1  # of lane 0 in this epoch: its first row is there before anybody decides
        self.counts = dict.fromkeys(COUNTED.values(), 0)
        self.refused: Counter[str] = Counter()  # by reason

    @property
    def place(self) -> RowPlace:
        """Of the last row of lane 0 that was decided."""
        return self._ledger.epoch.number, self._last

    def is_acked(self, place: RowPlace) -> bool:
        """Whether headquarters has lane 0 up to a row of this epoch, and so all that came before."""
        return self._ledger.cursors.get(place[0], {}).get(int(Lane.MONEY), 0) >= place[1]

    def was_acked(self, place: RowPlace) -> bool:
        """Whether headquarters has had lane 0 up to a row of any epoch: what a later epoch continues is sent before it."""
        later = any(lanes.get(int(Lane.MONEY), 0) for epoch, lanes in self._ledger.cursors.items() if epoch > place[0])
        return later or self.is_acked(place)

    def tell(self, fold: Fold, *kinds: type[Row]) -> None:
        """Have `fold(row, place)` called for each row of these kinds."""
        for kind in kinds:
            self._folds.setdefault(kind, []).append(fold)

    def remember(self, see: Callable[[str], None], heed: Callable[[Row], None]) -> None:
        """Fold all that happened before; `see` takes the identifiers of the events that rows came from, `heed` each row."""
        for stored, row in self._ledger.history():
            self._fold(row, (stored.epoch, stored.seq))
            heed(row)
            if row.event_time.trust is TimeTrust.SYNCED:
                self._clock.raise_floor(stored.record_us)
            if stored.source_id:
                see(stored.source_id)
        for source_id in self._ledger.recent_sources():
            see(source_id)
        self.counts["visits"] = self._ledger.counts().get(VisitEnded.__name__, 0)

    def commit(
        self, rows: list[Row], source_id: str = "", answer: StoredAnswer | None = None, document: StoredDocument | None = None
    ) -> asyncio.Future[None]:
        """Fold rows and append them as one; done after the fsync."""
        for row in rows:
            if LANE_OF[type(row)] is Lane.MONEY:
                self._last += 1
            self._fold(row, (self._ledger.epoch.number, self._last))
        return self._ledger.append(rows, source_id=source_id, answer=answer, document=document)

    def _fold(self, row: Row, place: RowPlace) -> None:
        counted = COUNTED.get(type(row))
        if counted is not None:
            self.counts[counted] += 1
        if isinstance(row, RedemptionRefused):
            self.refused[row.reason] += 1
        for fold in self._folds.get(type(row), ()):
            fold(row, place)
