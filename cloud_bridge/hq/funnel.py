"""From an advertisement to the till: how many vouchers of a campaign each channel brought out, into a shop, to redemption, to a basket.

A voucher is issued for a channel (a mailing, a post, an advertisement) and keeps it at headquarters, joined by its identifier, so
the code that shops read stays as short as it was. Channel "" is whatever was issued for none: the channels sum up to the ledgers.

A basket is a sale that followed a redemption of the campaign that stands (`uplift` says how they are joined). One that followed several
belongs to the channel of the first of them, so baskets sum up to sales.
"""

from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query
from msgspec import Struct

from cloud_bridge.hq import reports
from cloud_bridge.hq.joining import WINDOW_US
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
    baskets: int = 0  # sales that followed its redemptions within half an hour
    basket_minor: int = 0  # what these came to


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
_BASKETS: Final = (
    "SELECT coalesce(c.channel, ''), count(*), CAST(sum(s.total_minor) AS BIGINT) FROM ("
    "SELECT l.gateway, l.sale_id, min(u.id) AS first_use FROM uplifts l"
    " JOIN uses u ON u.redemption_id = l.act_id AND u.redemption_id <> '' AND u.gateway = l.gateway AND u.kind = 'redeemed'"
    " JOIN sales f ON f.gateway = l.gateway AND f.sale_id = l.sale_id"
    " WHERE l.kind = 'redemption' AND u.campaign = ? AND f.at_us - u.at_us BETWEEN 0 AND ? AND NOT EXISTS (SELECT 1 FROM uses r"
    " WHERE r.redemption_id = u.redemption_id AND r.redemption_id <> '' AND r.gateway = u.gateway AND r.kind = 'reversed')"
    " GROUP BY l.gateway, l.sale_id) AS joined JOIN uses u ON u.id = joined.first_use"
    " JOIN sales s ON s.gateway = joined.gateway AND s.sale_id = joined.sale_id"
    " LEFT JOIN voucher_channels c ON c.voucher_id = u.voucher_id GROUP BY coalesce(c.channel, '')"
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
    for name, sales, minor in db.execute(_BASKETS, (campaign, WINDOW_US)).fetchall():
        of(name).baskets, of(name).basket_minor = sales, minor
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

    @router.get(
        "/api/funnel",
        summary="Of a campaign's vouchers by channel: issued, shown in a shop, redeemed, reversed, and their baskets",
    )
    async def funnel(campaign: Annotated[int, Query(ge=0, le=2**32 - 1)]) -> dict[str, Any]:
        return await office.store.read(partial(describe, office=office, campaign=campaign))

    return router
