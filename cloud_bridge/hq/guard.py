"""The door in front of headquarters' pages and API: who may enter, how much they may bring, what a page may load.

Whoever has a sign-in enters (`signins`), where its roles let it (`roles.TABLE`): with the key as `Authorization: Bearer`, or with a cookie
that `/login` sets. A cookie is sent by the browser on anybody's behalf, so a request that changes something must also say that it comes
from our own page. Refusals and what is sensitive go to the office's journal (`deeds`), the latter before it is done.
"""

import contextlib
from collections.abc import Iterable
from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import Final

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_bridge.hq import deeds, roles
from cloud_bridge.hq.enrolment import Tries
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.roles import SAFE_METHODS, Entry, Reach, Who
from cloud_bridge.hq.signins import SignIns
from cloud_bridge.hq.store import StoreAway
from gateway.clock import SystemClock
from gateway.codes import card_field

COOKIE: Final = "sgw_hq"
MAX_BODY_B: Final = 65_536
API: Final = "/api/"
SIGNED_IN: Final = "signed_in"  # in the scope: the `Who`
LOCKED: Final = """<!doctype html><html lang="zh-Hant"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>請先登入</title><link rel="stylesheet" href="/static/hq.css">
<main class="locked"><section class="card"><h1>請先登入 <small lang="en">Please sign in</small></h1>{why}
<form method="post" action="/login"><label><span>金鑰 <small lang="en">Key</small></span>
<input name="key" type="password" required maxlength="200" autocomplete="current-password" autofocus></label>
<button class="primary">登入 <span lang="en">Sign in</span></button></form>
<p><small>金鑰由管理員在「金鑰」頁建立，只顯示一次；管理員也可開啟總部啟動時顯示的登入連結。<br>
<span lang="en">An administrator makes keys, each shown once; the login link that headquarters printed works, too.</span></small></p>
</section></main></html>"""
WRONG: Final = '<p class="notice" role="alert">金鑰不正確或已撤銷 <span lang="en">No such key, or it was revoked</span></p>'
FORBIDDEN: Final = """<!doctype html><html lang="zh-Hant"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>權限不足</title><link rel="stylesheet" href="/static/hq.css">
<main class="locked"><section class="card"><h1>權限不足 <small lang="en">Not yours to see</small></h1>
<p>「{name}」沒有這一頁需要的角色（{wanted}），請洽管理員。<br>
<span lang="en">{name} has not the role this page wants ({wanted}): ask an administrator.</span></p>
<p><a href="{home}">回到我的頁面 <span lang="en">To my page</span></a></p></section></main></html>"""
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

    def __init__(self, app: ASGIApp, signins: SignIns, hosts: Iterable[str]) -> None:
        self._app = app
        self._signins = signins
        self._hosts = frozenset(hosts)
        self._wrong = Tries(SystemClock())  # of each address: bounds guessing and what it writes into the journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send, headers = _with_headers(send), Headers(scope=scope)
        refused = self._refuse_shape(headers)
        entry = roles.find(scope["method"], scope["path"])
        if refused is None and (entry is None or entry.wanted is not Reach.ANYBODY):
            who = self._who(headers)
            refused = await self._refuse(scope, headers, who, entry)
            scope[SIGNED_IN] = who
        if refused is not None:
            await refused(scope, receive, send)
            return
        body = _CappedBody(receive)
        await self._carry(entry, scope, body.receive, body.answering(send))

    async def _carry(self, entry: Entry | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Have it done; what is sensitive is in the journal before it begins, and with its outcome when it has ended."""
        if entry is None or not entry.is_noted:
            await self._app(scope, receive, send)
            return
        told = deeds.BEGUN

        async def telling(message: Message) -> None:
            nonlocal told
            told = message["status"] if message["type"] == "http.response.start" else told
            await send(message)

        try:
            deed = await self._note(scope[SIGNED_IN].name, entry.route, entry.about, deeds.BEGUN)
        except StoreAway as error:
            await _json(503, str(error))(scope, receive, send)
            return
        try:
            await self._app(scope, receive, telling)
        finally:
            with contextlib.suppress(StoreAway):  # then it stands there as begun
                await self._signins.store.write(partial(deeds.ended, deed=deed, status=told))

    async def _note(self, who: str, route: str, about: dict[str, str], status: int) -> int:
        work = partial(deeds.note, at_us=self._signins.now_us(), who=who, route=route, about=about, status=status)
        return await self._signins.store.write(work)

    def _refuse_shape(self, headers: Headers) -> Response | None:
        if _name_of(headers.get("host", "")) not in self._hosts:
            return _json(400, "headquarters has another name")
        length = headers.get("content-length", "0")
        return _json(413, "a body of more than 64 kB") if not length.isdigit() or int(length) > MAX_BODY_B else None

    async def _refuse(self, scope: Scope, headers: Headers, who: Who | None, entry: Entry | None) -> Response | None:
        if who is None:
            return await self._refuse_nobody(scope, headers)
        refused = self._refuse_known(scope, headers, who, entry)
        if refused is not None:
            route, about = (entry.route, entry.about) if entry is not None else (f"{scope['method']} (no such path)", {})
            await self._note(who.name, route, about, refused.status_code)
        return refused

    def _refuse_known(self, scope: Scope, headers: Headers, who: Who, entry: Entry | None) -> Response | None:
        host, by_cookie = headers.get("host", ""), "authorization" not in headers
        if by_cookie and scope["method"] not in SAFE_METHODS and headers.get("origin") not in (f"http://{host}", f"https://{host}"):
            return _json(403, "this request does not come from headquarters' own page")
        if entry is None:
            return None if who.may(roles.Role.ADMIN) else _json(404, "Not Found")
        if who.may(entry.wanted):
            return None
        if scope["path"].startswith(API):
            return _json(403, f"{who.name} has not the role `{entry.wanted}` that this wants. Ask an administrator")
        return HTMLResponse(FORBIDDEN.format(name=who.name, wanted=entry.wanted, home=who.home), 403)

    async def _refuse_nobody(self, scope: Scope, headers: Headers) -> Response:
        if "authorization" in headers or COOKIE in headers.get("cookie", ""):  # not just somebody who has not signed in yet
            address = scope["client"][0] if scope.get("client") else ""
            if not self._wrong.take(address):
                return _json(429, "too many wrong keys from this address. Wait a minute")
            await self._note("", "a wrong key", {"from": f"ip {address}"}, 401)
        return _json(401, "the key is missing or wrong") if scope["path"].startswith(API) else locked()

    def _who(self, headers: Headers) -> Who | None:
        if "authorization" in headers:
            scheme, _, key = headers["authorization"].partition(" ")
            return self._signins.bearer(key.strip()) if scheme.lower() == "bearer" else None
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        return self._signins.session(cookie.value) if cookie is not None else None


def locked(status: int = 401, *, wrong: bool = False) -> Response:
    """The page that asks for a key. Its form tells where it comes from, so that no other page can sign somebody in."""
    return HTMLResponse(LOCKED.replace("{why}", WRONG if wrong else ""), status, {"referrer-policy": "same-origin"})


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
