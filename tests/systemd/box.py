"""An enrolled box in a folder, and the part of systemd that its units talk to: a notify socket, credentials, inherited sockets."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from cloud_bridge.ports import free_port
from gateway.schema import migrate
from gateway.signed import public_hex
from provisioning.authority import Authority, EnrolReply, HqFacts, keep_reply, make_box_keys

# Hands a socket over as systemd would, then becomes the unit.
ACTIVATED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="http")
os.execv(sys.argv[2], sys.argv[2:])
"""
# PR_SET_MDWE is what MemoryDenyWriteExecute= asks of a newer kernel.
NO_NEW_CODE = "import ctypes, os, sys; assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0; os.execv(sys.argv[1], sys.argv[1:])"
CONFIG = """
[store]
tenant = "chain"
store = "taipei-1"
number = 7
gateway = "box-7"
[paths]
state = "state"
run = "run"
[core]
port = {port}
[bridge]
host = "127.0.0.1"
port = {nobody}
[[station]]
name = "counter"
[[scanner]]
name = "hand"
source = "evdev:/dev/input/by-id/not-plugged-in"
[[scanner]]
name = "eye"
source = "v4l2:/dev/v4l/by-id/not-plugged-in"
[[locker]]
name = "wall"
port = "not-plugged-in"
[ble]
radio = "bluez"
[[ble.sensors]]
name = "hci0"
zone = "door"
"""


class Manager:
    """The notify socket; messages are kept with the moment they came."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(self.path))
        self._ear.setblocking(False)
        self.heard: list[tuple[float, list[str]]] = []

    def listen(self) -> None:
        """Take what has come."""
        while True:
            try:
                message = self._ear.recv(4096).decode()
            except BlockingIOError:
                return
            self.heard.append((time.monotonic(), message.split("\n")))

    def said(self, line: str) -> int:
        """How often a line was said."""
        self.listen()
        return sum(line in lines for _, lines in self.heard)

    def wait(self, line: str, times: int = 1, within_s: float = 20) -> None:
        """Until a line was said so often."""
        ends_s = time.monotonic() + within_s
        while self.said(line) < times:
            assert time.monotonic() < ends_s, f"{line} was not said {times} times; heard {self.heard[-5:]}"
            time.sleep(0.01)

    def counts(self, line: str, for_s: float) -> int:
        """How often a line is said in the next while."""
        before = self.said(line)
        time.sleep(for_s)
        return self.said(line) - before

    def close(self) -> None:
        """Stop listening."""
        self._ear.close()


class Box:
    """Configuration, keys and an empty ledger; units run from it as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "gateway.toml"
        self.config.write_text(CONFIG.format(port=self.port, nobody=free_port()), encoding="utf-8")
        for name in ("state", "run"):
            (folder / name).mkdir()
        self.ledger = folder / "state" / "ledger.db"
        migrate(self.ledger)
        self.log = folder / "units.log"
        self.manager = Manager(folder)
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Box":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(timeout=10)
        self.manager.close()

    def enrol(self, where: Path | None = None) -> Path:
        """Be enrolled; the papers lie in the enrolment folder, or in another one."""
        papers = where or self.folder / "state" / "enrolment"
        authority = Authority.open(self.folder / "hq")
        csr = make_box_keys(papers, "box-7")
        facts = HqFacts(hq_public=[public_hex(authority.root_public)], tenant="chain", store="taipei-1", number=7, gateway="box-7")
        keep_reply(papers, EnrolReply(certificate=authority.issue_client(csr, "box-7"), ca=authority.ca_pem, facts=facts))
        return papers

    def start(
        self, unit: str, *, watchdog_s: float = 2.0, environment: dict[str, str] | None = None, held: socket.socket | None = None,
        no_new_code: bool = False,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """Start a unit as systemd would.

        Args:
            held: A listening socket to hand over.
            no_new_code: Forbid it to make memory executable.
        """
        command: Sequence[str] = [sys.executable, "-m", "gateway", "run", unit, "--config", str(self.config)]
        if no_new_code:
            command = [sys.executable, "-c", NO_NEW_CODE, *command]
        if held is not None:
            command = [sys.executable, "-c", ACTIVATED, str(held.fileno()), *command]
        told = {"NOTIFY_SOCKET": str(self.manager.path), "WATCHDOG_USEC": str(round(watchdog_s * 1e6))}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, env=os.environ | told | (environment or {}), stderr=log, pass_fds=[held.fileno()] if held else []
            )
        self._processes.append(process)
        return process


def until(there: Callable[[], bool], within_s: float, otherwise: str) -> None:
    """Wait for something."""
    ends_s = time.monotonic() + within_s
    while not there():
        assert time.monotonic() < ends_s, otherwise
        time.sleep(0.02)
