"""Pictures from another program: whole ones, in step, and its end is noticed."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import segno

from gateway.clock import SystemClock
from gateway.errors import DeviceError
from gateway.scanner import frames
from gateway.scanner.decode import Gray
from gateway.scanner.frames import HEIGHT, WIDTH, FrameSocket

SEED = 5


class Feeder:
    """A program that gives pictures; what it does to each connection is up to the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._random = np.random.default_rng(SEED)
        self.scene: Gray = np.full((HEIGHT, WIDTH), 120, np.uint8)
        self.connections: list[socket.socket] = []

    def meet(self) -> socket.socket:
        connection, _ = self._listening.accept()
        self.connections.append(connection)
        return connection

    def picture(self) -> Gray:
        noise = self._random.integers(0, 4, (HEIGHT, WIDTH), dtype=np.uint8)
        return np.asarray(self.scene ^ noise, dtype=np.uint8)

    def feed_for_ever(self, frames_per_s: float) -> None:
        try:
            while True:
                connection = self.meet()
                while True:
                    try:
                        connection.sendall(self.picture().tobytes())
                    except OSError:
                        break
                    time.sleep(1 / frames_per_s)
        except OSError:
            pass  # closed by the test

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def feeder(tmp_path: Path) -> Iterator[Feeder]:
    found = Feeder(tmp_path / "pictures")
    yield found
    found.close()


def send(connection: socket.socket, *pictures: bytes, pause_s: float = 0.0) -> threading.Thread:
    """Send from a thread, since a picture is more than a socket holds."""

    def go() -> None:
        with contextlib.suppress(OSError):  # the reader has seen enough
            for picture in pictures:
                connection.sendall(picture)
                time.sleep(pause_s)

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def test_pictures_come_out_as_they_went_in(feeder: Feeder) -> None:
    source = FrameSocket(str(feeder.path), 1000, SystemClock())
    source.open()
    sent = [feeder.picture() for _ in range(3)]
    sending = send(feeder.meet(), *(picture.tobytes() for picture in sent))
    for picture in sent:
        assert np.array_equal(source.grab(), picture)
    sending.join()
    source.close()


def test_after_a_restart_half_a_picture_puts_nothing_out_of_step(feeder: Feeder) -> None:
    """The scanner's process is killed while half a picture is under way: its successor begins with a whole one."""
    killed = FrameSocket(str(feeder.path), 1000, SystemClock())
    killed.open()
    feeder.meet().sendall(feeder.picture().tobytes()[:1000])
    killed.close()
    successor = FrameSocket(str(feeder.path), 1000, SystemClock())
    successor.open()
    picture = feeder.picture()
    sending = send(feeder.meet(), picture.tobytes())
    assert np.array_equal(successor.grab(), picture)
    sending.join()
    successor.close()


def test_no_more_pictures_are_handed_out_than_asked_for(feeder: Feeder) -> None:
    source = FrameSocket(str(feeder.path), 10, SystemClock())
    source.open()
    pouring = send(feeder.meet(), *(feeder.picture().tobytes() for _ in range(50)), pause_s=0.01)
    handed_out = 0
    begun_s = time.monotonic()
    while time.monotonic() - begun_s < 0.4:
        source.grab()
        handed_out += 1
    assert 3 <= handed_out <= 8  # two at once at the beginning, of forty
    source.close()
    pouring.join(2)
    assert not pouring.is_alive()


def test_a_program_that_is_not_there_or_leaves_is_a_device_that_has_gone(feeder: Feeder, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="nobody gives pictures"):
        FrameSocket(str(tmp_path / "nobody"), 8, SystemClock()).open()
    source = FrameSocket(str(feeder.path), 8, SystemClock())
    with pytest.raises(DeviceError, match="not open"):
        source.grab()
    source.open()
    leaver = feeder.meet()
    leaver.sendall(b"\0" * 100)
    leaver.close()
    with pytest.raises(DeviceError, match="100 bytes"):
        source.grab()
    source.close()


def test_a_silent_program_is_not_waited_for_for_ever(feeder: Feeder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "SILENT_S", 1)
    source = FrameSocket(str(feeder.path), 8, SystemClock())
    source.open()
    feeder.meet()
    with pytest.raises(DeviceError, match="no picture comes"):
        source.grab()
    source.close()


@pytest.mark.slow
async def test_a_code_before_such_a_camera_is_presented_and_its_end_reported(shop: Any) -> None:
    shop.open()
    feeder = Feeder(shop.folder / "pictures")
    feeding = threading.Thread(target=feeder.feed_for_ever, args=(8,))
    feeding.start()
    shop.start("counter", f"frames:{feeder.path}")
    await shop.until(lambda: shop.device_states() == ["up"])
    modules = np.array([list(row) for row in segno.make_qr("PICTURES").matrix_iter(scale=6, border=4)])
    code = np.where(modules > 0, 20, 230).astype(np.uint8)
    scene = feeder.scene.copy()
    scene[60 : 60 + code.shape[0], 80 : 80 + code.shape[1]] = code
    feeder.scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), 0.8), dtype=np.uint8)
    await shop.until(lambda: shop.codes() != [])
    assert [event.payload for event in shop.codes()] == [b"PICTURES"]
    feeder.close()
    feeding.join(3)
    await shop.until(lambda: shop.device_states() == ["up", "down"])
