"""The loop of one lock bus: watches doors, states edges, pulses when told. It knows no business.

Rules:

1. A read is believed when it equals the read before it. Only a believed read makes an edge or a snapshot.
2. A pulse is sent at most once for its intent, never repeated, never after its time, never on a bus that is down,
   and never by the driver's own will: a restarted driver only looks.
3. An opening carries the intent of a pulse of the same compartment at most 3 s before; else none: it was forced.
   A closing carries the intent of the opening that it ends.
4. A lost bus makes no edges. What changed meanwhile is in the snapshot that follows its return.
5. Every connection to core gets a snapshot as soon as the sensors can be read, or hears again that they cannot.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.clock import Clock
from gateway.errors import DeviceError
from gateway.events import BankSnapshotTaken, Command, CommandAnswered, DeviceChanged, DoorEdgeSensed, DoorState, Instant
from gateway.link import LinkClient
from gateway.locker.board import Board

log = logging.getLogger(__name__)

EXPLAINED_NS: Final = 3_000_000_000  # an opening later than this after its pulse is somebody else's doing
SILENT_NS: Final = 2_000_000_000  # no intact read for so long: the bus is down
AT_REST: Final = 4  # times longer between two looks while every door is closed and no pulse is fresh
AT_REST_S: Final = 0.4  # and never longer than this, so that a forced door is seen within half a second
AGAIN_S: Final = 0.01  # before a read that confirms or replaces the last one
BACKOFF_S: Final = (0.1, 1.0)  # first and longest pause between two tries to reach a bus that is down


class SteadyDoors:
    """What is believed of the doors: what two reads in a row agree on."""

    def __init__(self) -> None:
        self._last: dict[int, DoorState] | None = None
        self._since: Instant | None = None
        self.known: dict[int, DoorState] | None = None

    def see(self, doors: dict[int, DoorState], now: Instant) -> "Sight | None":
        """Take a read; None while it still stands alone."""
        if self._since is None or doors != self._last:
            self._last, self._since = doors, now
            return None
        before, self.known = self.known, doors
        if before is None:
            return Sight({}, self._since)
        return Sight({n: door for n, door in doors.items() if before[n] != door}, self._since)

    def forget(self) -> None:
        """The bus is lost: nothing is believed any more."""
        self._last = self._since = self.known = None


@dataclass(frozen=True)
class Sight:
    """A believed read."""

    changed: dict[int, DoorState]
    since: Instant  # of the first of the equal reads


@dataclass(frozen=True)
class Waiting:
    """A command that has not been carried out yet."""

    intent_id: str
    compartment: int
    until_ns: int


@dataclass(frozen=True)
class Pulse:
    """A pulse that may explain an opening."""

    intent_id: str
    sent_ns: int


class LockerDriver:
    """One bank of doors.

    Args:
        board: The board; opened and closed here.
        bank: Name of the locker instance.
        compartments: How many doors the bank has.
        poll_ms: Pause between two looks at the sensors while a door is open or was just unlocked.
        link: The way to core; this driver takes its commands and greets its connections.
        looked: Called after each look at the board, whether it answered or not.
    """

    def __init__(
        self,
        board: Board,
        bank: str,
        compartments: int,
        poll_ms: int,
        link: LinkClient,
        clock: Clock,
        looked: Callable[[], None] = lambda: None,
    ) -> None:
        self._board = board
        self._bank = bank
        self._compartments = compartments
        self._poll_s = poll_ms / 1000
        self._looked = looked
        self._link = link
        self._clock = clock
        self._doors = SteadyDoors()
        self._waiting: deque[Waiting] = deque()
        self._pulses: dict[int, Pulse] = {}  # by compartment; the latest explains an opening
        self._opened_by: dict[int, str | None] = {}  # open compartments and their intents
        self._wake = asyncio.Event()
        self._device_state = ""
        self._device_told: asyncio.Future[bytes] | None = None
        self._down_because = ""
        self._snapshot_due = True
        self._heard_ns = clock.boottime_ns()
        self._backoff_s = BACKOFF_S[0]
        link.on_command(self._take)
        link.on_connect(self._greet)

    async def run(self) -> None:
        """Watch and obey until cancelled."""
        try:
            while True:
                while self._waiting:
                    await self._carry_out(self._waiting.popleft())
                pause_s = await self._look()
                self._looked()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            await self._board.close()

    # ------------------------------------------------------------ commands

    def _take(self, intent_id: str, command: Command, deadline_ns: int) -> None:
        if command.bank != self._bank or not 1 <= command.compartment <= self._compartments:
            self._answer(intent_id, "failed", f"there is no compartment {command.compartment} of {command.bank} here")
            return
        self._waiting.append(Waiting(intent_id, command.compartment, deadline_ns))
        self._wake.set()

    async def _carry_out(self, waiting: Waiting) -> None:
        now_ns = self._clock.boottime_ns()
        if self._device_state != "up":
            self._answer(waiting.intent_id, "failed", self._down_because or "the board has not answered yet")
            return
        if now_ns > waiting.until_ns:
            self._answer(waiting.intent_id, "late", "its deadline passed while it waited behind the bus")
            return
        # Before the write: a write that fails half-way may still have moved the lock.
        self._pulses[waiting.compartment] = Pulse(waiting.intent_id, now_ns)
        try:
            await self._board.unlock(waiting.compartment)
        except DeviceError as error:
            self._answer(waiting.intent_id, "failed", str(error))
            return
        self._answer(waiting.intent_id, "pulsed", "")

    def _answer(self, intent_id: str, outcome: str, detail: str) -> None:
        self._link.state(CommandAnswered(intent_id, outcome, detail, self._clock.now()))

    # ------------------------------------------------------------ sensors

    async def _look(self) -> float:
        """Read the sensors once; gives the pause before the next read."""
        try:
            doors = await self._board.read_doors()
        except DeviceError as error:
            return await self._missed(str(error))
        now = self._clock.now()
        self._heard_ns = now.mono_ns
        sight = self._doors.see(doors, now)
        if sight is None:
            return AGAIN_S
        self._backoff_s = BACKOFF_S[0]
        if self._device_state != "up":
            self._come_up()
        for compartment, door in sight.changed.items():
            self._edge(compartment, door, sight.since)
        if self._snapshot_due:
            self._snapshot_due = False
            self._link.state(BankSnapshotTaken(self._bank, doors, now))
        return self._pause_s(doors, now.mono_ns)

    def _pause_s(self, doors: dict[int, DoorState], now_ns: int) -> float:
        """Until the next look: a shop whose doors are all closed needs few of them."""
        stirring = any(now_ns - pulse.sent_ns <= EXPLAINED_NS for pulse in self._pulses.values())
        if stirring or DoorState.OPEN in doors.values():
            return self._poll_s
        return max(self._poll_s, min(AT_REST_S, self._poll_s * AT_REST))

    async def _missed(self, reason: str) -> float:
        if self._board.connected and self._clock.boottime_ns() - self._heard_ns < SILENT_NS:
            return AGAIN_S
        if self._device_state != "down":
            log.warning("bank %s is lost: %s", self._bank, reason)
            self._down_because = reason
            self._change_device("down", reason)
        self._doors.forget()
        await self._board.close()
        pause_s, self._backoff_s = self._backoff_s, min(BACKOFF_S[1], self._backoff_s * 2)
        return pause_s

    def _come_up(self) -> None:
        log.info("bank %s answers", self._bank)
        self._change_device("up", "")
        self._snapshot_due = True
        known = self._doors.known or {}
        # Still open after a gap: most likely the same opening. Closed meanwhile: its end was not sensed here.
        self._opened_by = {n: intent for n, intent in self._opened_by.items() if known.get(n) is DoorState.OPEN}

    def _edge(self, compartment: int, door: DoorState, since: Instant) -> None:
        if door is DoorState.OPEN:
            intent_id = self._opened_by[compartment] = self._explain(compartment, since)
        else:
            intent_id = self._opened_by.pop(compartment, None)
        self._link.state(DoorEdgeSensed(self._bank, compartment, door, intent_id, since))

    def _explain(self, compartment: int, since: Instant) -> str | None:
        pulse = self._pulses.get(compartment)
        if pulse is None or not 0 <= since.mono_ns - pulse.sent_ns <= EXPLAINED_NS:
            return None
        del self._pulses[compartment]  # one pulse explains one opening
        return pulse.intent_id

    # ------------------------------------------------------------ core

    def _change_device(self, device_state: str, detail: str) -> None:
        self._device_state = device_state
        self._device_told = self._link.state(DeviceChanged(f"locker@{self._bank}", device_state, detail, self._clock.now()))

    def _greet(self) -> None:
        self._snapshot_due = True
        # What core has not answered, the link states again by itself.
        if self._device_state == "down" and self._device_told is not None and self._device_told.done():
            self._change_device("down", self._down_because)
        self._wake.set()
