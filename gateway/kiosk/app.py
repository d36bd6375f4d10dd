"""The HTTP application of core: pages, API, event streams, and the server that carries them.

Whatever goes wrong is answered calmly in both languages, as JSON under /v1 and as a page elsewhere; details go to the log only.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.core.requests import ConflictingKey
from gateway.errors import StoreError
from gateway.kiosk import api, consent, members, metrics, openapi, pairing, pricing, screens, shown, staff, verbs, witness
from gateway.kiosk.access import Access
from gateway.kiosk.doors import MAX_HEAD_B, Door, DoorServer, open_door
from gateway.kiosk.guard import HEADERS, Guard, hosts_of, problem
from gateway.kiosk.live import Changes
from gateway.kiosk.packed import PackedFiles
from gateway.kiosk.sessions import Sessions

if TYPE_CHECKING:
    from gateway.core.desk import Desk

KEYS: Final = {404: "not_found", 405: "not_found", 401: "not_signed_in"}
DESCRIPTION: Final = (
    "Redeem and collect at this shop. A refusal is an answer: it comes with status 200, `decision` `refused`, a `reason` and words "
    "for the customer. Status 4xx means the request itself was wrong and nothing was decided. The same `presentation_id` always "
    "gets the same answer, byte for byte: after a time-out, ask again with it."
)

_log = logging.getLogger(__name__)


def make_app(desk: "Desk") -> FastAPI:
    """Everything a browser or POS can reach."""
    sessions, asks = Sessions(desk.clock, desk.devices.lost), pairing.Asks(desk.clock)
    access = Access(desk, sessions)
    app = FastAPI(
        title="store-gateway", version="1", description=DESCRIPTION, openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None,
        dependencies=[Depends(access.gate)],
    )  # fmt: skip
    app.state.changes = Changes()
    queue = verbs.endpoints(desk, access, _refusal)
    app.router.routes.extend(verbs.routes(queue))
    app.include_router(api.router(desk, app.state.changes, access))
    app.include_router(pricing.router(desk, access))
    app.include_router(witness.router(desk, access))
    app.include_router(pairing.router(desk, asks))
    app.include_router(pairing.staff_router(desk, asks, staff.signed_in(desk, sessions)))
    app.include_router(staff.router(desk, sessions))
    app.include_router(members.router(desk, app.state.changes, access, staff.signed_in(desk, sessions)))
    app.include_router(shown.router(desk, access, staff.signed_in(desk, sessions)))
    app.include_router(consent.router(desk, access))
    app.include_router(screens.router(desk, access))
    app.include_router(metrics.router(desk))
    app.mount("/static", PackedFiles(directory=screens.HERE / "static"))
    app.add_middleware(Guard, hosts=hosts_of(desk.config.core.host), straight=queue)
    app.add_exception_handler(RequestValidationError, _bad_input)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http_refusal)  # type: ignore[arg-type]
    app.add_exception_handler(ConflictingKey, _conflicting)
    app.add_exception_handler(StoreError, _not_serving)
    app.add_exception_handler(Exception, _unexpected)
    openapi.describe(app)
    return app


async def serve(desk: "Desk", host: str, port: int, *, listening: Callable[[int], None] | None = None) -> None:
    """Serve pages and API until cancelled; ends within two seconds even with event streams open.

    Args:
        desk: Core.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        listening: Told the port once connections are taken.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    app = make_app(desk)
    sock = open_door(host, port)
    config = uvicorn.Config(
        app, http=Door, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False, proxy_headers=False,
        timeout_keep_alive=30, timeout_graceful_shutdown=1, h11_max_incomplete_event_size=MAX_HEAD_B,
    )  # fmt: skip
    server = DoorServer(config, app.state.changes)
    if listening is not None:
        listening(sock.getsockname()[1])
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(app.state.changes.follow(desk))
            tasks.create_task(server.serve(sockets=[sock]))
    finally:
        sock.close()


async def _bad_input(request: Request, error: RequestValidationError) -> Response:
    fields = [{"field": ".".join(str(part) for part in found["loc"][1:]), "problem": found["msg"]} for found in error.errors()]
    return _refuse(request, 422, problem("bad_input", fields=fields))


async def _http_refusal(request: Request, error: HTTPException) -> Response:
    # Our own routes put a key of the locales into `detail`; Starlette's put English prose there.
    key = error.detail if error.detail in api.ERROR_KEYS else KEYS.get(error.status_code, "bad_input")
    return _refuse(request, error.status_code, problem(key), dict(error.headers or {}))


async def _conflicting(request: Request, error: Exception) -> Response:
    return _refuse(request, 422, problem("id_reused"))


async def _not_serving(request: Request, error: Exception) -> Response:
    _log.error("%s %s cannot be served: %s", request.method, request.url.path, error)
    return _refuse(request, 503, problem("not_serving"))


async def _refusal(request: Request, error: Exception) -> Response:
    """What the handlers above answer, for who answers without the framework."""
    if isinstance(error, HTTPException):
        return await _http_refusal(request, error)
    return await (_conflicting if isinstance(error, ConflictingKey) else _not_serving)(request, error)


async def _unexpected(request: Request, error: Exception) -> Response:
    # Starlette raises the error again behind this answer, and uvicorn logs it with its trace.
    return _refuse(request, 500, problem("unexpected"), HEADERS)


def _refuse(request: Request, status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    if request.url.path.startswith("/v1/") or request.method != "GET":
        return Response(body, status, headers, "application/json")
    return Response(screens.calm_page(msgspec.json.decode(body)), status, headers, "text/html")
