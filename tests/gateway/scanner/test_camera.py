"""The eye looks when there is something to see, and a camera that goes is missed."""

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gateway.errors import DeviceError, MalformedFrame
from gateway.scanner.camera import FROZEN_S, Eye, FrozenWatch, MotionGate, V4L2Camera, brightness, picture
from gateway.scanner.virtual import VirtualCamera

FRAME_NS = 125_000_000


def watch(camera: VirtualCamera, eye: Eye, hand: Any, frames: int) -> list[list[bytes] | None]:
    """What the eye read off each of so many frames; None where it did not look."""
    seen: list[list[bytes] | None] = []
    for _ in range(frames):
        hand.now_ns += FRAME_NS
        readings = eye.look(camera.grab(), hand.now_ns)
        seen.append(None if readings is None else [reading.payload for reading in readings])
    return seen


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_still_scene_is_hardly_looked_at(hand: Any, seed: int) -> None:
    camera, eye = VirtualCamera(8, seed, hand), Eye()
    watch(camera, eye, hand, 16)
    looks = [seen for seen in watch(camera, eye, hand, 80) if seen is not None]
    assert 3 <= len(looks) <= 6  # once in two seconds


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_code_wakes_the_eye_and_is_read_in_nearly_every_frame(hand: Any, seed: int) -> None:
    camera, eye = VirtualCamera(8, seed, hand), Eye()
    watch(camera, eye, hand, 40)
    camera.obey({"do": "show", "text": "V1:WAKE"})
    seen = watch(camera, eye, hand, 20)
    assert sum(found == [b"V1:WAKE"] for found in seen) >= 12


def test_a_code_that_lies_still_is_checked_but_not_watched(hand: Any) -> None:
    eye, random = Eye(), np.random.default_rng(3)
    scene = VirtualCamera(8, 1, hand)._scene.copy()
    code = cv2.imdecode(np.frombuffer(qr_png("POSTER"), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert code is not None
    scene[50 : 50 + code.shape[0], 60 : 60 + code.shape[1]] = code
    looks = []
    for _ in range(80):
        hand.now_ns += FRAME_NS
        frame = np.clip(scene + random.normal(0, 4, scene.shape), 0, 255).astype(np.uint8)
        looks.append(eye.look(frame, hand.now_ns))
    rest = [look for look in looks[40:] if look is not None]
    assert 8 <= len(rest) <= 12  # every half second
    assert all([reading.payload for reading in look] == [b"POSTER"] for look in rest)


def qr_png(text: str) -> bytes:
    import io

    import segno

    png = io.BytesIO()
    segno.make_qr(text).save(png, kind="png", scale=6, border=4)
    return png.getvalue()


def test_a_second_code_beside_the_first_is_seen(hand: Any) -> None:
    eye = Eye()
    one, two = (np.asarray(cv2.imdecode(np.frombuffer(qr_png(text), np.uint8), 0)) for text in ("ONE", "TWO"))
    scene = np.full((480, 640), 120, np.uint8)
    scene[20 : 20 + one.shape[0], 20 : 20 + one.shape[1]] = one
    for _ in range(3):
        hand.now_ns += FRAME_NS
        eye.look(scene, hand.now_ns)
    scene[240 : 240 + two.shape[0], 400 : 400 + two.shape[1]] = two
    payloads = set()
    for _ in range(5):
        hand.now_ns += FRAME_NS
        payloads |= {reading.payload for reading in eye.look(scene, hand.now_ns) or []}
    assert payloads == {b"ONE", b"TWO"}


def test_places_are_those_of_the_whole_frame_also_when_only_a_region_was_read(hand: Any) -> None:
    eye, code = Eye(), np.asarray(cv2.imdecode(np.frombuffer(qr_png("HERE"), np.uint8), 0))
    scene = np.full((480, 640), 120, np.uint8)
    scene[200 : 200 + code.shape[0], 300 : 300 + code.shape[1]] = code
    centres = []
    for _ in range(6):
        hand.now_ns += FRAME_NS
        centres += [reading.centre for reading in eye.look(scene, hand.now_ns) or []]
    assert len(centres) == 6
    assert all(abs(x - 300 - code.shape[1] / 2) < 4 and abs(y - 200 - code.shape[0] / 2) < 4 for x, y in centres)


def test_a_lamp_that_dims_the_whole_picture_is_no_movement() -> None:
    gate, scene = MotionGate(), np.full((480, 640), 150, np.uint8)
    assert gate.moved(scene)
    assert not any(gate.moved(scene + np.uint8(step)) for step in range(0, 60, 5))


def test_one_picture_for_ever_is_frozen_and_darkness_is_not() -> None:
    random = np.random.default_rng(1)
    stuck, dark, live = FrozenWatch(), FrozenWatch(), FrozenWatch()
    picture_ = random.integers(0, 256, (480, 640), dtype=np.uint8)
    frames = int(FROZEN_S * 8) + 2
    assert [stuck.frozen(picture_, i * FRAME_NS) for i in range(frames)][-1]
    assert not any(dark.frozen(np.zeros((480, 640), np.uint8), i * FRAME_NS) for i in range(frames))
    assert not any(live.frozen(random.integers(0, 256, (480, 640), dtype=np.uint8), i * FRAME_NS) for i in range(frames))
    assert not stuck.frozen(picture_ + np.uint8(1), frames * FRAME_NS)


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 2), (48, 64, 3)])
def test_brightness_is_taken_out_of_every_layout_cameras_give(shape: tuple[int, ...]) -> None:
    gray = brightness(np.full(shape, 77, np.uint8))
    assert gray.shape == (48, 64) and gray.dtype == np.uint8 and int(gray[5, 5]) == 77


def test_a_layout_nobody_knows_is_the_cameras_fault() -> None:
    with pytest.raises(DeviceError):
        brightness(np.zeros((1, 30_000), np.uint8))


def test_an_absent_camera_is_a_device_error(hand: Any) -> None:
    camera = V4L2Camera("/dev/video-none", 8, hand)
    with pytest.raises(DeviceError):
        camera.open()
    with pytest.raises(DeviceError):
        camera.grab()
    camera.close()


def test_recorded_frames_are_thinned_to_the_rate_and_their_end_is_a_lost_device(tmp_path: Path, hand: Any) -> None:
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), 30, (320, 240))
    for level in range(0, 240, 8):
        writer.write(np.full((240, 320, 3), level, np.uint8))
    writer.release()

    class Ticking:
        """Time passes as the film is grabbed: 30 frames a second."""

        ticks = itertools.count(1)

        def boottime_ns(self) -> int:
            return next(self.ticks) * 33_333_333

    camera = V4L2Camera(str(film), 10, Ticking(), cv2.CAP_OPENCV_MJPEG)  # type: ignore[arg-type]
    camera.open()
    levels = []
    with pytest.raises(DeviceError):
        while True:
            levels.append(int(camera.grab()[100, 100]))
    assert 9 <= len(levels) <= 12  # a second of film at 10 frames a second
    assert levels == sorted(levels)
    camera.close()


@pytest.mark.parametrize(
    "encoded",
    [b"", b"\x89PNG\r\n\x1a\n" + bytes(40), qr_png("X")[:60], b"GIF89a" + bytes(60), qr_png("X")[:16] + b"\xff" * 8 + qr_png("X")[24:]],
)
def test_what_is_no_picture_is_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedFrame):
        picture(encoded)
