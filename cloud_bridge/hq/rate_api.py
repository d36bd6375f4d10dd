"""Rates of points and returned goods over HTTP."""

from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request

from cloud_bridge.hq import consents, rates, registry, returns
from cloud_bridge.hq.api import Level
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.ingest import Ingest
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.store import Connection, Store
from gateway.clock import Clock
from gateway.rules.points import PointsRate, RateError, read_rate

_, SHAPES = msgspec.json.schema_components([PointsRate], ref_template="#/components/schemas/{name}")
BODY: Final[dict[str, Any]] = {"requestBody": {"required": True, "content": {"application/json": {"schema": SHAPES["PointsRate"]}}}}


class Rates:
    """What there is to do with rates."""

    def __init__(self, store: Store, press: Press, ingest: Ingest, clock: Clock) -> None:
        self.store = store
        self._press = press
        self._ingest = ingest
        self._clock = clock

    async def publish(self, definition: bytes) -> dict[str, Any]:
        """Put a rate in force from its day on, and tell every shop.

        Raises:
            RefusedAsk: It cannot be read, or is no newer version.
        """
        rate = read_rate(definition)
        if isinstance(rate, RateError):
            raise RefusedAsk(422, rate.problem, rate.hint)
        told = await self.store.write(partial(self._publish, rate=rate))
        for row in told:
            await self._ingest.announce(row)
        return {"version": rate.version, "shops": [row.store for row in told]}

    def _publish(self, db: Connection, rate: PointsRate) -> list[BoxRow]:
        now_us = self._clock.now().wall_us
        if not rates.publish(db, rate, now_us):
            return []
        told = [row for row in registry.boxes(db) if row.public is not None]  # the others get theirs when they enrol
        self._press.seal_campaigns(db, told, now_us)
        return told


def rate_routes(office: Rates) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["members"])

    @router.post(
        "/api/points/rates", status_code=201, summary="Publish how many points a currency's sales earn from a day on; every shop is told",
        openapi_extra=BODY, responses={422: {"description": "It cannot be read, and why"}},
    )  # fmt: skip
    async def publish(request: Request) -> dict[str, Any]:
        return await office.publish(await request.body())

    @router.get("/api/points/rates", summary="Every rate of points that was published, newest first")
    async def listed() -> list[dict[str, Any]]:
        return await office.store.read(rates.listed)

    @router.get("/api/returns", summary="Goods that came back, newest first: what counts, what is over, and the points taken back")
    async def came_back(store: Annotated[Level | None, Query()] = None) -> list[dict[str, Any]]:
        return await office.store.read(partial(returns.listed, store=store or ""))

    @router.get("/api/members/{member_ref}/consents", summary="A member's last word on each consent, and the text it was said to")
    async def said(member_ref: str) -> list[dict[str, Any]]:
        return await office.store.read(partial(consents.history, member_ref=member_ref))

    return router
