"""A whole locker on a bench: virtual board on a real pseudo-terminal, driver, link, and a core that only listens."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from gateway.clock import SystemClock
from gateway.errors import DeviceError
from gateway.events import BankSnapshotTaken, CommandAnswered, DeviceChanged, DoorEdgeSensed, DoorState, OpenCompartment, Stated
from gateway.link import LinkClient, LinkServer
from gateway.locker.board import Board, Cu16Board, SerialLine
from gateway.locker.driver import LockerDriver
from gateway.locker.virtual import board_control, run_board

BANK = "wall"
UNIT = f"locker@{BANK}"
COMPARTMENTS = 16
POLL_MS = 20
PROCESS = """
import asyncio, sys
from pathlib import Path
from gateway import config
from gateway.clock import SystemClock
from gateway.locker import __main__ as locker
asyncio.run(getattr(locker, sys.argv[2])(config.load(Path(sys.argv[1])), "wall", SystemClock()))
"""

Kind = TypeVar("Kind", bound=Stated)


class Bench:
    """Parts that can be started and taken away one by one."""

    def __init__(self, folder: Path) -> None:
        self.clock = SystemClock()
        self.folder = folder
        self.port = folder / "board"
        self.link_path = folder / "link.sock"
        self.heard: list[Stated] = []
        self.link = LinkClient(self.link_path, UNIT, self.clock)
        self.core: LinkServer | None = None
        self._ids: set[str] = set()
        self._processes: list[asyncio.subprocess.Process] = []
        self._running: dict[str, asyncio.Task[None]] = {}

    # -------------------------------------------------------- parts

    async def start(self, *, pull_after_s: float | None = 0.1, close_after_s: float | None = 0.5) -> None:
        """Everything, until the first snapshot has come."""
        await self.start_core()
        await self.start_board(pull_after_s=pull_after_s, close_after_s=close_after_s)
        self.start_driver()
        await self.until(lambda: self.all(BankSnapshotTaken))

    async def start_core(self) -> None:
        self.core = LinkServer(self.link_path, self.clock, self._decide, lambda unit, there: None)
        self._run("core", self.core.serve())
        await self.until(self.link_path.exists)

    async def start_board(self, *, pull_after_s: float | None = 0.1, close_after_s: float | None = 0.5) -> None:
        self._run("board", run_board(self.port, COMPARTMENTS, pull_after_s=pull_after_s, close_after_s=close_after_s, seed=7))
        await self.until_async(self.state)

    def start_driver(self, board: Board | None = None) -> None:
        board = board or Cu16Board(SerialLine(str(self.port), 19200), 0, COMPARTMENTS)
        self.link = LinkClient(self.link_path, UNIT, self.clock)
        driver = LockerDriver(board, BANK, COMPARTMENTS, POLL_MS, self.link, self.clock)
        self._run("link", self.link.run())
        self._run("driver", driver.run())

    async def stop(self, *names: str) -> None:
        for name in names or list(self._running):
            task = self._running.pop(name)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _run(self, name: str, part: Any) -> None:
        self._running[name] = asyncio.create_task(part)

    # -------------------------------------------------------- core's side

    async def _decide(self, unit: str, event_id: str, event: Stated) -> bytes:
        if event_id not in self._ids:  # as core: stated again is not heard again
            self._ids.add(event_id)
            self.heard.append(event)
        return b""

    def open(self, compartment: int, intent_id: str, bank: str = BANK, within_s: float = 3.0) -> None:
        assert self.core is not None
        self.core.order(UNIT, intent_id, OpenCompartment(bank=bank, compartment=compartment), int(within_s * 1e9))

    def all(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.heard if isinstance(event, kind)]

    def edges(self) -> list[tuple[int, str, str | None]]:
        return [(edge.compartment, str(edge.door_state), edge.intent_id) for edge in self.all(DoorEdgeSensed)]

    def believed(self) -> dict[int, DoorState]:
        """The doors as core would know them."""
        doors: dict[int, DoorState] = {}
        for event in self.heard:
            if isinstance(event, BankSnapshotTaken):
                doors = dict(event.doors)
            elif isinstance(event, DoorEdgeSensed):
                doors[event.compartment] = event.door_state
        return doors

    def device_states(self) -> list[str]:
        return [event.device_state for event in self.all(DeviceChanged)]

    def outcomes(self) -> dict[str, str]:
        return {answer.intent_id: answer.outcome for answer in self.all(CommandAnswered)}

    # -------------------------------------------------------- the world's side

    async def order(self, do: str, **rest: Any) -> dict[str, Any]:
        return await board_control(self.port, do=do, **rest)

    async def state(self) -> dict[str, Any]:
        return await self.order("state")

    async def pulses(self, compartment: int) -> int:
        pulses: int = (await self.state())["compartments"][str(compartment)]["pulses"]
        return pulses

    async def until(self, seen: Callable[[], Any], timeout_s: float = 40.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not seen():
                for task in self._running.values():
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)

    async def until_async(self, answered: Callable[[], Any], timeout_s: float = 40.0) -> None:
        async with asyncio.timeout(timeout_s):
            while True:
                with suppress(DeviceError):
                    await answered()
                    return
                await asyncio.sleep(0.01)

    # -------------------------------------------------------- processes

    async def spawn(self, entry: str) -> asyncio.subprocess.Process:
        """`run` or `run_virtual` of the package, in a process of its own."""
        toml = self.folder / "gateway.toml"
        toml.write_text(
            '[store]\ntenant = "t"\nstore = "s"\nnumber = 1\ngateway = "g"\n[paths]\nstate = "."\nrun = "."\n[bridge]\nhost = "localhost"\n'
            f'[[locker]]\nname = "{BANK}"\nport = "board"\npoll_ms = {POLL_MS}\n'
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-W", "error", "-c", PROCESS, str(toml), entry)
        self._processes.append(process)
        return process

    async def end(self) -> None:
        """Everything, however the test went."""
        await self.stop()
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
