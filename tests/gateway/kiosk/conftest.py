"""A kiosk on a real socket, and Debian's Chromium."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, async_playwright

from gateway.kiosk.app import serve
from tests.gateway.kiosk.desk_stand import DeskStand

CHROMIUM = Path("/usr/bin/chromium")


@dataclass
class Shop:
    """A served desk."""

    desk: DeskStand
    port: int
    client: httpx.AsyncClient
    task: "asyncio.Task[None]"
    problems: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mind(self, page: Page) -> Page:
        """Note what goes wrong in a page: script errors, blocked content, requests that leave the shop."""
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: self.problems.append(f"script error: {error}"))
        page.on("console", lambda said: self.problems.append(said.text) if "Content Security Policy" in said.text else None)
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((self.url, "blob:")) else self.problems.append(f"left the shop: {asked.url}"),
        )
        return page

    async def pair_own(self) -> None:
        """Open every kiosk page once, as the box's own screen does: that pairs it."""
        for station in self.desk.config.stations:
            assert (await self.client.get(f"/kiosk/{station.name}")).status_code == 200

    async def redeem(self, code: str, station: str = "counter", presentation_id: str | None = None, **more: Any) -> httpx.Response:
        body = {"station": station, "code": code, "presentation_id": presentation_id or secrets.token_hex(16), **more}
        return await self.client.post("/v1/redeem", json=body)


@contextlib.asynccontextmanager
async def open_shop(desk: DeskStand, port: int = 0) -> AsyncIterator[Shop]:
    """Serve a desk on loopback."""
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(serve(desk, "127.0.0.1", port, listening=listening.set_result))  # type: ignore[arg-type]
    either: list[asyncio.Future[Any]] = [task, listening]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    port = await listening
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:
        opened = Shop(desk, port, client, task)
        await opened.pair_own()
        try:
            yield opened
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    assert opened.problems == []


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(DeskStand()) as opened:
        yield opened


@contextlib.asynccontextmanager
async def open_browser(*arguments: str) -> AsyncIterator[Browser]:
    """Chromium, as the kiosk runs it."""
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", *arguments])
        try:
            yield browser
        finally:
            await browser.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as opened:
        yield opened
