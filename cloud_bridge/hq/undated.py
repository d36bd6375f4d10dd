"""A row whose clock was not believed when it was written, and how it was counted; `timing` dates it once the time is known."""

from msgspec import Struct

from gateway.events import Instant, Row, VisitEnded, VisitStarted


class Undated(Struct, frozen=True):
    """Such a row."""

    seq: int
    type: str
    day: str  # counted there
    zone: str  # "": not of a zone
    dwell_s: float
    at: Instant


def undated(seq: int, kind: str, event: Row, day: str) -> Undated:
    """What has to be noted of such a row."""
    zone = event.zone if isinstance(event, VisitStarted | VisitEnded) else ""
    return Undated(seq, kind, day, zone, event.dwell_s if isinstance(event, VisitEnded) else 0.0, event.event_time)
