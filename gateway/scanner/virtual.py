"""A camera that sees what it is told: noisy, blurred, tilted, unevenly lit frames of 640x480.

It is ordered about through a unix socket, `camera-NAME.ctl` in the box's folder of sockets: one JSON object a line, each
answered with one JSON line, `{"ok": true, …}` or `{"ok": false, "error": …}`::

    {"do": "show", "text": …, "seconds": 2.5}      draw the text as a QR code, as it is, garbled or not
    {"do": "show_image", "png": base64, "seconds": 2.5}
    {"do": "clear"}       take everything away, what is still queued too
    {"do": "unplug"}      frames end, the device cannot be opened
    {"do": "freeze"}      the last frame for ever
    {"do": "plug"}        whole again
    {"do": "state"}

Shows queue up, with `GAP_S` of bare background between two, so that each is a presentation of its own.
"""

import asyncio
import base64
import binascii
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import segno
from numpy.typing import NDArray

from gateway.clock import Clock
from gateway.errors import DeviceError, MalformedFrame
from gateway.scanner import camera
from gateway.scanner.decode import Gray

WIDTH: Final = 640
HEIGHT: Final = 480
NS_PER_S: Final = 1_000_000_000
SHOW_S: Final = 2.5
MAX_SHOW_S: Final = 3600.0
GAP_S: Final = 1.6  # above what `dedupe` takes for gone, with three looks to spare at 5 fps
ENTER_S: Final = 0.3  # in and out of the picture by hand
SQUARE_PX: Final = 400.0  # a code is held so near that it fills the picture, no nearer; of a bar code that is its breadth
WIDE_PX: Final = 580.0
MAX_QUEUED: Final = 1000
MAX_LINE_B: Final = 16 * 1024 * 1024
PAPER: Final = 235
INK: Final = 25
NOISE_FRAMES: Final = 7


@dataclass(slots=True)
class _Show:
    patch: Gray
    side_px: float  # of the longer side in the frame
    seconds: float
    begun_ns: int = 0


@dataclass(slots=True)
class _Pose:
    """How one show is held and lit."""

    corners: NDArray[np.float32]
    entry: NDArray[np.float32]  # offset from where the hand comes
    sway: NDArray[np.float32]  # px, amplitude
    pace_hz: float
    blur_px: float
    light: NDArray[np.float32]


class VirtualCamera:
    """A `FrameSource` and its faults; orders may come from any thread."""

    def __init__(self, frames_per_s: float, seed: int, clock: Clock) -> None:
        self._period_ns = int(NS_PER_S / frames_per_s)
        self._clock = clock
        self._random = np.random.default_rng(seed or None)
        self._lock = threading.Lock()
        self._queue: deque[_Show] = deque()
        self._showing: _Show | None = None
        self._pose: _Pose | None = None
        self._shown = 0
        self._free_ns = 0  # no show begins before
        self._due_ns = 0
        self._plugged = True
        self._frozen = False
        self._scene, self._noise = self._wall()
        self._idle = [_noisy(self._scene, noise) for noise in self._noise]
        self._last = self._idle[0]
        self._turn = 0

    # ------------------------------------------------------------ as a frame source

    def open(self) -> None:
        if not self._plugged:
            raise DeviceError("the virtual camera is unplugged", 'Send it {"do": "plug"}')

    def grab(self) -> Gray:
        now_ns = self._clock.boottime_ns()
        if now_ns < self._due_ns:
            time.sleep((self._due_ns - now_ns) / NS_PER_S)
            now_ns = self._clock.boottime_ns()
        self._due_ns = max(self._due_ns + self._period_ns, now_ns)
        with self._lock:
            self.open()
            self._advance(now_ns)
            if not self._frozen:
                self._last = self._draw(now_ns)
            return self._last

    def close(self) -> None:
        """Nothing is held."""

    # ------------------------------------------------------------ orders

    def obey(self, order: Any) -> dict[str, Any]:
        """Carry out one order. Total: whatever it is not able to do it answers with `ok` false."""
        try:
            return {"ok": True, **self._carry_out(order)}
        except (MalformedFrame, segno.DataOverflowError, UnicodeEncodeError) as error:
            return {"ok": False, "error": str(error)}

    def _carry_out(self, order: Any) -> dict[str, Any]:
        if not isinstance(order, dict):
            raise MalformedFrame("an order is a JSON object")
        orders: dict[str, Callable[[], None]] = {
            "show": lambda: self._enqueue(_qr_patch(_text_of(order)), order),
            "show_image": lambda: self._enqueue(camera.picture(_png_of(order)), order),
            "clear": self._clear,
            "unplug": lambda: self._set_faults(plugged=False, frozen=False),
            "freeze": lambda: self._set_faults(plugged=True, frozen=True),
            "plug": lambda: self._set_faults(plugged=True, frozen=False),
            "state": lambda: None,
        }
        act = orders.get(str(order.get("do")))
        if act is None:
            raise MalformedFrame("nobody knows this order", f"Known: {', '.join(orders)}")
        act()
        return self._state()

    def _enqueue(self, patch: Gray, order: dict[str, Any]) -> None:
        seconds = order.get("seconds", SHOW_S)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MAX_SHOW_S:
            raise MalformedFrame("`seconds` is not a time", f"A number up to {MAX_SHOW_S:g}")
        with self._lock:
            if len(self._queue) >= MAX_QUEUED:
                raise MalformedFrame("too many shows are waiting", "Wait until some have been shown")
            modules = max(patch.shape) / 8
            nearest_px = WIDE_PX if patch.shape[1] > 1.5 * patch.shape[0] else SQUARE_PX
            side_px = min(nearest_px, modules * float(self._random.uniform(5.0, 6.5)))
            self._queue.append(_Show(patch, side_px, float(seconds)))

    def _clear(self) -> None:
        with self._lock:
            self._queue.clear()
            self._put_away(self._clock.boottime_ns())

    def _set_faults(self, *, plugged: bool, frozen: bool) -> None:
        with self._lock:
            self._plugged, self._frozen = plugged, frozen

    def _state(self) -> dict[str, Any]:
        with self._lock:
            return {
                "plugged": self._plugged,
                "frozen": self._frozen,
                "showing": self._showing is not None,
                "queued": len(self._queue),
                "shown": self._shown,
            }

    # ------------------------------------------------------------ the scene

    def _wall(self) -> tuple[Gray, list[NDArray[np.int16]]]:
        """A tiled wall and some frames of sensor noise; drawing noise anew for each frame would cost more than reading it."""
        tiles = self._random.integers(70, 150, (HEIGHT // 32, WIDTH // 32))
        scene = np.kron(tiles, np.ones((32, 32))).astype(np.uint8)
        sigma = float(self._random.uniform(3.0, 7.0))
        noise = [np.rint(self._random.standard_normal((HEIGHT, WIDTH)) * sigma).astype(np.int16) for _ in range(NOISE_FRAMES)]
        return scene, noise

    def _advance(self, now_ns: int) -> None:
        if self._showing is not None and now_ns >= self._showing.begun_ns + self._showing.seconds * NS_PER_S:
            self._put_away(now_ns)
        if self._showing is None and self._queue and now_ns >= self._free_ns:
            self._showing = self._queue.popleft()
            self._showing.begun_ns = now_ns
            self._pose = self._pick_pose(self._showing)

    def _put_away(self, now_ns: int) -> None:
        if self._showing is not None:
            self._shown += 1
            self._free_ns = now_ns + int(GAP_S * NS_PER_S)
        self._showing = self._pose = None

    def _pick_pose(self, show: _Show) -> _Pose:
        uniform = self._random.uniform
        scale = show.side_px / max(show.patch.shape)
        half = np.array([show.patch.shape[1], show.patch.shape[0]]) * scale / 2
        angle = float(uniform(-0.35, 0.35))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
        tilt = uniform(-0.06, 0.06, (4, 2)) * show.side_px
        room = np.maximum(0, np.array([WIDTH, HEIGHT]) / 2 - np.abs(square @ turn.T + tilt).max(axis=0) - 8)
        centre = np.array([WIDTH, HEIGHT]) / 2 + uniform(-1, 1, 2) * room
        across = np.linspace(0, 1, WIDTH) * uniform(-0.35, 0.35)
        down = np.linspace(0, 1, HEIGHT)[:, None] * uniform(-0.35, 0.35)
        light = 1.0 + across + down
        return _Pose(
            corners=(square @ turn.T + tilt + centre).astype(np.float32),
            entry=np.array([uniform(-1, 1) * WIDTH / 2, HEIGHT], dtype=np.float32),
            sway=uniform(-8, 8, 2).astype(np.float32),
            pace_hz=float(uniform(0.3, 1.0)),
            blur_px=float(uniform(0.4, 1.2)),
            light=(light / max(1.0, float(light.max()))).astype(np.float32),
        )

    def _draw(self, now_ns: int) -> Gray:
        self._turn = (self._turn + int(self._random.integers(1, NOISE_FRAMES))) % NOISE_FRAMES  # never the same twice
        if self._showing is None or self._pose is None:
            return self._idle[self._turn]
        pose, show = self._pose, self._showing
        passed_s = (now_ns - show.begun_ns) / NS_PER_S
        hand = max(0.0, 1.0 - passed_s / ENTER_S, 1.0 - (show.seconds - passed_s) / ENTER_S)
        corners = pose.corners + hand * pose.entry + np.sin(2 * np.pi * pose.pace_hz * passed_s) * pose.sway
        seen = camera.compose(self._scene, show.patch, corners.astype(np.float32), pose.blur_px)
        return _noisy((seen * pose.light).astype(np.uint8), self._noise[self._turn])


def _noisy(scene: Gray, noise: NDArray[np.int16]) -> Gray:
    return np.asarray(np.clip(scene + noise, 0, 255), dtype=np.uint8)


def _text_of(order: dict[str, Any]) -> str:
    text = order.get("text")
    if not isinstance(text, str) or not text:
        raise MalformedFrame("`text` is missing", "What the code says")
    return text


def _png_of(order: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(order.get("png", ""), validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise MalformedFrame("`png` is not base64") from error


def _qr_patch(text: str) -> Gray:
    code = segno.make_qr(text if text.isascii() else text.encode(), error="m", boost_error=False)
    modules = np.array([list(row) for row in code.matrix_iter(scale=8, border=4)], dtype=np.uint8)
    return np.where(modules > 0, INK, PAPER).astype(np.uint8)


# ---------------------------------------------------------------- the control socket


async def serve_control(source: VirtualCamera, path: Path) -> None:
    """Take orders at `path` until cancelled."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = await asyncio.to_thread(source.obey, _parsed(line))  # drawing a code takes tens of ms
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError):
            pass  # a line beyond all measure, or a caller that left: it has seen its answer or will ask again
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(meet, path, limit=MAX_LINE_B)
    path.chmod(0o660)
    async with server:
        await server.serve_forever()


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


async def camera_control(path: Path, **order: Any) -> dict[str, Any]:
    """Send one order to the virtual camera at `path`, such as `do="show", text=…`, and return its answer.

    Raises:
        DeviceError: No virtual camera listens there.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE_B)
    except OSError as error:
        raise DeviceError(f"no virtual camera at {path}", "Start it with `store-gateway run scanner@NAME`") from error
    try:
        writer.write(json.dumps(order).encode() + b"\n")
        answer = json.loads(await reader.readline())
    except (ConnectionError, ValueError) as error:
        raise DeviceError(f"the virtual camera at {path} gave no answer", "It may have been stopped: send the order again") from error
    finally:
        writer.close()
    if not isinstance(answer, dict):
        raise DeviceError(f"the virtual camera at {path} gave no answer")
    return answer
