"""What core can be measured by, as plain numbers."""

from collections import Counter

from msgspec import Struct

from gateway.core.views import LaneView
from gateway.events import Lane
from gateway.ledger import Ledger
from gateway.meters import Histogram


class Meters(Struct, frozen=True, kw_only=True):
    """Numbers beside those of the store's view; durations are of this process."""

    refusals: dict[str, int]  # by reason: all that the ledger holds
    accepted: dict[str, int]  # redemptions by class, likewise
    commits: Histogram  # how long each commit took, the fsync included


def lanes(ledger: Ledger) -> list[LaneView]:
    """How far each lane has come, in this epoch, and what waits of all epochs."""
    number = ledger.epoch.number
    return [
        LaneView(
            lane=int(lane),
            last=ledger.reach.get(number, {}).get(lane, 0),
            cursor=ledger.cursors.get(number, {}).get(lane, 0),
            waiting=sum(reach.get(lane, 0) - ledger.cursors.get(epoch, {}).get(lane, 0) for epoch, reach in ledger.reach.items()),
        )
        for lane in Lane
    ]


def meters(ledger: Ledger, refusals: Counter[str], accepted: Counter[str]) -> Meters:
    """The numbers now."""
    return Meters(refusals=dict(refusals), accepted=dict(accepted), commits=ledger.commits)
