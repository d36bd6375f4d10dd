"""A voucher shown with a basket: what the campaigns in force come to, and whether the voucher may be used for these things at all.

The engine is `gateway.rules.campaign`'s, fed with what this shop knows: the voucher's balance, and how often each campaign was used
here today. A voucher whose campaign nobody has published is an ordinary one: its token alone says what it is good for.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct

from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.config import StoreTable
from gateway.core.verdict import Verdict
from gateway.rules.basket import Basket, Count, Facts, ShownVoucher
from gateway.rules.campaign import price
from gateway.rules.priced import Priced, Refused
from gateway.rules.uses import Used
from gateway.rules.voucher import Terms, Want, left_of


class Offer(Struct, frozen=True):
    """What becomes of a basket with a voucher."""

    want: Want  # how much of the voucher; of a face value as much as the basket takes, unless the till named an amount
    priced: Priced | None = None
    refused: Refused | None = None  # the voucher's own campaign says no


Offering = Callable[[Terms, Basket | None, Want, Used, str | None], Offer]
Counting = Callable[[int, str | None, int], Count]  # of a campaign, a member and today's uses


def offering(store: StoreTable, catalog: Catalog, clock: Clock, count: Counting) -> Offering:
    """The counter's way to the engine."""

    def offer(terms: Terms, basket: Basket | None, want: Want, book: Used, member_ref: str | None) -> Offer:
        if basket is None:
            return Offer(want)
        earliest_us, latest_us = clock.bounds_us()
        today = book.day(earliest_us)
        facts = Facts(
            store=store.number, timezone=store.timezone, earliest_us=earliest_us, latest_us=latest_us,
            vouchers=(ShownVoucher(terms.voucher_id, terms.campaign, max(0, left_of(terms, book).minor or 0)),),
            member=member_ref is not None,
            counts=tuple(count(one.campaign, member_ref, max(0, book.given(one.campaign, today))) for one in catalog.campaigns.good),
        )  # fmt: skip
        priced = price(basket, catalog.campaigns.good, facts)
        refused = next((one for one in priced.refused if one.voucher_id == terms.voucher_id), None)
        if refused is not None and refused.reason != "unknown_campaign":
            return Offer(want, priced, refused)
        spent = next((one.minor for one in priced.adjustments if one.voucher_id == terms.voucher_id), 0)
        if terms.partial and want.amount_minor is None and spent:
            want = Want(want.units, spent)
        return Offer(want, priced)

    return offer


def with_offer(verdict: Verdict, offer: Offer) -> Verdict:
    """The verdict whose answer tells what the basket comes to, and how much it lacks."""
    if offer.priced is not None:
        no = offer.refused
        gaps = (no.gap_minor or None, no.gap_quantity or None) if no is not None and verdict.answer.reason == no.reason else (None, None)
        verdict.answer = msgspec.structs.replace(verdict.answer, priced=offer.priced, gap_minor=gaps[0], gap_quantity=gaps[1])
    return verdict
