"""Headquarters' HTTP API. Bodies and answers are JSON; what `/openapi.json` says is what is checked.

A refusal of a voucher is an answer (200, `decision` "refused"); asking for what does not exist is an HTTP error with `detail`.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
import segno
from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cloud_bridge.hq import devices, openings, registry, reports
from cloud_bridge.hq.books import books as read_books
from cloud_bridge.hq.books import sums
from cloud_bridge.hq.documents import VoucherAsk
from cloud_bridge.hq.intake import Expected
from cloud_bridge.hq.issuer_api import issuer_routes
from cloud_bridge.hq.labels import VALID_DAYS
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.once import Asking
from cloud_bridge.hq.registry import BoxRow, RefusedAsk
from cloud_bridge.hq.reports import OrderRow, VoucherRow
from cloud_bridge.hq.shapes import Shape
from cloud_bridge.hq.store import StoredRow
from cloud_bridge.hq.wan import Line
from gateway.signed import CampaignLimit

QUIET_S: Final = 5.0  # a watcher hears the state at least this often
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
Level = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
Moment = Annotated[int, Field(ge=0, le=2**32 - 1)]
Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewBox(_Body):
    """A shop and the box that will stand in it."""

    store: Level
    gateway: Level
    number: Annotated[int, Field(ge=1, le=2**32 - 1)]
    tenant: Level = "demo"
    name_zh: str = Field("", max_length=80)
    name_en: str = Field("", max_length=80)
    timezone: str = Field("Asia/Taipei", max_length=60)
    again: bool = Field(False, description="A new label although the box has enrolled: its disk was lost.")
    valid_days: Annotated[int, Field(ge=1, le=365)] = VALID_DAYS

    def row(self) -> BoxRow:
        """As registered."""
        return BoxRow(self.gateway, self.tenant, "0", self.store, self.number, self.name_zh, self.name_en, self.timezone, None)


class NewBoxes(_Body):
    """Many shops at once."""

    boxes: Annotated[list[NewBox], Field(min_length=1, max_length=50)]
    again: bool = Field(False, description="New labels also for boxes that were registered before.")
    valid_days: Annotated[int, Field(ge=1, le=365)] = VALID_DAYS


class NewVoucher(_Body):
    """A voucher bound to one shop."""

    store: Level
    title_zh: Words
    title_en: str = Field("", max_length=80)
    valid_days: Annotated[int, Field(ge=1, le=3650)] = 30
    campaign: Annotated[int, Field(ge=0, le=2**32 - 1)] = 1
    channel: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{0,40}$")] = Field(
        "", description="What brings it about: an advertisement, a mailing."
    )
    member_ref: Annotated[str, StringConstraints(pattern=r"^([a-z2-7]{26})?$")] = Field(
        "", description="It is for this member, who gave the consent `bind`: whoever redeems it is them."
    )
    uses: Annotated[int, Field(ge=1, le=255)] = 1
    value_minor: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    partial: bool = Field(False, description="`value_minor` is a face value that is spent in parts.")
    practice: bool = Field(False, description="For training: everything happens, nothing counts.")
    voucher_class: Literal["store_bound", "granted", "hq_live", "leased", "bounded_risk", "open_code"] = Field(
        "store_bound", description="Any other than store_bound is for any shop: the answer says where to issue it."
    )
    windows: list[tuple[Moment, Moment]] = Field([], max_length=20, description="Booked slots [from, to], seconds since 1970 UTC.")

    def ask(self) -> VoucherAsk:
        """As it is issued.

        Raises:
            RefusedAsk: It is not bound to a shop.
        """
        if self.voucher_class != "store_bound":
            path = "/api/open-codes" if self.voucher_class == "open_code" else "/api/assigned"
            raise RefusedAsk(422, f"a voucher of class {self.voucher_class} is bound to no shop", f"Issue it by POST {path}")
        fields = self.model_dump(exclude={"partial", "practice", "windows", "voucher_class"}) | {"title_en": self.title_en or self.title_zh}
        return VoucherAsk(**fields, shape=Shape(self.partial, self.practice, self.windows))


class NewLimit(_Body):
    """What a shop may give out for the vouchers of a campaign."""

    campaign: Annotated[int, Field(ge=0, le=2**32 - 1)]
    stock: Annotated[int, Field(ge=0, le=2**31)] | None = Field(None, description="Uses in all; null: no end.")
    daily: Annotated[int, Field(ge=0, le=2**31)] | None = Field(None, description="Uses on one of the shop's days.")
    session: bool = Field(False, description="`stock` are seats: the refusal says full, not sold out.")
    reverse_s: Annotated[int, Field(ge=0, le=86_400)] | None = Field(None, description="How long a redemption may be reversed there.")


class NewOrder(_Body):
    """An order to be collected in a shop. The name is masked before it is stored."""

    store: Level
    customer: Words
    lines: Annotated[list[Words], Field(min_length=1, max_length=20)]
    parcels: Annotated[int, Field(ge=1, le=20)] = 1


class NewStaff(_Body):
    """Somebody who starts to work in a shop."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
    roles: list[str] = ["clerk"]


class Wan(_Body):
    """State of a shop's line: up, or cut, or, with `silent`, open while nothing comes through."""

    up: bool
    silent: bool = False


def routes(office: Office) -> APIRouter:
    """Every route of the API."""
    router = APIRouter()
    for part in (_box_routes, issuer_routes, _voucher_routes, _order_routes, _look_routes):
        router.include_router(part(office))
    return router


def _box_routes(office: Office) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["boxes"])

    @router.post("/boxes", status_code=201, summary="Register a shop's box; label and PIN are shown this once")
    async def expect_box(body: NewBox) -> dict[str, Any]:
        (expected,) = await office.intake.announce([body.row()], again=body.again, days=body.valid_days, only_new=False)
        return describe_expected(expected)

    @router.get("/boxes", summary="Every box: its shop, whether it is enrolled and whether it is revoked")
    async def boxes() -> list[dict[str, Any]]:
        rows, retired = await office.store.read(lambda db: (registry.boxes(db), devices.retired_boxes(db)))
        return [
            {"gateway": row.gateway, "store": row.store, "enrolled": row.public is not None, "revoked": row.gateway in retired}
            for row in rows
        ]

    @router.post("/boxes/batch", status_code=201, summary="Register many; those registered before are left alone unless `again`")
    async def expect_boxes(body: NewBoxes) -> list[dict[str, Any]]:
        rows = [box.row() for box in body.boxes]
        return [describe_expected(one) for one in await office.intake.announce(rows, again=body.again, days=body.valid_days)]

    @router.post("/stores/{store}/staff", status_code=201, summary="Add somebody to a shop; the PIN is shown this once")
    async def hire(store: str, body: NewStaff) -> dict[str, Any]:
        staff = await office.hire(store, body.name, body.roles)
        return {"staff_ref": staff.staff_ref, "name": staff.name, "pin": staff.pin, "roles": staff.roles}

    @router.post("/stores/{store}/limits", summary="Say what a shop may give out of a campaign: a stock, so many a day, seats")
    async def limit(store: str, body: NewLimit) -> dict[str, Any]:
        await office.set_limit(store, CampaignLimit(**body.model_dump()))
        return {"store": store} | body.model_dump()

    @router.post("/stores/{store}/wan", summary="Cut or mend a shop's line")
    async def wan(store: str, body: Wan) -> dict[str, Any]:
        line = Line.SILENT if body.silent else Line.UP if body.up else Line.DOWN
        return {"store": store, "line": office.put_line(store, line).value}

    return router


def _voucher_routes(office: Office) -> APIRouter:
    router = APIRouter(prefix="/api/vouchers", tags=["vouchers"])

    @router.post("", status_code=201, summary="Issue a voucher bound to one shop")
    async def issue(body: NewVoucher, asking: Asking) -> dict[str, Any]:
        shown = await office.issue_voucher(body.ask(), asking)
        return describe_voucher(shown, office.now_us())

    @router.get("", summary="The newest vouchers")
    async def listed(store: Annotated[str | None, Query()] = None) -> list[dict[str, Any]]:
        found = await office.store.read(partial(reports.vouchers, store=store))
        return [describe_voucher(shown, office.now_us()) for shown in found]

    @router.get("/{voucher_id}", summary="A voucher, its state and its story")
    async def one(voucher_id: str) -> dict[str, Any]:
        shown = await office.voucher(voucher_id)
        story = await office.store.read(partial(reports.voucher_story, shown=shown))
        return describe_voucher(shown, office.now_us()) | {"story": story}

    @router.get("/{voucher_id}/qr.{form}", summary="Its QR code, as svg or png")
    async def qr(voucher_id: str, form: str) -> Response:
        return draw((await office.voucher(voucher_id)).token, form)

    @router.post("/{voucher_id}/online-use", summary="Try to use it online: refused, it is for its shop only")
    async def online(voucher_id: str) -> dict[str, Any]:
        return _builtins(await office.use_online(voucher_id))

    @router.post("/{voucher_id}/revoke", summary="Cancel it")
    async def revoke(voucher_id: str) -> dict[str, Any]:
        return describe_voucher(await office.revoke_voucher(voucher_id), office.now_us())

    @router.post("/{voucher_id}/show", summary="Hold it before the shop's virtual camera")
    async def show(voucher_id: str) -> dict[str, Any]:
        await office.show_camera((await office.voucher(voucher_id)).token)
        return {"shown": True}

    return router


def _order_routes(office: Office) -> APIRouter:
    router = APIRouter(prefix="/api/orders", tags=["orders"])

    @router.post("", status_code=201, summary="Take an order to be collected in a shop")
    async def place(body: NewOrder, asking: Asking) -> dict[str, Any]:
        return describe_order(await office.place_order(body.store, body.customer, body.lines, body.parcels, asking))

    @router.get("", summary="The newest orders")
    async def listed(store: Annotated[str | None, Query()] = None) -> list[dict[str, Any]]:
        return [describe_order(shown) for shown in await office.store.read(partial(reports.orders, store=store))]

    @router.get("/{order_id}", summary="An order, its state and its story")
    async def one(order_id: str) -> dict[str, Any]:
        shown = await office.order(order_id)
        return describe_order(shown) | {"story": await office.store.read(partial(reports.order_story, shown=shown))}

    @router.get("/{order_id}/qr.{form}", summary="Its pickup QR code, as svg or png")
    async def qr(order_id: str, form: str) -> Response:
        return draw((await office.order(order_id)).token, form)

    @router.post("/{order_id}/cancel", summary="Cancel it")
    async def cancel(order_id: str) -> dict[str, Any]:
        return describe_order(await office.cancel_order(order_id))

    @router.post("/{order_id}/show", summary="Hold its code before the shop's virtual camera")
    async def show(order_id: str) -> dict[str, Any]:
        await office.show_camera((await office.order(order_id)).token)
        return {"shown": True}

    return router


def _look_routes(office: Office) -> APIRouter:
    router = APIRouter(tags=["looking"])

    @router.get("/healthz", summary="Whether headquarters takes rows now")
    async def healthz() -> Response:
        fine = office.ingest.connected
        return Response(json.dumps({"ok": fine, "broker": fine}), 200 if fine else 503, media_type="application/json")

    @router.get("/api/stores", summary="Every shop: its line, how far behind, what it counts")
    async def stores() -> list[dict[str, Any]]:
        return await office.shops()

    @router.get("/api/stores/{store}/counts", summary="What headquarters has stored of a shop, on a local day and in all")
    async def store_counts(store: str, day: Annotated[Day | None, Query()] = None) -> dict[str, Any]:
        return await office.shop_counts(store, day)

    @router.get("/api/books", summary="Produced against received, lane by lane")
    async def books(counted: bool = False) -> dict[str, Any]:
        entries = await office.store.read(partial(read_books, counted=counted))
        described = [entry.described() for entry in entries]
        alarms = await office.store.read(openings.alarmed)
        return sums(entries) | {"rejected": dict(office.ingest.rejected), "alarms": alarms, "entries": described}

    @router.get("/api/feed", summary="Server-sent events: `row` for each new row, `state` for the shops")
    async def feed() -> StreamingResponse:
        return StreamingResponse(follow(office), media_type="text/event-stream")

    return router


async def follow(office: Office) -> AsyncIterator[str]:
    """The feed as text: the state first and after each change, rows as they come."""
    watcher = office.feed.watch()
    if watcher is None:
        yield sse("full", {"detail": "too many watchers"})
        return
    try:
        yield sse("state", {"stores": await office.shops()})
        while (change := await watcher.next(QUIET_S)) is not None:
            for row in change.rows:
                yield sse("row", describe_row(row))
            yield sse("state", {"stores": await office.shops()})
            await asyncio.sleep(0.05)  # a flood of rows makes at most twenty pictures a second
    finally:
        office.feed.leave(watcher)


def sse(event: str, value: Any) -> str:
    """One server-sent event."""
    return f"event: {event}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n"


def describe_row(row: StoredRow) -> dict[str, Any]:
    """A row as its CloudEvents-like JSON."""
    return {
        "id": row.id, "gateway": row.gateway, "epoch": row.epoch, "lane": row.lane, "seq": row.seq, "record_us": row.record_us,
        "received_us": row.received_us, "type": row.type, "event": json.loads(row.event),
    }  # fmt: skip


def describe_expected(expected: Expected) -> dict[str, Any]:
    """A box with its label, which is told this once; `label` is empty where none was issued."""
    row, staff = expected.row, expected.staff
    return {
        "store": row.store, "gateway": row.gateway, "number": row.number, "name_zh": row.name_zh, "name_en": row.name_en,
        "timezone": row.timezone, "label": expected.label, "not_after_us": expected.not_after_us, "relay_port": expected.relay_port,
        "staff": {"staff_ref": staff.staff_ref, "name": staff.name, "pin": staff.pin} if staff else None,
    }  # fmt: skip


def describe_voucher(shown: VoucherRow, now_us: int) -> dict[str, Any]:
    """A voucher with its state."""
    return _builtins(shown) | {"state": shown.state(now_us), "qr": f"/api/vouchers/{shown.voucher_id}/qr.svg"}


def describe_order(shown: OrderRow) -> dict[str, Any]:
    """An order with its state."""
    return _builtins(shown) | {"qr": f"/api/orders/{shown.order_id}/qr.svg"}


def draw(text: str, form: str) -> Response:
    """A QR code at level M, which a phone shows and any camera reads.

    Raises:
        RefusedAsk: Neither svg nor png.
    """
    code, out = segno.make(text, error="m", micro=False, boost_error=False), io.BytesIO()
    if form == "svg":
        code.save(out, kind="svg", scale=8, border=4, light="#fff", svgclass=None, lineclass=None, omitsize=True)
        return Response(out.getvalue(), media_type="image/svg+xml")
    if form == "png":
        code.save(out, kind="png", scale=10, border=4)
        return Response(out.getvalue(), media_type="image/png")
    raise RefusedAsk(404, "a QR code comes as svg or png")


def _builtins(value: Any) -> dict[str, Any]:
    return dict(msgspec.to_builtins(value))
