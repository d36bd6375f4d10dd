"""What redemptions and pickups brought to the till: sales that followed one within half an hour, and how complete that is.

A sale counts once on each side, whatever number of vouchers it followed, and `other` are the sales that followed neither: what was
bought with and without. `gateway.posted` says what a till posts, `joining` how a sale finds what it followed. A redemption that was
reversed led to nothing. Amounts are in the currency's minor unit; a shop that sold in two currencies has two lines.
"""

import datetime
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query
from msgspec import Struct, field

from cloud_bridge.hq import reports
from cloud_bridge.hq.api import Day, Level
from cloud_bridge.hq.joining import AMBIGUOUS, CLOCK, WINDOW_US
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.ready import DEFAULT_ZONE, local_day, zone
from cloud_bridge.hq.registry import BoxRow, RefusedAsk, box_of_store, boxes
from cloud_bridge.hq.store import Connection
from gateway.events import Lane

MOST_DAYS: Final = 92
MOST_ROWS: Final = 500


class Amount(Struct):
    """So many sales, and what they came to, less what came back of them since."""

    sales: int = 0
    minor: int = 0

    def add(self, sales: int, minor: int) -> None:
        """Count more."""
        self.sales += sales
        self.minor += minor


class Side(Struct, kw_only=True):
    """Sales that followed redemptions, or pickups."""

    sales: int = 0
    minor: int = 0
    members: int = 0  # of these, sales of a known member
    anonymous: int = 0
    named: int = 0  # of these, by how they were joined
    member: int = 0
    till: int = 0
    staff: int = 0
    outside: int = 0  # named, but more than half an hour apart or the other way round: not counted above
    reversed: int = 0  # the redemption was taken back: not counted above
    unknown: int = 0  # named something headquarters has not heard of: not counted above
    ambiguous: int = 0  # several things could be meant: joined to none
    clock: int = 0  # the till's box did not know the time: joined to none


class Shop(Struct, kw_only=True):
    """One shop's sales in one currency."""

    store: str
    gateway: str
    currency: str
    all: Amount = field(default_factory=Amount)
    returned_minor: int = 0  # of these sales; taken off wherever an amount stands here
    redemption: Side = field(default_factory=Side)
    pickup: Side = field(default_factory=Side)
    other: Amount = field(default_factory=Amount)
    missing_rows: int = 0  # of its money lane, still on their way
    complete: bool = False


# How a joined sale stands, as `_CHOSEN` says.
COUNTED: Final = 2
OUTSIDE: Final = 1
TAKEN_BACK: Final = 0
_CHOSEN: Final = (
    "WITH chosen AS (SELECT s.* FROM sales s JOIN boxes b ON b.gateway = s.gateway"
    " WHERE b.timezone = ? AND s.at_us >= ? AND s.at_us < ? AND (? = '' OR b.gateway = ?)),"
    " followed AS (SELECT l.gateway, l.sale_id, l.kind, l.act_id, l.how, coalesce(u.at_us, p.at_us) AS act_us, u.voucher_id, u.campaign,"
    " CASE WHEN EXISTS (SELECT 1 FROM uses r WHERE r.redemption_id = u.redemption_id AND r.redemption_id <> ''"
    " AND r.gateway = u.gateway AND r.kind = 'reversed') THEN 0"
    " WHEN c.at_us - coalesce(u.at_us, p.at_us) BETWEEN 0 AND 1800000000 THEN 2 ELSE 1 END AS stand"
    " FROM chosen c JOIN uplifts l ON l.gateway = c.gateway AND l.sale_id = c.sale_id"
    " LEFT JOIN uses u ON l.kind = 'redemption' AND u.redemption_id = l.act_id AND u.redemption_id <> '' AND u.gateway = l.gateway"
    " AND u.kind = 'redeemed'"
    " LEFT JOIN pickups p ON l.kind = 'pickup' AND p.gateway = l.gateway AND p.order_id = l.act_id AND p.collected = 1"
    " WHERE u.id IS NOT NULL OR p.order_id IS NOT NULL)"
)
_SIDES: Final = (
    " SELECT c.gateway, c.currency, c.of_redemption, c.of_pickup, r.stand, r.how, p.stand, p.how,"
    " CASE WHEN c.member_ref IS NULL THEN 0 ELSE 1 END, count(*), CAST(sum(c.total_minor - coalesce(t.minor, 0)) AS BIGINT),"
    " CAST(sum(coalesce(t.minor, 0)) AS BIGINT) FROM chosen c"
    " LEFT JOIN (SELECT gateway, sale_id, sum(minor) AS minor FROM sale_returns GROUP BY gateway, sale_id) t"
    " ON t.gateway = c.gateway AND t.sale_id = c.sale_id"
    " LEFT JOIN (SELECT gateway, sale_id, max(stand) AS stand, max(how) AS how FROM followed WHERE kind = 'redemption'"
    " GROUP BY gateway, sale_id) r ON r.gateway = c.gateway AND r.sale_id = c.sale_id"
    " LEFT JOIN (SELECT gateway, sale_id, max(stand) AS stand, max(how) AS how FROM followed WHERE kind = 'pickup'"
    " GROUP BY gateway, sale_id) p ON p.gateway = c.gateway AND p.sale_id = c.sale_id"
    " GROUP BY c.gateway, c.currency, c.of_redemption, c.of_pickup, r.stand, r.how, p.stand, p.how,"
    " CASE WHEN c.member_ref IS NULL THEN 0 ELSE 1 END"
)
_ROWS: Final = (
    " SELECT f.gateway, f.stand, c.lines, f.kind, f.act_id, f.how, f.act_us, f.voucher_id, f.campaign, c.sale_id, c.receipt_id,"
    " c.station, c.member_ref, c.currency, c.total_minor, c.at_us FROM followed f"
    " JOIN chosen c ON c.gateway = f.gateway AND c.sale_id = f.sale_id ORDER BY c.at_us DESC, c.sale_id, f.act_id LIMIT ?"
)
_OPEN: Final = (
    "SELECT (SELECT count(*) FROM boxes b JOIN uses u ON u.gateway = b.gateway AND u.at_us > ? WHERE u.kind = 'redeemed'"
    " AND u.redemption_id <> '' AND NOT EXISTS (SELECT 1 FROM uplifts l WHERE l.gateway = u.gateway AND l.kind = 'redemption'"
    " AND l.act_id = u.redemption_id)) + (SELECT count(*) FROM boxes b JOIN pickups p ON p.gateway = b.gateway AND p.at_us > ?"
    " WHERE p.collected = 1 AND NOT EXISTS (SELECT 1 FROM uplifts l WHERE l.gateway = p.gateway AND l.kind = 'pickup'"
    " AND l.act_id = p.order_id))"
)


def describe(db: Connection, office: Office, store: str, first: str, last: str) -> dict[str, Any]:
    """The sums of each shop, the newest joined sales, and how complete they are.

    Raises:
        RefusedAsk: No such shop, no such days, or too many.
    """
    now_us = office.now_us()
    chosen = [box_of_store(db, store)] if store else boxes(db)
    shops, rows = read(db, chosen, (first, last), now_us)
    missing = _complete(db, office, shops, chosen)
    return {
        "first": first or local_day(now_us, DEFAULT_ZONE), "last": last or first or local_day(now_us, DEFAULT_ZONE),
        "shops": msgspec.to_builtins(shops), "rows": rows, "open_acts": _open(db, now_us),
        "missing_rows": sum(missing.values()), "complete": all(_is_complete(office, gateway, n) for gateway, n in missing.items()),
    }  # fmt: skip


def read(db: Connection, chosen: list[BoxRow], days: tuple[str, str], now_us: int) -> tuple[list[Shop], list[dict[str, Any]]]:
    """Some shops' sums from the first to the last of the shops' own days, and the newest joined sales.

    Raises:
        RefusedAsk: No such days, or too many.
    """
    shops: dict[tuple[str, str], Shop] = {}
    rows: list[dict[str, Any]] = []
    only = chosen[0].gateway if len(chosen) == 1 else ""
    for timezone in sorted({box.timezone for box in chosen}):
        asked = (timezone, *_span(*days, timezone, now_us), only, only)
        _add(shops, db.execute(_CHOSEN + _SIDES, asked).fetchall(), {box.gateway: box.store for box in chosen})
        rows += _told(db.execute(_CHOSEN + _ROWS, (*asked, MOST_ROWS)).fetchall(), {box.gateway: box.store for box in chosen})
    return [shops[key] for key in sorted(shops)], sorted(rows, key=lambda one: -int(one["sale_us"]))[:MOST_ROWS]


def _span(first: str, last: str, timezone: str, now_us: int) -> tuple[int, int]:
    today = local_day(now_us, timezone)
    try:
        begin, end = (datetime.date.fromisoformat(day or today) for day in (first, last or first))
    except ValueError as error:
        raise RefusedAsk(422, "there is no such day", "Write days as 2026-11-22") from error
    if not 0 <= (end - begin).days < MOST_DAYS:
        raise RefusedAsk(422, f"from the first to the last day are 1 to {MOST_DAYS} days", "Ask for fewer")
    local = zone(timezone)
    bounds = (datetime.datetime.combine(day, datetime.time(), local) for day in (begin, end + datetime.timedelta(days=1)))
    low, high = (int(moment.timestamp()) * 1_000_000 for moment in bounds)
    return low, high


def _add(shops: dict[tuple[str, str], Shop], found: Iterable[tuple[Any, ...]], stores: dict[str, str]) -> None:
    for gateway, currency, of_redemption, of_pickup, r_stand, r_how, p_stand, p_how, known, sales, minor, back in found:
        store = stores[gateway]
        shop = shops.setdefault((store, currency), Shop(store=store, gateway=gateway, currency=currency))
        shop.all.add(sales, minor)
        shop.returned_minor += back
        sides = ((shop.redemption, of_redemption, r_stand, r_how), (shop.pickup, of_pickup, p_stand, p_how))
        counted = [_count(side, why, stand, how, bool(known), sales, minor) for side, why, stand, how in sides]
        if not any(counted):
            shop.other.add(sales, minor)


def _count(side: Side, why: str, stand: int | None, how: str | None, known: bool, sales: int, minor: int) -> bool:
    """Count sales on one side; whether they followed anything there."""
    if stand == COUNTED:
        side.sales += sales
        side.minor += minor
        side.members += sales if known else 0
        side.anonymous += 0 if known else sales
        setattr(side, str(how), getattr(side, str(how)) + sales)
        return True
    if stand is not None:
        side.outside += sales if stand == OUTSIDE else 0
        side.reversed += sales if stand == TAKEN_BACK else 0
    elif why == "named":
        side.unknown += sales
    side.ambiguous += sales if why == AMBIGUOUS else 0
    side.clock += sales if why == CLOCK else 0
    return False


def _told(found: Iterable[tuple[Any, ...]], stores: dict[str, str]) -> list[dict[str, Any]]:
    names = (
        "kind", "act_id", "how", "act_us", "voucher_id", "campaign", "sale_id", "receipt_id", "station", "member_ref", "currency",
        "total_minor", "sale_us",
    )  # fmt: skip
    told = []
    for gateway, stand, lines, *values in found:
        row: dict[str, Any] = {"store": stores[gateway], **dict(zip(names, values, strict=True))}
        row |= {"gap_s": (row["sale_us"] - row["act_us"]) // 1_000_000, "counted": stand == COUNTED, "reversed": stand == TAKEN_BACK}
        told.append(row | {"lines": msgspec.json.decode(lines)})
    return told


def _open(db: Connection, now_us: int) -> int:
    """Redemptions and pickups that a sale may still follow."""
    return int(db.execute(_OPEN, (now_us - WINDOW_US, now_us - WINDOW_US)).fetchone()[0])


def _complete(db: Connection, office: Office, shops: Iterable[Shop], chosen: Iterable[BoxRow]) -> dict[str, int]:
    """Say of each shop how much of its money lane is still on its way."""
    missing: dict[str, int] = {}
    for box in chosen:
        heard = office.ingest.presence.heard(box.gateway)
        missing[box.gateway] = sum(one.missing for one in reports.lanes(db, box.gateway, heard) if one.lane == Lane.MONEY)
    for shop in shops:
        shop.missing_rows = missing[shop.gateway]
        shop.complete = _is_complete(office, shop.gateway, shop.missing_rows)
    return missing


def _is_complete(office: Office, gateway: str, missing: int) -> bool:
    return missing == 0 and office.ingest.presence.heard(gateway) is not None


def uplift_routes(office: Office) -> APIRouter:
    """The route of the API."""
    router = APIRouter(tags=["looking"])

    @router.get("/api/uplift", summary="Sales that followed a redemption or a pickup within half an hour, and those that followed neither")
    async def uplift(
        store: Level | None = None,
        first: Annotated[Day | None, Query(description="The shops' own day; none: today")] = None,
        last: Annotated[Day | None, Query(description="The last day; none: the first one only")] = None,
    ) -> dict[str, Any]:
        return await office.store.read(partial(describe, office=office, store=store or "", first=first or "", last=last or ""))

    return router
