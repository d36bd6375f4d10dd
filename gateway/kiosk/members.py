"""Members over HTTP, for tills and signed-in staff: who has a number or a code, and what staff are told quietly.

The typed number is in the request's body and nowhere else: in no answer, row, store of answers or log. Whether somebody has a number or
nobody, the answer has the same fields and comes after a commit of the same size.
"""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from msgspec import Meta, Struct
from pydantic import Field
from starlette.exceptions import HTTPException

from gateway import verifiers
from gateway.codes import CodeKind, recognise
from gateway.core.members import Asker, Found, Locked, Member, NotFound, TierAlert
from gateway.core.verdict import MANAGER, Actor
from gateway.errors import MalformedFrame
from gateway.events import MemberRecognised
from gateway.kiosk.access import PHONES, Access
from gateway.kiosk.api import JSON, known_station, shape
from gateway.kiosk.guard import problem
from gateway.kiosk.live import Changes, stream
from gateway.kiosk.pace import Pace
from gateway.kiosk.pos import TYPED, Strict, presented
from gateway.kiosk.staff import COOKIE
from gateway.kiosk.verbs import TILL, Code, Station, Symbology, fields_of
from gateway.rules.reasons import NOTHING, REASONS, Text
from gateway.signed import Staff
from gateway.token import TokenKind

if TYPE_CHECKING:
    from gateway.core.desk import Desk

PEOPLE: Final = frozenset({"clerk", "manager"})
BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {JSON: {"schema": {"$ref": "#/components/schemas/MemberAsked"}}}}
}
Phone = Annotated[str, Meta(min_length=1, max_length=40, description="A telephone number as typed; never stored.")]


class MemberAsked(Struct, forbid_unknown_fields=True, kw_only=True):
    """A number or a code: one of the two."""

    station: Station
    phone: Phone | None = None
    code: Code | None = None
    symbology_id: Symbology = TYPED


class MemberAnswer(Struct, kw_only=True):
    """Who it is, as far as this shop knows. Always all of these fields."""

    found: bool
    reason: str = ""  # why nobody was found: a key of `gateway.rules.reasons.REASONS`
    message: Text = NOTHING
    next_step: Text = NOTHING
    member_ref: str = ""
    tier: str = ""
    consents: list[str] = msgspec.field(default_factory=list)
    tags: list[str] = msgspec.field(default_factory=list)  # to signed-in staff only
    points: int | None = None
    as_of_s: int = 0  # tier and points were so then, seconds since 1970 UTC
    is_stale: bool = False  # that is long ago: show points greyed, with that time


class Alerts(Struct):
    """Members who are there now, for staff."""

    alerts: list[TierAlert]
    locked: dict[str, int]  # who may not look for numbers, and since when (µs since 1970 UTC)


class Unlock(Strict):
    """Who may look for numbers again."""

    by: Annotated[str, Field(min_length=1, max_length=64, description="A device or a member of staff, as `locked` names them.")]


def router(desk: "Desk", changes: Changes, access: Access, person: Callable[..., Staff]) -> APIRouter:
    """The routes."""
    routes, pace = APIRouter(tags=["members"]), Pace(desk.clock, desk.config.members.lookups_per_s)
    decode = msgspec.json.Decoder(MemberAsked).decode

    @routes.post(
        "/v1/members/lookup", summary="Who has a telephone number or a member code; for tills and signed-in staff",
        responses=shape("MemberAnswer", "Whoever was found, or why nobody was"), openapi_extra=BODY,
    )  # fmt: skip
    async def lookup(request: Request) -> Response:
        live = access.live(request)
        try:
            asked = decode(await request.body())
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            return Response(problem("bad_input", fields=fields_of(error)), 422, media_type=JSON)
        if (asked.phone is None) == (asked.code is None):
            return Response(problem("bad_input", fields=[{"field": "phone", "problem": "a phone or a code"}]), 422, media_type=JSON)
        station = asked.station if asked.station == PHONES else known_station(desk, asked.station)
        actor = _signed_in(request, access, person) or access.caller(request, station, live)[0]
        if wait_s := pace.wait_s(actor.staff or access.credential(request, station)):
            raise HTTPException(429, "too_fast", {"retry-after": str(int(wait_s) + 1)})
        if not TILL & actor.roles:
            await desk.till.deny("members/lookup", station, actor)
            raise HTTPException(403, "not_allowed")
        found = await _by_phone(desk, asked.phone, station, actor) if asked.phone is not None else await _by_code(desk, asked, actor)
        return Response(msgspec.json.encode(describe(found, with_tags=bool(PEOPLE & actor.roles))), media_type=JSON)

    _add_staff(routes, desk, changes, access, person)
    return routes


def _add_staff(routes: APIRouter, desk: "Desk", changes: Changes, access: Access, person: Callable[..., Staff]) -> None:
    signed_in = Annotated[Staff, Depends(person)]

    def alerts() -> bytes:
        return msgspec.json.encode(Alerts(desk.members.alerts(), desk.members.locked))

    @routes.get("/v1/staff/members", summary="Members who are there now: tier only", responses=shape("Alerts", "Newest first"))
    async def read(staff: signed_in) -> Response:
        _may(staff, PEOPLE)
        return Response(alerts(), media_type=JSON)

    @routes.get("/v1/staff/members/events", summary="The same, live (server-sent events of Alerts)")
    async def follow(staff: signed_in, request: Request) -> StreamingResponse:
        _may(staff, PEOPLE)
        return stream(changes, alerts, access.still(request))

    @routes.post("/v1/staff/members/unlock", summary="Let a device or person look for numbers again; managers only")
    async def unlock(asked: Unlock, staff: signed_in) -> Response:
        if MANAGER not in staff.roles:
            await desk.till.deny("members/unlock", PHONES, Actor(None, staff.staff_ref, frozenset(staff.roles)))
            raise HTTPException(403, "not_allowed")
        return Response(msgspec.json.encode({"unlocked": await desk.members.unlock(asked.by, staff.staff_ref)}), media_type=JSON)


def _signed_in(request: Request, access: Access, person: Callable[..., Staff]) -> Actor | None:
    """The person who asks, on whatever device: they are counted, and not what they hold in their hands."""
    try:
        staff = person(request.cookies.get(COOKIE))
    except HTTPException:
        return None
    phone = access.of_station(request, PHONES)
    return Actor(phone.device_id if phone else None, staff.staff_ref, frozenset(staff.roles))


def _may(person: Staff, roles: frozenset[str]) -> None:
    if not roles & set(person.roles):
        raise HTTPException(403, "not_allowed")


async def _by_phone(desk: "Desk", typed: str, station: str, actor: Actor) -> Found | NotFound | Locked:
    found = desk.members.by_phone(typed, Asker(station, actor.staff, actor.device))
    if found.rows:
        await desk.write(found.rows)
    return found


async def _by_code(desk: "Desk", asked: MemberAsked, actor: Actor) -> Found | NotFound:
    code = presented(asked.code or "", secrets.token_hex(16), asked.symbology_id, f"lookup@{asked.station}")
    found, how = _named(desk, code.payload, code.symbology_id)
    if isinstance(found, NotFound):
        return found
    now, ref = desk.clock.now(), found.member.member_ref
    await desk.write([MemberRecognised(code.presentation_id, ref, how, asked.station, code.read_point, actor.staff, now)])
    return found


def _named(desk: "Desk", payload: bytes, symbology_id: str) -> tuple[Found | NotFound, str]:
    code = recognise(payload, symbology_id)
    if code.kind is CodeKind.CARD:
        return NotFound("card_dropped"), ""
    if code.kind in verifiers.VERIFIERS:
        try:
            shown = verifiers.verify(code.text, desk.keys(), code.kind)
        except MalformedFrame as error:
            return NotFound(verifiers.reason_of(error)), ""
        return (desk.members.by_code(shown) if shown.kind is TokenKind.MEMBER else NotFound("unknown_member_code")), "code"
    member = desk.members.by_typed(code)
    return (NotFound("unknown_member_code"), "") if member is None else (Found(member[0]), member[1])


def describe(found: Found | NotFound | Locked, *, with_tags: bool) -> MemberAnswer:
    """The answer, in one shape whatever was found."""
    if isinstance(found, Found):
        one: Member = found.member
        return MemberAnswer(
            found=True, member_ref=one.member_ref, tier=one.tier, consents=one.consents, tags=one.tags if with_tags else [],
            points=one.points, as_of_s=one.as_of_s, is_stale=one.is_stale,
        )  # fmt: skip
    words = REASONS[found.reason]
    return MemberAnswer(found=False, reason=found.reason, message=words.text, next_step=words.next_step)
