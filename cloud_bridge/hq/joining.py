"""Which redemption and which pickup a sale followed: joined in the transaction that stores the sale's row, once.

What a till names is joined whatever the time. What it does not name is joined if it happened in the half hour before the sale, for
the same member, else at the same till's station, else by the same person; and only if exactly one thing can be meant and no other
sale has it. A till that names some vouchers of a sale named them all. A clock that is not believed joins nothing by itself.

Rows of one box's money lane come in their order, so whatever a sale followed is here before it, but for a hold captured later.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq import accounts, consents
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import CompartmentOpenIntended, ParcelCollected, SalePosted, TimeTrust, VoucherRedeemed

WINDOW_US: Final = 30 * 60 * 1_000_000  # as `uplift` has it in its statements
NAMED: Final = "named"
AMBIGUOUS: Final = "ambiguous"
CLOCK: Final = "clock"
NOTHING: Final = ""
# How a sale was joined, or why it was not.
HOW: Final = (NAMED, "member", "till", "staff", AMBIGUOUS, CLOCK, NOTHING)


class Act(Struct, frozen=True):
    """What a sale may have followed."""

    act_id: str
    station: str
    staff: str | None
    member_ref: str | None = None


_REDEMPTIONS: Final = (
    "SELECT u.redemption_id, u.station, u.staff, n.member_ref FROM uses u"
    " LEFT JOIN bindings n ON n.gateway = u.gateway AND n.redemption_id = u.redemption_id"
    " WHERE u.gateway = ? AND u.at_us BETWEEN ? AND ? AND u.kind = 'redeemed'"
    " AND u.redemption_id <> '' AND NOT EXISTS (SELECT 1 FROM uplifts l WHERE l.gateway = u.gateway AND l.kind = 'redemption'"
    " AND l.act_id = u.redemption_id) AND NOT EXISTS (SELECT 1 FROM uses r WHERE r.redemption_id = u.redemption_id"
    " AND r.redemption_id <> '' AND r.gateway = u.gateway AND r.kind = 'reversed')"
)
_PICKUPS: Final = (
    "SELECT p.order_id, p.station, p.staff FROM pickups p WHERE p.gateway = ? AND p.at_us BETWEEN ? AND ? AND p.collected = 1"
    " AND NOT EXISTS (SELECT 1 FROM uplifts l WHERE l.gateway = p.gateway AND l.kind = 'pickup' AND l.act_id = p.order_id)"
)


def sold(db: Connection, row: StoredRow, event: SalePosted) -> None:
    """A till's sale: stored once for its receipt, joined to what it followed."""
    till = event.device or f"staff {event.staff}"
    again = db.execute(
        "SELECT 1 FROM sales WHERE gateway = ? AND (sale_id = ? OR (till = ? AND receipt_id = ?))",
        (row.gateway, event.sale_id, till, event.receipt_id),
    ).fetchone()
    if again:  # a box with an old image of its disk has forgotten that it took this receipt
        return
    if event.member_ref is not None and consents.is_withdrawn(db, event.member_ref, event.event_time.wall_us):
        event = msgspec.structs.replace(event, member_ref=None)  # the shop had not heard of it
    of_redemption = _join(db, row.gateway, event, "redemption", event.redemption_ids or [event.authorization_id])
    member_ref = event.member_ref or _member_of(db, row.gateway, event.redemption_ids)
    of_pickup = _join(db, row.gateway, event, "pickup", [event.order_id])
    lines = msgspec.json.encode([(line.sku, line.quantity, line.price_minor) for line in event.lines]).decode()
    db.execute(
        "INSERT INTO sales (gateway, sale_id, till, receipt_id, station, staff, member_ref, currency, total_minor, lines, authorization_id,"
        " of_redemption, of_pickup, at_us, received_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.gateway, event.sale_id, till, event.receipt_id, event.station, event.staff, member_ref, event.currency,
            event.total_minor, lines, event.authorization_id, of_redemption, of_pickup, event.event_time.wall_us, row.received_us,
        ),
    )  # fmt: skip
    if event.member_ref is not None:
        accounts.saw(db, row, event.member_ref, event.event_time.wall_us)


def captured(db: Connection, row: StoredRow, event: VoucherRedeemed) -> None:
    """A hold was captured after its sale was posted: now it has the identifier it is joined by."""
    found = db.execute(
        "SELECT sale_id FROM sales WHERE gateway = ? AND authorization_id = ?", (row.gateway, event.authorization_id)
    ).fetchone()
    if found is not None:
        _write(db, row.gateway, "redemption", event.redemption_id, found[0], NAMED)


def opening(db: Connection, row: StoredRow, event: CompartmentOpenIntended) -> None:
    """A door is asked to open for a pickup: where, and by whom."""
    staff = None if event.actor == "shopper" else event.actor
    db.execute(
        "INSERT INTO pickups VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (gateway, order_id) DO UPDATE SET intent_id = excluded.intent_id,"
        " station = excluded.station, staff = excluded.staff, at_us = excluded.at_us, received_us = excluded.received_us"
        " WHERE pickups.collected = 0",
        (row.gateway, event.order_id, event.intent_id, event.station, staff, event.event_time.wall_us, row.received_us),
    )


def collected(db: Connection, row: StoredRow, event: ParcelCollected) -> None:
    """The parcel was taken."""
    db.execute(
        "UPDATE pickups SET collected = 1, at_us = ?, received_us = ? WHERE gateway = ? AND order_id = ? AND collected = 0",
        (event.event_time.wall_us, row.received_us, row.gateway, event.order_id),
    )


def choose(acts: Sequence[Act], event: SalePosted) -> tuple[str | None, str]:
    """Which of the open acts a sale followed, and how that is known; None: none, and why."""
    near = [one for one in acts if None in (one.member_ref, event.member_ref) or one.member_ref == event.member_ref]
    ways = {
        "member": [one for one in near if one.member_ref is not None and one.member_ref == event.member_ref],
        "till": [one for one in near if one.station == event.station],
        "staff": [one for one in near if one.staff is not None and one.staff == event.staff],
    }
    for how, found in ways.items():
        if found:
            return (found[0].act_id, how) if len(found) == 1 else (None, AMBIGUOUS)
    return None, NOTHING


def _join(db: Connection, gateway: str, event: SalePosted, kind: str, named: Sequence[str | None]) -> str:
    told = [one for one in named if one is not None]
    if told:
        for act_id in told if told != [event.authorization_id] else ():
            _write(db, gateway, kind, act_id, event.sale_id, NAMED)
        return NAMED
    if event.event_time.trust is TimeTrust.UNTRUSTED:
        return CLOCK
    at_us = event.event_time.wall_us
    found = db.execute(_REDEMPTIONS if kind == "redemption" else _PICKUPS, (gateway, at_us - WINDOW_US, at_us)).fetchall()
    followed, how = choose([Act(*one) for one in found], event)
    if followed is not None:
        _write(db, gateway, kind, followed, event.sale_id, how)
    return how


def _member_of(db: Connection, gateway: str, redemption_ids: Sequence[str]) -> str | None:
    """Whose an anonymous basket is: it names a redemption that a member agreed to be joined to, and none of another's."""
    sql = "SELECT member_ref FROM bindings WHERE gateway = ? AND redemption_id = ?"
    found = [db.execute(sql, (gateway, one)).fetchone() for one in redemption_ids]
    refs = {one[0] for one in found if one is not None}
    return str(refs.pop()) if len(refs) == 1 else None


def _write(db: Connection, gateway: str, kind: str, act_id: str, sale_id: str, how: str) -> None:
    """One sale for each act: the first that named it, else the first that followed it."""
    db.execute(
        "INSERT INTO uplifts VALUES (?, ?, ?, ?, ?) ON CONFLICT (gateway, kind, act_id) DO UPDATE SET sale_id = excluded.sale_id,"
        " how = excluded.how WHERE uplifts.how <> 'named' AND excluded.how = 'named'",
        (gateway, kind, act_id, sale_id, how),
    )
