"""The page of a box that is nobody yet: says so, takes its label from a phone's photo or a paste, shows how it went.

Served where the shop's pages will be and, where `STORE_ENROL_HOST` says so, to the shop's own network too, for as long as the
box is not enrolled and no longer. A picture is read in the phone's browser; only the label's text comes here.
"""

import asyncio
import json
import logging
import os
import socket
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qs

import msgspec
import segno
import uvicorn
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from gateway.errors import ConfigError
from gateway.kiosk.doors import Door, DoorServer, open_door
from gateway.kiosk.guard import Guard, hosts_of
from gateway.kiosk.live import Changes
from gateway.kiosk.neighbours import is_here, is_near, networks
from gateway.kiosk.packed import PackedFiles
from gateway.rules.reasons import Reason

HERE: Final = Path(__file__).parent
SETTING: Final = "STORE_ENROL_HOST"  # `shop`, or an address to listen on; empty: where core will listen
SHOP: Final = "shop"
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - `_ShopDoor` lets the neighbours in and nobody else
TRIES: Final = 6  # of one address at once, then one more every `TRY_S`: each makes the box ask whatever host a label names
TRY_S: Final = 5.0
ADDRESSES: Final = 1_000  # that are remembered

log = logging.getLogger(__name__)
_pages = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


class Standing(Protocol):
    """How far enrolment has come."""

    @property
    def number(self) -> int:
        """Grows with each change."""

    @property
    def state(self) -> str:
        """waiting, trying, refused or enrolled."""

    @property
    def reason(self) -> str:
        """Why refused."""

    @property
    def words(self) -> Reason:
        """What to say."""


class _ShopDoor(Door):
    """A connection from this machine or a neighbour; anybody else's ends before a byte is read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        if not peer or not is_near(peer[0]):
            transport.abort()


class _Tries:
    """How often one address may hand a label in."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now_s: float) -> bool:
        """Whether it may now."""
        left, at_s = self._left.pop(address, (float(TRIES), now_s))
        left = min(float(TRIES), left + (now_s - at_s) / TRY_S)
        allowed = left >= 1
        self._left[address] = (left - 1 if allowed else left, now_s)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        return allowed


def make_app(
    box: str, store: str, hosts: frozenset[str], standing: Callable[[], Standing], present: Callable[[str], None],
    phones: Callable[[], list[str]] = list,
) -> Starlette:  # fmt: skip
    """The page and what it asks for.

    Args:
        phones: Addresses of this page for a phone in the shop, the likeliest first; shown on the box's own screen.
    """
    tries = _Tries()

    def render(request: Request, status: int = 200, *, busy: bool = False) -> Response:
        own = is_here(_address(request))
        addresses = phones() if own else []
        qr = segno.make(addresses[0], error="m", micro=False).svg_data_uri(scale=6, border=4, light="#fff") if addresses else ""
        page = _pages.get_template("enrol.html").render(
            now=standing(), box=box, store=store, own=own, qr=qr, addresses=addresses, busy=busy
        )
        # The guard's `no-referrer` would make the form's own post come from nowhere.
        return HTMLResponse(page, status, {"referrer-policy": "same-origin"})

    async def page(request: Request) -> Response:
        return render(request)

    async def state(request: Request) -> Response:
        now = standing()
        said = {"number": now.number, "state": now.state, "reason": now.reason, "words": msgspec.to_builtins(now.words)}
        return Response(json.dumps(said, ensure_ascii=False), media_type="application/json")

    async def enroll(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode("utf-8", "replace"))
        if not tries.take(_address(request), asyncio.get_running_loop().time()):
            return render(request, 429, busy=True)
        present(fields.get("code", [""])[0])
        return RedirectResponse("/", 303)

    app = Starlette(
        routes=[
            Route("/enroll", enroll, methods=["POST"]),
            Route("/enroll/state", state),
            Mount("/static", PackedFiles(directory=HERE / "static")),
            Route("/{path:path}", page),
        ]
    )
    app.add_middleware(Guard, hosts=hosts)
    return app


async def serve(host: str, port: int, box: str, store: str, standing: Callable[[], Standing], present: Callable[[str], None]) -> None:
    """Serve the page until cancelled. A port that is taken costs the page only: the scanners still read labels.

    Args:
        host: Where core will listen; the page too, unless `STORE_ENROL_HOST` says something else.
    """
    asked = os.environ.get(SETTING, "")
    listen = EVERYWHERE if asked == SHOP else asked or host
    try:
        sock = open_door(listen, port)
    except ConfigError as error:
        log.warning("no page: %s", error)
        await asyncio.get_running_loop().create_future()
        return
    port = sock.getsockname()[1]
    hosts = hosts_of(listen) | hosts_of(host) | {f"{socket.gethostname().lower()}.local"}
    app = make_app(box, store, hosts, standing, present, lambda: _for_phones(listen, port))
    config = uvicorn.Config(
        app, http=_ShopDoor if asked == SHOP else Door, ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_keep_alive=30, timeout_graceful_shutdown=1, h11_max_incomplete_event_size=16_384,
    )  # fmt: skip
    try:
        await DoorServer(config, Changes()).serve(sockets=[sock])
    finally:
        sock.close()


def _for_phones(listen: str, port: int) -> list[str]:
    """Where phones find the page; none if only this machine does."""
    if is_here(listen) or listen == "localhost":
        return []
    own = [str(interface.ip) for interface in networks()] if listen == EVERYWHERE else [f"[{listen}]" if ":" in listen else listen]
    return [f"http://{address}:{port}/" for address in own]


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
