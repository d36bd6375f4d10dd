"""Pairing: a screen or a POS asks, shows six digits, and a manager who sees them there says yes.

What is asked lives two minutes and in memory only. The asker holds a secret of its own and fetches its key with it, so knowing
the digits gives nobody a key. Digits are tried by signed-in managers only, and five wrong ones make that person wait. A
machine that asks too often loses its own older asks first; all machines together can hold no more than `MOST_ASKS`.
"""

import hmac
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import segno
from fastapi import APIRouter, Depends, Request, Response
from msgspec import Struct
from pydantic import Field
from starlette.exceptions import HTTPException

from gateway.clock import Clock
from gateway.kiosk.access import give_key
from gateway.kiosk.api import JSON, known_station
from gateway.kiosk.pos import Strict
from gateway.kiosk.sessions import Tries
from gateway.signed import Staff

if TYPE_CHECKING:
    from gateway.core.desk import Desk

ASK_NS: Final = 120 * 10**9
FETCH_NS: Final = 30 * 10**9
MOST_ASKS: Final = 32
MOST_OF_ONE: Final = 4  # of one address
MANAGER: Final = "manager"


class NewAsk(Strict):
    """A device that wants to be paired."""

    station: Annotated[str, Field(min_length=1, max_length=40)]
    kind: Literal["kiosk", "pos"] = "kiosk"
    name: Annotated[str, Field(max_length=40, description="What people call it; shown to the manager.")] = ""


class Claim(Strict):
    """The asker comes back."""

    ask: Annotated[str, Field(min_length=1, max_length=64)]


class Digits(Strict):
    """What the manager reads on the device's screen."""

    code: Annotated[str, Field(pattern="^[0-9]{6}$")]


class Ask(Struct):
    """One pairing under way."""

    secret: str
    code: str
    kind: str
    station: str
    name: str
    address: str
    ends_ns: int
    key: str = ""  # once approved


class Asks:
    """All pairings under way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asks: list[Ask] = []

    def open(self, kind: str, station: str, name: str, address: str) -> Ask | None:
        """A new one; None: too many wait."""
        live = self.live()
        own = [ask for ask in live if ask.address == address]
        for older in own[: max(0, len(own) - MOST_OF_ONE + 1)]:
            self._asks.remove(older)
        if len(self._asks) >= MOST_ASKS:
            return None
        taken = {ask.code for ask in live}
        code = next(code for code in iter(lambda: f"{secrets.randbelow(10**6):06}", None) if code not in taken)
        ask = Ask(secrets.token_urlsafe(32), code, kind, station, name, address, self._clock.boottime_ns() + ASK_NS)
        self._asks.append(ask)
        return ask

    def live(self) -> list[Ask]:
        """Those whose time is not up."""
        now_ns = self._clock.boottime_ns()
        self._asks = [ask for ask in self._asks if ask.ends_ns > now_ns]
        return list(self._asks)

    def by_code(self, code: str) -> Ask | None:
        """The one that waits under these digits."""
        return next((ask for ask in self.live() if ask.code and hmac.compare_digest(ask.code, code)), None)

    def by_secret(self, secret: str) -> Ask | None:
        """The asker's own."""
        given = secret.encode("utf-8", "surrogatepass")
        return next((ask for ask in self.live() if hmac.compare_digest(ask.secret.encode(), given)), None)

    def approve(self, ask: Ask) -> None:
        """Its digits are used up; the asker still has a while to fetch the key."""
        ask.code = ""
        ask.ends_ns = max(ask.ends_ns, self._clock.boottime_ns() + FETCH_NS)

    def left_s(self, ask: Ask) -> int:
        """Seconds until its time is up."""
        return max(0, (ask.ends_ns - self._clock.boottime_ns()) // 10**9)


def router(desk: "Desk", asks: Asks) -> APIRouter:
    """What a device that is not paired yet may ask."""
    routes = APIRouter(prefix="/v1/pairings", tags=["pairing"])

    @routes.post("", status_code=201, summary="Ask to be paired: shows six digits that a manager approves within two minutes")
    async def ask_to_pair(asked: NewAsk, request: Request) -> dict[str, Any]:
        station = known_station(desk, asked.station)
        address = request.client.host if request.client else ""
        ask = asks.open(asked.kind, station, asked.name.strip(), address)
        if ask is None:
            raise HTTPException(429, "too_many_asks", {"retry-after": "120"})
        # The digits are no key and ride behind the #, which browsers send to nobody.
        page = f"{request.url.scheme}://{request.headers['host']}/staff#pair={ask.code}"
        qr = segno.make(page, error="m", micro=False).svg_data_uri(scale=6, border=3, light="#fff")
        return {"ask": ask.secret, "code": ask.code, "left_s": asks.left_s(ask), "qr": qr}

    @routes.post("/claim", summary="Whether the manager has said yes: a browser then gets its key as a cookie, a POS in `key`")
    async def claim(asked: Claim, request: Request) -> Response:
        ask = asks.by_secret(asked.ask)
        if ask is None:
            raise HTTPException(404, "pairing_over")
        said: dict[str, Any] = {"state": "paired" if ask.key else "waiting", "left_s": asks.left_s(ask), "station": ask.station}
        if ask.key and ask.kind == "pos":
            said["key"] = ask.key
        answer = Response(msgspec.json.encode(said), media_type=JSON)
        if ask.key and ask.kind == "kiosk":
            give_key(request, answer, ask.station, ask.key)
        return answer

    return routes


def staff_router(desk: "Desk", asks: Asks, person: Callable[..., Staff]) -> APIRouter:
    """What a manager may do with devices."""
    routes = APIRouter(prefix="/v1/staff", tags=["staff"])
    tries = Tries(desk.clock)

    def manager(staff: Annotated[Staff, Depends(person)]) -> Staff:
        if MANAGER not in staff.roles:
            raise HTTPException(403, "not_allowed")
        return staff

    allowed = Annotated[Staff, Depends(manager)]

    @routes.get("/pairings", summary="Devices that ask to be paired now")
    async def waiting(staff: allowed) -> list[dict[str, Any]]:
        return [
            {"code": ask.code, "kind": ask.kind, "station": ask.station, "name": ask.name, "left_s": asks.left_s(ask)}
            for ask in asks.live()
            if ask.code
        ]

    @routes.post("/pairings", summary="Approve the device that shows these digits: 429 after five wrong ones")
    async def approve(asked: Digits, staff: allowed) -> dict[str, Any]:
        wait_s = tries.begin(staff.staff_ref)
        if wait_s:
            raise HTTPException(429, "too_many_tries", {"retry-after": str(int(wait_s) + 1)})
        ask = asks.by_code(asked.code)
        if ask is None:
            raise HTTPException(404, "pairing_wrong")
        tries.right(staff.staff_ref)
        asks.approve(ask)  # before the commit is awaited: nobody approves it twice
        ask.key = await desk.devices.pair(ask.kind, ask.station, ask.name, staff.staff_ref)
        return {"station": ask.station, "kind": ask.kind}

    @routes.get("/devices", summary="The shop's paired devices")
    async def devices(staff: allowed) -> Response:
        return Response(msgspec.json.encode(desk.devices.views()), media_type=JSON)

    @routes.post("/devices/{device_id}/revoke", summary="Take a device's right away, for good: it counts at once")
    async def revoke(device_id: str, staff: allowed) -> dict[str, Any]:
        if not await desk.devices.revoke(device_id, staff.staff_ref):
            raise HTTPException(404, "unknown_device")
        return {"device_id": device_id, "revoked": True}

    return routes
