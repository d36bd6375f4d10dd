"""What passes between a unit and systemd: readiness and the watchdog, credentials, a listening socket. Nothing where there is none.

The watchdog is fed by proof and not by a timer: core's proof is a round trip through its doors and the ledger's writing
thread, a driver's is that each of its loops has turned since it was asked, so has looked at its device or at the link. A loop
that turns late counts as one that does not. A device that is missing, a line that is down or a full disk are no reason to end:
the loops that look for them go on turning.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

FIRST_INHERITED: Final = 3  # SD_LISTEN_FDS_START
MAX_LAG_S: Final = 2.0  # a page or a door that waits this long looks broken to whoever stands before it
AGAIN_S: Final = 1.0

Prove = Callable[[], Awaitable[str]]


def tell(*lines: str) -> bool:
    """Say something to systemd, such as `READY=1`; whether it was heard."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.setblocking(False)
        try:
            mouth.sendto("\n".join(lines).encode(), address)
        except OSError:  # a full queue or a manager that starts anew: the next word says it again
            return False
    return True


def feeding_s() -> float | None:
    """Seconds between two feedings, half of what systemd waits; None: no watchdog watches this process."""
    waits_us = os.environ.get("WATCHDOG_USEC", "")
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not waits_us.isdecimal() or int(waits_us) == 0 or watched != str(os.getpid()):
        return None
    return int(waits_us) / 2e6


def enrolment_dir(folder: Path) -> Path:
    """Where to read the enrolment: what systemd loaded of it as credentials, else the folder itself."""
    loaded = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(loaded) if loaded else folder


def inherited_socket() -> socket.socket | None:
    """The listening socket that systemd holds for this process; None: it has to make its own."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or int(count) < 1:
        return None
    inherited = socket.socket(fileno=FIRST_INHERITED)
    inherited.setblocking(False)
    inherited.set_inheritable(False)
    return inherited


class Watchdog:
    """A process's word that it does its work.

    Args:
        loops: Names of the loops that must turn; each says `turned(name)` once in every turn, on the event loop's thread.
    """

    def __init__(self, *loops: str) -> None:
        self._turned = {loop: asyncio.Event() for loop in loops}

    def turned(self, loop: str) -> None:
        """That loop has come round."""
        self._turned[loop].set()

    async def run(self, prove: Prove | None = None) -> None:
        """Say `READY=1` after the first proof and feed the watchdog after each; returns at once where nobody listens.

        Args:
            prove: Returns once there is proof, with a status in a few words. Default: every loop has turned anew.
        """
        if not os.environ.get("NOTIFY_SOCKET"):
            return
        loop = asyncio.get_running_loop()
        lag_s = 0.0
        ready = False
        while not ready or feeding_s() is not None:
            began_s = loop.time()
            status = await (prove or self._all_turned)()
            heard = False
            if lag_s <= MAX_LAG_S:
                heard = tell(*([] if ready else ["READY=1"]), "WATCHDOG=1", f"STATUS={status}")
                ready = ready or heard
            else:
                tell(f"STATUS=degraded: {lag_s:.1f} s late")
            pause_s = max(0.0, (feeding_s() or AGAIN_S) - (loop.time() - began_s)) if heard else AGAIN_S
            due_s = loop.time() + pause_s
            await asyncio.sleep(pause_s)
            lag_s = loop.time() - due_s

    async def _all_turned(self) -> str:
        for turned in self._turned.values():
            turned.clear()
        for turned in self._turned.values():
            await turned.wait()
        return "working"
