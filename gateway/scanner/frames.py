"""Pictures that another program takes: `frames:SOCKET`, for cameras that OpenCV cannot open, such as those of libcamera.

That program listens at a unix socket and writes grey pictures to whoever connects, one after the other with nothing between
them: 640x480 pixels, a byte each, row by row from the top. It begins each connection with a whole picture, which is why this is
no pipe: a reader that is killed half-way through one would leave its successor out of step for ever. With ffmpeg::

    ffmpeg … -vf fps=8,scale=640:480 -pix_fmt gray -f rawvideo -listen 1 unix:SOCKET
"""

import socket
import struct
from typing import Final

import numpy as np

from gateway.clock import Clock
from gateway.errors import DeviceError
from gateway.scanner.decode import Gray

WIDTH: Final = 640
HEIGHT: Final = 480
NS_PER_S: Final = 1_000_000_000
SILENT_S: Final = 2  # as long as a V4L2 camera may fall silent
TIMEVAL: Final = struct.Struct("ll")


class FrameSocket:
    """A `FrameSource` at the reading end of a socket.

    Args:
        path: Where the other program listens.
        frames_per_s: How many pictures are handed out; what comes beside them is let go.
    """

    def __init__(self, path: str, frames_per_s: float, clock: Clock) -> None:
        self._path = path
        self._period_ns = int(NS_PER_S / frames_per_s)
        self._clock = clock
        self._connection: socket.socket | None = None
        self._due_ns = 0

    def open(self) -> None:
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The kernel's own time limit: with Python's, a picture would take a system call for each piece of it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEVAL.pack(SILENT_S, 0))
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise DeviceError(f"nobody gives pictures at {self._path}: {error.strerror or error}", "Start the program that does") from error
        self._connection = connection

    def grab(self) -> Gray:
        if self._connection is None:
            raise DeviceError(f"the pictures at {self._path} are not open")
        while True:
            frame = self._receive(self._connection)
            now_ns = self._clock.boottime_ns()
            # A tenth early is on time: both ends have the same rate, and neither is punctual.
            if now_ns >= self._due_ns - self._period_ns // 10:
                self._due_ns = max(self._due_ns + self._period_ns, now_ns - self._period_ns)
                return frame

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _receive(self, connection: socket.socket) -> Gray:
        frame = np.empty((HEIGHT, WIDTH), dtype=np.uint8)
        try:
            received_b = connection.recv_into(frame.data, 0, socket.MSG_WAITALL)
        except OSError as error:
            raise DeviceError(f"no picture comes from {self._path}", "Look at the program that gives them") from error
        if received_b < frame.nbytes:
            raise DeviceError(f"{received_b} bytes of {frame.nbytes} came from {self._path}", "Look at the program that gives pictures")
        return frame
