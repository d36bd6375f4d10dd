"""The one unix socket between core and its drivers.

Up: a driver states an event; core answers after COMMIT; what is not answered is stated again on the next connection under
the same id, so an event counts once. Down: a command goes at most once, is never queued over a reconnect, and carries its
intent id and a deadline on CLOCK_BOOTTIME; the driver refuses late and seen ones. A notice is a state ("the ledger reaches
here"), repeated on every connection, and only the latest matters.

A frame is a 4-byte big-endian length and a JSON object tagged by its type, at most 256 kB.
"""

import asyncio
import contextlib
import logging
import secrets
import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from gateway.clock import Clock
from gateway.errors import DeviceError, MalformedFrame
from gateway.events import Command, Stated

log = logging.getLogger(__name__)

MAX_FRAME_B: Final = 262_144
MAX_UNANSWERED: Final = 10_000  # events a driver keeps while core is away; the oldest traffic is then dropped and counted
MAX_DEADLINE_NS: Final = 3_000_000_000  # no command lives longer (DESIGN section 1)
SEEN_INTENTS: Final = 4_096
LENGTH: Final = struct.Struct(">I")


class Hello(Struct, frozen=True, tag=True):
    """A driver says who it is; `unit` is its name in the configuration, such as `locker@wall`."""

    unit: str


class State(Struct, frozen=True, tag=True):
    """A driver states an event."""

    id: str
    event: Stated


class Answered(Struct, frozen=True, tag=True):
    """Core has committed the event, or refused it for good; `answer` is JSON for whoever presented something."""

    id: str
    answer: bytes = b""


class Order(Struct, frozen=True, tag=True):
    """Core commands, once, until the deadline (CLOCK_BOOTTIME, ns)."""

    intent_id: str
    deadline_ns: int
    command: Command


class ClaimWanted(Struct, frozen=True):
    """A voucher that headquarters is to be asked for, until it has answered."""

    claim_id: str
    voucher_id: str
    units: int


class LedgerReaches(Struct, frozen=True, tag=True):
    """How far the bridge may read: the rows that an fsync has covered, by epoch number and lane.

    `cursors` is how far HQ has acknowledged; rows at or below it need not be sent. `proven` says whether the current epoch was
    admitted, or is of a ledger HQ has yet to hear of: HQ is told in every beat and every batch.
    """

    epoch: int
    reach: dict[int, dict[int, int]]  # epoch number to lane to last committed seq
    cursors: dict[int, dict[int, int]]
    proven: bool = True
    claims: list[ClaimWanted] = field(default_factory=list)


Notice = LedgerReaches
Upward = Hello | State
Downward = Answered | Order | LedgerReaches

_encoder = msgspec.json.Encoder()
_upward: msgspec.json.Decoder[Upward] = msgspec.json.Decoder(Upward)
_downward: msgspec.json.Decoder[Downward] = msgspec.json.Decoder(Downward)


def pack(frame: Upward | Downward) -> bytes:
    """The bytes of a frame, length first.

    Raises:
        MalformedFrame: Larger than a frame may be.
    """
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME_B:
        raise MalformedFrame(f"a frame of {len(body)} bytes is over {MAX_FRAME_B}", "Spool large things as files")
    return LENGTH.pack(len(body)) + body


async def read_body(reader: asyncio.StreamReader) -> bytes | None:
    """The next frame's JSON; None at a clean or torn end of the stream.

    Raises:
        MalformedFrame: The peer announces more than a frame may hold.
    """
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if length > MAX_FRAME_B:
            raise MalformedFrame(f"a peer announced a frame of {length} bytes", "Check that both ends run the same release")
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _decode_upward(body: bytes) -> Upward:
    try:
        return _upward.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedFrame(f"not a frame of the link: {error}") from error


class LinkServer:
    """Core's end.

    Args:
        path: The socket; made with mode 0660 so that only the store's group reaches it.
        decide: Called for each event in the order of arrival. It decides at once and returns an awaitable that is done after
            COMMIT and gives the bytes to answer with.
        joined: Called when a unit connects or leaves.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        decide: Callable[[str, str, Stated], Awaitable[bytes]],
        joined: Callable[[str, bool], None],
    ) -> None:
        self._path = path
        self._clock = clock
        self._decide = decide
        self._joined = joined
        self._peers: dict[str, asyncio.StreamWriter] = {}
        self._notices: dict[str, Notice] = {}

    async def serve(self) -> None:
        """Accept drivers until cancelled."""
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._meet, self._path, limit=MAX_FRAME_B + LENGTH.size)
        self._path.chmod(0o660)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            for writer in list(self._peers.values()):  # before close: on 3.12 wait_closed waits for live peers
                writer.close()
            server.close()

    def connected(self, unit: str) -> bool:
        """Whether a command to this unit could be sent now."""
        writer = self._peers.get(unit)
        return writer is not None and not writer.is_closing()

    def order(self, unit: str, intent_id: str, command: Command, within_ns: int = MAX_DEADLINE_NS) -> None:
        """Send a command now or never; the driver refuses it after `within_ns`.

        Raises:
            DeviceError: The unit is not connected: nothing was sent and nothing will be.
        """
        writer = self._peers.get(unit)
        if writer is None or writer.is_closing():
            raise DeviceError(f"{unit} is not connected", "Wait until its process is back; `store-gateway status` shows it")
        writer.write(pack(Order(intent_id, self._clock.boottime_ns() + min(within_ns, MAX_DEADLINE_NS), command)))

    def tell(self, unit: str, notice: Notice) -> None:
        """Give a unit the latest state; it is repeated when the unit comes back."""
        self._notices[unit] = notice
        writer = self._peers.get(unit)
        if writer is not None:
            writer.write(pack(notice))

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unit = ""
        try:
            async with asyncio.TaskGroup() as answers:
                try:
                    while (body := await read_body(reader)) is not None:
                        frame = _decode_upward(body)
                        if isinstance(frame, Hello):
                            if unit or not frame.unit:
                                raise MalformedFrame("a peer introduced itself twice, or as nobody")
                            unit = self._welcome(frame, writer)
                        elif unit:
                            committed = self._decide(unit, frame.id, frame.event)
                            answers.create_task(self._answer(writer, frame.id, committed))
                finally:
                    self._part(unit, writer)  # before its last answers: no command goes to who has left
        except* MalformedFrame:
            pass  # the peer is cut off; it connects again and states what was not answered
        finally:
            writer.close()

    def _part(self, unit: str, writer: asyncio.StreamWriter) -> None:
        if self._peers.get(unit) is writer:
            del self._peers[unit]
            self._joined(unit, False)

    def _welcome(self, hello: Hello, writer: asyncio.StreamWriter) -> str:
        previous = self._peers.get(hello.unit)
        if previous is not None:
            previous.close()
        self._peers[hello.unit] = writer
        if hello.unit in self._notices:
            writer.write(pack(self._notices[hello.unit]))
        self._joined(hello.unit, True)
        return hello.unit

    async def _answer(self, writer: asyncio.StreamWriter, event_id: str, committed: Awaitable[bytes]) -> None:
        answer = await committed
        with contextlib.suppress(ConnectionError):
            writer.write(pack(Answered(event_id, answer)))
            await writer.drain()


class LinkClient:
    """A driver's end: keeps what core has not answered and states it again after every reconnect."""

    def __init__(self, path: Path, unit: str, clock: Clock) -> None:
        self._path = path
        self._unit = unit
        self._clock = clock
        self._unanswered: OrderedDict[str, Stated] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._obey: Callable[[str, Command, int], None] | None = None
        self._heed: Callable[[Notice], None] | None = None
        self._greet: Callable[[], None] | None = None
        self.dropped = 0

    def on_command(self, obey: Callable[[str, Command, int], None]) -> None:
        """Have `obey(intent_id, command, deadline_ns)` called for each command that is neither late nor seen."""
        self._obey = obey

    def on_notice(self, heed: Callable[[Notice], None]) -> None:
        """Have `heed(notice)` called with each latest state."""
        self._heed = heed

    def on_connect(self, greet: Callable[[], None]) -> None:
        """Have `greet()` called on each connection, after old events are stated again: the place for a snapshot."""
        self._greet = greet

    @property
    def connected(self) -> bool:
        """Whether core is there."""
        return self._writer is not None

    @property
    def unanswered(self) -> int:
        """How many events core has not answered yet."""
        return len(self._unanswered)

    def state(self, event: Stated, event_id: str | None = None) -> "asyncio.Future[bytes]":
        """State an event; the future gives core's answer, after its commit, however long core is away.

        Raises:
            MalformedFrame: Larger than a frame may be; nothing was stated.
        """
        event_id = event_id or secrets.token_hex(16)
        if event_id in self._waiting:
            return self._waiting[event_id]
        frame = pack(State(event_id, event))
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if len(self._unanswered) >= MAX_UNANSWERED:
            oldest, _ = self._unanswered.popitem(last=False)
            self._waiting.pop(oldest).cancel()
            self.dropped += 1
        self._unanswered[event_id] = event
        self._waiting[event_id] = future
        if self._writer is not None:
            self._writer.write(frame)
        return future

    async def run(self) -> None:
        """Stay connected until cancelled; core's absence is waited out, 50 ms to 1 s at a time."""
        pause_s = 0.05
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_FRAME_B + LENGTH.size)
            except OSError:
                await asyncio.sleep(pause_s)
                pause_s = min(1.0, pause_s * 2)
                continue
            pause_s = 0.05
            try:
                self._introduce(writer)
                await self._listen(reader)
            except MalformedFrame as error:
                log.warning("the link is cut: %s", error)  # what core has not answered must outlive it
                pause_s = 1.0
            finally:
                self._writer = None
                writer.close()
            await asyncio.sleep(pause_s)

    def _introduce(self, writer: asyncio.StreamWriter) -> None:
        writer.write(pack(Hello(self._unit)))
        for event_id, event in self._unanswered.items():
            writer.write(pack(State(event_id, event)))
        self._writer = writer
        if self._greet is not None:
            self._greet()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while (body := await read_body(reader)) is not None:
            try:
                frame = _downward.decode(body)
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise MalformedFrame(f"core sent no frame of the link: {error}") from error
            if isinstance(frame, Answered):
                self._settle(frame)
            elif isinstance(frame, Order):
                self._take(frame)
            elif self._heed is not None:
                self._heed(frame)

    def _settle(self, frame: Answered) -> None:
        self._unanswered.pop(frame.id, None)
        future = self._waiting.pop(frame.id, None)
        if future is not None and not future.done():
            future.set_result(frame.answer)

    def _take(self, order: Order) -> None:
        if order.intent_id in self._seen or self._clock.boottime_ns() > order.deadline_ns:
            return  # core's own deadline settles the intent; a refused command moves nothing
        self._seen[order.intent_id] = None
        if len(self._seen) > SEEN_INTENTS:
            self._seen.popitem(last=False)
        if self._obey is not None:
            self._obey(order.intent_id, order.command, order.deadline_ns)
