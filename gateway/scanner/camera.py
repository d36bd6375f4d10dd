"""Frames in, readings out, and little work while nothing happens.

A `FrameSource` blocks in `grab` and is only ever used from one thread. An `Eye` decides how hard to look at each frame:

- nothing moved of late: one quick look every 2 s; codes that lie there are checked every 0.5 s, in their own region only;
- something moved: a quick look at every frame, every second one thorough, once a second far up the ladder;
- a code was just seen: its region first (under 2 ms), the whole frame when the code is not there, and every fourth look.

Only the brightness is ever looked at. `MotionGate` compares thumbnails with their running mean, so that sensor noise averages
out and something pushed in slowly is still noticed.
"""

import os
from dataclasses import replace
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.clock import Clock
from gateway.errors import DeviceError, MalformedFrame
from gateway.scanner import decode
from gateway.scanner.decode import Gray, Reading

NS_PER_S: Final = 1_000_000_000
THUMBNAIL: Final = (160, 120)  # pixels; 16 sensor pixels average into one at 640x480
MOVED_LEVELS: Final = 10.0  # grey levels of 256; five sigmas of a dim shop's sensor noise after averaging
MOVED_SHARE: Final = 0.003  # of the thumbnail: a code that can be read covers at least 1 %
MEAN_WEIGHT: Final = 0.1  # of each new thumbnail: what rests for three seconds at 8 fps has become background
AWAKE_S: Final = 1.5  # how long after a movement every frame is looked at
REST_LOOK_S: Final = 0.5
IDLE_LOOK_S: Final = 2.0
DEEP_LOOK_S: Final = 1.0
DEEP_BUDGET_S: Final = 0.15  # CPU time; with a crowd before the camera all looks together take a fifth of a core at 8 fps
SETTLE_S: Final = 0.4  # how long a hand takes to bring a code: until then the whole ladder would climb in vain
THOROUGH_BUDGET_S: Final = 0.01  # CPU time after which no further rung begins: two rungs at 640x480
WHOLE_EVERY: Final = 4  # looks; a second code beside the first is seen within half a second
FROZEN_S: Final = 3.0  # a live sensor never gives the same bytes twice
DARK_LEVEL: Final = 4  # brightest pixel of a covered lens, where some sensors' noise reduction leaves nothing
PICTURE_SIDE: Final = 4096  # pixels; larger pictures are not put before a virtual camera
SELECT_TIMEOUT_S: Final = "2"  # OpenCV waits 10 s for a camera that has fallen silent


class FrameSource(Protocol):
    """Where frames come from; every method is called from one and the same thread."""

    def open(self) -> None:
        """Start the device. Raises DeviceError: it is not there."""

    def grab(self) -> Gray:
        """Wait for the next frame that is due. Raises DeviceError: the device has gone."""

    def close(self) -> None:
        """Let go of the device; harmless when it is not open."""


class V4L2Camera:
    """A USB camera, or with another backend anything OpenCV plays, such as a recorded file.

    Args:
        device: `/dev/video0`, better a stable name under `/dev/v4l/by-id`.
        frames_per_s: How many frames are handed out; those the camera makes beside them are let go undecoded.
    """

    def __init__(self, device: str, frames_per_s: float, clock: Clock, backend: int = cv2.CAP_V4L2) -> None:
        self._device = device
        self._period_ns = int(NS_PER_S / frames_per_s)
        self._clock = clock
        self._backend = backend
        self._capture: cv2.VideoCapture | None = None
        self._due_ns = 0

    def open(self) -> None:
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", SELECT_TIMEOUT_S)
        self.close()
        capture = cv2.VideoCapture(self._device, self._backend)
        if not capture.isOpened():
            capture.release()
            raise DeviceError(f"no camera at {self._device}", "Plug it in; `ls /dev/v4l/by-id` names those that are there")
        if self._backend == cv2.CAP_V4L2:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"YUYV"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, 640)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, 480)
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # brightness is the first plane: no conversion to pay for
        self._capture = capture

    def grab(self) -> Gray:
        if self._capture is None:
            raise DeviceError(f"the camera at {self._device} is not open")
        while True:
            if not self._capture.grab():
                raise DeviceError(f"the camera at {self._device} has gone", "Look at its cable")
            now_ns = self._clock.boottime_ns()
            if now_ns >= self._due_ns:
                self._due_ns = max(self._due_ns + self._period_ns, now_ns - self._period_ns)
                return self._retrieve(self._capture)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _retrieve(self, capture: cv2.VideoCapture) -> Gray:
        got, frame = capture.retrieve()
        if not got:
            raise DeviceError(f"the camera at {self._device} gave a broken frame", "Look at its cable")
        return brightness(frame)


def brightness(frame: NDArray[Any]) -> Gray:
    """The grey picture in a frame: grey, YUYV or BGR.

    Raises:
        DeviceError: Another layout; the camera speaks no format we asked for.
    """
    if frame.ndim == 2 and min(frame.shape) > 1:
        return np.ascontiguousarray(frame, dtype=np.uint8)
    if frame.ndim == 3 and frame.shape[2] == 2:
        return np.ascontiguousarray(frame[:, :, 0], dtype=np.uint8)
    if frame.ndim == 3 and frame.shape[2] == 3:
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
    raise DeviceError(f"a frame of shape {frame.shape}", "The camera must offer YUYV; `v4l2-ctl --list-formats` shows what it has")


def thumbnail(gray: Gray) -> Gray:
    """The frame in `THUMBNAIL` pixels, each the mean of its part. By halves as far as they go: OpenCV halves four times faster."""
    (wide, high), (high_px, wide_px) = THUMBNAIL, gray.shape
    while wide_px % 2 == high_px % 2 == 0 and wide_px >= 2 * wide and high_px >= 2 * high:
        wide_px, high_px = wide_px // 2, high_px // 2
        gray = np.asarray(cv2.resize(gray, (wide_px, high_px), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if (wide_px, high_px) == THUMBNAIL:
        return gray
    return np.asarray(cv2.resize(gray, THUMBNAIL, interpolation=cv2.INTER_AREA), dtype=np.uint8)


class MotionGate:
    """Says whether something moved since the last frames; 0.1 ms a frame."""

    def __init__(self) -> None:
        self._mean: NDArray[np.float32] | None = None

    def moved(self, gray: Gray) -> bool:
        """Take a frame. The first one has always moved."""
        small = np.asarray(thumbnail(gray), dtype=np.float32)
        mean, self._mean = self._mean, small
        if mean is None:
            return True
        difference = small - mean
        self._mean = mean + MEAN_WEIGHT * difference
        difference -= difference.mean()  # lamps that flicker and exposure that hunts move every pixel alike
        return int(np.count_nonzero(np.abs(difference) > MOVED_LEVELS)) > MOVED_SHARE * difference.size


class FrozenWatch:
    """Notices a device that repeats one picture: its wire is alive, its sensor is not."""

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None
        self._since_ns = 0

    def frozen(self, gray: Gray, now_ns: int) -> bool:
        """Take a frame; True once the same bytes have come for `FROZEN_S`."""
        sample = gray[::8, ::8].copy()
        same = self._last is not None and np.array_equal(sample, self._last) and int(sample.max()) > DARK_LEVEL
        if not same:
            self._last, self._since_ns = sample, now_ns
        return now_ns - self._since_ns >= FROZEN_S * NS_PER_S


class Eye:
    """Chooses where and how hard to look: `wants` on the thread that has the frames, `read` on the one that decodes."""

    def __init__(self) -> None:
        self._gate = MotionGate()
        self._region: tuple[int, int, int, int] | None = None  # left, top, right, bottom around what was read last
        self._expected: frozenset[bytes] = frozenset()
        self._awake_until_ns = 0
        self._next_rest_ns = 0
        self._next_deep_ns = 0
        self._looks = 0

    def look(self, gray: Gray, now_ns: int) -> list[Reading] | None:
        """What is in the frame; None when it was not worth a look, which proves nothing about what is there."""
        return self.read(gray, now_ns) if self.wants(gray, now_ns) else None

    def wants(self, gray: Gray, now_ns: int) -> bool:
        """Take a frame; whether it is worth a look. At rest most are not, and then no other thread need wake."""
        if self._gate.moved(gray):
            self._wake(now_ns)
        return now_ns < self._awake_until_ns or now_ns >= self._next_rest_ns

    def read(self, gray: Gray, now_ns: int) -> list[Reading]:
        """What is in a frame that was worth it."""
        awake = now_ns < self._awake_until_ns
        self._looks += 1
        readings = self._look_at_region(gray) or decode.read(gray, self._budget_s(now_ns, awake))
        self._remember(readings, gray)
        rest_s = REST_LOOK_S if readings else IDLE_LOOK_S
        self._next_rest_ns = now_ns + int(rest_s * NS_PER_S)
        return readings

    def _wake(self, now_ns: int) -> None:
        if now_ns >= self._awake_until_ns:
            self._next_deep_ns = now_ns + int(SETTLE_S * NS_PER_S)
        self._awake_until_ns = now_ns + int(AWAKE_S * NS_PER_S)

    def _budget_s(self, now_ns: int, awake: bool) -> float:
        if not awake:
            return THOROUGH_BUDGET_S if self._region else 0.0
        if now_ns >= self._next_deep_ns:
            self._next_deep_ns = now_ns + int(DEEP_LOOK_S * NS_PER_S)
            return DEEP_BUDGET_S
        return THOROUGH_BUDGET_S if self._looks % 2 else 0.0

    def _look_at_region(self, gray: Gray) -> list[Reading]:
        """What was there a moment ago, complete and confirmed, or nothing."""
        if self._region is None or self._looks % WHOLE_EVERY == 0:
            return []
        left, top, right, bottom = self._region
        found = decode.read(gray[top:bottom, left:right], 0.0)
        if not self._expected <= {reading.payload for reading in found if reading.confirmed}:
            return []
        return [replace(reading, box=_shifted(reading.box, left, top)) for reading in found]

    def _remember(self, readings: list[Reading], gray: Gray) -> None:
        sure = [reading for reading in readings if reading.confirmed]
        self._expected = frozenset(reading.payload for reading in sure)
        if not sure:
            self._region = None
            return
        left, top = min(reading.box[0] for reading in sure), min(reading.box[1] for reading in sure)
        right, bottom = max(reading.box[2] for reading in sure), max(reading.box[3] for reading in sure)
        margin = 24 + 0.25 * max(right - left, bottom - top)  # quiet zone, and how far a hand moves between two frames
        self._region = (
            max(0, int(left - margin)),
            max(0, int(top - margin)),
            min(gray.shape[1], int(right + margin)),
            min(gray.shape[0], int(bottom + margin)),
        )


def _shifted(box: tuple[float, float, float, float], left: int, top: int) -> tuple[float, float, float, float]:
    return box[0] + left, box[1] + top, box[2] + left, box[3] + top


# ---------------------------------------------------------------- drawing, for the virtual camera


def compose(background: Gray, patch: Gray, corners: NDArray[np.float32], blur_px: float) -> Gray:
    """Lay a flat picture into a scene.

    Args:
        corners: Where its four corners come to lie, clockwise from the top left; they may lie outside of the scene.
        blur_px: Sigma of the lens's blur over the whole scene.
    """
    high, wide = patch.shape
    flat = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], dtype=np.float32)
    scene = background.copy()
    matrix = cv2.getPerspectiveTransform(flat, corners)
    cv2.warpPerspective(patch, matrix, (scene.shape[1], scene.shape[0]), dst=scene, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_TRANSPARENT)
    return np.asarray(cv2.GaussianBlur(scene, (0, 0), blur_px), dtype=np.uint8)


def picture(encoded: bytes) -> Gray:
    """The grey picture in a PNG file.

    Raises:
        MalformedFrame: Not a PNG, a broken one, or larger than `PICTURE_SIDE`.
    """
    if encoded[:8] != b"\x89PNG\r\n\x1a\n" or len(encoded) < 33:
        raise MalformedFrame("not a PNG file")
    wide, high = int.from_bytes(encoded[16:20], "big"), int.from_bytes(encoded[20:24], "big")
    if not (0 < wide <= PICTURE_SIDE and 0 < high <= PICTURE_SIDE):
        raise MalformedFrame(f"a picture of {wide}x{high}", f"At most {PICTURE_SIDE} pixels a side")
    try:
        image = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise MalformedFrame("a broken PNG file") from error
    if image is None:
        raise MalformedFrame("a broken PNG file")
    return np.asarray(image, dtype=np.uint8)
