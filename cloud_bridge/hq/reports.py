"""What headquarters can say: read-only questions to the store. Every number comes with how complete it is.

Completeness is per lane: a box says how many rows it has written, so rows that are still on their way are known by number.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq.presence import Heard
from cloud_bridge.hq.store import RECENT, Connection, StoredRow
from gateway.events import Lane, OccupancyEstimated, ParcelCollected, RedemptionRefused, RedemptionReversed, VisitEnded, VoucherRedeemed

# The numbers on the dashboard: name, the rows it counts, their lane. Redemptions are gross; `net_redemptions` is less the reversals.
NUMBERS: Final[dict[str, tuple[str, Lane]]] = {
    "visits": (VisitEnded.__name__, Lane.TRAFFIC),
    "redemptions": (VoucherRedeemed.__name__, Lane.MONEY),
    "reversals": (RedemptionReversed.__name__, Lane.MONEY),
    "refusals": (RedemptionRefused.__name__, Lane.MONEY),
    "collections": (ParcelCollected.__name__, Lane.MONEY),
}
OCCUPANCY: Final = OccupancyEstimated.__name__
STALE_VISIT_US: Final = 12 * 3600 * 10**6  # nobody stays half a day: the end of that visit was lost with its radio
MOST_LISTED: Final = 500


class VoucherRow(Struct, frozen=True):
    """A voucher as issued, and how often it was used."""

    voucher_id: str
    gateway: str
    store: str
    campaign: int
    title_zh: str
    title_en: str
    not_before_s: int
    not_after_s: int
    uses: int
    value_minor: int
    revoked: bool
    token: str
    short_code: str
    issued_us: int
    used: int

    def state(self, now_us: int) -> str:
        """`revoked`, `used`, `expired`, `partly_used` or `issued`."""
        if self.used >= self.uses:
            return "used"
        if self.revoked:
            return "revoked"
        if now_us // 1_000_000 >= self.not_after_s:
            return "expired"
        return "partly_used" if self.used else "issued"


class OrderRow(Struct, frozen=True):
    """An order and where it is."""

    order_id: str
    gateway: str
    store: str
    number: str
    customer: str
    parcels: int
    lines: list[str]
    cancelled: bool
    token: str
    short_code: str
    not_after_s: int
    placed_us: int
    state: str  # "paid", "staging", "staged", "collecting", "collected" or "cancelled"


class LaneStand(Struct, frozen=True):
    """How far a lane of an epoch has come."""

    epoch: str
    lane: int
    produced: int
    mark: int

    @property
    def missing(self) -> int:
        """Rows the shop has written and headquarters has not."""
        return max(0, self.produced - self.mark)


_VOUCHER: Final = (
    "SELECT voucher_id, v.gateway, b.store, campaign, title_zh, title_en, not_before_s, not_after_s, uses, value_minor, revoked, token,"
    " short_code, issued_us, (SELECT CAST(coalesce(sum(u.units), 0) AS BIGINT) FROM uses u WHERE u.voucher_id = v.voucher_id)"
    " FROM vouchers v JOIN boxes b USING (gateway)"
)
_ORDER: Final = (
    "SELECT order_id, o.gateway, b.store, o.number, customer, parcels, lines, cancelled, token, short_code, not_after_s, placed_us,"
    " (SELECT state FROM order_events e WHERE e.order_id = o.order_id ORDER BY e.id DESC LIMIT 1)"
    " FROM orders o JOIN boxes b USING (gateway)"
)


def counts(db: Connection, gateway: str, day: str) -> dict[str, int]:
    """The dashboard's numbers of a shop on a local day."""
    return _numbers(dict(db.execute("SELECT type, n FROM counts WHERE gateway = ? AND day = ?", (gateway, day))))


def totals(db: Connection, gateway: str) -> dict[str, int]:
    """The dashboard's numbers of a shop since its first day."""
    return _numbers(dict(db.execute("SELECT type, CAST(sum(n) AS BIGINT) FROM counts WHERE gateway = ? GROUP BY type", (gateway,))))


def _numbers(found: dict[str, int]) -> dict[str, int]:
    numbers = {name: found.get(kind, 0) for name, (kind, _) in NUMBERS.items()}
    return numbers | {"net_redemptions": numbers["redemptions"] - numbers["reversals"]}


def lanes(db: Connection, gateway: str, heard: Heard | None = None) -> list[LaneStand]:
    """Every lane of every epoch of a box; what its last beat says counts before it is written down."""
    found = db.execute("SELECT epoch, lane, produced, mark FROM marks WHERE gateway = ? ORDER BY epoch, lane", (gateway,))
    stands = {(epoch, lane): LaneStand(epoch, lane, produced, mark) for epoch, lane, produced, mark in found}
    if heard is not None:
        for lane, last in heard.last.items():
            stand = stands.get((heard.epoch, lane), LaneStand(heard.epoch, lane, 0, 0))
            stands[heard.epoch, lane] = msgspec.structs.replace(stand, produced=max(stand.produced, last))
    return list(stands.values())


def quarantined(db: Connection, gateway: str) -> int:
    """Rows of a box that nobody here could read."""
    return int(db.execute("SELECT count(*) FROM quarantine WHERE gateway = ?", (gateway,)).fetchone()[0])


def inside(db: Connection, gateway: str, now_us: int) -> list[dict[str, Any]]:
    """Tags and consenting members in the shop now, as far as is known."""
    found = db.execute(
        "SELECT subject, subject_kind, zone, started_us FROM visits WHERE gateway = ? AND started_us > ? ORDER BY started_us DESC LIMIT 50",
        (gateway, now_us - STALE_VISIT_US),
    )
    return [
        {"subject": subject, "kind": kind, "zone": zone, "started_us": started_us, "dwell_s": max(0, now_us - started_us) // 1_000_000}
        for subject, kind, zone, started_us in found
    ]


def occupancy(db: Connection, gateway: str) -> list[dict[str, Any]]:
    """The last estimate of each zone; `estimate` is None below five."""
    found = db.execute("SELECT zone, estimate, low, high, at_us FROM occupancy WHERE gateway = ? ORDER BY zone", (gateway,))
    return [{"zone": zone, "estimate": estimate, "low": low, "high": high, "at_us": at_us} for zone, estimate, low, high, at_us in found]


def vouchers(db: Connection, store: str | None = None) -> list[VoucherRow]:
    """The newest vouchers."""
    where, values = (" WHERE b.store = ?", (store,)) if store else ("", ())
    return [_as_voucher(row) for row in db.execute(f"{_VOUCHER}{where} ORDER BY issued_us DESC, v.voucher_id LIMIT {MOST_LISTED}", values)]


def voucher(db: Connection, voucher_id: str) -> VoucherRow | None:
    """One voucher."""
    found = db.execute(f"{_VOUCHER} WHERE voucher_id = ?", (voucher_id,)).fetchone()
    return _as_voucher(found) if found else None


def orders(db: Connection, store: str | None = None) -> list[OrderRow]:
    """The newest orders."""
    where, values = (" WHERE b.store = ?", (store,)) if store else ("", ())
    return [_as_order(row) for row in db.execute(f"{_ORDER}{where} ORDER BY placed_us DESC, o.order_id LIMIT {MOST_LISTED}", values)]


def order(db: Connection, order_id: str) -> OrderRow | None:
    """One order."""
    found = db.execute(f"{_ORDER} WHERE order_id = ?", (order_id,)).fetchone()
    return _as_order(found) if found else None


def voucher_story(db: Connection, shown: VoucherRow) -> list[dict[str, Any]]:
    """What happened to a voucher, oldest first."""
    found = db.execute(
        "SELECT u.kind, u.reason, coalesce(b.store, ''), u.station, u.staff, u.at_us, u.received_us FROM uses u"
        " LEFT JOIN boxes b USING (gateway) WHERE voucher_id = ? ORDER BY u.at_us, u.id",
        (shown.voucher_id,),
    )
    issued = _step("issued", "", shown.store, "", None, shown.issued_us, shown.issued_us)
    return [issued, *(_step(*row) for row in found)]


def order_story(db: Connection, shown: OrderRow) -> list[dict[str, Any]]:
    """What happened to an order, oldest first."""
    found = db.execute(
        "SELECT state, bank, compartment, at_us, received_us FROM order_events WHERE order_id = ? ORDER BY at_us, id", (shown.order_id,)
    )
    steps = [_step("placed", "", shown.store, "", None, shown.placed_us, shown.placed_us)]
    for state, bank, compartment, at_us, received_us in found:
        steps.append(_step(state, "", shown.store, f"{bank} {compartment}", None, at_us, received_us))
    refused = db.execute(
        "SELECT kind, reason, ?, station, staff, at_us, received_us FROM uses WHERE voucher_id = ? ORDER BY at_us",
        (shown.store, shown.order_id),
    )
    return sorted([*steps, *(_step(*row) for row in refused)], key=lambda step: int(step["at_us"]))


def recent(db: Connection, after_id: int = 0, limit: int = 40) -> list[StoredRow]:
    """The rows that arrived last, newest first."""
    found = db.execute(
        "SELECT id, gateway, epoch, lane, seq, record_us, received_us, type, event FROM rows"
        " WHERE id > ? AND id > (SELECT last FROM arrived) - ? AND type != ? ORDER BY id DESC LIMIT ?",
        (after_id, RECENT, OCCUPANCY, limit),
    )
    return [StoredRow(*row) for row in found]


def _step(kind: str, reason: str, store: str, station: str, staff: str | None, at_us: int, received_us: int) -> dict[str, Any]:
    return {"kind": kind, "reason": reason, "store": store, "station": station, "staff": staff, "at_us": at_us, "received_us": received_us}


def _as_voucher(row: tuple[Any, ...]) -> VoucherRow:
    return VoucherRow(*[*row[:10], bool(row[10]), *row[11:]])


def _as_order(row: tuple[Any, ...]) -> OrderRow:
    cancelled, state = bool(row[7]), row[12] or "paid"
    shown = "cancelled" if cancelled and state != "collected" else state
    return OrderRow(*[*row[:6], msgspec.json.decode(row[6], type=list[str]), cancelled, *row[8:12], shown])
