"""Headquarters' pages, rendered here; the browser only swaps in what `/live` sends. Traditional Chinese first.

No page loads anything from elsewhere, and none has script or style inline, as the content security policy demands.
"""

import asyncio
import datetime
import hmac
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.types import ASGIApp

from cloud_bridge.hq import api, assigned_api, balance_api, checkins, metrics, phones, reports, uplift
from cloud_bridge.hq.books import books as read_books
from cloud_bridge.hq.books import sums
from cloud_bridge.hq.export import event_routes
from cloud_bridge.hq.fleet import Fleet, fleet_routes
from cloud_bridge.hq.funnel import funnel_routes
from cloud_bridge.hq.granting import NotGranted
from cloud_bridge.hq.guard import COOKIE, LOCKED, Guard, no_cards, session_of
from cloud_bridge.hq.intake import RowRefused
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.options import HqOptions
from cloud_bridge.hq.ready import zone
from cloud_bridge.hq.registry import BoxRow, RefusedAsk, boxes
from cloud_bridge.hq.store import StoreAway, StoredRow
from cloud_bridge.hq.words import LANGUAGES, QUIET_TYPES, locale, names_of, say, say_duration
from gateway.errors import BrokerError
from gateway.rules.reasons import REASONS

PAGES: Final = Path(__file__).parent / "pages"
LANGUAGE_COOKIE: Final = "sgw_lang"
YEAR_S: Final = 365 * 86_400
HEADQUARTERS_ZONE: Final = "Asia/Taipei"
FEED_LINES: Final = 30

_templates: Final = Environment(
    loader=FileSystemLoader(PAGES / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def application(office: Office, fleet: Fleet, token: str, options: HqOptions, more: Sequence[APIRouter] = ()) -> ASGIApp:
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
    app.include_router(_page_routes(office, token), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=PAGES / "static"))
    app.add_exception_handler(RefusedAsk, _answer_refused)
    app.add_exception_handler(NotGranted, phones.answer_refused)
    app.add_exception_handler(BrokerError, _answer_broken)
    app.add_exception_handler(StoreAway, _answer_broken)
    return Guard(app, token, {"127.0.0.1", "localhost", "[::1]", options.http_host, options.public_host, *options.names})


async def _answer_refused(_: Request, error: Exception) -> Response:
    rows = {"rows": {str(place): why for place, why in error.rows.items()}} if isinstance(error, RowRefused) else {}
    return JSONResponse({"detail": str(error)} | rows, error.status if isinstance(error, RefusedAsk) else 500)


async def _answer_broken(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503)


def _page_routes(office: Office, token: str) -> APIRouter:
    router = APIRouter(default_response_class=HTMLResponse)

    @router.get("/login")
    async def login(token_shown: Annotated[str, Query(alias="token")] = "") -> Response:
        if not hmac.compare_digest(token_shown.encode(), token.encode()):
            return HTMLResponse(LOCKED, 401)
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, session_of(token), httponly=True, samesite="strict", max_age=YEAR_S, path="/")
        return response

    @router.get("/")
    async def dashboard(request: Request) -> Response:
        shops, feed = await _shops_html(office, _language(request)), await _recent_html(office, _language(request))
        return _page(request, "dashboard.html", shops_html=shops, feed_html=feed)

    @router.get("/vouchers")
    async def vouchers(request: Request) -> Response:
        found = await office.store.read(reports.vouchers)
        return _page(request, "vouchers.html", vouchers=found, boxes=await office.store.read(boxes), now_us=office.now_us())

    @router.get("/vouchers/{voucher_id}")
    async def voucher(request: Request, voucher_id: str) -> Response:
        shown = await office.voucher(voucher_id)
        story = await office.store.read(partial(reports.voucher_story, shown=shown))
        return _page(
            request, "voucher.html", shown=shown, state=shown.state(office.now_us()), story=story, camera=office.camera is not None,
            boxes=await office.store.read(boxes), live=f"/live/vouchers/{voucher_id}",
        )  # fmt: skip

    @router.get("/orders")
    async def orders(request: Request) -> Response:
        found = await office.store.read(reports.orders)
        return _page(request, "orders.html", orders=found, boxes=await office.store.read(boxes))

    @router.get("/orders/{order_id}")
    async def order(request: Request, order_id: str) -> Response:
        shown = await office.order(order_id)
        story = await office.store.read(partial(reports.order_story, shown=shown))
        return _page(
            request, "order.html", shown=shown, story=story, camera=office.camera is not None, boxes=await office.store.read(boxes),
            live=f"/live/orders/{order_id}",
        )  # fmt: skip

    @router.get("/uplift")
    async def sales_after(request: Request, first: str = "", last: str = "") -> Response:
        found = await office.store.read(partial(uplift.describe, office=office, store="", first=first, last=last))
        return _page(request, "uplift.html", found=found, boxes=await office.store.read(boxes))

    _live_routes(router, office)
    return router


def _device_pages(office: Office, fleet: Fleet) -> APIRouter:
    router = APIRouter(default_response_class=HTMLResponse)

    async def html(language: str) -> str:
        return _render("_devices.html", language, shops=await fleet.shops())

    async def follow(language: str) -> AsyncIterator[str]:
        async for _ in _changes(office):
            yield api.sse("devices", await html(language))

    @router.get("/devices")
    async def devices(request: Request) -> Response:
        return _page(request, "devices.html", devices_html=await html(_language(request)))

    @router.get("/live/devices")
    async def live(request: Request) -> Response:
        return StreamingResponse(follow(_language(request)), media_type="text/event-stream")

    return router


def _live_routes(router: APIRouter, office: Office) -> None:
    @router.get("/live")
    async def live(request: Request) -> Response:
        return StreamingResponse(_follow(office, _language(request)), media_type="text/event-stream")

    @router.get("/live/vouchers/{voucher_id}")
    async def live_voucher(request: Request, voucher_id: str) -> Response:
        await office.voucher(voucher_id)
        return StreamingResponse(_follow_voucher(office, voucher_id, _language(request)), media_type="text/event-stream")

    @router.get("/live/orders/{order_id}")
    async def live_order(request: Request, order_id: str) -> Response:
        await office.order(order_id)
        return StreamingResponse(_follow_order(office, order_id, _language(request)), media_type="text/event-stream")


async def _follow(office: Office, language: str) -> AsyncIterator[str]:
    """Fragments of the dashboard, as they change."""
    watcher = office.feed.watch()
    if watcher is None:
        return
    try:
        yield api.sse("shops", await _shops_html(office, language))
        while (change := await watcher.next(api.QUIET_S)) is not None:
            rows = [row for row in change.rows if row.type not in QUIET_TYPES]
            if rows:
                yield api.sse("feed", await _feed_html(office, rows[-FEED_LINES:][::-1], language))
            yield api.sse("shops", await _shops_html(office, language))
            await asyncio.sleep(0.05)  # a flood of rows makes at most twenty pictures a second
    finally:
        office.feed.leave(watcher)


async def _follow_voucher(office: Office, voucher_id: str, language: str) -> AsyncIterator[str]:
    async for _ in _changes(office):
        shown = await office.voucher(voucher_id)
        story = await office.store.read(partial(reports.voucher_story, shown=shown))
        values = {"shown": shown, "story": story, "state": shown.state(office.now_us()), "boxes": await office.store.read(boxes)}
        yield api.sse("story", _render("_voucher_story.html", language, **values))


async def _follow_order(office: Office, order_id: str, language: str) -> AsyncIterator[str]:
    async for _ in _changes(office):
        shown = await office.order(order_id)
        story = await office.store.read(partial(reports.order_story, shown=shown))
        values = {"shown": shown, "story": story, "state": shown.state, "boxes": await office.store.read(boxes)}
        yield api.sse("story", _render("_order_story.html", language, **values))


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


async def _shops_html(office: Office, language: str) -> str:
    shops = await office.shops()
    books = sums(await office.store.read(read_books))
    return _render("_shops.html", language, shops=shops, books=books, now_us=office.now_us())


async def _recent_html(office: Office, language: str) -> str:
    rows = await office.store.read(partial(reports.recent, limit=FEED_LINES))
    return await _feed_html(office, rows, language)


async def _feed_html(office: Office, rows: Sequence[StoredRow], language: str) -> str:
    named = await office.store.read(partial(names_of, rows=rows))
    stores = {row.gateway: row for row in await office.store.read(boxes)}
    return _render("_feed.html", language, lines=[(row, say(row, named, language), stores.get(row.gateway)) for row in rows])


def _page(request: Request, template: str, **values: Any) -> Response:
    language = _language(request)
    response = HTMLResponse(_render(template, language, path=request.url.path, **values))
    if request.query_params.get("lang") in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, language, samesite="strict", max_age=YEAR_S, path="/")
    return response


def _render(template: str, language: str, **values: Any) -> str:
    shops = {box.store: _name(box, language) for box in values.get("boxes", ())}
    return _templates.get_template(template).render(t=partial(_say, language), lang=language, names=shops, **values)


def _name(box: BoxRow, language: str) -> str:
    return (box.name_zh if language == "zh-Hant" else box.name_en) or box.store


def _language(request: Request) -> str:
    for wanted in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if wanted in LANGUAGES:
            return str(wanted)
    return LANGUAGES[0]


def _say(language: str, key: str, **fields: object) -> str:
    return locale(language)[key].format(**fields)


def _clock(wall_us: int, timezone: str = HEADQUARTERS_ZONE) -> str:
    """Time of day in a shop."""
    return _local(wall_us, timezone).strftime("%H:%M:%S")


def _moment(wall_us: int, timezone: str = HEADQUARTERS_ZONE) -> str:
    """Date and time in a shop."""
    return _local(wall_us, timezone).strftime("%Y-%m-%d %H:%M:%S")


def _local(wall_us: int, timezone: str) -> datetime.datetime:
    """A row may carry any number as its time; what no calendar holds is shown as 1970."""
    try:
        return datetime.datetime.fromtimestamp(wall_us / 1e6, zone(timezone))
    except (OverflowError, ValueError, OSError):
        return datetime.datetime.fromtimestamp(0, zone(timezone))


def _why(reason: str, language: str) -> str:
    known = REASONS.get(reason)
    return reason if known is None else known.text.zh if language == "zh-Hant" else known.text.en


_templates.filters.update(clock=_clock, moment=_moment, duration=say_duration, why=_why)
