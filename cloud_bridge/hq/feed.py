"""Who is watching: hands each change to every open page and API client, and drops those too slow to keep up.

A watcher that falls behind is closed rather than waited for; a browser's EventSource comes back by itself and starts from
the present state.
"""

import asyncio
from typing import Final

from msgspec import Struct

from cloud_bridge.hq.store import StoredRow

MOST_WAITING: Final = 2_000  # rows a watcher may be behind
MOST_WATCHERS: Final = 64


class Change(Struct, frozen=True):
    """New rows, or, when there are none, another state of line, vouchers or orders."""

    rows: tuple[StoredRow, ...] = ()


class Watcher:
    """One open page."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Change | None] = asyncio.Queue(MOST_WAITING)
        self.dropped = False

    def offer(self, change: Change) -> None:
        """Hand over a change, or give the watcher up."""
        try:
            self._waiting.put_nowait(change)
        except asyncio.QueueFull:
            self.drop()

    def drop(self) -> None:
        """End `changes` after what is waiting."""
        self.dropped = True
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)

    async def next(self, timeout_s: float) -> Change | None:
        """The next change, several waiting ones joined; an empty one after `timeout_s`; None at the end."""
        try:
            async with asyncio.timeout(timeout_s):
                first = await self._waiting.get()
        except TimeoutError:
            return Change()
        if first is None:
            return None
        rows = list(first.rows)
        while not self._waiting.empty():
            more = self._waiting.get_nowait()
            if more is None:
                return None
            rows += more.rows
        return Change(tuple(rows))


class Feed:
    """Hands changes to watchers."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    @property
    def watched(self) -> bool:
        """Whether anybody would see a change."""
        return bool(self._watchers)

    def tell(self, change: Change) -> None:
        """Something changed. From the loop only."""
        for watcher in list(self._watchers):
            watcher.offer(change)

    def watch(self) -> Watcher | None:
        """A new watcher; None if there are too many already."""
        if len(self._watchers) >= MOST_WATCHERS:
            return None
        watcher = Watcher()
        self._watchers.add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """That page was closed."""
        self._watchers.discard(watcher)

    def close(self) -> None:
        """End every watcher."""
        for watcher in self._watchers:
            watcher.drop()
