"""What every request passes before anything reads it, and what every answer carries.

Refused here: names that are not ours (DNS rebinding), foreign pages that post, bodies above 64 kB, bodies that never end.
An IP address as Host is let through: a rebinding page has a name. The whole body is read here, so nothing behind waits for a
slow sender. Headers that never end and too many connections are the business of `doors`, below HTTP.
"""

import asyncio
import contextlib
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from gateway.codes import card_field, sku_field
from gateway.kiosk.words import both

MAX_BODY_B: Final = 64 * 1024  # the longest code is 4,296 B
BODY_S: Final = 10.0
WHOLE: Final = "sgw.whole"  # of a scope: all of the request has come, so that nothing of it is waited for
# What a body without any long number passes by at once: thirteen digits in whatever ASCII spelling, or any full-width one.
MAY_HOLD_CARD: Final = re.compile(
    rb"[0-9](?:[ ._-]?[0-9]){12}|[0-9]\\u[0-9a-fA-F]{4}[0-9]|\\u[fF][fF]1|[0-9][\x80-\xff]{2,3}[0-9]|\xef\xbc[\x90-\x99]"
)
ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
APART: Final = b" ._-"  # what may stand between digits
HEARD_OUT_B: Final = 1024 * 1024
HEARD_OUT_S: Final = 1.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
}


_ENCODED: Final = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
SHIELD: Final = [*_ENCODED, (b"cache-control", b"max-age=86400")]
SHIELD_STATIC: Final = [*_ENCODED, (b"cache-control", b"no-cache")]
SHIELD_FRESH: Final = [*_ENCODED, (b"cache-control", b"no-store")]


class Refused(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, key: str, field: str | None = None, why: str = "looks like a card number") -> None:
        super().__init__(key)
        self.fields = {} if field is None else {"fields": [{"field": field, "problem": why}]}
        self.status = status
        self.key = key


def problem(key: str, **more: object) -> bytes:
    """The JSON of an HTTP refusal: what is wrong in both languages, and the next step."""
    words = {"error": key, "message": both(f"error.{key}"), "next_step": both(f"error.{key}.next"), **more}
    return json.dumps(words, ensure_ascii=False).encode()


class Guard:
    """ASGI middleware around the whole application.

    Args:
        straight: What answers posts to a path without passing the framework's own layers.
    """

    def __init__(self, app: App, hosts: frozenset[str], straight: Mapping[str, App] | None = None) -> None:
        self._app = app
        self._hosts = hosts
        self._straight = straight or {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded = _guarded_send(scope, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check_host(headers)
            _check_origin(scope["method"], headers)
            body = await _read_body(scope, headers, receive)
            _check_cards(body)
        except Refused as refused:
            await _answer(guarded, receive, refused.status, problem(refused.key, **refused.fields))
            return
        app = self._straight.get(scope["path"], self._app) if body is not None and scope["method"] == "POST" else self._app
        await app(scope, _replay(body, receive), guarded)

    def _check_host(self, headers: dict[str, str]) -> None:
        try:
            name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._hosts and not _is_address(name):
            raise Refused(400, "wrong_host")


def hosts_of(host: str) -> frozenset[str]:
    """The names a box answers to, given the address it listens on."""
    return frozenset({"localhost", host.lower()})


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(method: str, headers: dict[str, str]) -> None:
    if method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused(403, "foreign_origin")


def _check_cards(body: bytes | None) -> None:
    """Before anything reads, keeps or repeats it: numbers of payment cards go no further than here."""
    if body is None or not _may_hold_card(body):
        return
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return  # no JSON: its reader refuses it, and repeats nothing of it
    field = card_field(value)
    if field is not None:
        raise Refused(422, "card_number", field)
    if (field := sku_field(value)) is not None:
        raise Refused(422, "sku_number", field, "a number of 13 to 19 digits that is no GTIN")


def _may_hold_card(body: bytes) -> bool:
    """Whether `MAY_HOLD_CARD` finds anything. Nearly no body has so many digits, however they stand apart; that is seen far sooner."""
    plain = body.isascii() and b"\\" not in body
    if plain and b"0000000000000" not in body.translate(ZEROS, APART):
        return False
    return MAY_HOLD_CARD.search(body) is not None


async def _read_body(scope: MutableMapping[str, Any], headers: dict[str, str], receive: Receive) -> bytes | None:
    """The whole body; None: the request has none."""
    if "content-length" not in headers and "transfer-encoding" not in headers:
        return None
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY_B:
        raise Refused(413, "too_large")
    if WHOLE in scope:
        return await _collect(receive)
    try:
        async with asyncio.timeout(BODY_S):
            return await _collect(receive)
    except TimeoutError as error:
        raise Refused(408, "too_slow") from error


async def _collect(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "cut_short")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_B:
            raise Refused(413, "too_large")
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes | None, receive: Receive) -> Receive:
    waiting = [] if body is None else [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def _guarded_send(scope: MutableMapping[str, Any], send: Send) -> Send:
    path = scope["path"]
    kept = path.startswith("/static/vendor/")  # named by version in its README, so it may be kept

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = message.get("headers", [])
            given = {name.lower() for name, _ in own}
            fixed = SHIELD if kept else SHIELD_STATIC if "/static/" in path else SHIELD_FRESH
            message = {**message, "headers": [*own, *(pair for pair in fixed if pair[0] not in given)]}
        await send(message)

    return guarded


async def _answer(send: Send, receive: Receive, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await _hear_out(receive)
    await send({"type": "http.response.body", "body": b""})


async def _hear_out(receive: Receive) -> None:
    """Throw away what the sender still has under way: closing over unread bytes resets the connection, and the answer is lost."""
    left = HEARD_OUT_B
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HEARD_OUT_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
