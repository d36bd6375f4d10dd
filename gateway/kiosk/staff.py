"""What staff may do from any phone's browser, signed in by person and PIN."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Cookie, Depends, Request, Response
from pydantic import Field
from starlette.exceptions import HTTPException

from gateway.core.verdict import Actor, Asked
from gateway.kiosk.access import Access, give_key
from gateway.kiosk.api import JSON, PHONES, shape
from gateway.kiosk.pos import TYPED, Code, PresentationId, Strict, Symbology, presented
from gateway.kiosk.sessions import SESSION_NS, Sessions, Tries
from gateway.kiosk.verbs import EVERYBODY
from gateway.signed import Staff

if TYPE_CHECKING:
    from gateway.core.desk import Desk

STATION: Final = PHONES  # phones move about: what they present belongs to no station's screen
COOKIE: Final = "staff"


class SignIn(Strict):
    """Who, and the PIN."""

    staff_ref: Annotated[str, Field(min_length=1, max_length=64)]
    pin: Annotated[str, Field(min_length=1, max_length=32)]


class Staging(Strict):
    """An order to put behind a door."""

    order_id: Annotated[str, Field(min_length=1, max_length=64)]
    key: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$", description="32 hex digits, the same for each retry.")]
    bank: Annotated[str, Field(max_length=40)] | None = None
    compartment: Annotated[int, Field(ge=1, le=999, description="None: any free one.")] | None = None


class StaffPresented(Strict):
    """A code shown to a member of staff."""

    code: Code
    presentation_id: PresentationId
    symbology_id: Symbology = TYPED
    source: Literal["camera", "picture", "typed"] = "typed"


def router(desk: "Desk", sessions: Sessions) -> APIRouter:
    """Routes of staff."""
    routes = APIRouter(prefix="/v1/staff", tags=["staff"])
    _add_signing_in(routes, desk, sessions)
    _add_work(routes, desk, signed_in(desk, sessions), Access(desk, sessions))
    return routes


def signed_in(desk: "Desk", sessions: Sessions) -> Callable[..., Staff]:
    """A dependency: the person who asks."""

    def person(staff: Annotated[str | None, Cookie()] = None) -> Staff:
        found = _find(desk, sessions.whose(staff))
        if found is None:
            raise HTTPException(401, "not_signed_in")
        return found

    return person


def _add_signing_in(routes: APIRouter, desk: "Desk", sessions: Sessions) -> None:
    tries, access = Tries(desk.clock), Access(desk, sessions)

    @routes.post("/sign-in", summary="Begin a shift: 429 after five wrong PINs, with the seconds to wait in Retry-After")
    async def sign_in(asked: SignIn, request: Request) -> Response:
        if _find(desk, asked.staff_ref) is None:
            raise HTTPException(401, "wrong_pin")
        wait_s = tries.begin(asked.staff_ref)
        if wait_s:
            raise HTTPException(429, "too_many_tries", {"retry-after": str(int(wait_s) + 1)})
        found = await desk.sign_in(asked.staff_ref, asked.pin)
        if found is None:
            raise HTTPException(401, "wrong_pin")
        tries.right(asked.staff_ref)
        answer = Response(msgspec.json.encode(_shown(found)), media_type=JSON)
        phone = await _phone(request, answer, found)
        answer.set_cookie(
            COOKIE, sessions.open(found.staff_ref, phone), max_age=SESSION_NS // 10**9, path="/", httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    async def _phone(request: Request, answer: Response, person: Staff) -> str:
        """The phone's own identifier: it has a key too, so that a lost one can be shut out."""
        known = access.of_station(request, STATION)
        if known is None:
            key = await desk.devices.pair("phone", STATION, person.name, person.staff_ref)
            give_key(request, answer, STATION, key)
            known = desk.devices.find(key)
        return known.device_id if known else ""

    @routes.post("/sign-out", summary="End a shift")
    async def sign_out(staff: Annotated[str | None, Cookie()] = None) -> Response:
        sessions.close(staff)
        answer = Response(b"{}", media_type=JSON)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer


def _add_work(routes: APIRouter, desk: "Desk", person: Callable[..., Staff], access: Access) -> None:
    present_staff = Annotated[Staff, Depends(person)]

    @routes.get("/me", summary="Who is signed in")
    async def me(staff: present_staff) -> Response:
        return Response(msgspec.json.encode(_shown(staff)), media_type=JSON)

    @routes.get("/orders", summary="Orders of this shop")
    async def orders(staff: present_staff) -> Response:
        return Response(msgspec.json.encode(desk.orders()), media_type=JSON)

    @routes.post(
        "/stage", summary="Open a compartment for an order", responses=shape("Answer", "Decided; `staging` names the compartment.")
    )
    async def stage(asked: Staging, staff: present_staff) -> Response:
        body = await desk.stage(
            asked.order_id, key=asked.key.lower(), staff=staff.staff_ref, station=STATION, bank=asked.bank, compartment=asked.compartment
        )
        return Response(body, media_type=JSON)

    @routes.post("/redeem", summary="Present a code to staff", responses=shape("Answer", "Decided, and committed."))
    async def redeem(asked: StaffPresented, request: Request, staff: present_staff) -> Response:
        phone = access.of_station(request, STATION)
        device = phone.device_id if phone else None
        if not EVERYBODY & set(staff.roles):
            await desk.till.deny("redeem", STATION, Actor(device, staff.staff_ref, frozenset(staff.roles)))
            raise HTTPException(403, "not_allowed")
        event = presented(asked.code, asked.presentation_id, asked.symbology_id, f"{asked.source}@{STATION}")
        return Response(await desk.present(event, station=STATION, staff=staff.staff_ref, asked=Asked(device=device)), media_type=JSON)


def _find(desk: "Desk", staff_ref: str | None) -> Staff | None:
    """A person who works here now: one who has left is signed out by that."""
    return next((person for person in desk.staff() if person.staff_ref == staff_ref), None)


def _shown(person: Staff) -> dict[str, object]:
    return {"staff_ref": person.staff_ref, "name": person.name, "roles": person.roles}
