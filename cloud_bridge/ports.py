"""A free port, for servers that start a moment later."""

import contextlib
import random
import socket
from typing import Final

FREE: Final = range(20_000, 32_000)  # below what systems give to connections going out: those come and go meanwhile
TRIES: Final = 100


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now.

    Raises:
        OSError: None was found.
    """
    for port in random.SystemRandom().sample(FREE, TRIES):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise OSError(f"no free port on {host}")
