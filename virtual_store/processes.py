"""Starts processes and restarts them as systemd's `Restart=always` would; nothing is left running when it ends.

This is the laptop's stand-in for systemd and knows nothing of the store: a process that ends is started again after a pause
that doubles up to two seconds, unless it ended with 78 (its configuration is wrong, so a restart cannot help).
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from gateway.errors import CONFIG_EXIT_STATUS, ConfigError

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
STEADY_S: Final = 10.0  # a process that lived this long starts again at the first pause
PATIENCE_S: Final = 8.0  # between SIGTERM and SIGKILL
LAST_WORDS: Final = 15  # lines of its log shown when a process gives up


class Kept(Struct):
    """One process that is kept running."""

    name: str
    arguments: list[str]
    pid: int = 0
    restarts: int = 0


class Keeper:
    """Keeps a set of processes running.

    Args:
        logs: Folder of their output, one file each.
        told: Called with a sentence when a process had to be started again.
    """

    def __init__(self, logs: Path, told: Callable[[str], None]) -> None:
        self._logs = logs
        self._told = told
        self._tasks = asyncio.TaskGroup()
        self._ending = False
        self.kept: dict[str, Kept] = {}

    async def __aenter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._ending = True
        for kept in self.kept.values():
            _signal(kept.pid, signal.SIGTERM)
        with contextlib.suppress(asyncio.CancelledError):
            await self._tasks.__aexit__(None, None, None)

    def keep(self, name: str, *arguments: str) -> None:
        """Start `store-gateway run ARGUMENTS` and keep it running."""
        self.kept[name] = Kept(name, [sys.executable, "-m", "gateway", "run", *arguments, "--with-parent"])
        self._tasks.create_task(self._keep(self.kept[name]))

    def keep_program(self, name: str, *command: str) -> None:
        """Start a program that is not ours and keep it running; it dies with us."""
        self.kept[name] = Kept(name, ["setpriv", "--pdeathsig", "KILL", *command])
        self._tasks.create_task(self._keep(self.kept[name]))

    def once(self, name: str, *arguments: str) -> "asyncio.Task[int]":
        """Start `store-gateway run ARGUMENTS`, which ends by itself; the task gives its exit status."""
        self.kept[name] = Kept(name, [sys.executable, "-m", "gateway", "run", *arguments, "--with-parent"])
        return self._tasks.create_task(self._live_once(self.kept[name]))

    def log_path(self, name: str) -> Path:
        """Where a process's output is."""
        return self._logs / f"{name}.log"

    async def _keep(self, kept: Kept) -> None:
        pause_s = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while not self._ending:
            began_s = loop.time()
            status = await self._live(kept)
            if self._ended():
                return
            if status == CONFIG_EXIT_STATUS:
                raise ConfigError(
                    f"{kept.name} gave up:\n{self._last_words(kept.name)}", f"The whole output is in {self.log_path(kept.name)}"
                )
            pause_s = FIRST_PAUSE_S if loop.time() - began_s > STEADY_S else min(LONGEST_PAUSE_S, pause_s * 2)
            kept.restarts += 1
            self._told(f"{kept.name} ended ({_how(status)}) and starts again")
            await asyncio.sleep(pause_s)

    def _ended(self) -> bool:
        return self._ending

    async def _live_once(self, kept: Kept) -> int:
        try:
            return await self._live(kept)
        finally:
            del self.kept[kept.name]  # its number may soon be another process's

    async def _live(self, kept: Kept) -> int:
        with self.log_path(kept.name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *kept.arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        kept.pid = process.pid
        try:
            if self._ending:
                _signal(process.pid, signal.SIGTERM)
            return await self._wait(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _wait(self, process: asyncio.subprocess.Process) -> int:
        while not self._ending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    return await process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                return await process.wait()
        return -signal.SIGKILL

    def _last_words(self, name: str) -> str:
        lines = self.log_path(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LAST_WORDS:])


def _signal(pid: int, number: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _how(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
