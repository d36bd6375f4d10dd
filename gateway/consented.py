"""The row of what a member said to being joined to what they do. Part of `gateway.events`, which everybody imports it from. Pure."""

from gateway.moments import Event, Instant


class MemberConsented(Event, frozen=True):
    """A member, who showed their own code or card at a screen, gave a consent or withdrew it, after reading a text of that version."""

    member_ref: str
    consent: str  # of `gateway.memberlist.CONSENTS`
    given: bool  # False: withdrawn
    text_version: str  # a key of `gateway.rules.consent.TEXTS`
    how: str  # how they showed who they are: "code" or "card"
    redemption_id: str | None  # what was joined with it at once
    station: str
    device: str | None
    event_time: Instant
