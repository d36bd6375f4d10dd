"""Paired devices as witnesses: each keeps the newest mark it was shown and presents it when it connects.

A browser's page does so by itself. A till reads `Sgw-Mark` from each answer of `/v1/redeem`, keeps it unless it does not descend from
the one it has (same `epoch` and no lower `seq`, or an epoch named in `past`: the part before the dot is base64url of JSON), and sends
it back as `Sgw-Mark` with its next request. A till that never does is never waited for.
"""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.exceptions import HTTPException

from gateway.core.witnesses import MAX_MARK_B
from gateway.kiosk.access import Access
from gateway.kiosk.pos import Strict

if TYPE_CHECKING:
    from gateway.core.desk import Desk


class Presented(Strict):
    """The mark a device kept."""

    station: Annotated[str, Field(min_length=1, max_length=40, description="The device's own station; `staff` for phones.")]
    mark: Annotated[str, Field(max_length=MAX_MARK_B, description="As it was given; empty if there is none yet.")] = ""


def router(desk: "Desk", access: Access) -> APIRouter:
    """The one route."""
    routes = APIRouter()

    @routes.post(
        "/v1/witness",
        summary="Present the mark this device kept: it vouches for the box, or shows that its disk is an old image",
        description="`word`: `vouches`, `contradicts`, or `nothing` (no mark of this box: forget it). `mark`: keep it if it descends "
        "from yours. Needs the key of a paired device; the box's own screen shares its disk and is no witness.",
    )
    async def witness(asked: Presented, request: Request) -> dict[str, Any]:
        device = access.of_station(request, asked.station)
        if device is None:
            raise HTTPException(401, "not_paired")
        heard, mark = desk.hear_witness(device, asked.mark)
        return {"word": heard.word.value, "mark": mark, "admitted": desk.store_view().admission.admitted}

    return routes
