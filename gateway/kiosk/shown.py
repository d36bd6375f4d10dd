"""What screens tell back and what they draw for others: a result that was painted, a till's code, the check-in code.

A page confirms what it has painted; a person honours what no page confirmed; a till that knows no network hands back, one by one or in a
list, the codes it scanned from screens.
"""

import hashlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import segno
from fastapi import APIRouter, Depends, Query, Request, Response
from msgspec import Struct
from pydantic import Field
from starlette.exceptions import HTTPException

from gateway.core.verdict import Actor, Asked
from gateway.kiosk import code128
from gateway.kiosk.access import PHONES, Access
from gateway.kiosk.api import JSON, known_station, shape
from gateway.kiosk.pos import TYPED, Strict, presented
from gateway.rules import answers
from gateway.rules.screened import CODE_DIGITS
from gateway.signed import Staff

if TYPE_CHECKING:
    from gateway.core.desk import Desk

PEOPLE: Final = frozenset({"clerk", "manager"})
MOST_CODES: Final = 500
Why = Literal["power_cut", "screen_fault", "walked_away"]
Identifier = Annotated[str, Field(min_length=1, max_length=64)]
Key = Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$", description="32 hex digits, the same for each retry.")]


class Painted(Strict):
    """A page has painted that a redemption was accepted."""

    station: Annotated[str, Field(min_length=1, max_length=40)]
    redemption_id: Identifier


class Honoured(Strict):
    """What a person hands over although no screen is known to have said that it was accepted."""

    redemption_id: Annotated[Identifier, Field(description="As a refusal said it in `unseen`.")]
    why: Why
    key: Key


class Scanned(Strict):
    """Codes a till has scanned from screens."""

    station: Annotated[str, Field(min_length=1, max_length=40)]
    codes: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=MOST_CODES)]
    key: Key


class Outcome(Struct, frozen=True):
    """What became of one code."""

    code: str
    outcome: str  # "rung", or the reason of a refusal
    at_us: int  # when it was rung up first; 0: never


def router(desk: "Desk", access: Access, person: Callable[..., Staff]) -> APIRouter:
    """The routes."""
    routes = APIRouter()
    _add_painting(routes, desk, access)
    _add_staff(routes, desk, access, person)
    _add_till(routes, desk, access)
    return routes


def _add_painting(routes: APIRouter, desk: "Desk", access: Access) -> None:
    @routes.post(
        "/v1/shown", tags=["screens"], summary="A page has painted an accepted redemption: `noted` is false if nobody waits for that"
    )
    async def shown(asked: Painted, request: Request) -> dict[str, bool]:
        station = asked.station if asked.station == PHONES else known_station(desk, asked.station)
        actor, _ = access.caller(request, station, access.live(request))
        return {"noted": await desk.till.showing.shown(asked.redemption_id, actor, station)}

    @routes.get("/v1/till-code.svg", include_in_schema=False)
    async def till_code(code: Annotated[str, Query(max_length=CODE_DIGITS)]) -> Response:
        """The bars of an answer's `till_code`: of nothing else, so that no link can make this screen show what is not ours."""
        if not desk.till.showing.is_till_code(code):
            raise HTTPException(404, "not_found")
        return Response(code128.svg(code), media_type="image/svg+xml")

    @routes.get("/v1/stations/{name}/checkin.svg", include_in_schema=False)
    async def checkin(name: str, request: Request) -> Response:
        """The check-in code of this half minute, for the station's own screen: nobody else on the network may fetch it."""
        if access.of_station(request, known_station(desk, name)) is None:
            raise HTTPException(401, "not_paired")
        text, picture = desk.checkins.address(name), io.BytesIO()
        if not text:
            raise HTTPException(404, "not_found")
        segno.make_qr(text, error="l", boost_error=False).save(picture, kind="svg", scale=4, border=4, light="#fff")
        return Response(picture.getvalue(), media_type="image/svg+xml")


def _add_staff(routes: APIRouter, desk: "Desk", access: Access, person: Callable[..., Staff]) -> None:
    @routes.post(
        "/v1/staff/honour", tags=["staff"], summary="Hand over what was accepted and, as far as is known, never shown: once for each use",
        responses=shape("Answer", "Decided, and committed; headquarters books it as exposure."),
    )  # fmt: skip
    async def honour(asked: Honoured, request: Request, staff: Annotated[Staff, Depends(person)]) -> Response:
        phone = access.of_station(request, PHONES)
        actor = Actor(phone.device_id if phone else None, staff.staff_ref, frozenset(staff.roles))
        if not PEOPLE & actor.roles:
            await desk.till.deny("honour", PHONES, actor)
            raise HTTPException(403, "not_allowed")
        body = await desk.till.honour(asked.redemption_id, asked.why, key=asked.key.lower(), station=PHONES, actor=actor)
        return Response(body, media_type=JSON)


def _add_till(routes: APIRouter, desk: "Desk", access: Access) -> None:
    @routes.post(
        "/v1/till/codes", tags=["money"], summary="Codes a till without an API scanned from screens: each is rung up once",
        responses={200: {"content": {JSON: {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/Outcome"}}}}}},
    )  # fmt: skip
    async def codes(asked: Scanned, request: Request) -> Response:
        station = known_station(desk, asked.station)
        actor, _ = access.caller(request, station, access.live(request))
        if not (PEOPLE | {"pos"}) & actor.roles:
            await desk.till.deny("till/codes", station, actor)
            raise HTTPException(403, "not_allowed")
        found = [await _ring_up(desk, code, f"{asked.key.lower()}/{place}", station, actor) for place, code in enumerate(asked.codes)]
        return Response(msgspec.json.encode(found), media_type=JSON)


async def _ring_up(desk: "Desk", code: str, key: str, station: str, actor: Actor) -> Outcome:
    if not desk.till.showing.is_till_code(code):
        return Outcome("", "unknown_till_code", 0)  # never repeated: nobody knows what it is
    identity = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    event = presented(code, identity, TYPED, f"till@{station}")
    said: Any = answers.decode(await desk.present(event, station=station, staff=actor.staff, asked=Asked(device=actor.device)))
    at_us = said.decided_us if said.ok else said.before.at_us if said.before else 0
    return Outcome(code, "rung" if said.ok else said.reason, at_us)
