"""A till that speaks the shop's API: pairs itself, asks, and asks again with the same key when nobody answered.

What a real POS has to do, and no more: `docs/pos.md` tells it in words.
"""

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from gateway.errors import StoreError
from provisioning.authority import write_private
from virtual_store.web import Refused, Web

TRIES: Final = 5
PAUSE_S: Final = 0.5
TIMEOUT_S: Final = 10.0
APPROVED_WITHIN_S: Final = 120.0
MARK: Final = "sgw-mark"


class Exchange(Struct, frozen=True):
    """One request and its answer, as the screen shows them."""

    verb: str
    body: dict[str, Any]
    status: int  # of HTTP
    answer: dict[str, Any]
    tries: int
    took_ms: float


class Till:
    """A paired till of one station.

    Args:
        key_file: Where its key is kept between runs.
    """

    def __init__(self, url: str, station: str, key_file: Path) -> None:
        self.url = url.rstrip("/")
        self.station = station
        self._key_file = key_file
        self._key = key_file.read_text(encoding="ascii").strip() if key_file.exists() else ""
        self._mark = ""
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def is_paired(self) -> bool:
        """Whether the shop knows its key."""
        return bool(self._key) and self.ask("validate", code="0").status not in (401, 403)

    def pair(self, show_digits: Callable[[str], None], approve: Callable[[str], None] | None = None) -> None:
        """Ask to be paired and wait until a manager has said yes.

        Args:
            show_digits: Told the six digits a manager reads here.
            approve: Says yes by itself, where somebody's PIN is at hand: in the demo.

        Raises:
            StoreError: Nobody said yes in time.
        """
        web = Web(self.url)
        asked = web.call("/v1/pairings", json.dumps({"station": self.station, "kind": "pos", "name": "模擬收銀機 Simulator"}).encode())
        show_digits(asked["code"])
        if approve is not None:
            approve(asked["code"])
        ends_s = time.monotonic() + APPROVED_WITHIN_S
        while time.monotonic() < ends_s:
            said = web.call("/v1/pairings/claim", json.dumps({"ask": asked["ask"]}).encode())
            if said["state"] == "paired":
                self._key = said["key"]
                write_private(self._key_file, self._key.encode("ascii"))
                return
            time.sleep(PAUSE_S)
        raise StoreError("nobody approved this till", "A manager types its six digits on the staff page, under Devices")

    def ask(self, verb: str, **body: Any) -> Exchange:
        """Ask; after a time-out ask again with the same body, so with the same key: the shop gives the first answer again.

        Raises:
            StoreError: Nobody answers at all.
        """
        body = {"station": self.station, **{name: value for name, value in body.items() if value is not None}}
        begun_s = time.monotonic()
        for number in range(1, TRIES + 1):
            try:
                status, answer = self._post(f"/v1/{verb}", body)
            except (OSError, HTTPException) as error:  # nobody, or one who died in the middle of the answer
                status, answer = 0, {"error": str(error)}
            if status not in (0, 429, 503):
                return Exchange(verb, body, status, answer, number, (time.monotonic() - begun_s) * 1e3)
            time.sleep(PAUSE_S)
        raise StoreError(f"the shop does not answer at {self.url}", "Is the store running? `make store` starts one")

    def present(self, verb: str, code: str, amount_minor: int | None = None, units: int | None = None) -> Exchange:
        """Redeem or hold a code."""
        return self.ask(verb, code=code, presentation_id=secrets.token_hex(16), amount_minor=amount_minor, units=units)

    def hold_less(self, code: str, amount: int, unit: str) -> Exchange:
        """Hold so much of a balance, or what this shop has of it. A point is worth one minor unit here."""
        how_much = {"points" if unit == "points" else "amount_minor": amount}
        return self.ask("authorize", code=code, presentation_id=secrets.token_hex(16), or_less=True, **how_much)

    def settle(self, verb: str, **named: Any) -> Exchange:
        """Capture, void or reverse."""
        return self.ask(verb, key=secrets.token_hex(16), **named)

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}", **({MARK: self._mark} if self._mark else {})}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)  # noqa: S310 - our own http addresses
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as reply:
                self._mark = reply.headers.get(MARK) or self._mark
                return reply.status, dict(json.loads(reply.read()))
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(json.loads(error.read() or b"{}"))


def manager_of(folder: Path, url: str) -> Callable[[str], None] | None:
    """Somebody who approves tills of the demo in this folder: the manager whose PIN `make store` prints; None: it is no demo's."""
    kept = folder / "clerk.json"
    if not kept.exists():
        return None

    def approve(digits: str) -> None:
        person, web = json.loads(kept.read_text(encoding="utf-8")), Web(url)
        try:
            web.call("/v1/staff/sign-in", json.dumps({"staff_ref": person["staff_ref"], "pin": person["pin"]}).encode())
            web.call("/v1/staff/pairings", json.dumps({"code": digits}).encode())
        except Refused as error:
            raise StoreError(f"the demo's manager could not approve this till: {error}", "Approve it on the staff page") from error

    return approve
