"""Pricing as it is asked for over HTTP, at the shop's door and at headquarters alike: from a request's bytes to the answer's. Pure.

A request carries up to `MOST_ASKS` baskets; the answer has one price for each, in the same order. Nothing is decided, used or kept:
an ask may name another moment than now, and counts as the asker knows them.
"""

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.errors import MalformedFrame
from gateway.rules.basket import Basket, Count, Facts, Moment, ShownVoucher
from gateway.rules.campaign import price
from gateway.rules.definitions import CampaignError, Campaigns, Code
from gateway.rules.priced import Priced

MOST_ASKS: Final = 100
Name = Annotated[str, Meta(min_length=1, max_length=40)]


class At(Struct, frozen=True, forbid_unknown_fields=True):
    """Another moment than now, µs since 1970 UTC; `latest_us` null: nobody knows how late it is."""

    earliest_us: Moment
    latest_us: Moment | None


class Ask(Struct, frozen=True, forbid_unknown_fields=True):
    """A basket, with what is shown beside it."""

    basket: Basket
    codes: Annotated[tuple[Code, ...], Meta(max_length=20)] = ()
    vouchers: Annotated[tuple[ShownVoucher, ...], Meta(max_length=50)] = ()
    member: bool = False
    counts: Annotated[tuple[Count, ...], Meta(max_length=500)] = ()
    at: At | None = None


class StationAsks(Struct, frozen=True, forbid_unknown_fields=True):
    """What a till asks at the shop."""

    station: Name
    asks: Annotated[tuple[Ask, ...], Meta(min_length=1, max_length=MOST_ASKS)]


class StoreAsks(Struct, frozen=True, forbid_unknown_fields=True):
    """What a web shop asks at headquarters, of some shop."""

    store: Name
    asks: Annotated[tuple[Ask, ...], Meta(min_length=1, max_length=MOST_ASKS)]


class PriceAnswer(Struct, frozen=True):
    """A price for each ask, and the definitions that are in force but refused, which no price counts in."""

    priced: tuple[Priced, ...]
    problems: tuple[CampaignError, ...]


class Place(Struct, frozen=True):
    """Where and when it is asked."""

    store: int
    timezone: str
    earliest_us: int
    latest_us: int | None


Asked = TypeVar("Asked", StationAsks, StoreAsks)
_encode: Final = msgspec.json.Encoder().encode


def read_asks(body: bytes, shape: type[Asked]) -> Asked:
    """Read a request's body.

    Raises:
        MalformedFrame: Not JSON, not of that shape, or with a field nobody knows.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedFrame(str(error), "docs/campaigns.md shows what a request looks like") from error


def answer(asks: tuple[Ask, ...], campaigns: Campaigns, place: Place) -> bytes:
    """The answer's bytes.

    Raises:
        MalformedFrame: As `campaign.price`; the ask is named by its place.
    """
    priced = []
    for number, ask in enumerate(asks):
        try:
            priced.append(price(ask.basket, campaigns.good, _facts(ask, place)))
        except MalformedFrame as error:
            raise MalformedFrame(f"asks[{number}]: {error}", error.hint) from error
    return _encode(PriceAnswer(tuple(priced), campaigns.problems))


def _facts(ask: Ask, place: Place) -> Facts:
    earliest_us, latest_us = (place.earliest_us, place.latest_us) if ask.at is None else (ask.at.earliest_us, ask.at.latest_us)
    return Facts(
        store=place.store, timezone=place.timezone, earliest_us=earliest_us, latest_us=latest_us, codes=ask.codes,
        vouchers=ask.vouchers, member=ask.member, counts=ask.counts,
    )  # fmt: skip
