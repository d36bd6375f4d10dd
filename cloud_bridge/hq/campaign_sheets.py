"""Which shop has which version of which campaign: what each sheet of a box said, and which sheet the box has in force. In a transaction.

A sheet is one version of a box's document `campaigns`. The box tells what it has applied; until then it serves the sheet before.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from cloud_bridge.hq.registry import boxes
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import CatalogApplied
from gateway.rules.definitions import Campaign

NAME: Final = "campaigns"
KEPT: Final = 50  # sheets of a box behind the one it has; of a box that is behind by more it is only known that it is behind


def note(db: Connection, gateway: str, version: int, told: Iterable[Campaign], now_us: int) -> None:
    """Remember what a sheet says."""
    said = msgspec.json.encode({str(one.campaign): one.version for one in told}).decode("ascii")
    db.put("campaign_sheets", [(gateway, version, said, now_us)], "(gateway, version) DO UPDATE SET said = excluded.said")
    has = _applied(db, gateway)
    db.execute("DELETE FROM campaign_sheets WHERE gateway = ? AND version < ? AND version <> ?", (gateway, version - KEPT, has))


def applied(db: Connection, row: StoredRow, event: CatalogApplied) -> None:
    """Effect of a row: a box has a document in force. It never goes back, so the highest counts, whatever arrives last."""
    values = (row.gateway, event.name, event.version, event.event_time.wall_us)
    db.put(
        "applied", [values], "(gateway, name) DO UPDATE SET at_us = CASE WHEN excluded.version > applied.version THEN excluded.at_us"
        " ELSE applied.at_us END, version = CASE WHEN excluded.version > applied.version THEN excluded.version ELSE applied.version END",
    )  # fmt: skip
    if event.name == NAME:
        db.execute("DELETE FROM campaign_sheets WHERE gateway = ? AND version < ?", (row.gateway, _applied(db, row.gateway)))


def shops(db: Connection, campaign: Campaign) -> list[dict[str, Any]]:
    """Where a campaign stands, shop by shop: the version it was told, the one it has (None: none), and a word for it."""
    return [_shop(db, row.gateway, row.store, row.public is not None, campaign) for row in boxes(db) if campaign.is_for(row.number)]


def standing(db: Connection, found: Iterable[Campaign]) -> dict[int, tuple[int, int]]:
    """Of each campaign: how many shops have the version in force, of how many it is for."""
    rows, counts = boxes(db), dict[int, tuple[int, int]]()
    sheets = {row.gateway: _sheet(db, row.gateway, _applied(db, row.gateway)) or {} for row in rows}
    for one in found:
        concerned = [row for row in rows if one.is_for(row.number)]
        counts[one.campaign] = sum(sheets[row.gateway].get(str(one.campaign)) == one.version for row in concerned), len(concerned)
    return counts


def _shop(db: Connection, gateway: str, store: str, enrolled: bool, campaign: Campaign) -> dict[str, Any]:
    has, key = _applied(db, gateway), str(campaign.campaign)
    found = db.execute("SELECT max(version) FROM campaign_sheets WHERE gateway = ?", (gateway,)).fetchone()
    newest = int(found[0] or 0)
    told, held = (_sheet(db, gateway, newest) or {}).get(key), _sheet(db, gateway, has)
    version = None if held is None else held.get(key)
    if not enrolled or not newest:
        state = "unknown" if enrolled else "not_enrolled"
    elif told is None:
        state = "left_out"
    else:
        state = "current" if version == campaign.version else "behind" if has else "unheard"
    at = db.execute("SELECT at_us FROM applied WHERE gateway = ? AND name = ?", (gateway, NAME)).fetchone()
    return {"store": store, "gateway": gateway, "told": told, "has": version, "state": state, "applied_us": at[0] if at else None}


def _applied(db: Connection, gateway: str) -> int:
    found = db.execute("SELECT version FROM applied WHERE gateway = ? AND name = ?", (gateway, NAME)).fetchone()
    return int(found[0]) if found else 0


def _sheet(db: Connection, gateway: str, version: int) -> dict[str, int] | None:
    found = db.execute("SELECT said FROM campaign_sheets WHERE gateway = ? AND version = ?", (gateway, version)).fetchone()
    return None if found is None else msgspec.json.decode(found[0], type=dict[str, int])
