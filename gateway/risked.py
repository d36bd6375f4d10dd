"""Rows beside those of a use or a hold, of vouchers that more than one shop may honour: what it may cost, or which quota it is of.

Each stands behind the `VoucherRedeemed` or `VoucherAuthorized` of the same commit. All of lane 0.
"""

from gateway.moments import Event, Instant


class RiskTaken(Event, frozen=True):
    """A use of a voucher any shop may decide on. With an exposure it is provisional: headquarters has not been asked."""

    redemption_id: str
    voucher_id: str
    campaign: int  # of the terms: a campaign, or -1, the class
    terms: int  # their version; 0: none were needed
    number: int  # of headquarters' assignment; 0: taken on trust
    units: int
    exposure_minor: int  # what it may cost until headquarters answers; 0: nothing
    device: str  # the paired device, or the station, whose cap it counts against
    event_time: Instant


class RiskHeld(Event, frozen=True):
    """A hold of such a voucher. Its exposure counts like that of a use, until the hold ends."""

    authorization_id: str
    voucher_id: str
    campaign: int
    terms: int
    number: int
    units: int
    exposure_minor: int
    worth_minor: int  # what it would expose if it were taken on trust
    device: str
    event_time: Instant


class OpenCodeUsed(Event, frozen=True):
    """A use of an open code, out of this shop's allotment."""

    redemption_id: str
    voucher_id: str
    number: int  # of the allotment
    units: int
    member_ref: str  # empty: nobody was named
    event_time: Instant


class OpenCodeHeld(Event, frozen=True):
    """A hold of an open code, out of this shop's allotment."""

    authorization_id: str
    voucher_id: str
    units: int
    member_ref: str
    event_time: Instant
