"""Tells boxes what is new of what any shop may honour: makes their document `anywhere` and announces it.

What is new stands in `anywhere_told`, so nothing is forgotten when headquarters ends in between. Some boxes at a time, so that the
store is never busy with it for long.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from cloud_bridge.hq import registry, risks
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.registry import BoxRow
from cloud_bridge.hq.store import Connection, Store, StoreAway

AT_ONCE: Final = 20
LOOK_S: Final = 5.0
REST_S: Final = 0.2


class Telling:
    """The task.

    Args:
        announce: Publishes a box's manifest.
    """

    def __init__(self, store: Store, press: Press, now_us: Callable[[], int], announce: Callable[[BoxRow], Awaitable[None]]) -> None:
        self._store = store
        self._press = press
        self._now_us = now_us
        self._announce = announce
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There may be something new."""
        self._news.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            try:
                if not await self.tell():
                    async with asyncio.timeout(LOOK_S):
                        await self._news.wait()
            except (StoreAway, TimeoutError):
                pass
            self._news.clear()
            await asyncio.sleep(REST_S)

    async def tell(self) -> bool:
        """Tell some boxes; whether there were any."""
        gateways = await self._store.read(partial(risks.due, now_us=self._now_us(), most=AT_ONCE))
        if not gateways:
            return False
        for row in await self._store.write(partial(self._make, gateways=gateways)):
            await self._announce(row)
        return True

    def _make(self, db: Connection, gateways: list[str]) -> list[BoxRow]:
        rows = [registry.box_of(db, gateway) for gateway in gateways]
        for row in rows:
            self._press.seal_anywhere(db, row, self._now_us())
        return rows
