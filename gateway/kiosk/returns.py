"""Returned goods over HTTP: lines of a finished sale, and the till's refund slip."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from gateway.core.returns import Returning
from gateway.core.verdict import Actor
from gateway.events import ReturnedLine
from gateway.kiosk.fields import Key, Station
from gateway.kiosk.pos import idempotency
from gateway.rules.definitions import Sku

if TYPE_CHECKING:
    from gateway.core.desk import Desk

Slip = Annotated[
    str, Meta(pattern=r"^[!-~]{1,40}(?!\n)$", description="The till's own, never the same again: a long number begins with a letter.")
]


class BackLine(Struct, forbid_unknown_fields=True):
    """Pieces of one line that come back."""

    line: Annotated[int, Meta(ge=1, le=200, description="Which line of the sale's receipt, from 1.")]
    sku: Sku
    quantity: Annotated[int, Meta(ge=1, le=9_999)]
    price_minor: Annotated[int, Meta(ge=0, le=10**10, description="Paid back for all of them together; the currency's minor unit.")]


class Return(Struct, forbid_unknown_fields=True, kw_only=True):
    """Goods of a finished sale that come back: the sale by its identifier or by its receipt, one of the two."""

    station: Station
    refund_id: Slip
    lines: Annotated[list[BackLine], Meta(min_length=1, max_length=200)]
    sale_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}(?!\n)$", description="As `sales` answered it in `reference`.")] | None = None
    receipt_id: Slip | None = None
    key: Key | None = None

    def __post_init__(self) -> None:
        if (self.sale_id is None) == (self.receipt_id is None):
            raise ValueError("a sale_id or a receipt_id")


def post_return(desk: "Desk", asked: Return, actor: Actor, header: str | None) -> Awaitable[bytes]:
    """Take it, once for its key.

    Raises:
        ConflictingKey: That key was another request.
        HTTPException: 422, no key.
    """
    returning = Returning(
        refund_id=asked.refund_id, station=asked.station, sale_id=asked.sale_id, receipt_id=asked.receipt_id,
        lines=[ReturnedLine(one.line, one.sku, one.quantity, one.price_minor) for one in asked.lines],
    )  # fmt: skip
    return desk.till.take_back(returning, key=idempotency(asked.key, header), actor=actor)
