"""What every voucher class promises, whatever shops, headquarters, line, clocks and disks do: shops and headquarters for the model.

`benchmarks.chain` has shops and a headquarters made of the product's rules; this adds holds, captures and reversals, messages that
may come late, twice or never, and a headquarters that is restored from a backup and its journal.
"""

import copy
from collections import Counter as Tally
from collections.abc import Callable
from random import Random
from typing import Final

from benchmarks.chain import Headquarters, Line, Opened, Sale, Shop, Start
from gateway.catalog import Catalog
from gateway.config import TillTable
from gateway.core.counter import Counter
from gateway.core.offers import Offer
from gateway.core.verdict import Actor, Asked, Doing, Shown, Verdict
from gateway.events import RedemptionReversed, VoucherAuthorized, VoucherRedeemed
from gateway.rules.assigning import Assigner, Stand
from gateway.rules.assignment import Book
from gateway.rules.uses import Used
from gateway.rules.voucher import Terms, Want
from gateway.signed import UsedVoucher
from tests.conftest import VirtualClock

TILL: Final = Actor("d-1", None, frozenset({"pos"}))
SHOWN: Final = Shown("0" * 32, "till", "pos@till", None)


class Till(Shop):
    """A shop with the product's own counter: it also holds, captures, voids and takes back."""

    def __init__(self, name: str, terms: dict[str, Terms], clock: VirtualClock, book: Callable[[str], Book], chance: Random) -> None:
        self.terms = terms
        self.clock = clock
        super().__init__(name, book, chance)

    def redeem(self, voucher_id: str, want: Want, doing: Doing = Doing.REDEEM) -> bool:
        """Class `store_bound`, in one step or, to hold it, in two: whether it may be."""
        verdict = self.counter.decide(self.terms[voucher_id], SHOWN, Asked(doing, want, device=TILL.device))
        return self._commit(verdict)

    def capture(self, authorization_id: str, want: Want | None) -> bool:
        """Redeem what is held, or less; late too."""
        self.run_out()
        return self._commit(self.counter.capture(authorization_id, TILL, SHOWN, want))

    def void(self, authorization_id: str) -> bool:
        """Give up a hold."""
        return self._commit(self.counter.void(authorization_id, TILL, SHOWN))

    def reverse(self, redemption_id: str) -> bool:
        """Take a use back."""
        return self._commit(self.counter.reverse(redemption_id, TILL, SHOWN))

    def run_out(self) -> None:
        """End the holds whose time is over."""
        for row in self.counter.run_out():
            self._write(row)  # type: ignore[arg-type]

    def holds(self) -> list[str]:
        """Names of all holds of its line."""
        return [row.authorization_id for row in self._rows() if isinstance(row, VoucherAuthorized)]

    def redemptions(self) -> list[str]:
        """Names of all redemptions of its line that no assignment stands behind."""
        return [row.redemption_id for row in self._rows() if isinstance(row, VoucherRedeemed) and not row.number]

    def _rows(self) -> list[object]:
        return [row for start, upto in self.start.line() for row in start.rows[:upto]]

    def _commit(self, verdict: Verdict) -> bool:
        for row in verdict.rows:
            if isinstance(row, VoucherRedeemed | Sale):
                self._write(row)
        return verdict.answer.ok

    def _begin(self, parent: Start | None, claimed: int, proven: bool) -> None:
        nothing_signed = Catalog(self.name, [])
        self.counter = Counter(TillTable(), nothing_signed, self.clock, lambda: self.start.proven, lambda _, __, want, *___: Offer(want))
        self._made()
        super()._begin(parent, claimed, proven)
        self.used.restart(self.clock.boottime_ns())

    def _made(self) -> None:
        """A start has its counter, and nothing is folded yet."""

    @property
    def used(self) -> Used:
        """The counter's own book."""
        return self.counter.used

    @used.setter
    def used(self, _: Used) -> None:
        """A start makes a counter, and the counter its book."""


class Office(Headquarters):
    """Headquarters that counts reversals, loses messages' order and is put back from a backup beside its journal."""

    def __init__(self, rules: Assigner) -> None:
        super().__init__(rules)
        self.spent_minor: dict[str, Tally[str]] = {}
        self.seen: set[str] = set()  # reversals, each once
        self.used_by: dict[str, str] = {}  # redemption to the start that wrote it
        self._backup: dict[str, object] = {}
        self.back_up()

    def take_some(self, shop: str, start: Start, most: int) -> None:
        """At most so many of a start's rows that are not here yet, each only after all before it along its line."""
        for one, upto in reversed(list(start.line())):
            mark = self.marks.get(one.name, 0)
            reach = min(upto, mark + most)
            for row in one.rows[mark:reach]:
                self._took(shop, one.name, row)
            self.marks[one.name] = max(mark, reach)
            most -= max(0, reach - mark)
            if reach < upto:
                return

    def _took(self, shop: str, epoch: str, row: Line | Opened) -> None:
        if isinstance(row, RedemptionReversed):
            if row.redemption_id not in self.seen:
                self.seen.add(row.redemption_id)
                self._took_back(shop, epoch, row)
        elif isinstance(row, VoucherRedeemed) and not row.number:
            self._count(shop, row.voucher_id, row.units, row.amount_minor)
        else:
            if isinstance(row, VoucherRedeemed):
                self.used_by.setdefault(row.redemption_id, epoch)
            super()._took(shop, epoch, row)

    def _took_back(self, shop: str, epoch: str, row: RedemptionReversed) -> None:
        if row.number:
            spent_by = self.used_by.get(row.redemption_id, epoch)
            self.stands[row.voucher_id] = self.rules.taken_back(self.stands[row.voucher_id], shop, row.number, spent_by, row.units)
        else:
            self._count(shop, row.voucher_id, -row.units, -row.amount_minor)

    def _count(self, shop: str, voucher_id: str, units: int, minor: int) -> None:
        self.own_uses.setdefault(shop, Tally())[voucher_id] += units
        self.spent_minor.setdefault(shop, Tally())[voucher_id] += minor

    def opening(self, shop: str, start: Start) -> Opened:
        """As pressed, with what was spent of face values."""
        opened = super().opening(shop, start)
        spent = self.spent_minor.get(shop, Tally[str]())
        opened.used = [UsedVoucher(one.voucher_id, one.uses, 0, "", None, spent_minor=spent.get(one.voucher_id, 0)) for one in opened.used]
        return opened

    def back_up(self) -> None:
        """A backup: everything a database holds."""
        kept = ("stands", "marks", "settled", "own_uses", "spent_minor", "seen", "used_by", "replies", "losses", "lost_units")
        self._backup = {name: copy.deepcopy(getattr(self, name)) for name in kept}

    def restore(self) -> None:
        """Put the backup back, and read the journal again: stands that left, openings, destroyed boxes."""
        left: dict[str, Stand] = self.stands
        for name, value in self._backup.items():
            setattr(self, name, copy.deepcopy(value))
        self.stands = {voucher_id: self.rules.recalled(stand, left[voucher_id]) for voucher_id, stand in self.stands.items()}
