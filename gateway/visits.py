"""Foot traffic, stated by radios and stored in lane 1. Part of `gateway.events`, which everybody imports them from. Pure."""

from enum import StrEnum

from gateway.moments import Event, Instant


class SubjectKind(StrEnum):
    """Who may be followed through the shop; nobody else is."""

    TAG = "tag"  # owned by the shop: a trolley, a demo tag
    MEMBER = "member"  # a member whose app carries consent


class VisitStarted(Event, frozen=True):
    """A tag or a consenting member came into a zone. Stated by the radio, stored in lane 1."""

    read_point: str
    visit_id: str
    subject: str  # reference of the tag or member, never an address
    subject_kind: SubjectKind
    zone: str
    event_time: Instant


class VisitEnded(Event, frozen=True):
    """The visit is over; the exit is dated back to when the subject was last near. Stated by the radio, stored in lane 1."""

    read_point: str
    visit_id: str
    subject: str
    subject_kind: SubjectKind
    zone: str
    dwell_s: float
    event_time: Instant


class OccupancyEstimated(Event, frozen=True):
    """How many phones of strangers are about: an estimate with its 90 % interval, never a count. Lane 1."""

    read_point: str
    zone: str
    window_s: float
    estimate: float | None  # None: below the threshold of 5, shown as "<5"
    low: float
    high: float
    event_time: Instant
