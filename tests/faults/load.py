"""Customers at the counter and people in the aisles, while processes are killed: what each was told is written down."""

import asyncio
import json
import random
import secrets
import threading
import time
from typing import Any, Final

from gateway.clock import SystemClock
from gateway.events import SubjectKind, VisitEnded
from gateway.link import LinkClient
from tests.store.running import RunningStore
from virtual_store.web import Refused, Web

TILLS: Final = 3
PAUSE_S: Final = 0.05
VISITS_PER_S: Final = 50.0
ASKS_AGAIN: Final = 0.3
PATIENCE_S: Final = 60.0


class Till(threading.Thread):
    """Presents codes over HTTP, each until it is answered."""

    def __init__(self, url: str, tokens: list[str], seed: int) -> None:
        super().__init__(daemon=True)
        self._web = Web(url).pair_now("entrance")
        self._tokens = tokens
        self._random = random.Random(seed)
        self.told: list[tuple[str, dict[str, Any]]] = []  # presentation and the answer to it
        self.closing = threading.Event()
        self.failure = ""

    def run(self) -> None:
        """Until told to stop."""
        try:
            while not self.closing.is_set():
                token, presentation_id = self._random.choice(self._tokens), secrets.token_hex(16)
                for _ in range(2 if self._random.random() < ASKS_AGAIN else 1):  # a second time as after a time-out
                    self.told.append((presentation_id, self._present(token, presentation_id)))
                time.sleep(PAUSE_S)
        except Exception as error:  # noqa: BLE001 - said by whoever joins this thread
            self.failure = f"{type(error).__name__}: {error}"

    def _present(self, token: str, presentation_id: str) -> dict[str, Any]:
        body = json.dumps({"station": "entrance", "code": token, "presentation_id": presentation_id}).encode()
        ends_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return dict(self._web.call("/v1/redeem", body))
            except Refused as error:  # core died before, or in the middle of its answer
                if error.status not in (0, 503) or time.monotonic() > ends_s:
                    raise
            time.sleep(0.1)


class Aisles:
    """A radio more on core's link that states visits as fast as a busy shop; an answer means that the visit is on the disk."""

    def __init__(self, store: RunningStore, seed: int) -> None:
        self._store = store
        self._random = random.Random(seed)
        self._clock = SystemClock()
        self._client = LinkClient(store.starter.plan.gateway_toml.parent / "run" / "link.sock", "ble@faults", self._clock)
        self._going: asyncio.Future[None] | None = None
        self.answered: set[str] = set()
        self.stated = 0
        self._closing = False

    def start(self) -> None:
        """Begin, on the store's own loop."""
        self._store.call(self._begin())

    def stop(self) -> None:
        """Stop stating; every visit that was stated is answered when this returns."""
        self._store.call(self._end())

    async def _begin(self) -> None:
        self._going = asyncio.ensure_future(self._go())

    async def _go(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._client.run())
            while True:
                if not self._closing:
                    self._state(secrets.token_hex(8))
                await asyncio.sleep(self._random.expovariate(VISITS_PER_S))

    def _state(self, visit_id: str) -> None:
        visit = VisitEnded(
            "ble@faults", visit_id, "trolley-1", SubjectKind.TAG, "entrance", round(self._random.uniform(1, 600), 1), self._clock.now()
        )
        self.stated += 1
        self._client.state(visit, f"faults-{visit_id}").add_done_callback(lambda _: self.answered.add(visit_id))

    async def _end(self) -> None:
        assert self._going is not None
        asking = self._going
        async with asyncio.timeout(PATIENCE_S):
            self._closing = True
            while len(self.answered) < self.stated and not asking.done():  # noqa: ASYNC110 - core answers elsewhere
                await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
