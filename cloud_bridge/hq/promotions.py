"""Campaigns as headquarters' people and web shops use them: publish, list, price a basket. The engine is the shops' own."""

import asyncio
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Request
from fastapi import Path as ApiPath
from fastapi.responses import Response
from msgspec import Struct

from cloud_bridge.hq import campaign_sheets, campaigns, registry
from cloud_bridge.hq.campaign_words import basket_refusal, refusal
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.feed import Change, Feed
from cloud_bridge.hq.ingest import Ingest
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.store import Connection, Store
from gateway.clock import Clock
from gateway.errors import MalformedFrame
from gateway.rules.definitions import Campaign, CampaignError, Campaigns, read_campaign
from gateway.rules.pricing import MOST_ASKS, Ask, Name, Place, PriceAnswer, StoreAsks, answer, read_asks

JSON: Final = "application/json"


class Draft(Struct, frozen=True, forbid_unknown_fields=True):
    """A definition that is not published yet, and a basket at a shop to try it on."""

    definition: msgspec.Raw
    store: Name
    ask: Ask


class _DraftShape(Struct, frozen=True):
    """As the API's description shows it."""

    definition: Campaign
    store: Name
    ask: Ask


_draft: Final = msgspec.json.Decoder(Draft)
_, SHAPES = msgspec.json.schema_components([Campaign, StoreAsks, PriceAnswer, _DraftShape], ref_template="#/components/schemas/{name}")


class Promotions:
    """What there is to do with campaigns."""

    def __init__(self, store: Store, press: Press, ingest: Ingest, feed: Feed, clock: Clock) -> None:
        self._store = store
        self._press = press
        self._ingest = ingest
        self._feed = feed
        self._clock = clock
        self._turn = asyncio.Lock()

    async def publish(self, definition: bytes) -> dict[str, Any]:
        """Put a campaign in force, and tell the shops it concerns or concerned.

        Raises:
            RefusedAsk: It cannot be read, or is no newer version.
        """
        campaign = read_campaign(definition)
        if isinstance(campaign, CampaignError):
            raise refusal(campaign)
        now_us = self._clock.now().wall_us
        told = await self._store.write(partial(self._publish, campaign=campaign, now_us=now_us))
        for row in told:
            await self._ingest.announce(row)
        self._feed.tell(Change())
        return {"campaign": campaign.campaign, "version": campaign.version, "shops": [row.store for row in told]}

    async def listed(self) -> list[dict[str, Any]]:
        """Every campaign in force."""
        found = await self._store.read(lambda db: list(campaigns.in_force(db)))
        return [{"published_us": one.published_us, "definition": msgspec.to_builtins(one.campaign)} for one in found]

    async def price(self, body: bytes) -> bytes:
        """Price baskets as a shop would.

        Raises:
            RefusedAsk: No such shop, or the body is none.
        """
        now_us = self._clock.now().wall_us
        try:
            asked = read_asks(body, StoreAsks)
            row, live = await self._store.read(partial(_of_store, store=asked.store))
            place = Place(row.number, row.timezone, now_us, now_us)
            async with self._turn:  # off the loop, and one after the other: ingest goes on meanwhile
                return await asyncio.to_thread(answer, asked.asks, Campaigns(tuple(live)), place)
        except MalformedFrame as error:
            raise RefusedAsk(422, str(error)) from error

    async def check(self, body: bytes) -> dict[str, Any]:
        """Price a basket as a shop would if a definition were in force: the shops' engine, nothing published and nothing kept.

        Raises:
            RefusedAsk: The definition or the basket cannot be read, or there is no such shop.
        """
        try:
            asked = _draft.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise basket_refusal(str(error)) from error
        campaign = read_campaign(bytes(asked.definition))
        if isinstance(campaign, CampaignError):
            raise refusal(campaign)
        row, live = await self._store.read(partial(_of_store, store=asked.store))
        held = await self._store.read(partial(campaigns.one, number=campaign.campaign))
        others = [one for one in live if one.campaign != campaign.campaign]
        concerned = [campaign] if campaign.is_for(row.number) and not campaign.withdrawn else []
        ready, now_us = sorted([*others, *concerned], key=lambda one: one.campaign), self._clock.now().wall_us
        try:
            async with self._turn:
                place = Place(row.number, row.timezone, now_us, now_us)
                priced = await asyncio.to_thread(answer, (asked.ask,), Campaigns(tuple(ready)), place)
        except MalformedFrame as error:
            raise basket_refusal(str(error)) from error
        in_force = None if held is None else held.version
        told: dict[str, Any] = msgspec.json.decode(priced)
        return {"priced": told["priced"][0], "is_for_shop": bool(concerned), "version": campaign.version, "in_force": in_force}

    async def shops(self, number: int) -> list[dict[str, Any]]:
        """Which shop has which version of a campaign.

        Raises:
            RefusedAsk: There is no such campaign.
        """
        return await self._store.read(partial(_shops, number=number))

    def _publish(self, db: Connection, campaign: Campaign, now_us: int) -> list[BoxRow]:
        before = campaigns.publish(db, campaign, now_us)
        if before == campaign:
            return []
        concerned = [row for row in registry.boxes(db) if campaign.is_for(row.number) or (before is not None and before.is_for(row.number))]
        told = [row for row in concerned if row.public is not None]  # the others get theirs when they enrol
        self._press.seal_campaigns(db, told, now_us)
        return told


def _shops(db: Connection, number: int) -> list[dict[str, Any]]:
    found = campaigns.one(db, number)
    if found is None:
        raise RefusedAsk(404, f"there is no campaign {number}", "GET /api/campaigns lists them")
    return campaign_sheets.shops(db, found)


def _of_store(db: Connection, store: str) -> tuple[BoxRow, list[Campaign]]:
    row = registry.box_of_store(db, store)
    return row, campaigns.of_store(db, row.number)


def campaign_routes(promotions: Promotions) -> APIRouter:
    """The campaigns' part of the API."""
    router = APIRouter(prefix="/api", tags=["campaigns"])

    @router.post(
        "/campaigns", status_code=201, summary="Publish a campaign, or the next version of one; the shops are told",
        openapi_extra=_body("Campaign"), responses={422: {"description": "It cannot be read, and why"}},
    )  # fmt: skip
    async def publish(request: Request) -> dict[str, Any]:
        return await promotions.publish(await request.body())

    @router.get("/campaigns", summary="The campaigns in force")
    async def listed() -> list[dict[str, Any]]:
        return await promotions.listed()

    @router.get("/campaigns/{campaign}/shops", summary="Which shop has which version of a campaign")
    async def shops(campaign: Annotated[int, ApiPath(ge=1, le=2**32 - 1)]) -> list[dict[str, Any]]:
        return await promotions.shops(campaign)

    @router.post(
        "/campaigns/check", summary="Price a basket as a shop would if a definition were in force; nothing is published",
        openapi_extra=_body("_DraftShape"), responses={422: {"description": "It cannot be read, and why"}},
    )  # fmt: skip
    async def check(request: Request) -> dict[str, Any]:
        return await promotions.check(await request.body())

    @router.post(
        "/price", summary=f"Price up to {MOST_ASKS} baskets as a shop would; nothing is decided", openapi_extra=_body("StoreAsks"),
        responses={200: {"content": {JSON: {"schema": _inlined("PriceAnswer")}}}}, response_class=Response,
    )  # fmt: skip
    async def price(request: Request) -> Response:
        return Response(await promotions.price(await request.body()), media_type=JSON)

    return router


def _body(name: str) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {JSON: {"schema": _inlined(name)}}}}


def _inlined(name: str) -> dict[str, Any]:
    """A shape with everything it refers to in place: none of them refers to itself."""

    def put(node: Any) -> Any:
        if isinstance(node, dict):
            inner = SHAPES[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
            return {key: put(value) for key, value in inner.items() if key != "discriminator"}
        return [put(one) for one in node] if isinstance(node, list) else node

    return dict(put(SHAPES[name]))
