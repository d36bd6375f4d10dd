"""What a shop is told of members: the content of the signed documents `members` and `members_recent`, and of an opening. Pure.

Nobody is here by name or number. Beside each member stands how often they used what is limited in the other shops of the chain, as far
as those have told headquarters: a shop's own uses it counts itself, so nothing is counted twice.
"""

from typing import Final

from msgspec import Struct, field

CONSENTS: Final = ("bind", "beacon", "preferences", "marketing")


class MemberUses(Struct, frozen=True, array_like=True):
    """In an opening: how often a member used a campaign, or an open code, at the box itself on one of the shop's days; no reversed use."""

    member_ref: str
    campaign: int
    code: str  # the voucher of an open code that limits its members; empty: the campaign's own limits
    day: str  # such as "2026-11-22"; empty: nobody knows, so it counts on every day
    uses: int


class MemberTrust(Struct, frozen=True, array_like=True):
    """In an opening: something a member took on trust at the box lately; nothing that was reversed."""

    redemption_id: str
    member_ref: str
    campaign: int  # of the terms
    exposure_minor: int
    at_us: int


class Elsewhere(Struct, frozen=True, array_like=True):
    """How often a member used a campaign, or an open code, in all other shops of the chain; no reversed use."""

    campaign: int
    code: str  # as in `MemberUses`
    uses: int
    day: str  # the shop's day when this was written
    on_day: int  # uses on that day
    undated: int = 0  # uses of which nobody knows the day


class MemberEntry(Struct, frozen=True, array_like=True):
    """A member as a shop is told: no name, no number, nothing to reach them by."""

    member_ref: str
    phone: str  # `phones.phone_key` of their number; empty: known by code or card only
    code: str  # `voucher_ref` form of their code's identifier
    tier: str
    consents: list[str]  # of `CONSENTS`
    points: int
    tags: list[tuple[str, int]] = field(default_factory=list)  # a word for staff, and until when (seconds since 1970 UTC)
    said: list[tuple[str, bool, int]] = field(default_factory=list)  # a consent, whether it was given or withdrawn last, and when (µs)
    elsewhere: list[Elsewhere] = field(default_factory=list)  # of what limits its members; nothing: not used elsewhere


class MemberList(Struct, frozen=True):
    """The members of a region, or those who have changed since a whole list."""

    region: str  # ISO 3166 country whose telephone numbers are meant when no country is typed
    secret: str = ""  # `wrapped` for this box: the key of telephone numbers and cards
    base: int = 0  # of "members_recent": the version of "members" it goes on top of
    entries: list[MemberEntry] = field(default_factory=list)
    cards: list[tuple[str, str]] = field(default_factory=list)  # `phones.card_key` of an old card, and whose it is
