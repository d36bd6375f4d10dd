"""Rows that join members to what they do in a shop. Part of `gateway.events`, which everybody imports them from. Pure, all of lane 0.

A member is named by a random reference. Of a telephone number nobody here knows, a row holds a hash keyed with the number's own key
and the sale: no two rows show that they are of one person, and once the key is erased nothing leads back.
"""

from msgspec import Struct

from gateway.moments import Event, Instant


class MemberBound(Event, frozen=True):
    """With their consent a member was joined to the redemption, or to the hold, that stands beside this row in one transaction."""

    redemption_id: str | None
    authorization_id: str | None  # of a hold; it counts against the member's limits until the hold ends
    voucher_id: str
    campaign: int
    units: int
    member_ref: str
    how: str  # "code", "card", "phone", or "voucher": it was issued for them
    station: str
    staff: str | None
    device: str | None
    event_time: Instant


class RateUsed(Struct, frozen=True):
    """The rate a sale's points were reckoned by, as `gateway.rules.points.PointsRate` had it."""

    version: int  # headquarters' number; 0: none was published
    points: int
    per_minor: int
    rounding: str
    most_points: int | None


class PointsAccrued(Event, frozen=True):
    """A sale earns its member points. Headquarters credits them, once for each sale."""

    sale_id: str
    member_ref: str | None
    member_code: str | None  # the identifier of a member's signed code that this shop was not told of
    phone_ref: str | None  # `gateway.phones.sale_ref` of a telephone number that this shop was not told of
    spent_minor: int
    currency: str
    station: str
    event_time: Instant
    points: int | None = None  # by that rate; None: a release that stated neither, so headquarters reckons by the default
    rate: RateUsed | None = None


class RevisitAsked(Event, frozen=True):
    """A member may have earned what a campaign gives for a first visit in so many days. Headquarters knows all shops and decides, once."""

    revisit_id: str
    campaign: int
    version: int
    days: int
    points: int
    member_ref: str
    station: str
    event_time: Instant
