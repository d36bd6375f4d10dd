"""What somebody touched at a kiosk that asked for their consent: yes or no, by the number of the question that stood there."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.exceptions import HTTPException

from gateway.kiosk.access import Access
from gateway.kiosk.api import JSON, known_station, shape
from gateway.kiosk.pos import Strict

if TYPE_CHECKING:
    from gateway.core.desk import Desk


class Touched(Strict):
    """An answer to what the screen asks."""

    station: Annotated[str, Field(min_length=1, max_length=40)]
    offer_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="As `consent` of an answer said it.")]
    yes: bool
    key: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$", description="32 hex digits, the same for each retry.")]


def router(desk: "Desk", access: Access) -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.post(
        "/v1/consent", tags=["screens"], summary="Answer what a kiosk asks a member; the kiosk's own page only",
        responses=shape("Answer", "What it came to, and committed. A question that has ended joins nothing: `consent_over`."),
    )  # fmt: skip
    async def consent(asked: Touched, request: Request) -> Response:
        station = known_station(desk, asked.station)
        actor, _ = access.caller(request, station, access.live(request))
        if "kiosk" not in actor.roles:  # consent is the shopper's own: no till and no clerk gives it for them here
            await desk.till.deny("consent", station, actor)
            raise HTTPException(403, "not_allowed")
        body = await desk.till.consent(asked.offer_id, yes=asked.yes, key=asked.key.lower(), station=station, actor=actor)
        return Response(body, media_type=JSON)

    return routes
