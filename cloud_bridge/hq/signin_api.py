"""Signing in and out, and the administrators' routes and pages: who may enter, and the office's journal."""

from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from cloud_bridge.hq import deeds
from cloud_bridge.hq.enrolment import Tries
from cloud_bridge.hq.guard import COOKIE, SIGNED_IN, locked
from cloud_bridge.hq.rendering import page
from cloud_bridge.hq.roles import Role
from cloud_bridge.hq.signins import SignIns
from gateway.clock import SystemClock

MOST_FORM_B: Final = 2_048
MOST_KEY: Final = 200


class NewKey(BaseModel):
    """Somebody who is to enter headquarters."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=31, description="2 to 31 letters a-z, digits and -; never used again.")]
    roles: Annotated[list[Role], Field(max_length=len(Role))]


def signin_routes(signins: SignIns) -> APIRouter:
    """All of them."""
    router = APIRouter()
    router.include_router(_door_routes(signins), include_in_schema=False)
    router.include_router(_key_routes(signins))
    router.include_router(_page_routes(signins), include_in_schema=False)
    return router


def _door_routes(signins: SignIns) -> APIRouter:
    router, tries = APIRouter(default_response_class=HTMLResponse), Tries(SystemClock())

    async def enter(request: Request, key: str) -> Response:
        opened = signins.opened(key[:MOST_KEY])
        if opened is None:
            if not key:
                return locked()
            address = request.client.host if request.client else ""
            if not tries.take(address):
                return locked(429, wrong=True)
            note = partial(deeds.note, at_us=signins.now_us(), who="", route="a wrong key", about={"from": f"ip {address}"}, status=401)
            await signins.store.write(note)
            return locked(wrong=True)
        who, cookie, lasts_s = opened
        note = partial(deeds.note, at_us=signins.now_us(), who=who.name, route="signed in", about={}, status=303)
        await signins.store.write(note)
        response = RedirectResponse(who.home, 303)
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", max_age=lasts_s, path="/")
        return response

    @router.get("/login")
    async def by_link(request: Request, token: str = "") -> Response:
        return await enter(request, token)

    @router.post("/login")
    async def by_form(request: Request) -> Response:
        host = request.headers.get("host", "")
        if request.headers.get("origin") not in (f"http://{host}", f"https://{host}"):
            return locked(403)
        body = (await request.body())[:MOST_FORM_B].decode("utf-8", "replace")
        return await enter(request, parse_qs(body).get("key", [""])[0].strip())

    @router.post("/logout")
    async def leave() -> Response:
        response = Response(b"{}", media_type="application/json")
        response.delete_cookie(COOKIE, path="/")
        return response

    return router


def _key_routes(signins: SignIns) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["sign-ins"])

    @router.get("/keys", summary="Who may enter headquarters, and with which roles; no keys")
    async def listed() -> list[dict[str, Any]]:
        return await signins.listed()

    @router.post("/keys", status_code=201, summary="Make a key for somebody; it is shown this once")
    async def make(body: NewKey, request: Request) -> dict[str, Any]:
        key = await signins.make(body.name, body.roles, request.scope[SIGNED_IN].name)
        return {"name": body.name, "roles": sorted(set(body.roles)), "key": key}

    @router.post("/keys/{name}/revoke", summary="Take a key away, for good and at once")
    async def revoke(name: str, request: Request) -> dict[str, Any]:
        await signins.revoke(name, request.scope[SIGNED_IN].name)
        return {"name": name, "revoked": True}

    @router.get("/journal", summary="Every refused and every sensitive action, newest first, and who did it")
    async def journal(
        who: Annotated[str, Query(max_length=31)] = "", before: Annotated[int, Query(ge=0, le=2**62, description="An `id`.")] = 0
    ) -> list[dict[str, Any]]:
        return await signins.store.read(partial(deeds.listed, who=who, before=before))

    return router


def _page_routes(signins: SignIns) -> APIRouter:
    router = APIRouter(default_response_class=HTMLResponse)

    @router.get("/account")
    async def account(request: Request) -> Response:
        return page(request, "account.html")

    @router.get("/keys")
    async def keys(request: Request) -> Response:
        return page(request, "keys.html", keys=await signins.listed(), all_roles=list(Role))

    @router.get("/journal")
    async def journal(request: Request, who: Annotated[str, Query(max_length=31)] = "", before: int = 0) -> Response:
        found = await signins.store.read(partial(deeds.listed, who=who, before=max(0, min(before, 2**62))))
        return page(request, "journal.html", deeds=found, only=who, most=deeds.MOST_LISTED)

    return router
