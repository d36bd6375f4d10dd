"""A free port, for servers that start a moment later."""

import contextlib
import os
import random
import socket
from collections import deque
from typing import Final

FREE: Final = range(20_000, 32_000)  # below what systems give to connections going out: those come and go meanwhile
TRIES: Final = 100
MOST_HELD: Final = 256

_held: deque[int] = deque()  # file descriptors


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now, and that this does not give to anybody else while the process lives.

    Raises:
        OSError: None was found.
    """
    for port in random.SystemRandom().sample(FREE, TRIES):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            _hold(port)
            return port
    raise OSError(f"no free port on {host}")


def _hold(port: int) -> None:
    """Take a name that stands for the port: of several processes that look for one at a time each gets its own.

    Raises:
        OSError: Another process, or this one, has it.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0store-gateway port {port}")  # in Linux's abstract namespace: it ends with the process
    except OSError:
        held.close()
        raise
    _held.append(held.detach())
    if len(_held) > MOST_HELD:
        os.close(_held.popleft())
