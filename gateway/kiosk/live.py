"""What screens are told of changes: one watch on core, many server-sent-event streams.

Each stream sends the whole view when it has changed, never a difference, so a page that was away needs no history. A stream
that stays silent for `BEAT_S` sends a beat: the page calls core lost when beats stop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from fastapi.responses import StreamingResponse

if TYPE_CHECKING:
    from gateway.core.desk import Desk

BEAT_S: Final = 3.0  # the pages wait 10 s, so two lost beats are no alarm
RETRY_MS: Final = 1000  # how soon a browser connects again


class Changes:
    """Counts changes of anything shown and wakes whoever waits for the next."""

    def __init__(self) -> None:
        self.number = 0
        self.closed = False
        self._next = asyncio.Event()

    async def follow(self, desk: "Desk") -> None:
        """Listen to core until cancelled."""
        async for _ in desk.watch():
            self._tell()

    def close(self) -> None:
        """End every stream."""
        self.closed = True
        self._tell()

    async def after(self, number: int, timeout_s: float) -> int:
        """The number of the newest change, once it is not `number` any more or the time is up."""
        if number == self.number and not self.closed:
            waited_for = self._next
            try:
                async with asyncio.timeout(timeout_s):
                    await waited_for.wait()
            except TimeoutError:
                pass
        return self.number

    def _tell(self) -> None:
        self.number += 1
        awakened, self._next = self._next, asyncio.Event()
        awakened.set()


async def events(changes: Changes, view: Callable[[], bytes], still: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Server-sent events: the view now, then at each change, while the reader may still read."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    sent, number = b"", changes.number
    while not changes.closed and still():
        body = view()
        if body != sent:
            yield b"event: view\ndata: " + body + b"\n\n"
            sent = body
        before = number
        number = await changes.after(number, BEAT_S)
        if number == before:
            yield b"event: beat\ndata: {}\n\n"


def stream(changes: Changes, view: Callable[[], bytes], still: Callable[[], bool]) -> StreamingResponse:
    """The answer to an EventSource."""
    return StreamingResponse(events(changes, view, still), media_type="text/event-stream", headers={"cache-control": "no-store"})
