"""What anyone on the shop's network may read: the store at a glance and what a station shows."""

from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from gateway.core.views import AdmissionView, LineView, Screen, StoreView, shared
from gateway.kiosk.access import PHONES as PHONES
from gateway.kiosk.access import Access
from gateway.kiosk.live import Changes, stream

if TYPE_CHECKING:
    from gateway.core.desk import Desk

ERROR_KEYS: Final = frozenset(
    {
        "bad_input", "id_missing", "id_differs", "unknown_station", "unknown_order", "not_found", "not_signed_in", "wrong_pin",
        "too_many_tries", "not_serving", "not_paired", "wrong_station", "device_revoked", "box_retired", "not_allowed", "too_many_asks",
        "pairing_over", "pairing_wrong", "unknown_device", "too_fast",
    }
)  # fmt: skip
JSON: Final = "application/json"


class StationView(msgspec.Struct, frozen=True):
    """What a kiosk follows: its screen, whether headquarters can be reached and whether this start may decide."""

    screen: Screen
    line: LineView
    now_us: int
    admission: AdmissionView
    mark: str  # what this device keeps as a witness; empty for one that cannot be one


def shape(name: str, description: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of a JSON answer."""
    return {200: {"description": description, "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}}}


def known_station(desk: "Desk", name: str) -> str:
    """The station's name.

    Raises:
        HTTPException: 404, there is no such station.
    """
    if not any(station.name == name for station in desk.config.stations):
        raise HTTPException(404, "unknown_station")
    return name


def router(desk: "Desk", changes: Changes, access: Access) -> APIRouter:
    """Routes that only read."""
    routes = APIRouter()

    def mark_of(request: Request, station: str) -> str:
        device = access.of_station(request, station)
        return desk.mark(device) if device is not None else ""

    def store(request: Request) -> StoreView:
        return msgspec.structs.replace(_shared(desk.store_view()), mark=mark_of(request, PHONES))

    def screen_of(request: Request, name: str) -> Screen:
        """Whole for the station's own screen; anybody else on the network sees what was decided there, and whose it was never."""
        return desk.screen(name) if access.of_station(request, name) is not None else shared(desk.screen(name))

    def station_view(name: str, request: Request) -> bytes:
        view = desk.store_view()
        mark = mark_of(request, name)
        return msgspec.json.encode(StationView(screen_of(request, name), view.line, desk.clock.now().wall_us, view.admission, mark))

    @routes.get("/healthz", summary="Whether HTTP is served")
    async def healthz() -> dict[str, str]:
        return {"status": "serving"}

    @routes.get("/v1/store", summary="The shop at a glance", responses=shape("StoreView", "The shop now"))
    async def read_store() -> Response:
        return Response(msgspec.json.encode(_shared(desk.store_view())), media_type=JSON)

    @routes.get("/v1/store/events", summary="The shop at a glance, live (server-sent events of StoreView)")
    async def follow_store(request: Request) -> StreamingResponse:
        return stream(changes, lambda: msgspec.json.encode(store(request)), access.still(request))

    @routes.get("/v1/stations/{name}", summary="What a station shows", responses=shape("Screen", "The screen now"))
    async def read_station(name: str, request: Request) -> Response:
        return Response(msgspec.json.encode(screen_of(request, known_station(desk, name))), media_type=JSON)

    @routes.get("/v1/stations/{name}/events", summary="What a station shows, live (events of {screen, line, now_us, admission, mark})")
    async def follow_station(name: str, request: Request) -> StreamingResponse:
        known = known_station(desk, name)
        return stream(changes, lambda: station_view(known, request), access.still(request))

    return routes


def _shared(view: StoreView) -> StoreView:
    return msgspec.structs.replace(view, screens=[shared(screen) for screen in view.screens])
