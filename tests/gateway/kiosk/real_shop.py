"""The doors in front of a real core: real ledger, real link, real sockets; and tills, screens and people with keys of their own."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable
from typing import Any

import argon2
import httpx

from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.core.passes import Signer
from gateway.kiosk.app import serve
from gateway.signed import DOCUMENT_TAG, Document, Staff, seal
from tests.conftest import HQ_KEY
from tests.gateway.core.shop import GATEWAY, Shop

PIN = "246810"
HASHED = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PIN)
PEOPLE = [
    Staff("s-1", "林怡君", HASHED, ["clerk"]), Staff("s-2", "Kevin Wong", HASHED, ["manager"]), Staff("s-3", "快遞", HASHED, ["courier"]),
]  # fmt: skip


class Caller:
    """A device or a person at a station."""

    def __init__(self, url: str, station: str, key: str = "") -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.AsyncClient(base_url=url, headers=headers, timeout=10, trust_env=False)
        self.station = station

    async def ask(self, verb: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"/v1/{verb}", json={"station": self.station, **body})

    async def said(self, verb: str, **body: Any) -> dict[str, Any]:
        answer = await self.ask(verb, **body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def redeem(self, code: bytes, **more: Any) -> dict[str, Any]:
        return await self.said("redeem", code=code.decode(), presentation_id=secrets.token_hex(16), **more)

    async def authorize(self, code: bytes, **more: Any) -> dict[str, Any]:
        return await self.said("authorize", code=code.decode(), presentation_id=secrets.token_hex(16), **more)


class Doors:
    """A shop whose doors are open."""

    def __init__(self, shop: Shop, url: str) -> None:
        self.shop = shop
        self.url = url
        self._callers: list[Caller] = []

    async def till(self, station: str = "counter", kind: str = "pos") -> Caller:
        """A newly paired till."""
        key = await self.shop.desk.devices.pair(kind, station, "till", "s-2")
        return self._with(Caller(self.url, station, key))

    async def kiosk(self, station: str = "counter") -> Caller:
        """The box's own screen."""
        caller = self._with(Caller(self.url, station))
        assert (await caller.http.get(f"/kiosk/{station}")).status_code == 200
        return caller

    async def person(self, staff_ref: str, station: str = "counter") -> Caller:
        """Somebody signed in on a phone."""
        caller = self._with(Caller(self.url, station))
        assert (await caller.http.post("/v1/staff/sign-in", json={"staff_ref": staff_ref, "pin": PIN})).status_code == 200
        return caller

    def nobody(self) -> Caller:
        """A machine on the shop's network."""
        return self._with(Caller(self.url, "counter"))

    async def close(self) -> None:
        for caller in self._callers:
            await caller.http.aclose()

    def _with(self, caller: Caller) -> Caller:
        self._callers.append(caller)
        return caller


@contextlib.asynccontextmanager
async def open_doors(
    config: GatewayConfig, clock: Clock, people: Iterable[Staff] = PEOPLE, signer: Signer | None = None
) -> AsyncIterator[Doors]:
    """A core with HQ's papers in force, its doors on loopback."""
    shop = Shop(config, clock, signer)
    await shop.open()
    await shop.papers()
    assert await shop.bring(seal(DOCUMENT_TAG, Document(GATEWAY, "staff", 1, 0, staff=list(people)), HQ_KEY)) == b"applied"
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(serve(shop.desk, "127.0.0.1", 0, listening=listening.set_result))
    doors = Doors(shop, f"http://127.0.0.1:{await listening}")
    try:
        yield doors
    finally:
        await doors.close()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        await shop.end()
