"""What campaigns come to on a basket, over HTTP: for a till that wants to show it before anything is decided."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request, Response

from gateway.errors import MalformedFrame
from gateway.kiosk.access import Access
from gateway.kiosk.api import JSON, known_station, shape
from gateway.kiosk.guard import problem
from gateway.rules.pricing import MOST_ASKS, Place, StationAsks, answer, read_asks

if TYPE_CHECKING:
    from gateway.core.desk import Desk

BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {JSON: {"schema": {"$ref": "#/components/schemas/StationAsks"}}}}
}
DESCRIPTION: Final = (
    f"Up to {MOST_ASKS} baskets at once, each priced for itself. Nothing is decided, used or kept. An ask may name another moment "
    "than now, and how often campaigns were used. Needs the key of a device paired with the station, or a person signed in."
)


def router(desk: "Desk", access: Access) -> APIRouter:
    """The route."""
    routes, turn = APIRouter(), asyncio.Lock()

    @routes.post(
        "/v1/price", summary="Price baskets with the campaigns in force", responses=shape("PriceAnswer", "A price for each basket"),
        description=DESCRIPTION, openapi_extra=BODY,
    )  # fmt: skip
    async def price(request: Request) -> Response:
        try:
            asked = read_asks(await request.body(), StationAsks)
        except MalformedFrame as error:
            return _bad_input(error)
        access.presenter(request, known_station(desk, asked.station))
        store = desk.config.store
        place = Place(store.number, store.timezone, *desk.clock.bounds_us())
        try:
            # Off the loop, and one after the other: a hundred large baskets with hundreds of campaigns would keep a redemption waiting.
            async with turn:
                return Response(await asyncio.to_thread(answer, asked.asks, desk.campaigns(), place), media_type=JSON)
        except MalformedFrame as error:
            return _bad_input(error)

    return routes


def _bad_input(error: MalformedFrame) -> Response:
    return Response(problem("bad_input", fields=[{"field": "body", "problem": str(error)}]), 422, media_type=JSON)
