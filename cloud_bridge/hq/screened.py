"""What shops' screens tell, at headquarters: uses that staff honoured although no screen had shown them, and codes that tills took.

An honoured use is exposure: the customer may have been served twice. It is no second use: nothing more was taken of the voucher, so it
stands in the voucher's story with no units, and apart from what settles.
"""

from typing import Any

from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import TillCodeRung, UnseenHonoured
from gateway.token import qualified


def honoured(db: Connection, row: StoredRow, event: UnseenHonoured) -> None:
    """Book one; once for each redemption, whatever an old image of a disk repeats."""
    voucher_id = qualified(event.voucher_id, event.issuer)
    what = (row.gateway, event.redemption_id, voucher_id, event.units, event.amount_minor, event.why, event.staff, event.event_time.wall_us)
    new = db.execute("INSERT INTO honoured VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, redemption_id) DO NOTHING", what)
    if new.rowcount:
        _tell(db, row, voucher_id, "honoured", (event.station, event.staff, event.event_time.wall_us, event.redemption_id))


def rung(db: Connection, row: StoredRow, event: TillCodeRung) -> None:
    """A till took the code of a redemption."""
    what = (row.gateway, event.redemption_id, event.till_code, event.station, event.event_time.wall_us)
    new = db.execute("INSERT INTO rung VALUES (?, ?, ?, ?, ?) ON CONFLICT (gateway, redemption_id) DO NOTHING", what)
    if new.rowcount:
        _tell(db, row, event.voucher_id, "rung", (event.station, event.staff, event.event_time.wall_us, event.redemption_id))


def exposure(db: Connection) -> dict[str, Any]:
    """What was honoured unseen: how often, how many units, what they are worth as far as headquarters knows, and at which boxes."""
    found = db.execute(
        "SELECT h.gateway, h.units, h.amount_minor, coalesce(v.value_minor, a.value_minor, 0) FROM honoured h"
        " LEFT JOIN vouchers v ON v.voucher_id = h.voucher_id LEFT JOIN assigned a ON a.voucher_id = h.voucher_id"
    ).fetchall()
    boxes: dict[str, int] = {}
    for gateway, units, _, _ in found:
        boxes[gateway] = boxes.get(gateway, 0) + units
    minor = sum(amount or units * value for _, units, amount, value in found)
    units = sum(units for _, units, _, _ in found)
    return {"honoured": len(found), "honoured_units": units, "honoured_minor": minor, "honoured_boxes": boxes}


def standing(db: Connection, gateway: str) -> dict[str, int]:
    """Of one shop: uses honoured unseen, and rows that say a till took a code; the latter by the thousand, so their sum is read."""
    (unseen,) = db.execute("SELECT count(*) FROM honoured WHERE gateway = ?", (gateway,)).fetchone()
    (taken,) = db.execute(
        "SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM counts WHERE gateway = ? AND type = ?", (gateway, TillCodeRung.__name__)
    ).fetchone()
    return {"honoured": int(unseen), "rung": int(taken)}


def _tell(db: Connection, row: StoredRow, voucher_id: str, kind: str, what: tuple[str, str | None, int, str]) -> None:
    station, staff, at_us, redemption_id = what
    db.execute(
        "INSERT INTO uses (voucher_id, gateway, kind, reason, station, staff, at_us, received_us, campaign, units, amount_minor,"
        " redemption_id) VALUES (?, ?, ?, '', ?, ?, ?, ?, 0, 0, 0, ?)",
        (voucher_id, row.gateway, kind, station, staff, at_us, row.received_us, redemption_id),
    )
