"""A finished sale over HTTP: the till's receipt, and what it knows of what led to it."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from gateway.core.receipts import Posting
from gateway.core.verdict import Actor
from gateway.events import SoldLine
from gateway.kiosk.fields import Key, MemberGiven, Station, whose
from gateway.kiosk.pos import idempotency
from gateway.rules.definitions import Currency, Sku

if TYPE_CHECKING:
    from gateway.core.desk import Desk

OwnId = Annotated[str, Meta(pattern=r"^(practice-)?[0-9a-f]{16}(?!\n)$", max_length=32, description="As this box answered it.")]


class Sold(Struct, forbid_unknown_fields=True):
    """One line of the receipt."""

    sku: Sku
    quantity: Annotated[int, Meta(ge=1, le=9_999)]
    price_minor: Annotated[
        int, Meta(ge=0, le=10**10, description="Paid for all its pieces together, after every discount; the currency's minor unit.")
    ]


class Sale(Struct, forbid_unknown_fields=True, kw_only=True):
    """A finished sale."""

    station: Station
    receipt_id: Annotated[
        str, Meta(pattern=r"^[!-~]{1,40}(?!\n)$", description="The till's own, never the same again: a long number begins with a letter.")
    ]
    currency: Currency = "TWD"
    lines: Annotated[list[Sold], Meta(min_length=1, max_length=200)]
    redemption_ids: Annotated[list[OwnId], Meta(max_length=20)] = []
    authorization_id: OwnId | None = None
    member: MemberGiven | None = None  # who bought: points are earned by number, too
    order_id: Annotated[str, Meta(pattern=r"^[0-9A-Za-z_-]{1,40}(?!\n)$", description="The pickup it followed.")] | None = None
    key: Key | None = None


def post_sale(desk: "Desk", asked: Sale, actor: Actor, header: str | None) -> Awaitable[bytes]:
    """Take it, once for its key.

    Raises:
        ConflictingKey: That key was another request.
        HTTPException: 422, no key.
    """
    posting = Posting(
        receipt_id=asked.receipt_id, station=asked.station, currency=asked.currency,
        lines=[SoldLine(line.sku, line.quantity, line.price_minor) for line in asked.lines], redemption_ids=asked.redemption_ids,
        authorization_id=asked.authorization_id, order_id=asked.order_id, whose=whose(asked.member),
    )  # fmt: skip
    return desk.post_sale(posting, key=idempotency(asked.key, header), actor=actor)
