"""What is bought and what is known beside it: the engine's input. Pure; amounts are whole numbers of the currency's smallest unit."""

from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct, ValidationError

from gateway.errors import MalformedFrame
from gateway.rules.definitions import CampaignId, Category, Code, Currency, Rounding, Sku

DECIMALS: Final[Mapping[str, int]] = {"TWD": 0, "HKD": 2}
LATEST_US: Final = 4_102_444_800_000_000  # 2100: calendars hold every moment up to it, whatever is added
LineId = Annotated[str, Meta(pattern=r"^[!-~]{1,40}(?!\n)$")]
VoucherId = Annotated[str, Meta(pattern=r"^[0-9a-zA-Z_-]{1,40}(?!\n)$")]
Amount = Annotated[int, Meta(ge=0, le=10**12)]
Number = Annotated[int, Meta(ge=0, le=10**9)]
Moment = Annotated[int, Meta(ge=0, le=LATEST_US)]


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """Some pieces of one thing at one price. `line_id` is the asker's, and each line has another one."""

    line_id: LineId
    sku: Sku
    quantity: Annotated[int, Meta(ge=1, le=999)]
    unit_minor: Annotated[int, Meta(ge=0, le=10**9)]
    category: Category | None = None


class Basket(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that is bought at once."""

    currency: Currency
    lines: Annotated[tuple[Line, ...], Meta(max_length=100)]


class ShownVoucher(Struct, frozen=True, forbid_unknown_fields=True):
    """A voucher shown with the basket, of some campaign. Whether it may be used at all is decided elsewhere."""

    voucher_id: VoucherId
    campaign: CampaignId
    balance_minor: Amount = 0  # of a face value


class Count(Struct, frozen=True, forbid_unknown_fields=True):
    """How often a campaign was used already: by this member in all and today, by everybody in this shop today."""

    campaign: CampaignId
    member: Number = 0
    member_today: Number = 0
    today: Number = 0


class Facts(Struct, frozen=True, kw_only=True):
    """What is known beside the basket.

    It is some moment from `earliest_us` to `latest_us`, µs since 1970 UTC; None: nobody knows how late. A campaign without a
    count was never used.
    """

    store: int
    timezone: str  # IANA name
    earliest_us: int
    latest_us: int | None
    codes: tuple[Code, ...] = ()
    vouchers: tuple[ShownVoucher, ...] = ()
    member: bool = False  # somebody is known, and `counts` are theirs
    counts: tuple[Count, ...] = ()


def check(basket: Basket, facts: Facts) -> None:
    """Look at what no single field can say.

    Raises:
        MalformedFrame: Two lines, two vouchers or two counts of one name, or a moment that ends before it begins.
    """
    named: dict[str, list[str] | list[int]] = {
        "lines": [line.line_id for line in basket.lines],
        "vouchers": [shown.voucher_id for shown in facts.vouchers],
        "counts": [count.campaign for count in facts.counts],
    }
    for what, names in named.items():
        if len(set[str | int](names)) < len(names):
            raise MalformedFrame(f"two {what} of one name", "Give each one another name")
    if facts.latest_us is not None and facts.latest_us < facts.earliest_us:
        raise MalformedFrame("the latest possible moment lies before the earliest")


def one_name_each(basket: Basket | None) -> None:
    """Look at the lines' names.

    Raises:
        msgspec.ValidationError: Two lines of one name.
    """
    if basket is not None and len({line.line_id for line in basket.lines}) < len(basket.lines):
        raise ValidationError("two lines of one name - at `$.basket.lines`")


def divided(number: int, divisor: int, rounding: Rounding) -> int:
    """A quotient of non-negative numbers as a whole number, rounded as stated."""
    whole, rest = divmod(number, divisor)
    if rounding == "down" or 2 * rest < divisor:
        return whole
    return whole + 1 if 2 * rest > divisor or rounding == "half_up" or whole % 2 else whole


def remaining(minor: int, percent_off: int, rounding: Rounding) -> int:
    """What is to be paid of an amount after a percentage was taken off: this is what is rounded."""
    return divided(minor * (100 - percent_off), 100, rounding)


def allocate(minor: int, weights: list[int]) -> list[int]:
    """Share an amount out in proportion to weights, to the last unit: largest remainder, of equal ones the first.

    Args:
        minor: At most the sum of the weights; then no share is larger than its weight.
        weights: Not negative; in the order that decides between equal remainders.
    """
    total = sum(weights)
    if total == 0:
        return [0] * len(weights)
    shares = [minor * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda at: (-(minor * weights[at] % total), at))
    for at in by_remainder[: minor - sum(shares)]:
        shares[at] += 1
    return shares
