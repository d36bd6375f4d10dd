"""A core in a process of its own, to be killed: `python -m tests.gateway.core.desk_process FILE`."""

import asyncio
import sys
from pathlib import Path

from gateway.clock import SystemClock
from gateway.config import load
from gateway.core.desk import Desk
from tests.conftest import HQ_KEY
from tests.gateway.core.shop import SECRET, headquarters_hears

if __name__ == "__main__":

    async def serve() -> None:
        desk = Desk(load(Path(sys.argv[1])), SystemClock(), [HQ_KEY.public_key()], "test 1", secret=SECRET)
        await headquarters_hears(desk)
        await desk.run()

    asyncio.run(serve())
