"""A small HTTP client for the starter and the shoppers: JSON in, JSON out, off the loop."""

import asyncio
import json
import urllib.error
import urllib.request
from http.client import HTTPException
from http.cookiejar import CookieJar
from typing import Any, Final

from gateway.errors import StoreError

TIMEOUT_S: Final = 10.0


class Refused(StoreError):
    """The other side answered with an error; `status` is HTTP's, 0 when nobody answered."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, "Look at the process's log")
        self.status = status


class Web:
    """One site, as one person: cookies and token are kept."""

    def __init__(self, base: str, token: str = "") -> None:
        self.base = base.rstrip("/")
        self.token = token
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar()))

    async def get(self, path: str) -> Any:
        """The JSON at a path.

        Raises:
            Refused: An error status, or no answer.
        """
        return await asyncio.to_thread(self.call, path, None)

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Post JSON.

        Raises:
            Refused: An error status, or no answer.
        """
        return await asyncio.to_thread(self.call, path, json.dumps(body).encode())

    async def pair(self, station: str) -> "Web":
        """As `pair_now`."""
        return await asyncio.to_thread(self.pair_now, station)

    def pair_now(self, station: str) -> "Web":
        """Open a station's kiosk page, as the screen of the box itself does: the page's cookie is this device's key from now on.

        Raises:
            Refused: An error status, or no answer.
        """
        self._fetch(f"/kiosk/{station}", None)
        return self

    def call(self, path: str, body: bytes | None) -> Any:
        """As `get` and `post`, for callers without a loop."""
        text = self._fetch(path, body)
        return json.loads(text) if text.strip() else None

    def _fetch(self, path: str, body: bytes | None) -> bytes:
        headers = {"Content-Type": "application/json", "Origin": self.base}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.base + path, data=body, headers=headers)  # noqa: S310 - our own http addresses
        try:
            try:
                with self._opener.open(request, timeout=TIMEOUT_S) as reply:
                    return bytes(reply.read())
            except urllib.error.HTTPError as error:
                with error:
                    raise Refused(f"{path}: status {error.code}: {error.read(500).decode('utf-8', 'replace')}", error.code) from error
        except (HTTPException, OSError) as error:  # nobody, or one who died in the middle of the answer
            raise Refused(f"{path}: {error}", 0) from error
