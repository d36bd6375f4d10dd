"""What shops may give out of campaigns, and what they have given: seats, gifts in stock, so many a day."""

from functools import partial
from typing import Any

import msgspec
from fastapi import APIRouter

from cloud_bridge.hq import registry, shapes
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.ready import local_day
from cloud_bridge.hq.registry import BoxRow
from cloud_bridge.hq.store import Connection


def describe(db: Connection, row: BoxRow, now_us: int) -> list[dict[str, Any]]:
    """A shop's limits, each with the net of what has reached headquarters: in all, and on the shop's day."""
    today, given = local_day(now_us, row.timezone), shapes.given(db, row.gateway, row.timezone)
    found = []
    for limit in shapes.limits(db, row.gateway):
        mine = [one for one in given if one.campaign == limit.campaign]
        counted = {"given": sum(one.uses for one in mine), "given_today": sum(one.uses for one in mine if one.day == today)}
        found.append({"store": row.store} | dict(msgspec.to_builtins(limit)) | counted)
    return found


def every(db: Connection, now_us: int) -> list[dict[str, Any]]:
    """The limits of all shops."""
    return [one for row in registry.boxes(db) for one in describe(db, row, now_us)]


def limit_routes(office: Office) -> APIRouter:
    """The route of the API."""
    router = APIRouter(prefix="/api", tags=["boxes"])

    def of_store(db: Connection, store: str) -> list[dict[str, Any]]:
        return describe(db, registry.box_of_store(db, store), office.now_us())

    @router.get("/stores/{store}/limits", summary="What a shop may give out of each campaign, and what it has given")
    async def limits(store: str) -> list[dict[str, Any]]:
        return await office.store.read(partial(of_store, store=store))

    return router
