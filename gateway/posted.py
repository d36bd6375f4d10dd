"""Rows of finished sales, as tills post them. Part of `gateway.events`, which everybody imports them from. Pure, all of lane 0."""

from msgspec import Struct

from gateway.moments import Event, Instant


class SoldLine(Struct, frozen=True):
    """One line of a receipt."""

    sku: str
    quantity: int
    price_minor: int  # paid for all its pieces together, after every discount, in the currency's minor unit


class SalePosted(Event, frozen=True):
    """A till has finished a sale. Nothing is decided by it: it happened, and headquarters joins it to what led to it."""

    sale_id: str  # 16 hex digits, chosen by the box
    receipt_id: str  # the till's own; posted once for each till
    station: str
    device: str | None  # the till; None: a person signed in
    staff: str | None
    currency: str
    lines: list[SoldLine]
    redemption_ids: list[str]  # the vouchers used in it, as far as the till named them
    authorization_id: str | None  # a hold of it that was not captured yet
    order_id: str | None  # the pickup it followed, if the till named it
    event_time: Instant
    member_ref: str | None = None  # never a phone number; None: an anonymous basket

    @property
    def total_minor(self) -> int:
        """What was paid in all."""
        return sum(line.price_minor for line in self.lines)
