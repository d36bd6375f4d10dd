"""What a shop is told of its members, in the documents `members` and `members_recent`. Part of `gateway.signed`. Pure."""

from typing import Final

from msgspec import Struct, field

CONSENTS: Final = ("bind", "beacon", "preferences", "marketing")


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


class MemberList(Struct, frozen=True):
    """The members of a region, or those who have changed since a whole list."""

    region: str  # ISO 3166 country whose telephone numbers are meant when no country is typed
    secret: str = ""  # `wrapped` for this box: the key of telephone numbers and cards
    base: int = 0  # of "members_recent": the version of "members" it goes on top of
    entries: list[MemberEntry] = field(default_factory=list)
    cards: list[tuple[str, str]] = field(default_factory=list)  # `phones.card_key` of an old card, and whose it is
