"""Pages for headquarters' people: campaigns, what shops may give out, issuers, settlement. All of it is in the API, too."""

from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi import Path as ApiPath
from fastapi.responses import HTMLResponse, Response

from cloud_bridge.hq import campaign_sheets, campaigns, limits
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.ready import local_day
from cloud_bridge.hq.registry import RefusedAsk, boxes
from cloud_bridge.hq.rendering import HEADQUARTERS_ZONE, page
from cloud_bridge.hq.settlement import settle
from cloud_bridge.hq.store import Connection
from gateway.rules.definitions import KINDS, Campaign

DAY_US: Final = 86_400_000_000
FIRST_NUMBER: Final = 101  # of campaigns made on the page: lower ones are people's own
Flat = dict[str, Any]


def page_routes(office: Office) -> APIRouter:
    """The pages."""
    router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
    _add_campaigns(router, office)
    _add_lists(router, office)
    return router


def flat(campaign: Campaign) -> Flat:
    """A definition by the names of the form's fields, such as `rule.items.skus`; what is at its default is not in it."""
    found: Flat = {}

    def put(node: dict[str, Any], place: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                put(value, f"{place}{key}.")
            else:
                found[place + key] = value

    put(dict(msgspec.json.decode(msgspec.json.encode(campaign))), "")
    return found


def _add_campaigns(router: APIRouter, office: Office) -> None:
    read = office.store.read

    def listed(db: Connection) -> list[tuple[campaigns.Published, tuple[int, int]]]:
        found = list(campaigns.in_force(db))
        standing = campaign_sheets.standing(db, [one.campaign for one in found])
        return [(one, standing[one.campaign.campaign]) for one in found]

    def free_number(db: Connection) -> int:
        return max([one.campaign.campaign for one in campaigns.in_force(db)] + [FIRST_NUMBER - 1]) + 1

    def known(db: Connection, number: int) -> tuple[Campaign, list[dict[str, Any]]]:
        found = campaigns.one(db, number)
        if found is None:
            raise RefusedAsk(404, f"there is no campaign {number}", "GET /api/campaigns lists them")
        return found, campaign_sheets.shops(db, found)

    @router.get("/campaigns")
    async def every(request: Request) -> Response:
        return page(request, "campaigns.html", campaigns=await read(listed), boxes=await read(boxes))

    @router.get("/campaigns/new")
    async def new(request: Request) -> Response:
        blank: Flat = {"campaign": await read(free_number), "rule.kind": KINDS[0], "currency": "TWD", "rounding": "half_up"}
        return page(request, "campaign.html", said=blank, version=1, shops=None, kinds=KINDS, boxes=await read(boxes))

    @router.get("/campaigns/{campaign}")
    async def one(request: Request, campaign: Annotated[int, ApiPath(ge=1, le=2**32 - 1)]) -> Response:
        found, shops = await read(partial(known, number=campaign))
        said = flat(found)
        return page(request, "campaign.html", said=said, version=found.version + 1, shops=shops, kinds=KINDS, boxes=await read(boxes))


def _add_lists(router: APIRouter, office: Office) -> None:
    read = office.store.read

    @router.get("/limits")
    async def given(request: Request) -> Response:
        found = await read(partial(limits.every, now_us=office.now_us()))
        return page(request, "limits.html", limits=found, boxes=await read(boxes))

    @router.get("/issuers")
    async def issuers(request: Request) -> Response:
        found = await office.issuers()
        return page(request, "issuers.html", issuers=found, now_s=office.now_us() // 1_000_000, boxes=await read(boxes))

    @router.get("/settlement")
    async def settlement(
        request: Request, day: Annotated[str, Query(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = "", currency: Literal["TWD", "HKD"] = "TWD"
    ) -> Response:
        day = day or local_day(office.now_us() - DAY_US, HEADQUARTERS_ZONE)
        found = await read(partial(settle, day=day, issuer=None, currency=currency, now_us=office.now_us()))
        issuers = {one["issuer"]: one for one in await office.issuers()}
        return page(request, "settlement.html", found=found, issuers=issuers, boxes=await read(boxes))
