"""A shop of the model that honours open codes, with the product's own `Quotas`, counter and books."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final, cast

from benchmarks.chain import Line, Opened, Start
from gateway.anywhere import Known, OpenCode
from gateway.catalog import Catalog
from gateway.core.claims import Claims
from gateway.core.quotas import Quotas
from gateway.core.risk import Risk
from gateway.core.verdict import Asked, Doing
from gateway.events import (
    AuthorizationEnded,
    OpenCodeHeld,
    OpenCodeUsed,
    RedemptionReversed,
    Row,
    VoucherAuthorized,
    VoucherRedeemed,
)
from gateway.rules.assignment import Book
from gateway.rules.voucher import Terms, Want
from gateway.signed import Grant
from tests.conftest import VirtualClock

from .classes import SHOWN, TILL, Till

QUOTA: Final = 4
ALLOTMENT: Final = 3
PER_MEMBER: Final = 2
OPEN: Final = OpenCode(
    voucher_id="open", campaign=5, title_zh="", title_en="", not_before_s=0, not_after_s=1 << 40, digests=[], allotment=ALLOTMENT,
    per_member=PER_MEMBER,
)  # fmt: skip


class Held:
    """Stands where `Claims` stands: what the box holds. Nobody waits at the counter: headquarters is asked in steps of its own."""

    def __init__(self, till: "OpenTill") -> None:
        self._till = till

    def held(self, voucher_id: str) -> Grant | None:
        """As `Claims.held`."""
        book, running, earliest_us = self._till.book, self._till.running(), self._till.clock.bounds_us()[0]
        return next((one for one in book.held(voucher_id) if book.refusal(one, 0, running, earliest_us) is None), None)

    def ask(self, voucher_id: str, units: int, station: str) -> None:
        """No line."""
        return None


class NoLine:
    """Headquarters does not answer."""

    up = False
    down_s = 1.0


class OpenTill(Till):
    """A shop with open codes."""

    def __init__(self, name: str, terms: dict[str, Terms], clock: VirtualClock, book: Callable[[str], Book], chance: Random) -> None:
        self.inside: set[tuple[str, int]] = set()  # places within a commit: no disk ends there
        self.was_put_back = False
        super().__init__(name, terms, clock, book, chance)

    def use_open(self, doing: Doing, member: str) -> bool:
        """Somebody says the code."""
        verdict = self.quotas.present(OPEN, SHOWN, Asked(doing, Want(), device=TILL.device, member_ref=member))
        return self._commit_open(verdict.answer.ok, verdict.rows)

    def capture_open(self, authorization_id: str) -> bool:
        """Redeem what is held, late too."""
        self.run_out()
        verdict = self.counter.capture(authorization_id, TILL, SHOWN, None)
        return self._commit_open(verdict.answer.ok, verdict.rows)

    def reverse_open(self, redemption_id: str) -> bool:
        """Take a use back."""
        verdict = self.counter.reverse(redemption_id, TILL, SHOWN)
        return self._commit_open(verdict.answer.ok, verdict.rows)

    def open_uses(self) -> list[str]:
        """Names of the uses of the code along its line."""
        return [row.redemption_id for row in self._rows() if isinstance(row, OpenCodeUsed)]

    def open_holds(self) -> list[str]:
        """Names of the holds of the code along its line."""
        return [row.authorization_id for row in self._rows() if isinstance(row, OpenCodeHeld)]

    def _commit_open(self, ok: bool, rows: list[Row]) -> bool:
        kept = [
            row for row in rows
            if isinstance(row, VoucherRedeemed | VoucherAuthorized | AuthorizationEnded | RedemptionReversed | OpenCodeUsed | OpenCodeHeld)
        ]  # fmt: skip
        at = len(self.start.rows)
        self.inside |= {(self.start.name, place) for place in range(at + 1, at + len(kept))}
        for row in kept:
            self._write(cast(Line, row))
        return ok

    def put_back(self, marks: dict[str, int], rows: int | None = None) -> None:
        """As any disk."""
        self.was_put_back = True
        super().put_back(marks, rows)

    def _begin(self, parent: Start | None, claimed: int, proven: bool) -> None:
        while parent is not None and (parent.name, claimed) in self.inside:
            claimed += 1  # a commit is on a disk whole
        catalog = Catalog(self.name, [])
        catalog.anywhere = Known(codes={OPEN.voucher_id: OPEN})
        self._make_quotas = partial(self._quotas, catalog)
        super()._begin(parent, claimed, proven)

    def _made(self) -> None:
        """The counter of this start is there: so is what stands behind it."""
        self.quotas = self._make_quotas()
        self.counter.finish = self._finish

    def _quotas(self, catalog: Catalog) -> Quotas:
        claims = cast(Claims, Held(self))
        risk = Risk(catalog, self.clock, self.counter, claims, NoLine(), lambda place: False)
        return Quotas(catalog, self.clock, self.counter, claims, NoLine(), risk)

    def _finish(self, verdict: Any, hold: Any, shown: Any) -> Any:
        held = self.quotas.book.held(hold.asked.authorization_id)
        return verdict if held is None else self.quotas.finish(verdict, held, hold, shown)

    def _fold(self, row: Any, number: int, seq: int) -> None:
        place = number, seq
        if isinstance(row, OpenCodeUsed | OpenCodeHeld):
            self.quotas.book.fold(row, place)
            return
        super()._fold(row, number, seq)
        if isinstance(row, RedemptionReversed):
            self.quotas.book.fold(row, place)
            self.book.fold(row, place)
        elif isinstance(row, VoucherRedeemed) and row.voucher_id == OPEN.voucher_id:
            self.used.fold(row, place)
        elif isinstance(row, Opened):
            self.quotas.book.adopt(row.stands, row.marks)
