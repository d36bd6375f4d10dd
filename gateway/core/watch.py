"""Tells pages that something they show has changed: coalesced, so that a busy shop costs a page ten looks a second."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

MIN_PAUSE_S: Final = 0.1


class Watch:
    """One page's ear. Iterating yields once at the start and then once for each bundle of changes."""

    def __init__(self, ears: "set[asyncio.Event]") -> None:
        self._ears = ears
        self._changed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[None]:
        self._ears.add(self._changed)
        try:
            while True:
                self._changed.clear()
                yield
                await self._changed.wait()
                await asyncio.sleep(MIN_PAUSE_S)
        finally:
            self._ears.discard(self._changed)


class Changes:
    """Everybody's ears."""

    def __init__(self) -> None:
        self._ears: set[asyncio.Event] = set()

    def tell(self) -> None:
        """Something shown has changed."""
        for ear in self._ears:
            ear.set()

    def watch(self) -> Watch:
        """A new ear."""
        return Watch(self._ears)
