"""The door in front of headquarters' pages and API: who may enter, how much they may bring, what a page may load.

Whoever holds the admin token enters: as `Authorization: Bearer`, or as a cookie that `/login?token=` sets. A cookie is sent by
the browser on anybody's behalf, so a request that changes something must also say that it comes from our own page.
"""

import hashlib
import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Final

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_bridge.hq.registry import RefusedAsk
from gateway.codes import card_field

COOKIE: Final = "sgw_hq"
MAX_BODY_B: Final = 65_536
OPEN_PATHS: Final = frozenset({"/healthz", "/login", "/openapi.json", "/favicon.ico"})
OPEN_FOLDERS: Final = ("/static/", "/v/", "/g/", "/G/", "/c/", "/C/")  # but the first: shoppers' phones, who prove themselves by a secret
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
LOCKED: Final = """<!doctype html><html lang="zh-Hant"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>請先登入</title><link rel="stylesheet" href="/static/hq.css">
<main class="locked"><h1>請先登入 <small lang="en">Please sign in</small></h1>
<p>請開啟總部啟動時顯示的登入連結。<br>
<span lang="en">Open the login link that headquarters showed when it started.</span></p></main></html>"""
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


class _TooLarge(HTTPException):
    """The body passed the cap while it was read."""

    def __init__(self) -> None:
        super().__init__(413, "a body of more than 64 kB")


class _CappedBody:
    """Stops reading at the cap. FastAPI makes any trouble with a body a 400; here it becomes the right one."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._taken_b = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._taken_b += len(message.get("body", b""))
        if self._taken_b > MAX_BODY_B:
            raise _TooLarge
        return message

    def answering(self, send: Send) -> Send:
        async def correcting(message: Message) -> None:
            if message["type"] == "http.response.start" and self._taken_b > MAX_BODY_B:
                message = {**message, "status": 413}
            await send(message)

        return correcting


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._session = session_of(token)
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refuse(scope, Headers(scope=scope))
        if refused is not None:
            await refused(scope, receive, _with_headers(send))
            return
        body = _CappedBody(receive)
        await self._app(scope, body.receive, body.answering(_with_headers(send)))

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if _name_of(host) not in self._hosts:
            return _json(400, "headquarters has another name")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_B:
            return _json(413, "a body of more than 64 kB")
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_FOLDERS) or self._bears_token(headers):
            return None
        if not self._has_cookie(headers):
            return _json(401, "the admin token is missing or wrong") if path.startswith("/api/") else HTMLResponse(LOCKED, 401)
        if scope["method"] not in SAFE_METHODS and headers.get("origin") not in (f"http://{host}", f"https://{host}"):
            return _json(403, "this request does not come from headquarters' own page")
        return None

    def _bears_token(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)

    def _has_cookie(self, headers: Headers) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._session.encode())


async def no_cards(request: Request) -> None:
    """A dependency of every route: numbers of payment cards go no further than here.

    Raises:
        RefusedAsk: 422, a field holds one; which, but not what.
    """
    if request.method in SAFE_METHODS:
        return
    try:
        field = card_field(msgspec.json.decode(await request.body()))
    except (msgspec.DecodeError, RecursionError):
        return  # no JSON: its reader refuses it
    if field is not None:
        raise RefusedAsk(422, f"{field or 'the body'} looks like the number of a payment card", "Never send card numbers")


def session_of(token: str) -> str:
    """What the cookie holds: made from the token, but no way back to it."""
    return hmac.new(token.encode(), b"hq session", hashlib.sha256).hexdigest()


def _name_of(host: str) -> str:
    return host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host


def _json(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)


def _with_headers(send: Send) -> Send:
    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return adding
