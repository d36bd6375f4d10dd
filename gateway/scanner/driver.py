"""The scanner process: what a camera or a hand-held scanner sees becomes `CodePresented`, once for each time it is shown.

::

    FrameSource --grab thread--> newest frame --decode thread--> Presence --> LinkClient
    ScanSource  ---------------------------------------------------------------^

Frames in which nothing moved end on the grab thread: a box at rest mostly pays for threads that wake. At most three frames are
alive: one being grabbed, one waiting, one being decoded. When decoding is slower than the camera the waiting frame is replaced:
frames may be lost, stated codes never, for the link keeps them until core has answered. The event's id is the presentation id,
so a repeat is the same event.

Only this module knows the loop; OpenCV is loaded when the source is a camera, since a hand-held scanner's process needs none.
"""

import asyncio
import functools
import logging
import secrets
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.clock import Clock
from gateway.codes import MAX_PAYLOAD_B
from gateway.config import GatewayConfig, ScannerTable
from gateway.errors import ConfigError, DeviceError
from gateway.events import CodePresented, DeviceChanged
from gateway.health import Watchdog
from gateway.link import LinkClient
from gateway.scanner.dedupe import Presence

if TYPE_CHECKING:
    from gateway.scanner.camera import FrameSource
    from gateway.scanner.decode import Gray, Reading
    from gateway.scanner.handheld import ScanSource

NS_PER_S: Final = 1_000_000_000
FIRST_PAUSE_S: Final = 0.25  # a USB device that resets is back within half a second
LONGEST_PAUSE_S: Final = 5.0
BLIND_S: Final = 2.0  # without frames for longer, whatever lies there afterwards may be a new one: better twice than not at all
REOPEN_FROZEN_S: Final = 30.0  # some frozen cameras wake when they are opened anew

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


async def run(config: GatewayConfig, name: str, clock: Clock) -> None:
    """Drive scanner `name` of the configuration until cancelled.

    Raises:
        ConfigError: No such scanner, or a source nobody knows.
    """
    table = config.scanner(name)
    link = LinkClient(config.link_path, f"scanner@{name}", clock)
    desk = Desk(link, f"scanner@{name}", clock)
    # A hand-held scanner speaks when it is used: the event loop itself waits at its descriptor, so a turn of it is a look.
    watchdog = Watchdog("camera") if _is_camera(table) else Watchdog()
    jobs = _jobs(table, desk, clock, config.link_path.with_name(f"camera-{name}.ctl"), lambda: watchdog.turned("camera"))
    async with asyncio.TaskGroup() as tasks:
        for job in [link.run(), *jobs, watchdog.run()]:
            tasks.create_task(job)


def _is_camera(table: ScannerTable) -> bool:
    return table.source.partition(":")[0] in ("virtual", "v4l2", "frames")


def _jobs(table: ScannerTable, desk: "Desk", clock: Clock, control: Path, looked: Callable[[], None]) -> list[Coroutine[None, None, None]]:
    kind, _, device = table.source.partition(":")
    if kind == "virtual":
        from gateway.scanner import virtual

        camera = virtual.VirtualCamera(table.frames_per_s, table.seed, clock)
        return [virtual.serve_control(camera, control), CameraWatch(camera, desk, clock, looked).run()]
    if kind == "v4l2" and device:
        from gateway.scanner.camera import V4L2Camera

        return [CameraWatch(V4L2Camera(device, table.frames_per_s, clock), desk, clock, looked).run()]
    if kind == "frames" and device:
        from gateway.scanner.frames import FrameSocket

        return [CameraWatch(FrameSocket(device, table.frames_per_s, clock), desk, clock, looked).run()]
    return [watch_handheld(_handheld(kind, device, clock), desk)]


def _handheld(kind: str, device: str, clock: Clock) -> "ScanSource":
    from gateway.scanner import handheld

    if device and kind == "evdev":
        return handheld.KeyboardScanner(device)
    if device and kind == "serial":
        return handheld.SerialScanner(device, clock)
    raise ConfigError(
        f"no scanner source is called `{kind}`", "Use `v4l2:DEVICE`, `frames:SOCKET`, `evdev:DEVICE`, `serial:DEVICE` or `virtual`"
    )


class Desk:
    """Where facts go out: codes, and how the device is, stated when it changes."""

    def __init__(self, link: LinkClient, read_point: str, clock: Clock) -> None:
        self._link = link
        self._read_point = read_point
        self._clock = clock
        self._device_state = ""

    def present(self, presentation_id: str, symbology_id: str, payload: bytes) -> None:
        """A code was shown."""
        self._link.state(CodePresented(self._read_point, presentation_id, symbology_id, payload), presentation_id)

    def device(self, state: str, detail: str = "") -> None:
        """The device is `up`, `down` or `degraded`."""
        if state == self._device_state:
            return
        self._device_state = state
        log.info("%s is %s %s", self._read_point, state, detail)
        self._link.state(DeviceChanged(self._read_point, state, detail, self._clock.now()))


async def watch_handheld(source: "ScanSource", desk: Desk) -> None:
    """State every scan until cancelled; a scanner that is away is waited for."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            async for scan in source.scans(lambda: desk.device("up")):
                pause_s = FIRST_PAUSE_S
                desk.present(secrets.token_hex(16), scan.symbology_id, scan.payload)
        except DeviceError as error:
            desk.device("down", str(error))
        await asyncio.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame that is worth a look."""

    gray: "Gray"
    at_ns: int
    frozen: bool
    blind: bool  # no frame came for so long before it that whatever is there may be a new one


class CameraWatch:
    """One camera: grabs in one thread, decodes in another, states from the loop.

    Args:
        looked: Called after each frame that was looked at, and after each try in vain to get one.
    """

    def __init__(self, source: "FrameSource", desk: Desk, clock: Clock, looked: Callable[[], None] = lambda: None) -> None:
        from gateway.scanner.camera import Eye, FrozenWatch

        self._source = source
        self._looked = looked
        self._desk = desk
        self._clock = clock
        self._eye = Eye()
        self._presence = Presence(lambda: secrets.token_hex(16))
        self._newest: Seen | None = None
        self._arrived = asyncio.Event()
        self._pause_s = FIRST_PAUSE_S
        self._frozen = FrozenWatch()
        self._seen_ns = 0  # the grab thread's: when the last frame came
        self._leaving = False
        self._grabbing = ThreadPoolExecutor(1, thread_name_prefix="grab")
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self.dropped_frames = 0

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._grab_for_ever())
                tasks.create_task(self._decode_for_ever())
        finally:
            self._leaving = True
            self._grabbing.submit(self._source.close)  # in its own thread, after the grab that may still be waiting there
            self._grabbing.shutdown(wait=False)
            self._decoding.shutdown(wait=False, cancel_futures=True)

    async def _grab_for_ever(self) -> None:
        while True:
            try:
                await self._in_thread(self._grabbing, self._source.open)
                await self._grab_while_there()
            except DeviceError as error:
                self._desk.device("down", str(error))
            await self._in_thread(self._grabbing, self._source.close)
            self._looked()
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)

    async def _grab_while_there(self) -> None:
        """Returns when the camera has been frozen for long, so that it is opened anew."""
        frozen_since_ns: int | None = None
        first = True
        while True:
            seen = await self._in_thread(self._grabbing, functools.partial(self._next_worth_a_look, first))
            first = seen.frozen
            if not seen.frozen:
                frozen_since_ns = None
                self._offer(seen)
                continue
            frozen_since_ns = frozen_since_ns or seen.at_ns
            self._looked()
            self._desk.device("degraded", "the picture is frozen")
            if seen.at_ns - frozen_since_ns > REOPEN_FROZEN_S * NS_PER_S:
                return

    def _next_worth_a_look(self, first: bool) -> "Seen":
        """On the grab thread: the next frame to look at, whatever it shows if it is the first of a device that is back."""
        blind = False
        while True:
            gray = self._source.grab()
            now_ns = self._clock.boottime_ns()
            if self._frozen.frozen(gray, now_ns):
                return Seen(gray, now_ns, frozen=True, blind=True)
            blind |= now_ns - self._seen_ns > BLIND_S * NS_PER_S
            self._seen_ns = now_ns
            if self._eye.wants(gray, now_ns) or first or self._leaving:
                return Seen(gray, now_ns, frozen=False, blind=blind)

    def _offer(self, seen: "Seen") -> None:
        self._desk.device("up")
        self._pause_s = FIRST_PAUSE_S
        if self._newest is not None:
            self.dropped_frames += 1
            seen = replace(seen, blind=seen.blind or self._newest.blind)
        self._newest = seen
        self._arrived.set()

    async def _decode_for_ever(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._newest is None:
                continue
            seen, self._newest = self._newest, None
            readings = await self._in_thread(self._decoding, functools.partial(self._eye.read, seen.gray, seen.at_ns))
            self._looked()
            if seen.blind:
                self._presence.clear()
            self._state_new(seen.at_ns, readings)

    def _state_new(self, now_ns: int, readings: "list[Reading]") -> None:
        unsure_first = sorted(readings, key=lambda reading: reading.confirmed)  # of two alike the believed one counts
        seen = {reading.payload: reading for reading in unsure_first if 0 < len(reading.payload) <= MAX_PAYLOAD_B}
        confirmed = {payload: reading.confirmed for payload, reading in seen.items()}
        for payload, presentation_id in self._presence.look(now_ns, confirmed):
            self._desk.present(presentation_id, seen[payload].symbology_id, payload)

    async def _in_thread(self, threads: ThreadPoolExecutor, act: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(threads, act)
