"""The verbs of money over HTTP: what each takes, who may ask for it, and what it answers.

Each verb is a line of `VERBS`. Bodies are read by msgspec and not by the framework, which would take longer than the decision:
these routes carry the shop's queue. `openapi` describes them from the same lines.

Every answer is stored under its idempotency key before it is given (`gateway.core.requests`): after a time-out, ask again with the
same key and the same body. `validate` stores nothing, since nothing happens.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import Request, Response
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.core.devices import Device
from gateway.core.verdict import Actor, Asked, Doing
from gateway.errors import StoreError
from gateway.kiosk.access import Access
from gateway.kiosk.api import JSON, known_station
from gateway.kiosk.fields import Code as Code
from gateway.kiosk.fields import Held, HoldS, Key, MemberGiven, Minor, OrLess, Points, Redeemed, Shown, Source, Units, whose
from gateway.kiosk.fields import Station as Station
from gateway.kiosk.fields import Symbology as Symbology
from gateway.kiosk.guard import problem
from gateway.kiosk.pace import Pace
from gateway.kiosk.pos import MARK_HEADER, TYPED, idempotency, presented
from gateway.kiosk.returns import Return, post_return
from gateway.kiosk.sale import Sale, post_sale
from gateway.rules.basket import Basket, one_name_each
from gateway.rules.voucher import Want

if TYPE_CHECKING:
    from gateway.core.desk import Desk

KEY_HEADER: Final = "idempotency-key"
EVERYBODY: Final = frozenset({"kiosk", "pos", "clerk", "manager"})  # a shopper at a kiosk acts as the kiosk
TILL: Final = frozenset({"pos", "clerk", "manager"})


class Validate(Struct, forbid_unknown_fields=True, kw_only=True):
    """A code, to see what would happen."""

    station: Station
    code: Code
    symbology_id: Symbology = TYPED
    source: Source = "pos"
    units: Units = 1
    amount_minor: Minor | None = None
    basket: Basket | None = None  # what is bought with it: the campaign's rules apply, and the answer says what is to be paid
    points: Points | None = None
    or_less: OrLess = False


class Redeem(Validate, forbid_unknown_fields=True, kw_only=True):
    """A code shown at a station."""

    presentation_id: Shown | None = None
    member: MemberGiven | None = None  # joined to the redemption, or the hold, in its own transaction


class Authorize(Redeem, forbid_unknown_fields=True, kw_only=True):
    """A code, to be held for one sale."""

    hold_s: HoldS | None = None


class Capture(Struct, forbid_unknown_fields=True, kw_only=True):
    """A hold, to be redeemed: all of it, or less."""

    station: Station
    authorization_id: Held
    key: Key | None = None
    units: Units | None = None
    amount_minor: Minor | None = None
    points: Points | None = None


class Void(Struct, forbid_unknown_fields=True, kw_only=True):
    """A hold, to be ended."""

    station: Station
    authorization_id: Held
    key: Key | None = None


class Reverse(Struct, forbid_unknown_fields=True, kw_only=True):
    """A redemption, to be taken back."""

    station: Station
    redemption_id: Redeemed
    key: Key | None = None


Refuse = Callable[[Request, Exception], Awaitable[Response]]
Act = Callable[["Desk", Any, Actor, str | None], Awaitable[bytes]]


class Verb(Struct, frozen=True):
    """One route."""

    name: str
    body: type[Struct]
    who: frozenset[str]
    act: Act
    summary: str
    more: str = ""

    @property
    def path(self) -> str:
        """Its address."""
        return f"/v1/{self.name}"


async def _validate(desk: "Desk", asked: Validate, actor: Actor, header: str | None) -> bytes:
    event = presented(asked.code, "0" * 32, asked.symbology_id, f"{asked.source}@{asked.station}")
    return desk.till.validate(event, asked.station, actor.staff, _want(asked), asked.basket, or_less=asked.or_less)


def _want(asked: Validate) -> Want:
    return Want(asked.points or asked.units, asked.amount_minor, asked.points is not None)


def _redeem(desk: "Desk", asked: Redeem, actor: Actor, header: str | None) -> Awaitable[bytes]:
    return _present(desk, asked, actor, header, _asked(asked, actor, Doing.REDEEM))


def _authorize(desk: "Desk", asked: Authorize, actor: Actor, header: str | None) -> Awaitable[bytes]:
    return _present(desk, asked, actor, header, _asked(asked, actor, Doing.AUTHORIZE, asked.hold_s))


def _asked(body: Redeem, actor: Actor, doing: Doing, hold_s: int | None = None) -> Asked:
    return Asked(doing, _want(body), hold_s, actor.device, body.basket, whose(body.member), or_less=body.or_less)


def _present(desk: "Desk", body: Redeem, actor: Actor, header: str | None, asked: Asked) -> Awaitable[bytes]:
    identity = idempotency(body.presentation_id, header)
    event = presented(body.code, identity, body.symbology_id, f"{body.source}@{body.station}")
    return desk.present(event, station=body.station, staff=actor.staff, asked=asked)


def _capture(desk: "Desk", asked: Capture, actor: Actor, header: str | None) -> Awaitable[bytes]:
    plain = asked.units is None and asked.amount_minor is None and asked.points is None
    want = None if plain else Want(asked.points or asked.units or 1, asked.amount_minor, asked.points is not None)
    key = idempotency(asked.key, header)
    return desk.till.capture(asked.authorization_id, key=key, station=asked.station, actor=actor, want=want)


def _void(desk: "Desk", asked: Void, actor: Actor, header: str | None) -> Awaitable[bytes]:
    return desk.till.void(asked.authorization_id, key=idempotency(asked.key, header), station=asked.station, actor=actor)


def _reverse(desk: "Desk", asked: Reverse, actor: Actor, header: str | None) -> Awaitable[bytes]:
    return desk.till.reverse(asked.redemption_id, key=idempotency(asked.key, header), station=asked.station, actor=actor)


VERBS: Final = (
    Verb("redeem", Redeem, EVERYBODY, _redeem, "Present a code at a station: a voucher is used, in one step"),
    Verb("validate", Validate, EVERYBODY, _validate, "See what redeeming would answer: nothing is written, held or shown"),
    Verb(
        "authorize", Authorize, TILL, _authorize, "Hold a voucher for one sale",
        "Nobody else can use what is held until `capture`, `void` or the end of `hold_s`, which begins anew if the box restarts.",
    ),
    Verb(
        "capture", Capture, TILL, _capture, "Redeem what is held",
        "Late, it succeeds if the voucher is still free; else it is refused as `hold_expired`, and the till takes its discount back.",
    ),
    Verb("void", Void, TILL, _void, "End a hold: the voucher is free again"),
    Verb(
        "reverse", Reverse, TILL, _reverse, "Take a redemption back, within the minutes the shop or the campaign allows",
        "By the device that redeemed, or a manager. Exactly what it took of the voucher is free again.",
    ),
    Verb(
        "sales", Sale, TILL, post_sale, "Post a finished sale, each receipt once",
        "Name what led to it where the till knows: redemptions, a hold, a pickup. Nothing is decided; headquarters joins them.",
    ),
    Verb(
        "returns", Return, TILL, post_return, "Take returned goods of a finished sale back, each refund slip once",
        "Never more than was sold or paid. When the last piece comes back, vouchers of the sale are reversed where `reverse` allows it.",
    ),
)  # fmt: skip


def endpoints(desk: "Desk", access: Access, refuse: Refuse) -> "dict[str, Endpoint]":
    """What answers each of `VERBS`, by its address."""
    pace = Pace(desk.clock, desk.config.till.requests_per_s)
    return {verb.path: Endpoint(verb, desk, access, pace, refuse) for verb in VERBS}


def routes(answering: "Mapping[str, Endpoint]") -> list[Route]:
    """The same as routes: what comes without a body, or by another method, passes the framework."""
    return [Route(path, one, methods=["POST"], include_in_schema=False) for path, one in answering.items()]


class Endpoint:
    """One verb, as an ASGI application: nothing the framework would put around a function stands between the guard and the decision."""

    def __init__(self, verb: Verb, desk: "Desk", access: Access, pace: Pace, refuse: Refuse) -> None:
        self._refuse = refuse
        self._verb = verb
        self._desk = desk
        self._access = access
        self._pace = pace
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(verb.body).decode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what is refused is answered as it is on every other route."""
        request = Request(scope)
        try:
            status, answer, mark = await self._answered(request, receive)
        except (HTTPException, StoreError) as error:
            await (await self._refuse(request, error))(scope, receive, send)
        else:
            await _say(send, status, answer, mark)

    async def _answered(self, request: Request, receive: Receive) -> tuple[int, bytes, str]:
        """Status, body, and the mark that the till which asked should keep."""
        live = self._access.live(request)
        body = (await receive()).get("body", b"")  # the guard has read all of it
        try:
            asked = self._decode(body)
            one_name_each(getattr(asked, "basket", None))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            return 422, problem("bad_input", fields=fields_of(error)), ""
        till, answer = await self._decided(request, asked, live)
        return 200, answer, self._desk.mark(till) if till is not None else ""  # after the commit, so what the till keeps is on the disk

    async def _decided(self, request: Request, asked: Any, live: list[Device]) -> tuple[Device | None, bytes]:
        """Who may ask, and not too fast, gets an answer; with it the till that asked, if one did."""
        verb, desk = self._verb, self._desk
        station = known_station(desk, asked.station)
        actor, till = self._access.caller(request, station, live)
        if wait_s := self._pace.wait_s(self._access.credential(request, station)):
            raise HTTPException(429, "too_fast", {"retry-after": str(int(wait_s) + 1)})
        if not verb.who & actor.roles:
            await desk.till.deny(verb.name, station, actor)
            raise HTTPException(403, "not_allowed")
        if till is not None and MARK_HEADER in request.headers:
            desk.hear_witness(till, request.headers[MARK_HEADER])
        return till, await verb.act(desk, asked, actor, request.headers.get(KEY_HEADER))


async def _say(send: Send, status: int, body: bytes, mark: str = "") -> None:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", JSON.encode())]
    headers += [(MARK_HEADER.encode(), mark.encode())] if mark else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def fields_of(error: Exception) -> list[dict[str, str]]:
    """Where a body is wrong, and nothing of what stood there: it may be a number that is nobody's business."""
    said, _, at = str(error).partition(" - at `")
    if not isinstance(error, msgspec.ValidationError):
        return [{"field": "", "problem": "not JSON"}]
    kind = "unknown field" if "unknown field" in said else "missing" if "missing required" in said else "not as described"
    return [{"field": at.rstrip("`").removeprefix("$").lstrip("."), "problem": kind}]
