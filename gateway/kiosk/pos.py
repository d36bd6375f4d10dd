"""Redeeming over HTTP: for a POS, and for the kiosk page of a station."""

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gateway.codes import MAX_PAYLOAD_B
from gateway.events import CodePresented
from gateway.kiosk.access import Access
from gateway.kiosk.api import JSON, known_station, shape

if TYPE_CHECKING:
    from gateway.core.desk import Desk

TYPED: Final = "]X0"
MARK_HEADER: Final = "sgw-mark"  # `kiosk.witness` says what a till does with it

Code = Annotated[str, Field(min_length=1, max_length=MAX_PAYLOAD_B, description="The code as read or typed; never stored.")]
PresentationId = Annotated[
    str, Field(pattern="^[0-9a-fA-F]{32}$", description="32 hex digits, new for each time a code is shown; the same for each retry.")
]
Symbology = Annotated[str, Field(pattern=r"^\][A-Za-z][0-9A-Za-z]$", description="AIM symbology identifier, if a reader read it.")]
Source = Literal["pos", "camera", "picture", "typed"]


class Strict(BaseModel):
    """A request body that has no other fields."""

    model_config = ConfigDict(extra="forbid")


class Presented(Strict):
    """A code shown at a station."""

    station: Annotated[str, Field(min_length=1, max_length=40, description="A station of the configuration.")]
    code: Code
    presentation_id: PresentationId | None = None
    symbology_id: Symbology = TYPED
    source: Annotated[Source, Field(description="How the code was read.")] = "pos"


def presented(code: str, presentation_id: str, symbology_id: str, read_point: str) -> CodePresented:
    """The event a request states.

    Raises:
        HTTPException: 422, the code is longer than any symbol holds, or no text.
    """
    try:
        payload = code.encode()
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can spell
        raise HTTPException(422, "bad_input") from error
    if len(payload) > MAX_PAYLOAD_B:
        raise HTTPException(422, "bad_input")
    return CodePresented(read_point, presentation_id.lower(), symbology_id, payload)


def idempotency(in_body: str | None, in_header: str | None) -> str:
    """The presentation id, from wherever it was given.

    Raises:
        HTTPException: 422, given nowhere, twice differently, or not 32 hex digits.
    """
    given = {found.strip().strip('"').replace("-", "").lower() for found in (in_body, in_header) if found is not None}
    if not given:
        raise HTTPException(422, "id_missing")
    if len(given) > 1:
        raise HTTPException(422, "id_differs")
    found = given.pop()
    if not re.fullmatch("[0-9a-f]{32}", found):
        raise HTTPException(422, "id_missing")
    return found


def router(desk: "Desk", access: Access) -> APIRouter:
    """The one route of money that needs no person: a device paired with the station suffices, as its scanner does."""
    routes = APIRouter()

    @routes.post(
        "/v1/redeem",
        summary="Present a code at a station",
        responses=shape("Answer", "Decided, and committed. A refusal is an answer too: `decision` is then `refused`."),
        description="Needs the key of a device paired with the station (a cookie, or `Authorization: Bearer`), or a person signed in.",
    )
    async def redeem(
        asked: Presented,
        request: Request,
        idempotency_key: Annotated[str | None, Header(description="Instead of `presentation_id`: 32 hex digits or a UUID.")] = None,
    ) -> Response:
        identity = idempotency(asked.presentation_id, idempotency_key)
        station = known_station(desk, asked.station)
        staff = access.presenter(request, station)
        till = access.till(request, station)
        if till is not None and MARK_HEADER in request.headers:
            desk.hear_witness(till, request.headers[MARK_HEADER])
        event = presented(asked.code, identity, asked.symbology_id, f"{asked.source}@{station}")
        answer = Response(await desk.present(event, station=station, staff=staff), media_type=JSON)
        if till is not None and (mark := desk.mark(till)):
            answer.headers[MARK_HEADER] = mark  # after the commit, so what the till keeps is on the disk
        return answer

    return routes
