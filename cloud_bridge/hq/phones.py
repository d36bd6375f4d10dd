"""What shoppers' phones reach of headquarters, without a login: a voucher's page, and the address in the QR code of a shop that is offline.

::

    GET  /v/VOUCHER         the page; the secret of the link stands behind `#` and is never part of a request's address
    GET  /g/REQUEST         the same page (a QR code makes it `/G/…`): it looks which vouchers this phone has opened before
    POST /v/VOUCHER/show    {secret}: title, state, QR code, shops that hold it
    POST /v/VOUCHER/grant   {secret, asking}: a grant's code and its QR code, for the shop that asks
    POST /g/shop            {asking}: which shop asks, and for which voucher
    GET  /c/CHECKIN         where a phone's own camera ends with a check-in code (`/C/…`): it says to scan it with the chain's app

The page is one file and says nothing by itself, so that it tells nobody which vouchers there are. A refusal is `{reason, message,
next_step, shop}`. One address may try 30 times at once and then every two seconds; so may, whoever asks, each voucher by its link.
"""

from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from cloud_bridge.hq.assignments import AssignedRow
from cloud_bridge.hq.enrolment import Tries
from cloud_bridge.hq.granting import Granting, NotGranted, both, name_of
from cloud_bridge.hq.office import Office
from gateway.asking import MAX_ASKING_B
from gateway.clock import SystemClock

PAGE: Final = Path(__file__).parent / "pages" / "phone.html"
CHECKIN: Final = PAGE.with_name("checkin.html")
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
Blob = Annotated[str, Field(max_length=MAX_ASKING_B * 2)]


class Showing(BaseModel):
    """Who has the link."""

    model_config = ConfigDict(extra="forbid")
    secret: str  # any text: what is too long is merely not the secret, and is not echoed


class Granted(Showing):
    """Who has the link, at a shop."""

    asking: Blob


class Shopped(BaseModel):
    """A shop's request."""

    model_config = ConfigDict(extra="forbid")
    asking: Blob


def routes(office: Office) -> APIRouter:
    """The routes. None needs a login."""
    router, granting = APIRouter(), Granting(office)
    by_address, by_voucher = Tries(SystemClock()), Tries(SystemClock())

    def knock(request: Request) -> None:
        if not by_address.take(request.client.host if request.client else ""):
            raise NotGranted("too_often")

    async def held(request: Request, voucher_id: str, secret: str) -> AssignedRow:
        knock(request)
        row = await granting.holder_of(voucher_id[:64], secret)
        if not by_voucher.take(row.voucher_id):  # only who has the link counts: nobody else can keep its holder out
            raise NotGranted("too_often")
        return row

    @router.get("/v/{voucher_id}")
    @router.get("/g/{blob}")
    @router.get("/G/{blob}")
    async def page() -> Response:
        return FileResponse(PAGE, media_type="text/html", headers={"content-security-policy": POLICY, "cache-control": "no-store"})

    @router.get("/c/{blob}")
    @router.get("/C/{blob}")
    async def checked_in() -> Response:
        return FileResponse(CHECKIN, media_type="text/html", headers={"content-security-policy": POLICY, "cache-control": "no-store"})

    @router.post("/v/{voucher_id}/show")
    async def show(voucher_id: str, body: Showing, request: Request) -> Response:
        return JSONResponse(await granting.look(await held(request, voucher_id, body.secret)))

    @router.post("/v/{voucher_id}/grant")
    async def grant(voucher_id: str, body: Granted, request: Request) -> Response:
        row = await held(request, voucher_id, body.secret)
        return JSONResponse(await granting.grant(row, body.asking))

    @router.post("/g/shop")
    async def shop(body: Shopped, request: Request) -> Response:
        knock(request)
        found, known = granting.asked(body.asking)
        return JSONResponse({"shop": both(name_of(known.row)), "voucher_id": found.voucher_id})

    return router


async def answer_refused(_: Request, error: Exception) -> Response:
    """What a phone is told when it gets nothing."""
    return JSONResponse(error.told(), error.status) if isinstance(error, NotGranted) else Response(status_code=500)
