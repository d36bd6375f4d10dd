"""Rows about what a screen said of a redemption, and what became of its till code. All of lane 0: core reads them back at its start.

Part of `gateway.events`, which everybody imports them from; `gateway.rules.screened` tells what they mean. Pure.
"""

from gateway.moments import Event, Instant


class ResultShown(Event, frozen=True):
    """A page has painted that a redemption was accepted: whoever stood there could read it."""

    redemption_id: str
    voucher_id: str
    station: str
    staff: str | None
    device: str | None
    event_time: Instant


class UnseenHonoured(Event, frozen=True):
    """A person honoured a redemption that no screen is known to have shown: at most once for each, and exposure at headquarters."""

    redemption_id: str
    voucher_id: str
    campaign: int
    issuer: int
    units: int  # as the redemption took; nothing more is taken of the voucher
    amount_minor: int
    station: str
    staff: str
    device: str | None
    why: str  # a key of `gateway.rules.screened.WHYS`
    event_time: Instant


class TillCodeRung(Event, frozen=True):
    """A till has taken the code that a screen showed for a redemption: its discount stands on a receipt."""

    redemption_id: str
    voucher_id: str
    till_code: str
    station: str
    read_point: str
    staff: str | None
    device: str | None
    event_time: Instant
