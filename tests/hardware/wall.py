"""The locker wall at the other end of the guest's serial line: the product's virtual board, on the rig's socket instead of a pty."""

import socket
import threading
import time
from pathlib import Path

from gateway.clock import SystemClock
from gateway.locker.cabinet import Cabinet
from gateway.locker.virtual import VirtualBoard

PULL_AFTER_S = 0.4
CLOSE_AFTER_S = 2.5  # an emulated machine looks at its doors less often than a real one


class Wall:
    """A CU16 board with doors and a hand. Stays while the box's power is cut, as a real one on its own supply does."""

    def __init__(self, line: Path, doors: Path, compartments: int) -> None:
        self._line = line
        self.cabinet = Cabinet(doors, compartments, PULL_AFTER_S, CLOSE_AFTER_S, SystemClock())
        self._board = VirtualBoard(self.cabinet, 0, 1, self._send)
        self._socket: socket.socket | None = None
        self._ended = threading.Event()
        self.lock = threading.Lock()
        self.heard_b = 0
        threading.Thread(target=self._play, daemon=True).start()

    def pulses(self) -> dict[int, int]:
        """How often each compartment's coil was driven, ever."""
        with self.lock:
            return {number: lock.pulses for number, lock in enumerate(self.cabinet.locks(), start=1) if lock.pulses}

    def close(self) -> None:
        """End it."""
        self._ended.set()

    def _play(self) -> None:
        while not self._ended.is_set():
            try:
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(str(self._line))
                    line.settimeout(0.5)
                    self._socket = line
                    self._listen(line)
            except OSError:
                time.sleep(0.2)
            self._socket = None

    def _listen(self, line: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                some = line.recv(4096)
            except TimeoutError:
                continue
            if not some:
                raise ConnectionError("the machine went away")
            self.heard_b += len(some)
            with self.lock:
                self._board.hear(some)

    def _send(self, reply: bytes, _delay_s: float) -> None:
        if self._socket is not None:
            self._socket.sendall(reply)
