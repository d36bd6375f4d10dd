"""Signals of misuse, computed from stored rows whenever they are asked for. A signal is a reason to look, never a verdict.

- *velocity*: one voucher refused in at least 3 shops within 10 minutes. Nobody walks that fast; a picture of a code does.
- *copied*: one voucher shown at at least 3 places (a station of a shop), where it was refused at 2 or more of them because it was
  used up, held or assigned elsewhere. A voucher for many uses that is simply used at many places is none.
- *staff*: one staff reference with at least 10 redemptions of a shop's staff, and at least 5 times as many as the middle one of the
  others there. A shop with fewer than two others tells nothing.
- *members*: one member who took more on trust, over all shops, than the terms let them take in one shop within their window.
"""

from collections import Counter, defaultdict
from statistics import median
from typing import Any, Final

from msgspec import Struct

from cloud_bridge.hq import risks
from cloud_bridge.hq.store import Connection

VELOCITY_SHOPS: Final = 3
VELOCITY_US: Final = 600_000_000
COPIED_PLACES: Final = 3
COPIED_REFUSED: Final = 2
STAFF_LEAST: Final = 10
STAFF_TIMES: Final = 5
STAFF_OTHERS: Final = 2
SPENT_REASONS: Final = frozenset({"already_redeemed", "exhausted", "held", "assigned_elsewhere", "other_store"})
THRESHOLDS: Final = {
    "velocity": {"shops": VELOCITY_SHOPS, "within_s": VELOCITY_US // 1_000_000},
    "copied": {"places": COPIED_PLACES, "refused_places": COPIED_REFUSED},
    "staff": {"redemptions": STAFF_LEAST, "times_the_middle": STAFF_TIMES, "others": STAFF_OTHERS},
}


class Shown(Struct, frozen=True):
    """A voucher was shown."""

    at_us: int
    gateway: str
    station: str
    kind: str
    reason: str


def signals(db: Connection, since_us: int) -> dict[str, Any]:
    """What stands out since a moment.

    Args:
        db: Inside a transaction.
        since_us: Of the rows' own time, µs since 1970 UTC.
    """
    stores = dict(db.execute("SELECT gateway, store FROM boxes").fetchall())
    by_voucher: dict[str, list[Shown]] = defaultdict(list)
    found = db.execute(
        "SELECT voucher_id, at_us, gateway, station, kind, reason FROM uses WHERE at_us >= ? AND voucher_id IS NOT NULL"
        " AND gateway IS NOT NULL AND kind IN ('redeemed', 'refused', 'authorized') ORDER BY voucher_id, at_us, id", (since_us,),
    )  # fmt: skip
    for voucher_id, *rest in found:
        by_voucher[voucher_id].append(Shown(*rest))
    told = {
        "velocity": [{"voucher_id": ref} | one for ref, shown in by_voucher.items() if (one := _velocity(shown, stores))],
        "copied": [{"voucher_id": ref} | one for ref, shown in by_voucher.items() if (one := _copied(shown, stores))],
        "staff": _staff(db, since_us, stores),
        "members": risks.fast_members(db, since_us),
    }
    return {"since_us": since_us, "thresholds": THRESHOLDS} | told


def _velocity(shown: list[Shown], stores: dict[str, str]) -> dict[str, Any] | None:
    """The most shops that refused it within the time, if enough."""
    refused = [one for one in shown if one.kind == "refused"]
    first, here, best = 0, Counter[str](), dict[str, Any]()
    for last, one in enumerate(refused):
        here[one.gateway] += 1
        while one.at_us - refused[first].at_us > VELOCITY_US:
            here[refused[first].gateway] -= 1
            first += 1
        shops = sorted(gateway for gateway, count in here.items() if count)
        if len(shops) >= max(VELOCITY_SHOPS, len(best.get("stores", ())) + 1):
            names = [stores.get(gateway, gateway) for gateway in shops]
            best = {"stores": names, "refusals": last - first + 1, "from_us": refused[first].at_us, "to_us": one.at_us}
    return best or None


def _copied(shown: list[Shown], stores: dict[str, str]) -> dict[str, Any] | None:
    places = {(one.gateway, one.station) for one in shown}
    refused = {(one.gateway, one.station) for one in shown if one.kind == "refused" and one.reason in SPENT_REASONS}
    if len(places) < COPIED_PLACES or len(refused) < COPIED_REFUSED:
        return None
    names = [f"{stores.get(gateway, gateway)} {station}" for gateway, station in sorted(places)]
    return {"places": names, "refused_places": len(refused), "from_us": shown[0].at_us, "to_us": shown[-1].at_us}


def _staff(db: Connection, since_us: int, stores: dict[str, str]) -> list[dict[str, Any]]:
    found = db.execute(
        "SELECT gateway, staff, count(*) FROM uses WHERE at_us >= ? AND kind = 'redeemed' AND staff IS NOT NULL AND gateway IS NOT NULL"
        " GROUP BY gateway, staff ORDER BY gateway, staff", (since_us,),
    ).fetchall()  # fmt: skip
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for gateway, ref in db.execute("SELECT gateway, staff_ref FROM staff ORDER BY staff_ref").fetchall():
        counts[gateway][ref] = 0  # who redeemed nothing is one of the others, too
    for gateway, ref, count in found:
        counts[gateway][ref] = count
    told = []
    for gateway, by_ref in sorted(counts.items()):
        for ref, count in sorted(by_ref.items()):
            others = [other for name, other in by_ref.items() if name != ref]
            if len(others) >= STAFF_OTHERS and count >= max(STAFF_LEAST, STAFF_TIMES * median(others)):
                told.append({"store": stores.get(gateway, gateway), "staff": ref, "redemptions": count, "middle_of_others": median(others)})
    return told
