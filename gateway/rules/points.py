"""How many points a sale earns: rates that headquarters publishes, one for each currency from a day on. Pure and total.

A rate is read whole or refused whole: a field or rounding nobody here knows is never guessed, and those beside it are served all the
same. On a day the rate with the latest `first_day` that has come is in force, of one day the highest version; before any, `DEFAULTS`:
a point for each full NT$100, or HK$10. A box that is not sure of the day takes the rate that was surely in force.
"""

import datetime
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.events import RateUsed
from gateway.rules.definitions import Currency, Definition

MOST_RATES: Final = 200  # that a shop is told
MOST_B: Final = 4_096  # of one
Rounding = Literal["down", "half_up", "half_even"]


class PointsRate(Definition, frozen=True):
    """`points` for each `per_minor` spent, the sum of a sale rounded once."""

    version: Annotated[int, Meta(ge=1, le=2**31 - 1, description="Of all rates: the next one is higher.")]
    currency: Currency
    points: Annotated[int, Meta(ge=0, le=1_000)]
    per_minor: Annotated[int, Meta(ge=1, le=10**9, description="Of the currency's smallest unit.")]
    first_day: datetime.date  # of the shop's calendar
    rounding: Rounding = "down"
    most_points: Annotated[int, Meta(ge=1, le=10**9, description="Of one sale.")] | None = None

    def earned(self, spent_minor: int) -> int:
        """The points of a sale of so much."""
        whole, rest = divmod(max(0, spent_minor) * self.points, self.per_minor)
        above = 2 * rest > self.per_minor or (2 * rest == self.per_minor and (self.rounding == "half_up" or whole % 2 == 1))
        found = whole + (1 if self.rounding != "down" and above else 0)
        return found if self.most_points is None else min(found, self.most_points)


_LONG_AGO: Final = datetime.date(2000, 1, 1)


def _default(currency: Currency, per_minor: int) -> PointsRate:
    """As before headquarters published any; version 0 is nobody's."""
    return PointsRate(version=0, currency=currency, points=1, per_minor=per_minor, first_day=_LONG_AGO)


DEFAULTS: Final[dict[str, PointsRate]] = {"TWD": _default("TWD", 100), "HKD": _default("HKD", 1_000)}


class RateError(Struct, frozen=True):
    """A rate that is refused, and why."""

    problem: str
    hint: str


_decoder: Final = msgspec.json.Decoder(PointsRate)
encode_rate: Final = msgspec.json.Encoder().encode


def read_rate(definition: bytes) -> PointsRate | RateError:
    """Read one rate: JSON of untrusted content and length."""
    if len(definition) > MOST_B:
        return RateError(f"a rate of more than {MOST_B} bytes", "docs/members.md shows one")
    try:
        rate = _decoder.decode(definition)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return RateError(str(error), "docs/members.md lists every field; if this one is newer, update this release")
    if not 2000 <= rate.first_day.year <= 2199:
        return RateError("`first_day` lies outside the years 2000 to 2199", "Mend the year")
    return rate


def read_rates(definitions: Iterable[bytes]) -> tuple[tuple[PointsRate, ...], tuple[RateError, ...]]:
    """The rates that can be read, and why the others cannot."""
    read = [read_rate(one) for one in definitions]
    return tuple(one for one in read if isinstance(one, PointsRate)), tuple(one for one in read if isinstance(one, RateError))


def rate_on(rates: Sequence[PointsRate], currency: str, day: datetime.date | None) -> PointsRate:
    """The rate in force on a day; None: nobody knows the day, so the one before all others."""
    come = [one for one in rates if one.currency == currency and day is not None and one.first_day <= day]
    return max(come, key=lambda one: (one.first_day, one.version), default=DEFAULTS.get(currency, DEFAULTS["TWD"]))


def stated(used: RateUsed | None, currency: str) -> PointsRate:
    """A rate as an earning row states it; what no rate can be, and rows of before there were any, come to the default."""
    default = DEFAULTS.get(currency, DEFAULTS["TWD"])
    if used is None or used.version == 0:
        return default
    try:
        return msgspec.convert({**msgspec.structs.asdict(used), "currency": default.currency, "first_day": _LONG_AGO}, PointsRate)
    except msgspec.ValidationError:
        return default


def used(rate: PointsRate) -> RateUsed:
    """A rate as an earning row states it."""
    return RateUsed(rate.version, rate.points, rate.per_minor, rate.rounding, rate.most_points)
