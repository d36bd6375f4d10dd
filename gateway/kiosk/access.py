"""Which device a request comes from, and what that lets it do.

A browser bears its key in a cookie no script can read, one for each station it shows; a POS bears it as `Authorization: Bearer`.
A key never stands in an address or a log. A request that bears nothing but revoked keys is refused on every route, and open event
streams end the same way; so is every request once headquarters has revoked this box.
"""

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from gateway.core.devices import Device
from gateway.core.verdict import Actor
from gateway.kiosk.sessions import Sessions

if TYPE_CHECKING:
    from gateway.core.desk import Desk

COOKIE: Final = "device_"  # and the station's name
COOKIE_S: Final = 400 * 86_400  # the longest browsers keep one; renewed each time the page is opened
STAFF_COOKIE: Final = "staff"
PHONES: Final = "staff"  # the station of staff phones
RELAYED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
OPEN_PATHS: Final = ("/healthz",)


class Access:
    """Asks of a request who it is."""

    def __init__(self, desk: "Desk", sessions: Sessions) -> None:
        self._desk = desk
        self._sessions = sessions

    async def gate(self, request: Request) -> None:
        """What every route asks first.

        Raises:
            HTTPException: 403, this box or this device was revoked.
        """
        refused = self._refusal(request)
        if refused is not None and request.url.path not in OPEN_PATHS:
            raise HTTPException(403, refused)

    def still(self, request: Request) -> Callable[[], bool]:
        """Whether an answer that goes on and on may go on."""
        return lambda: self._refusal(request) is None

    def of_station(self, request: Request, station: str) -> Device | None:
        """The live device of that station this request comes from."""
        borne = [request.cookies.get(COOKIE + station), _bearer(request)]
        found = [self._desk.devices.find(key) for key in borne if key]
        return next((one for one in found if one and one.station == station and not self._desk.devices.is_revoked(one)), None)

    def presenter(self, request: Request, station: str) -> str | None:
        """Who presents a code at a station: a signed-in person's reference, or None for the station's own device.

        Raises:
            HTTPException: 401, neither; 403, a device of another station.
        """
        device = self.of_station(request, station)
        if device is not None:
            self._desk.devices.see(device)
            return None
        person = self._sessions.whose(request.cookies.get(STAFF_COOKIE))
        if any(one.staff_ref == person for one in self._desk.staff()):
            return person
        if any(not self._desk.devices.is_revoked(one) for one in self._borne(request)):
            raise HTTPException(403, "wrong_station")
        raise HTTPException(401, "not_paired")

    def live(self, request: Request) -> list[Device]:
        """The devices whose keys a request bears. As `gate`, for routes that look at each key only once.

        Raises:
            HTTPException: As `gate`.
        """
        devices = self._desk.devices
        borne = self._borne(request)
        live = [one for one in borne if not devices.is_revoked(one)]
        if devices.retired or (borne and not live):
            raise HTTPException(403, "box_retired" if devices.retired else "device_revoked")
        return live

    def caller(self, request: Request, station: str, live: list[Device]) -> tuple[Actor, Device | None]:
        """Who asks at a station, and as what: the station's own device, or a signed-in person; and the device, if it is a till.

        Raises:
            HTTPException: As `presenter`.
        """
        device = next((one for one in live if one.station == station), None)
        if device is None:
            return self._person(request, station, live), None
        self._desk.devices.see(device)
        return Actor(device.device_id, None, frozenset({device.kind})), device if _bearer(request) is not None else None

    def credential(self, request: Request, station: str) -> str:
        """What a known caller shows of itself: its own key, so that browsers of one device count each for itself."""
        return request.cookies.get(COOKIE + station) or _bearer(request) or request.cookies.get(STAFF_COOKIE) or ""

    def _person(self, request: Request, station: str, live: list[Device]) -> Actor:
        person = self.presenter(request, station)
        phone = next((one for one in live if one.station == PHONES), None)
        roles = next((one.roles for one in self._desk.staff() if one.staff_ref == person), [])
        return Actor(phone.device_id if phone else None, person, frozenset(roles))

    def _refusal(self, request: Request) -> str | None:
        devices = self._desk.devices
        if devices.retired:
            return "box_retired"
        borne = self._borne(request)
        return "device_revoked" if borne and all(devices.is_revoked(one) for one in borne) else None

    def _borne(self, request: Request) -> list[Device]:
        keys = [value for name, value in request.cookies.items() if name.startswith(COOKIE)]
        found = [self._desk.devices.find(key) for key in [*keys, _bearer(request)] if key]
        return [device for device in found if device is not None]


def give_key(request: Request, answer: Response, station: str, key: str) -> None:
    """Put a key into the browser."""
    answer.set_cookie(
        COOKIE + station, key, max_age=COOKIE_S, path="/", httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )


def renew_cookie(request: Request, answer: Response, station: str) -> None:
    """Let the browser keep its key for another while."""
    held = request.cookies.get(COOKIE + station)
    if held:
        give_key(request, answer, station, held)


def is_own_screen(request: Request) -> bool:
    """Whether a browser on this very machine asks. What a proxy on this machine passes on does not count."""
    if request.client is None or any(name in request.headers for name in RELAYED):
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None  # a socket for both families
    return (mapped or address).is_loopback


def _bearer(request: Request) -> str | None:
    said = next((value for name, value in request.scope["headers"] if name == b"authorization"), b"")
    scheme, _, key = said.decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
