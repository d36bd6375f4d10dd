"""Headquarters' pages, rendered here; the browser only swaps in what `/live` sends. Traditional Chinese first.

No page loads anything from elsewhere, and none has script or style inline, as the content security policy demands.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from cloud_bridge.hq import api, assigned_api, balance_api, checkins, metrics, phones, reports, uplift
from cloud_bridge.hq.books import books as read_books
from cloud_bridge.hq.books import sums
from cloud_bridge.hq.export import event_routes
from cloud_bridge.hq.fleet import Fleet, fleet_routes
from cloud_bridge.hq.funnel import funnel_routes
from cloud_bridge.hq.granting import NotGranted
from cloud_bridge.hq.guard import SIGNED_IN, Guard, no_cards
from cloud_bridge.hq.intake import RowRefused
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.options import HqOptions
from cloud_bridge.hq.registry import RefusedAsk, boxes
from cloud_bridge.hq.rendering import PAGES, language_of, page, render
from cloud_bridge.hq.roles import Role, Who
from cloud_bridge.hq.signin_api import signin_routes
from cloud_bridge.hq.signins import SignIns
from cloud_bridge.hq.store import StoreAway, StoredRow
from cloud_bridge.hq.words import QUIET_TYPES, names_of, say
from gateway.errors import BrokerError

FEED_LINES: Final = 30


def application(office: Office, fleet: Fleet, signins: SignIns, options: HqOptions, more: Sequence[APIRouter] = ()) -> ASGIApp:
    """Pages and API behind their guard; `more` are further routes of the API."""
    app = FastAPI(title="Store headquarters", version="1", docs_url=None, redoc_url=None, dependencies=[Depends(no_cards)])
    app.include_router(api.routes(office))
    app.include_router(balance_api.routes(office))
    app.include_router(assigned_api.routes(office, options.public_url))
    app.include_router(phones.routes(office), include_in_schema=False)
    app.include_router(checkins.routes(office))
    app.include_router(event_routes(office))
    app.include_router(funnel_routes(office))
    app.include_router(uplift.uplift_routes(office))
    app.include_router(fleet_routes(fleet))
    for router in more:
        app.include_router(router)
    app.include_router(_device_pages(office, fleet), include_in_schema=False)
    app.include_router(metrics.router(office))
    app.include_router(signin_routes(signins))
    app.include_router(_page_routes(office), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=PAGES / "static"))
    app.add_exception_handler(RefusedAsk, _answer_refused)
    app.add_exception_handler(NotGranted, phones.answer_refused)
    app.add_exception_handler(BrokerError, _answer_broken)
    app.add_exception_handler(StoreAway, _answer_broken)
    return Guard(app, signins, {"127.0.0.1", "localhost", "[::1]", options.http_host, options.public_host, *options.names})


async def _answer_refused(_: Request, error: Exception) -> Response:
    more: dict[str, Any] = {"rows": {str(place): why for place, why in error.rows.items()}} if isinstance(error, RowRefused) else {}
    if not isinstance(error, RefusedAsk):
        return JSONResponse({"detail": str(error)}, 500)
    more |= {name: said for name, said in (("field", error.field), ("code", error.code)) if said}
    return JSONResponse({"detail": str(error)} | more, error.status)


async def _answer_broken(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503)


def _page_routes(office: Office) -> APIRouter:
    router = APIRouter(default_response_class=HTMLResponse)

    @router.get("/")
    async def dashboard(request: Request) -> Response:
        shops, feed = await _shops_html(office, language_of(request), _who(request)), await _recent_html(office, language_of(request))
        return page(request, "dashboard.html", shops_html=shops, feed_html=feed)

    @router.get("/vouchers")
    async def vouchers(request: Request) -> Response:
        found = await office.store.read(reports.vouchers)
        return page(request, "vouchers.html", vouchers=found, boxes=await office.store.read(boxes), now_us=office.now_us())

    @router.get("/vouchers/{voucher_id}")
    async def voucher(request: Request, voucher_id: str) -> Response:
        shown = await office.voucher(voucher_id)
        story = await office.store.read(partial(reports.voucher_story, shown=shown))
        return page(
            request, "voucher.html", shown=shown, state=shown.state(office.now_us()), story=story, camera=office.camera is not None,
            boxes=await office.store.read(boxes), live=f"/live/vouchers/{voucher_id}",
        )  # fmt: skip

    @router.get("/orders")
    async def orders(request: Request) -> Response:
        found = await office.store.read(reports.orders)
        return page(request, "orders.html", orders=found, boxes=await office.store.read(boxes))

    @router.get("/orders/{order_id}")
    async def order(request: Request, order_id: str) -> Response:
        shown = await office.order(order_id)
        story = await office.store.read(partial(reports.order_story, shown=shown))
        return page(
            request, "order.html", shown=shown, story=story, camera=office.camera is not None, boxes=await office.store.read(boxes),
            live=f"/live/orders/{order_id}",
        )  # fmt: skip

    @router.get("/uplift")
    async def sales_after(request: Request, first: str = "", last: str = "") -> Response:
        found = await office.store.read(partial(uplift.describe, office=office, store="", first=first, last=last))
        return page(request, "uplift.html", found=found, boxes=await office.store.read(boxes))

    _live_routes(router, office)
    return router


def _device_pages(office: Office, fleet: Fleet) -> APIRouter:
    router = APIRouter(default_response_class=HTMLResponse)

    async def html(language: str) -> str:
        return render("_devices.html", language, shops=await fleet.shops())

    async def follow(language: str) -> AsyncIterator[str]:
        async for _ in _changes(office):
            yield api.sse("devices", await html(language))

    @router.get("/devices")
    async def devices(request: Request) -> Response:
        return page(request, "devices.html", devices_html=await html(language_of(request)))

    @router.get("/live/devices")
    async def live(request: Request) -> Response:
        return StreamingResponse(follow(language_of(request)), media_type="text/event-stream")

    return router


def _live_routes(router: APIRouter, office: Office) -> None:
    @router.get("/live")
    async def live(request: Request) -> Response:
        return StreamingResponse(_follow(office, language_of(request), _who(request)), media_type="text/event-stream")

    @router.get("/live/vouchers/{voucher_id}")
    async def live_voucher(request: Request, voucher_id: str) -> Response:
        await office.voucher(voucher_id)
        return StreamingResponse(_follow_voucher(office, voucher_id, language_of(request)), media_type="text/event-stream")

    @router.get("/live/orders/{order_id}")
    async def live_order(request: Request, order_id: str) -> Response:
        await office.order(order_id)
        return StreamingResponse(_follow_order(office, order_id, language_of(request)), media_type="text/event-stream")


async def _follow(office: Office, language: str, who: Who) -> AsyncIterator[str]:
    """Fragments of the dashboard, as they change."""
    watcher = office.feed.watch()
    if watcher is None:
        return
    try:
        yield api.sse("shops", await _shops_html(office, language, who))
        while (change := await watcher.next(api.QUIET_S)) is not None:
            rows = [row for row in change.rows if row.type not in QUIET_TYPES]
            if rows:
                yield api.sse("feed", await _feed_html(office, rows[-FEED_LINES:][::-1], language))
            yield api.sse("shops", await _shops_html(office, language, who))
            await asyncio.sleep(0.05)  # a flood of rows makes at most twenty pictures a second
    finally:
        office.feed.leave(watcher)


async def _follow_voucher(office: Office, voucher_id: str, language: str) -> AsyncIterator[str]:
    async for _ in _changes(office):
        shown = await office.voucher(voucher_id)
        story = await office.store.read(partial(reports.voucher_story, shown=shown))
        values = {"shown": shown, "story": story, "state": shown.state(office.now_us()), "boxes": await office.store.read(boxes)}
        yield api.sse("story", render("_voucher_story.html", language, **values))


async def _follow_order(office: Office, order_id: str, language: str) -> AsyncIterator[str]:
    async for _ in _changes(office):
        shown = await office.order(order_id)
        story = await office.store.read(partial(reports.order_story, shown=shown))
        values = {"shown": shown, "story": story, "state": shown.state, "boxes": await office.store.read(boxes)}
        yield api.sse("story", render("_order_story.html", language, **values))


async def _changes(office: Office) -> AsyncIterator[None]:
    watcher = office.feed.watch()
    if watcher is None:
        return
    try:
        while await watcher.next(api.QUIET_S) is not None:
            yield
            await asyncio.sleep(0.05)
    finally:
        office.feed.leave(watcher)


# ---------------------------------------------------------------- rendering


def _who(request: Request) -> Who:
    found: Who = request.scope[SIGNED_IN]
    return found


async def _shops_html(office: Office, language: str, who: Who) -> str:
    shops = await office.shops()
    books = sums(await office.store.read(read_books))
    return render("_shops.html", language, shops=shops, books=books, now_us=office.now_us(), may_wan=who.may(Role.INSTALLER))


async def _recent_html(office: Office, language: str) -> str:
    rows = await office.store.read(partial(reports.recent, limit=FEED_LINES))
    return await _feed_html(office, rows, language)


async def _feed_html(office: Office, rows: Sequence[StoredRow], language: str) -> str:
    named = await office.store.read(partial(names_of, rows=rows))
    stores = {row.gateway: row for row in await office.store.read(boxes)}
    return render("_feed.html", language, lines=[(row, say(row, named, language), stores.get(row.gateway)) for row in rows])
