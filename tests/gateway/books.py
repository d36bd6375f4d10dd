"""What the ledger's tests share: its one writer, opened as often as a test likes, and rows of each lane."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from gateway.errors import LedgerError
from gateway.events import DeviceChanged, RedemptionRefused, Row, SubjectKind, VisitStarted
from gateway.ledger import Ledger
from tests.conftest import VirtualClock


class Writer:
    """Opens ledgers on one file and counts their commits."""

    def __init__(self, path: Path, clock: VirtualClock) -> None:
        self.path = path
        self.clock = clock
        self.commits = 0
        self.failures: list[LedgerError] = []
        self._open: list[Ledger] = []

    def open(self) -> Ledger:
        ledger = Ledger(self.path, self.clock, "test 1", self._committed, self.failures.append)
        self._open.append(ledger)
        return ledger

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def reopen(self) -> Ledger:
        self.close()
        return self.open()

    def _committed(self) -> None:
        self.commits += 1


def refused(clock: VirtualClock, number: int = 0) -> Row:
    return RedemptionRefused(f"p{number}", None, "forged", "counter", "scanner@counter", None, clock.now())


def visit(clock: VirtualClock, number: int = 0) -> Row:
    return VisitStarted("ble@radio", f"v{number}", "trolley", SubjectKind.TAG, "door", clock.now())


def health(clock: VirtualClock, number: int = 0) -> Row:
    return DeviceChanged("ble@radio", "up", str(number), clock.now())


def sql(path: Path, statement: str, *values: Any) -> list[Any]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


async def wait(future: "asyncio.Future[None]") -> None:
    await asyncio.wait_for(future, 10)
