"""Where a locker process begins: the driver of one bus, or the virtual board it talks to on a laptop."""

import asyncio
from pathlib import Path
from typing import Final

from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.health import Watchdog
from gateway.link import LinkClient

PULL_AFTER_S: Final = 0.4  # a shopper reaches for a door that clicks
CLOSE_AFTER_S: Final = 1.6  # and lets a demo go on


async def run(config: GatewayConfig, name: str, clock: Clock) -> None:
    """Drive the locker instance of that name until cancelled.

    Raises:
        ConfigError: There is none.
    """
    from gateway.locker.board import board_of
    from gateway.locker.driver import LockerDriver

    locker = config.locker(name)
    link = LinkClient(config.link_path, f"locker@{name}", clock)
    watchdog = Watchdog("bus")
    driver = LockerDriver(board_of(locker), name, locker.compartments, locker.poll_ms, link, clock, lambda: watchdog.turned("bus"))
    async with asyncio.TaskGroup() as unit:
        unit.create_task(link.run())
        unit.create_task(driver.run())
        unit.create_task(watchdog.run())


async def run_virtual(config: GatewayConfig, name: str, clock: Clock) -> None:
    """Be the board of the locker instance of that name until cancelled; it outlives its driver, as a real one does.

    Raises:
        ConfigError: There is none.
    """
    from gateway.locker.virtual import run_board

    locker = config.locker(name)
    await run_board(
        Path(locker.port),
        locker.compartments,
        pull_after_s=PULL_AFTER_S,
        close_after_s=CLOSE_AFTER_S,
        seed=0,
        address=locker.address,
        clock=clock,
    )
