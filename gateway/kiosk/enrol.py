"""The page of a box that is nobody yet: says so, takes a pasted label, shows how it went. Served where the shop's pages will be."""

import asyncio
import html
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qs

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gateway.errors import ConfigError
from gateway.kiosk.doors import Door, DoorServer, open_door
from gateway.kiosk.guard import Guard, hosts_of
from gateway.kiosk.live import Changes
from gateway.rules.reasons import Reason

HERE: Final = Path(__file__).parent
PAGE: Final = """<!doctype html><html lang="zh-Hant"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{zh}</title><link rel="stylesheet" href="/static/base.css"><link rel="stylesheet" href="/static/enrol.css">
<script src="/static/enrol.js" defer></script>
<body class="calm enrol" data-state="{state}" data-reason="{reason}" data-number="{number}"><main>
<h1 role="status">{zh}</h1><p>{next_zh}</p>
<h2 lang="en">{en}</h2><p lang="en">{next_en}</p>
<p class="box"><small>機器 Box</small> <b>{box}</b> · <small>門市 Shop</small> <b>{store}</b></p>
<form method="post" action="/enroll"{hidden}><label for="code">標籤文字 <span lang="en">Text of the label</span></label>
<textarea id="code" name="code" rows="4" autocomplete="off" autocapitalize="characters" spellcheck="false" required></textarea>
<button>註冊 <span lang="en">Enrol</span></button></form>
</main></body></html>"""

log = logging.getLogger(__name__)


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


def make_app(box: str, store: str, hosts: frozenset[str], standing: Callable[[], Standing], present: Callable[[str], None]) -> Starlette:
    """The page and what it asks for."""

    async def page(request: Request) -> Response:
        now = standing()
        text, next_step = now.words.text, now.words.next_step
        words = {"zh": text.zh, "en": text.en, "next_zh": next_step.zh, "next_en": next_step.en, "box": box, "store": store}
        plain = {key: html.escape(word) for key, word in words.items()}
        hidden = " hidden" if now.state in ("trying", "enrolled") else ""
        page_text = PAGE.format(**plain, state=now.state, reason=now.reason, number=now.number, hidden=hidden)
        # The guard's `no-referrer` would make the form's own post come from nowhere.
        return HTMLResponse(page_text, headers={"referrer-policy": "same-origin"})

    async def state(request: Request) -> Response:
        now = standing()
        said = {"number": now.number, "state": now.state, "reason": now.reason, "words": msgspec.to_builtins(now.words)}
        return Response(json.dumps(said, ensure_ascii=False), media_type="application/json")

    async def enroll(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode("utf-8", "replace"))
        present(fields.get("code", [""])[0])
        return RedirectResponse("/", 303)

    app = Starlette(
        routes=[
            Route("/enroll", enroll, methods=["POST"]),
            Route("/enroll/state", state),
            Mount("/static", StaticFiles(directory=HERE / "static")),
            Route("/{path:path}", page),
        ]
    )
    app.add_middleware(Guard, hosts=hosts)
    return app


async def serve(host: str, port: int, box: str, store: str, standing: Callable[[], Standing], present: Callable[[str], None]) -> None:
    """Serve the page until cancelled. A port that is taken costs the page only: the scanners still read labels."""
    try:
        sock = open_door(host, port)
    except ConfigError as error:
        log.warning("no page: %s", error)
        await asyncio.get_running_loop().create_future()
        return
    config = uvicorn.Config(
        make_app(box, store, hosts_of(host), standing, present), http=Door, ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_keep_alive=5, timeout_graceful_shutdown=1, h11_max_incomplete_event_size=16_384,
    )  # fmt: skip
    try:
        await DoorServer(config, Changes()).serve(sockets=[sock])
    finally:
        sock.close()
