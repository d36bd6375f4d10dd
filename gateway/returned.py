"""The row of returned goods, as tills post them. Part of `gateway.events`, which everybody imports it from. Pure, lane 0."""

from msgspec import Struct

from gateway.moments import Event, Instant


class ReturnedLine(Struct, frozen=True):
    """So many pieces of one line of a sale came back."""

    line: int  # of the sale's receipt, from 1
    sku: str
    quantity: int
    price_minor: int  # paid back for all of them together, in the currency's minor unit


class SaleReturned(Event, frozen=True):
    """A till took goods of a finished sale back. Vouchers that were given back with it are `RedemptionReversed` rows beside this one."""

    return_id: str  # 16 hex digits, chosen by the box
    sale_id: str
    receipt_id: str  # of the sale
    refund_id: str  # of the refund slip: the till's own, posted once for each till
    station: str
    device: str | None  # the till; None: a person signed in
    staff: str | None
    currency: str
    lines: list[ReturnedLine]
    is_whole: bool  # nothing of the sale is left with the customer
    redemption_ids: list[str]  # vouchers of the sale that are usable again, by the rules of reversing
    kept_ids: list[str]  # vouchers of the sale that stay used
    event_time: Instant

    @property
    def total_minor(self) -> int:
        """What was paid back in all."""
        return sum(line.price_minor for line in self.lines)
