"""A process that writes to a ledger and says what was acknowledged, to be killed at any moment."""

import asyncio
import sys
from pathlib import Path

from gateway.clock import SystemClock
from gateway.errors import LedgerError
from gateway.events import RedemptionRefused
from gateway.ledger import Ledger, StoredAnswer


def broke(error: LedgerError) -> None:
    raise error


async def write(path: Path, life: str) -> None:
    clock = SystemClock()
    ledger = Ledger(path, clock, "test", lambda: None, broke)
    writing: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        key = f"{life}-{number}"
        row = RedemptionRefused(key, None, "forged", "counter", "scanner@counter", None, clock.now())
        await ledger.append([row], answer=StoredAnswer(key, key.encode(), f"answer to {key}".encode()))
        print(key, flush=True)

    for number in range(1_000_000):
        writing.add(task := asyncio.create_task(one(number)))
        task.add_done_callback(writing.discard)
        if number % 7 == 0:  # bundles of several sizes
            await task


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2]))
