"""The virtual gateway as the tests need it: boot, run something in it, cut its power. All of it through the rig's `run`."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

UNANSWERED: Final = (124, 125)  # `run`'s own exit statuses: too late, and no answer from the machine


class Failed(Exception):
    """What was to be shown did not happen."""


class Skipped(Exception):
    """It could not be tried here; says why."""


class Machine:
    """One virtual machine of the rig.

    Args:
        rig: The rig's folder, which has `run` in it.
        state: Folder for the machine's disks and sockets; short, since a unix socket's path has 108 bytes.
        nice: How far everybody else on this machine goes before it.
    """

    def __init__(self, rig: Path, state: Path, nice: int, told: Callable[[str], None]) -> None:
        self._run = str(rig / "run")
        self.state = state
        self.name = "shop"
        self._nice = ["nice", "-n", str(nice)]
        self._environment = {**os.environ, "RIG_STATE": str(state)}
        self.told = told

    @property
    def serial(self) -> Path:
        """The host's end of the guest's /dev/ttyS1."""
        return self.state / self.name / "serial1.sock"

    def boot(self, cloud: int, *, fresh: bool = False, data: str = "volatile", memory_mb: int = 1024) -> float:
        """Switch it on. Returns the seconds until it answered.

        Args:
            data: The data disk's nature: `volatile` loses what was not flushed, `lying` only says that it has flushed.

        Raises:
            Failed: It does not come up.
        """
        began_s = time.monotonic()
        words = ["--data", data, "--cloud", str(cloud), "--mem", str(memory_mb), *(["--fresh"] if fresh else [])]
        done = self._call("boot", *words, timeout_s=420)
        if done.returncode:
            raise Failed(f"it did not boot: {done.stderr.strip()[-300:]}")
        return time.monotonic() - began_s

    def cut(self) -> None:
        """Pull its plug."""
        self._call("cut", timeout_s=60)

    def lost_pieces(self) -> tuple[int, int]:
        """Of the data disk at all cuts so far: 4 KiB pieces that had not been flushed, and how many of these were lost or torn."""
        log = self.state / self.name / "voldisk.log"
        found = re.findall(r"unflushed pieces (\d+) kept (\d+) \(torn (\d+)\)", log.read_text() if log.exists() else "")
        return sum(int(n) for n, _, _ in found), sum(int(n) - int(kept) + int(torn) for n, kept, torn in found)

    def console(self) -> str:
        """The last words on its screen."""
        lines = (self.state / self.name / "console.log").read_text(errors="replace").splitlines()
        return " / ".join(line.strip() for line in lines[-6:] if line.strip())[-300:]

    def off(self) -> bool:
        """An orderly end; whether it came in time."""
        return self._call("off", timeout_s=150).returncode == 0

    def line(self, up: bool) -> None:
        """Plug in or pull the network cable."""
        if self._call("link", "up" if up else "down", timeout_s=30).returncode:
            raise Failed("the cable could not be moved")

    def push(self, sources: list[Path], folder: str) -> None:
        """Copy files into the guest."""
        done = self._call("push", *map(str, sources), folder, timeout_s=120)
        if done.returncode:
            raise Failed(f"could not copy into the guest: {done.stderr.strip()[-300:]}")

    def sh(self, script: str, *, stdin: str = "", timeout_s: float = 120, check: bool = True) -> str:
        """Run a shell script in the guest and return what it printed.

        Raises:
            Failed: It ended with another status than 0, or the guest does not answer.
        """
        done = self._call("exec", "--timeout", str(timeout_s), "--", "sh", "-c", script, timeout_s=timeout_s + 30, stdin=stdin)
        if done.returncode and (check or done.returncode in UNANSWERED):
            said = (done.stderr.strip() or done.stdout.strip())[-400:]
            raise Failed(f"`{script[:80]}` ended with {done.returncode}: {said}")
        return done.stdout

    def begin(self, script: str) -> subprocess.Popen[str]:
        """Run a shell script in the guest; what it prints comes as it is printed."""
        command = [*self._nice, self._run, "exec", "--name", self.name, "--timeout", "3600", "--", "sh", "-c", script]
        return subprocess.Popen(
            command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def until(self, there: Callable[[], Any], within_s: float, otherwise: str) -> Any:
        """Wait for something; what it returned once it was true.

        Raises:
            Failed: It never was.
        """
        ends_s = time.monotonic() + within_s
        last = ""
        while True:
            try:
                found = there()
            except (Failed, OSError, ValueError, KeyError, TypeError) as error:
                found, last = None, f" ({error})"
            if found:
                return found
            if time.monotonic() > ends_s:
                raise Failed(f"{otherwise} within {within_s:.0f} s{last}")
            time.sleep(0.5)

    def units(self) -> dict[str, dict[str, str]]:
        """What systemd says of every unit of the shop."""
        shown = self.sh(
            "systemctl show 'store-*.service' 'store-*.socket' store.target -p Id,ActiveState,SubState,NRestarts,MainPID,StatusText"
        )
        blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in shown.split("\n\n")]
        return {block["Id"]: block for block in blocks if "Id" in block}

    def _call(self, verb: str, *words: str, timeout_s: float, stdin: str = "") -> subprocess.CompletedProcess[str]:
        # The verb's own options come before `--`, so the name stands first.
        command = [*self._nice, self._run, verb, "--name", self.name, *words]
        try:
            return subprocess.run(
                command, env=self._environment, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"the rig's `run {verb}` took longer than {timeout_s:.0f} s") from error


def find_rig(folder: Path) -> tuple[Path, str]:
    """The rig's folder, and what is missing for it to work; empty: nothing."""
    image = Path(os.environ.get("RIG_IMG", "/tmp/rig/img"))
    if not (folder / "run").is_file():
        return folder, f"there is no rig at {folder}: name its folder with --rig or RIG"
    missing = [name for name in ("qemu-system-x86_64", "qemu-img", "socat", "mke2fs", "nice") if shutil.which(name) is None]
    if missing:
        return folder, f"not installed here: {', '.join(missing)}"
    if not all((image / name).is_file() for name in ("rootfs.raw", "vmlinuz", "initrd")):
        return folder, f"there is no image in {image}: `sudo {folder}/build --req requirements/store.txt --req requirements/build.txt`"
    return folder, ""


def lines_of(text: str) -> list[dict[str, Any]]:
    """The JSON objects among the lines."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
