"""Clearing over HTTP: what issuers owe shops for a day, the same as a signed file, and signals of misuse."""

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response

from cloud_bridge.hq import checkpoint
from cloud_bridge.hq.api import Day
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.settlement import Settlement, settle
from cloud_bridge.hq.signals import signals
from provisioning.authority import Authority

Issuer = Annotated[int | None, Query(ge=0, le=2**16 - 1, description="One issuer's number; left out: all.")]
Currency = Annotated[Literal["TWD", "HKD"], Query(description="The chain's: vouchers name none.")]
Hours = Annotated[int, Query(ge=1, le=24 * 31)]
HOUR_US = 3_600_000_000


def clearing_routes(office: Office, authority: Authority) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/api", tags=["clearing"])

    async def settled(day: str, issuer: int | None, currency: str) -> Settlement:
        return await office.store.read(partial(settle, day=day, issuer=issuer, currency=currency, now_us=office.now_us()))

    @router.get("/settlement", summary="What each issuer owes each shop for a day of the shop's, and how complete that is")
    async def of_day(day: Annotated[Day, Query()], issuer: Issuer = None, currency: Currency = "TWD") -> dict[str, Any]:
        return dict(msgspec.to_builtins(await settled(day, issuer, currency)))

    @router.get("/settlement.csv", summary="The same as a file with headquarters' signature in its last line")
    async def file_of_day(day: Annotated[Day, Query()], issuer: Issuer = None, currency: Currency = "TWD") -> Response:
        return Response(checkpoint.write(await settled(day, issuer, currency), authority.root), media_type="text/csv; charset=utf-8")

    @router.get("/signals", summary="Signals of misuse in the last hours, and the thresholds they passed")
    async def looked_at(hours: Hours = 24) -> dict[str, Any]:
        return await office.store.read(partial(signals, since_us=office.now_us() - hours * HOUR_US))

    return router
