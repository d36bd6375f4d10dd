"""From the ledger to the broker: reads what the outbox names, seals it and publishes it.

Money has a thread of its own and never queues behind a backlog. The slow lanes are read and sealed by a thread that stands back
for everything else on the machine and rests twice as long as it has worked: a week of traffic may take a minute longer, a
redemption in the shop may not.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from cloud_bridge.envelope import MAX_BATCH_B, MAX_BATCH_ROWS, MAX_BATCH_UNPACKED_B, Header, seal_blocks
from cloud_bridge.outbox import Outbox, Span
from gateway.clock import Clock
from gateway.errors import BrokerError
from gateway.events import Lane
from gateway.ledger import Block, Epoch, LedgerReader
from gateway.link import LedgerReaches

MONEY: Final = range(Lane.MONEY, Lane.MONEY + 1)
SLOW: Final = range(Lane.MONEY + 1, 256)
AT_REST_S: Final = 2.0  # how often a sender with nothing to send looks round
SHORTEST_WAIT_S: Final = 0.02
NICENESS: Final = 10  # of the thread that works off a backlog: about a tenth of a busy processor
REST_TIMES: Final = 2.0  # core has to follow too: each acknowledgement is judged, and what it covers is trimmed
LONGEST_REST_S: Final = 0.25
MAX_SECTIONS_B: Final = MAX_BATCH_UNPACKED_B // 2  # room for the header and for what columns unfold to


class Sealed(Struct, frozen=True):
    """A message, and the last row in it."""

    message: bytes
    upto: int


class Bench:
    """One thread that reads the ledger and seals; everything in it runs there."""

    def __init__(self, ledger: Path, gateway: str, key: Ed25519PrivateKey, clock: Clock, niceness: int) -> None:
        self._ledger = ledger
        self._gateway = gateway
        self._key = key
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "seal", initializer=_stand_back, initargs=(niceness,))
        self._reader: LedgerReader | None = None
        self._epochs: dict[int, Epoch] = {}

    async def seal(self, span: Span, notice: LedgerReaches) -> Sealed | None:
        """The message of a span, cut down to what one may hold; None if the rows are not there."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._seal, span, notice)

    async def epoch(self, number: int) -> Epoch:
        """An epoch of the ledger."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._epoch, number)

    def close(self) -> None:
        """Let the thread end; it is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _seal(self, span: Span, notice: LedgerReaches) -> Sealed | None:
        blocks = self._open().blocks(span.epoch, span.lane, span.after, span.upto, min(span.rows, MAX_BATCH_ROWS))
        while blocks:
            header = self._header(span, blocks, notice)
            message = seal_blocks(header, blocks, self._key)
            fits = len(message) <= MAX_BATCH_B and sum(len(block.section) for block in blocks) <= MAX_SECTIONS_B
            if fits or len(blocks) == 1:
                return Sealed(message, header.last)
            blocks = blocks[: len(blocks) // 2]
        return None

    def _header(self, span: Span, blocks: list[Block], notice: LedgerReaches) -> Header:
        epoch, current = self._epoch(span.epoch), self._epoch(notice.epoch)
        return Header(
            gateway=self._gateway, epoch=epoch.name, proven=notice.proven, parent=epoch.parent, parent_heads=epoch.parent_heads,
            lane=span.lane, first=blocks[0].first, last=blocks[-1].last, head=blocks[-1].head.hex(), current=current.name,
            last_seqs=notice.reach[notice.epoch], cursors=notice.cursors.get(notice.epoch, {}), sent_us=self._clock.now().wall_us,
            before=self._open().head_before(span.epoch, span.lane, blocks[0].first).hex(),
        )  # fmt: skip

    def _epoch(self, number: int) -> Epoch:
        if number not in self._epochs:
            self._epochs = {epoch.number: epoch for epoch in self._open().epochs()}
        return self._epochs[number]

    def _open(self) -> LedgerReader:
        if self._reader is None:
            self._reader = LedgerReader(self._ledger)
        return self._reader


class Way(Struct, frozen=True):
    """What a sender uses of the bridge."""

    outbox: Outbox
    notice: Callable[[], LedgerReaches | None]  # None: nothing may go now
    publish: Callable[[int, bytes], object]  # a message of a lane
    turned: Callable[[str], None]  # for the watchdog
    now_s: Callable[[], float]


class Sender:
    """Sends some lanes.

    Args:
        name: Of its loop, for the watchdog.
        rests: Whether it pauses after each message, twice as long as reading and sealing took.
    """

    def __init__(self, name: str, lanes: range, bench: Bench, way: Way, *, rests: bool) -> None:
        self._name = name
        self._lanes = lanes
        self._bench = bench
        self._way = way
        self._rests = rests
        self._stir = asyncio.Event()

    def stir(self) -> None:
        """Something was heard: there may be something to send."""
        self._stir.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: that of 3.11 may swallow a cancellation.
                async with asyncio.timeout(self._wait_s()):
                    await self._stir.wait()
            self._stir.clear()
            self._way.turned(self._name)
            while await self._send_one():
                self._way.turned(self._name)

    def _wait_s(self) -> float:
        wait_s = self._way.outbox.wait_s(self._way.now_s(), self._lanes)
        return AT_REST_S if wait_s is None else min(AT_REST_S, max(SHORTEST_WAIT_S, wait_s))

    async def _send_one(self) -> bool:
        """Whether to look again at once."""
        notice = self._way.notice()
        span = self._way.outbox.next(self._way.now_s(), self._lanes) if notice is not None else None
        if notice is None or span is None:
            return False
        began_s = time.monotonic()
        sealed = await self._bench.seal(span, notice)
        if sealed is None or self._way.notice() is None:
            return False
        try:
            self._way.publish(span.lane, sealed.message)
        except BrokerError:
            return False  # the next connection says what to send again
        self._way.outbox.sent(span, sealed.upto, len(sealed.message), self._way.now_s())
        if self._rests:
            await asyncio.sleep(min(LONGEST_REST_S, REST_TIMES * (time.monotonic() - began_s)))
        return True


def _stand_back(niceness: int) -> None:
    if niceness:
        with contextlib.suppress(OSError):  # a sandbox may forbid it: then it is merely less considerate
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
