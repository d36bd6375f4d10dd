"""What of each finished sale is still with the customer. Pure; rebuilt from the rows of sales and returns.

A return names lines of the sale's receipt. Of each line no more pieces come back than were sold, and no more money than was paid for
them; the last piece may bring back whatever is left of its line. Kept are the newest `MOST_SALES`: of older ones this box says that it
does not know them, rather than guess.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from gateway.events import PointsAccrued, ReturnedLine, SalePosted, SaleReturned
from gateway.rules.marks import NOWHERE, RowPlace

MOST_SALES: Final = 10_000  # some 4 MB; a busy shop's fortnight
Posted = SalePosted | SaleReturned | PointsAccrued


class SaleLeft(Struct, frozen=True, array_like=True):
    """A sale, and what is left of it."""

    sale_id: str
    receipt_id: str
    till: str
    currency: str
    lines: list[tuple[str, int, int]]  # SKU, pieces and price (minor units) still with the customer
    redemption_ids: list[str]
    authorization_id: str | None
    earns: bool = False  # it earned somebody points, or will

    @property
    def is_empty(self) -> bool:
        """Whether everything came back."""
        return all(quantity == 0 for _, quantity, _ in self.lines)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SaleLeft).decode


def till_of(device: str | None, staff: str | None) -> str:
    """Whose receipt numbers are meant."""
    return device or f"staff {staff}"


def refusal(sale: SaleLeft, back: Sequence[ReturnedLine]) -> str | None:
    """Why lines cannot come back: a key of `gateway.rules.reasons.REASONS`."""
    if len({line.line for line in back}) != len(back):
        return "return_not_sold"
    for line in back:
        if not 1 <= line.line <= len(sale.lines) or sale.lines[line.line - 1][0] != line.sku:
            return "return_not_sold"
        _, quantity, price_minor = sale.lines[line.line - 1]
        if line.quantity > quantity or line.price_minor > _most(quantity, price_minor, line.quantity):
            return "return_too_much"
    return None


def after(sale: SaleLeft, back: Sequence[ReturnedLine]) -> SaleLeft:
    """What is left then; of lines nobody sold nothing is taken, and nothing falls below zero."""
    lines = list(sale.lines)
    for line in back:
        if 1 <= line.line <= len(lines):
            sku, quantity, price_minor = lines[line.line - 1]
            lines[line.line - 1] = (sku, max(0, quantity - line.quantity), max(0, price_minor - line.price_minor))
    return msgspec.structs.replace(sale, lines=lines)


def _most(quantity: int, price_minor: int, back: int) -> int:
    """What may be paid back for some pieces of a line: their share, rounded up; with the last piece all that is left."""
    return price_minor if back == quantity else -(-price_minor * back // quantity)


class Goods:
    """The sales of this shop."""

    def __init__(self) -> None:
        self._sales: OrderedDict[str, bytes] = OrderedDict()  # packed: there are many, and few come back
        self._by_receipt: dict[str, tuple[str, ...]] = {}
        self._refunds: OrderedDict[tuple[str, str], str] = OrderedDict()  # till and refund slip to return

    def fold(self, row: Posted, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        if isinstance(row, SalePosted):
            self._sold(row)
        elif isinstance(row, PointsAccrued):
            self._change(row.sale_id, lambda sale: msgspec.structs.replace(sale, earns=True))
        else:
            self._change(row.sale_id, lambda sale: after(sale, row.lines))
            self._refunds[till_of(row.device, row.staff), row.refund_id] = row.return_id
            if len(self._refunds) > MOST_SALES:
                self._refunds.popitem(last=False)

    def find(self, sale_id: str | None, receipt_id: str | None, till: str) -> SaleLeft | None:
        """By its identifier, or by its receipt: of this till, else of the one till that has such a receipt; None: not sure."""
        if sale_id is not None:
            return self._of(sale_id)
        found = [sale for one in self._by_receipt.get(receipt_id or "", ()) if (sale := self._of(one)) is not None]
        own = [sale for sale in found if sale.till == till] or found
        return own[0] if len(own) == 1 else None

    def refunded(self, till: str, refund_id: str) -> str | None:
        """The return a refund slip was posted for."""
        return self._refunds.get((till, refund_id))

    def _sold(self, row: SalePosted) -> None:
        lines = [(line.sku, line.quantity, line.price_minor) for line in row.lines]
        till = till_of(row.device, row.staff)
        sale = SaleLeft(row.sale_id, row.receipt_id, till, row.currency, lines, row.redemption_ids, row.authorization_id)
        self._sales[row.sale_id] = _encode(sale)
        self._by_receipt[row.receipt_id] = (*self._by_receipt.get(row.receipt_id, ()), row.sale_id)
        if len(self._sales) > MOST_SALES:
            old = _decode(self._sales.popitem(last=False)[1])
            rest = tuple(one for one in self._by_receipt.get(old.receipt_id, ()) if one != old.sale_id)
            self._by_receipt[old.receipt_id] = rest
            if not rest:
                del self._by_receipt[old.receipt_id]

    def _of(self, sale_id: str) -> SaleLeft | None:
        found = self._sales.get(sale_id)
        return None if found is None else _decode(found)

    def _change(self, sale_id: str, change: Callable[[SaleLeft], SaleLeft]) -> None:
        if (sale := self._of(sale_id)) is not None:
            self._sales[sale_id] = _encode(change(sale))
