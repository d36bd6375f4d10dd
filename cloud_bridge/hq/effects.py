"""What a row changes at headquarters beyond being stored: counts, uses of vouchers, visits, occupancy, orders.

Runs in the transaction that stores the row, once for each row, so numbers and rows can never disagree.
"""

import datetime
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cloud_bridge.hq import devices
from cloud_bridge.hq.sqlite import Connection, StoredRow
from gateway.events import (
    CompartmentOpenIntended,
    DevicePaired,
    DeviceRevoked,
    DeviceSeen,
    IntentSettled,
    OccupancyEstimated,
    ParcelCollected,
    ParcelStaged,
    RedemptionRefused,
    Row,
    VisitEnded,
    VisitStarted,
    VoucherRedeemed,
)

DEFAULT_ZONE: Final = "Asia/Taipei"
PURPOSE_STATES: Final = {"deposit": "staging", "pickup": "collecting"}
BACK_TO: Final = {"staging": "paid", "collecting": "staged"}


def effect(db: Connection, row: StoredRow, event: Row) -> None:
    """Apply one row."""
    db.execute(
        "INSERT INTO counts VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET n = n + 1",
        (row.gateway, local_day(row.record_us, _timezone(db, row.gateway)), row.type),
    )
    more = EFFECTS.get(type(event))
    if more is not None:
        more(db, row, event)


def local_day(wall_us: int, timezone: str) -> str:
    """The shop's calendar day of a moment, such as `2026-11-21`."""
    return datetime.datetime.fromtimestamp(wall_us / 1e6, zone(timezone)).date().isoformat()


@lru_cache(maxsize=64)
def zone(timezone: str) -> datetime.tzinfo:
    """The time zone of that name; UTC where the machine does not know it."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return datetime.UTC


def _timezone(db: Connection, gateway: str) -> str:
    found = db.execute("SELECT timezone FROM boxes WHERE gateway = ?", (gateway,)).fetchone()
    return found[0] if found else DEFAULT_ZONE


def _redeemed(db: Connection, row: StoredRow, event: VoucherRedeemed) -> None:
    _use(db, row, event.voucher_id, "redeemed", "", event.station, event.staff, event.event_time.wall_us)


def _refused(db: Connection, row: StoredRow, event: RedemptionRefused) -> None:
    _use(db, row, event.voucher_id, "refused", event.reason, event.station, event.staff, event.event_time.wall_us)


def _use(
    db: Connection, row: StoredRow, voucher_id: str | None, kind: str, reason: str, station: str, staff: str | None, at_us: int
) -> None:
    db.execute(
        "INSERT INTO uses (voucher_id, gateway, kind, reason, station, staff, at_us, received_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (voucher_id, row.gateway, kind, reason, station, staff, at_us, row.received_us),
    )


def _visit_started(db: Connection, row: StoredRow, event: VisitStarted) -> None:
    db.execute(
        "INSERT INTO visits (gateway, visit_id, subject, subject_kind, zone, started_us) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET started_us = excluded.started_us",
        (row.gateway, event.visit_id, event.subject, event.subject_kind, event.zone, event.event_time.wall_us),
    )


def _visit_ended(db: Connection, row: StoredRow, event: VisitEnded) -> None:
    db.execute(
        "INSERT INTO visits (gateway, visit_id, subject, subject_kind, zone, ended_us, dwell_s) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET ended_us = excluded.ended_us, dwell_s = excluded.dwell_s",
        (row.gateway, event.visit_id, event.subject, event.subject_kind, event.zone, event.event_time.wall_us, event.dwell_s),
    )


def _estimated(db: Connection, row: StoredRow, event: OccupancyEstimated) -> None:
    db.execute(
        "INSERT INTO occupancy VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " estimate = excluded.estimate, low = excluded.low, high = excluded.high, at_us = excluded.at_us",
        (row.gateway, event.zone, event.estimate, event.low, event.high, event.event_time.wall_us),
    )


def _intended(db: Connection, row: StoredRow, event: CompartmentOpenIntended) -> None:
    state = PURPOSE_STATES.get(event.purpose)
    if state is not None:
        _order(db, row, event.order_id, state, event.intent_id, (event.bank, event.compartment), event.event_time.wall_us)


def _settled(db: Connection, row: StoredRow, event: IntentSettled) -> None:
    """The door did not open: the order is where it was before."""
    meant = db.execute(
        "SELECT order_id, state, bank, compartment FROM order_events WHERE gateway = ? AND intent_id = ? ORDER BY id DESC LIMIT 1",
        (row.gateway, event.intent_id),
    ).fetchone()
    if meant is not None and meant[1] in BACK_TO:
        _order(db, row, meant[0], BACK_TO[meant[1]], event.intent_id, (meant[2], meant[3]), event.event_time.wall_us)


def _staged(db: Connection, row: StoredRow, event: ParcelStaged) -> None:
    _order(db, row, event.order_id, "staged", None, (event.bank, event.compartment), event.event_time.wall_us)


def _collected(db: Connection, row: StoredRow, event: ParcelCollected) -> None:
    _order(db, row, event.order_id, "collected", event.intent_id, (event.bank, event.compartment), event.event_time.wall_us)


def _order(db: Connection, row: StoredRow, order_id: str, state: str, intent_id: str | None, place: tuple[str, int], at_us: int) -> None:
    db.execute(
        "INSERT INTO order_events (order_id, gateway, state, intent_id, bank, compartment, at_us, received_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (order_id, row.gateway, state, intent_id, *place, at_us, row.received_us),
    )


EFFECTS: Final[dict[type[Any], Callable[[Connection, StoredRow, Any], None]]] = {
    VoucherRedeemed: _redeemed,
    RedemptionRefused: _refused,
    VisitStarted: _visit_started,
    VisitEnded: _visit_ended,
    OccupancyEstimated: _estimated,
    CompartmentOpenIntended: _intended,
    IntentSettled: _settled,
    ParcelStaged: _staged,
    ParcelCollected: _collected,
    DevicePaired: devices.paired,
    DeviceRevoked: devices.took_effect,
    DeviceSeen: devices.seen,
}
