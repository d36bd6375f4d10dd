"""From an advertisement to the till: how many vouchers of a campaign each channel brought out, into a shop, and to redemption.

A voucher is issued for a channel (a mailing, a post, an advertisement) and keeps it at headquarters, joined by its identifier, so
the code that shops read stays as short as it was. Channel "" is whatever was issued for none: the channels sum up to the ledgers.
"""

from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query
from msgspec import Struct

from cloud_bridge.hq import reports
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.registry import boxes
from cloud_bridge.hq.store import Connection
from gateway.events import Lane


class Channel(Struct):
    """What came of one channel."""

    channel: str
    reached: int = 0  # vouchers issued
    visited: int = 0  # of these, shown in a shop at least once, whatever came of it
    redeemed: int = 0  # uses, gross
    reversed: int = 0
    net: int = 0
    amount_minor: int = 0  # of face values, net


_REACHED: Final = (
    "SELECT coalesce(c.channel, ''), count(*) FROM vouchers v LEFT JOIN voucher_channels c ON c.voucher_id = v.voucher_id"
    " WHERE v.campaign = ? GROUP BY coalesce(c.channel, '')"
)
_VISITED: Final = (
    "SELECT coalesce(c.channel, ''), count(*) FROM ("
    "SELECT voucher_id FROM uses WHERE campaign = ? AND gateway IS NOT NULL AND voucher_id IS NOT NULL"
    " UNION SELECT u.voucher_id FROM vouchers v JOIN uses u ON u.voucher_id = v.voucher_id WHERE v.campaign = ? AND u.gateway IS NOT NULL"
    ") AS shown LEFT JOIN voucher_channels c ON c.voucher_id = shown.voucher_id GROUP BY coalesce(c.channel, '')"
)
_USED: Final = (
    "SELECT coalesce(c.channel, ''), u.kind, CAST(sum(u.units) AS BIGINT), CAST(sum(u.amount_minor) AS BIGINT)"
    " FROM uses u LEFT JOIN voucher_channels c ON c.voucher_id = u.voucher_id"
    " WHERE u.campaign = ? AND u.kind IN ('redeemed', 'reversed') GROUP BY coalesce(c.channel, ''), u.kind"
)


def channels(db: Connection, campaign: int) -> list[Channel]:
    """The funnel of a campaign, channel by channel."""
    found: dict[str, Channel] = {}

    def of(name: str) -> Channel:
        return found.setdefault(name, Channel(name))

    for name, count in db.execute(_REACHED, (campaign,)).fetchall():
        of(name).reached = count
    for name, count in db.execute(_VISITED, (campaign, campaign)).fetchall():
        of(name).visited = count
    for name, kind, units, minor in db.execute(_USED, (campaign,)).fetchall():
        one = of(name)
        one.net += units
        one.amount_minor += minor
        if kind == "redeemed":
            one.redeemed = units
        else:
            one.reversed = -units
    return [found[name] for name in sorted(found)]


def describe(db: Connection, office: Office, campaign: int) -> dict[str, Any]:
    """The funnel, its sums, and how many rows of shops' money lanes are still on their way."""
    rows = channels(db, campaign)
    numbers = [name for name in Channel.__struct_fields__ if name != "channel"]
    stands = [stand for box in boxes(db) for stand in reports.lanes(db, box.gateway, office.ingest.presence.heard(box.gateway))]
    missing = sum(stand.missing for stand in stands if stand.lane == Lane.MONEY)
    total = {name: sum(getattr(one, name) for one in rows) for name in numbers}
    return {
        "campaign": campaign, "channels": msgspec.to_builtins(rows), "total": total, "missing_rows": missing, "complete": missing == 0,
    }  # fmt: skip


def funnel_routes(office: Office) -> APIRouter:
    """The route of the API."""
    router = APIRouter(tags=["looking"])

    @router.get("/api/funnel", summary="Of a campaign's vouchers, channel by channel: issued, shown in a shop, redeemed, reversed")
    async def funnel(campaign: Annotated[int, Query(ge=0, le=2**32 - 1)]) -> dict[str, Any]:
        return await office.store.read(partial(describe, office=office, campaign=campaign))

    return router
