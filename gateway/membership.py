"""The rows about members. Part of `gateway.events`, which everybody imports them from. Pure.

A member is named by a random reference; no row holds a telephone number, nor anything made from one.
"""

from gateway.moments import Event, Instant


class MemberRecognised(Event, frozen=True):
    """A member's code, or the card of an older system that stands for it, was shown."""

    presentation_id: str
    member_ref: str
    how: str  # "code" or "card"
    station: str
    read_point: str
    staff: str | None
    event_time: Instant


class MemberLookedUp(Event, frozen=True):
    """Somebody looked for a member by telephone number: found or not. The number is nowhere."""

    station: str
    staff: str | None
    device: str | None
    by: str  # who is counted: the staff member, else the device
    member_ref: str | None  # None: nobody has that number
    event_time: Instant


class LookupsLocked(Event, frozen=True):
    """Too many numbers of nobody: this device or person finds no member by number any more, until a manager opens it again."""

    by: str
    wrong: int  # so many, within the configured time
    station: str
    staff: str | None
    device: str | None
    event_time: Instant


class LookupsUnlocked(Event, frozen=True):
    """A manager let a device or person look for members again."""

    by: str
    staff: str
    event_time: Instant
