"""What campaigns come to on a basket: the engine's answer, one shape at the shop and at headquarters, byte for byte. Pure.

Every list is in an order that the basket's own order has no part in.
"""

import msgspec
from msgspec import Struct

from gateway.rules.reasons import NOTHING, REASONS, Text


class Share(Struct, frozen=True):
    """What a campaign takes off one line."""

    line_id: str
    minor: int


class Pieces(Struct, frozen=True):
    """How many pieces of a line a campaign has taken up: no other item-level campaign may have them."""

    line_id: str
    quantity: int


class Gift(Struct, frozen=True):
    """What the customer is given; whether it is in stock is decided elsewhere."""

    sku: str
    quantity: int


class Adjustment(Struct, frozen=True, kw_only=True):
    """A campaign that was used, once."""

    campaign: int
    version: int
    kind: str
    title: Text
    voucher_id: str = ""
    minor: int = 0  # taken off; of a face value: paid with it
    left_minor: int | None = None  # of a face value
    shares: tuple[Share, ...] = ()  # they add up to `minor`
    taken: tuple[Pieces, ...] = ()
    gifts: tuple[Gift, ...] = ()


class Refused(Struct, frozen=True, kw_only=True):
    """A campaign that was not used, and why: `reason` is a key of `REASONS`.

    `gap_minor` and `gap_quantity` say how much more it takes. `campaign` is 0 for a code that no campaign has.
    """

    campaign: int
    version: int = 0
    kind: str = ""
    title: Text = NOTHING
    code: str = ""
    voucher_id: str = ""
    reason: str
    gap_minor: int = 0
    gap_quantity: int = 0
    by: int = 0  # the campaign of its group that was used instead
    message: Text
    next_step: Text


class PricedLine(Struct, frozen=True):
    """A line, and what is left to pay of it: `amount_minor` less `off_minor` less `voucher_minor`."""

    line_id: str
    amount_minor: int
    off_minor: int
    voucher_minor: int
    to_pay_minor: int


class Priced(Struct, frozen=True, kw_only=True):
    """A basket with campaigns: `amount_minor` less `off_minor` less `voucher_minor` is `to_pay_minor`, which is never negative."""

    currency: str
    decimals: int
    amount_minor: int
    off_minor: int
    voucher_minor: int  # paid with face values
    to_pay_minor: int
    lines: tuple[PricedLine, ...]
    adjustments: tuple[Adjustment, ...]  # in the order they were used
    refused: tuple[Refused, ...]


def refused(campaign: int, reason: str, **more: object) -> Refused:
    """A refusal with its words."""
    words = REASONS[reason]
    made = Refused(campaign=campaign, reason=reason, message=words.text, next_step=words.next_step)
    return msgspec.structs.replace(made, **more)
