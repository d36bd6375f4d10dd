"""The camera over the counter, in the guest: on all the time as a real one is, and shows whatever the file beside it says.

Feeds /dev/video7 of v4l2loopback (Linux 6.1, `exclusive_caps=1`: a camera while somebody feeds it). Two quirks of that module:
it must be fed before anybody looks, and one who looks in between breaks it until it is loaded anew. Runs with the rig's Python.
"""

import fcntl
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import qrcode  # type: ignore[import-untyped]

WIDTH: Final = 640
HEIGHT: Final = 480
FPS: Final = 6
PICTURES: Final = 5  # each with its own noise: a live sensor never gives the same bytes twice
S_FMT: Final = 0xC0D05605  # VIDIOC_S_FMT
YUYV: Final = 0x56595559


def pictures(text: str) -> list[bytes]:
    """What the camera sees of a code held before it, a little askew; without one, a counter's grey."""
    scene: Any = np.full((HEIGHT, WIDTH), 190, np.uint8)
    if text:
        code = qrcode.QRCode(border=4)
        code.add_data(text)
        code.make()
        modules = (1 - np.array(code.get_matrix(), dtype=np.uint8)) * 255
        side = 400
        drawn = cv2.resize(modules, (side, side), interpolation=cv2.INTER_NEAREST)
        scene[40 : 40 + side, 120 : 120 + side] = drawn
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 5, 1)
        scene = cv2.GaussianBlur(cv2.warpAffine(scene, turn, (WIDTH, HEIGHT), borderValue=190), (0, 0), 0.7)
    random = np.random.default_rng(1)
    return [_yuyv(np.clip(scene + random.normal(0, 4, scene.shape), 0, 255)) for _ in range(PICTURES)]


def _yuyv(gray: Any) -> bytes:
    packed = np.full((HEIGHT, WIDTH, 2), 128, np.uint8)
    packed[..., 0] = gray
    return packed.tobytes()


def main() -> None:
    """Feed DEVICE with what FILE says, for ever."""
    device, shown = os.open(sys.argv[1], os.O_RDWR), Path(sys.argv[2])
    form = bytearray(208)
    struct.pack_into("I4x8I", form, 0, 2, WIDTH, HEIGHT, YUYV, 1, WIDTH * 2, WIDTH * HEIGHT * 2, 8, 0)
    fcntl.ioctl(device, S_FMT, form)
    text, feed, number = "", pictures(""), 0
    while True:
        now = shown.read_text().strip() if shown.exists() else ""
        if now != text:
            text, feed = now, pictures(now)
        os.write(device, feed[number % PICTURES])
        number += 1
        if number == 1:  # from now on it is a camera
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
                systemd.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
        time.sleep(1 / FPS)


main()
