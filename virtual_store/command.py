"""`store-gateway store`: a whole store on this machine, for a person to play with or for a given time by itself."""

import asyncio
import contextlib
import json
import signal
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from gateway.errors import StoreError
from virtual_store.plan import Plan, choose_ports
from virtual_store.starter import Addresses, Starter

CUT_FROM: Final = 0.4  # of a headless day the line is cut from here
CUT_TO: Final = 0.6
ENDS_BEFORE_S: Final = 1.0


class Options(msgspec.Struct, frozen=True):
    """What was asked for on the command line."""

    folder: Path
    for_s: float | None
    headless: bool
    seed: int
    broker: str = "amqtt"


def store(options: Options) -> int:
    """Run it; returns the exit status: 0 when shop and headquarters agree, or nobody asked."""
    console = Console(stderr=options.headless)
    try:
        return asyncio.run(_until_told(options, console))
    except StoreError as error:
        console.print(f"[red]{error}[/red]")
    except BaseExceptionGroup as group:
        known, unknown = group.split(StoreError)
        if unknown is not None:
            raise
        for leaf in _leaves(known):
            console.print(f"[red]{leaf}[/red]")
    return 1


def _leaves(group: BaseExceptionGroup[Any] | None) -> list[BaseException]:
    errors = group.exceptions if group is not None else ()
    return [leaf for error in errors for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])]


async def _until_told(options: Options, console: Console) -> int:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(_run(options, console, told))

    def end() -> None:
        if told.is_set() or options.for_s is None or not options.headless:
            running.cancel()
        told.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    with contextlib.suppress(asyncio.CancelledError):
        return await running
    return 0 if options.for_s is None else 1


async def _run(options: Options, console: Console, told: asyncio.Event) -> int:
    options.folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(options.folder.resolve(), choose_ports(), options.seed, options.broker)
    async with Starter(plan, lambda sentence: console.print(f"· {sentence}")) as starter:
        assert starter.addresses is not None  # noqa: S101 - set on entering
        _welcome(console, starter.addresses, starter.ready_s)
        if options.for_s is None:
            await told.wait()
            return 0
        summary = await (_headless_day(starter, options.for_s, console) if options.headless else _quiet_day(starter, options.for_s))
    agreed = summary["produced"] == summary["stored"] and all(summary["produced"].values() if options.headless else [True])
    print(f"SUMMARY {json.dumps(summary)}", flush=True)
    return 0 if agreed else 1


async def _quiet_day(starter: Starter, for_s: float) -> dict[str, Any]:
    await asyncio.sleep(for_s)
    return await starter.drain()


async def _headless_day(starter: Starter, for_s: float, console: Console) -> dict[str, Any]:
    shoppers = starter.shoppers()
    closing = asyncio.Event()
    async with asyncio.TaskGroup() as people:
        people.create_task(shoppers.day(closing))
        people.create_task(_cut(starter, for_s, console))
        await asyncio.sleep(max(0.0, for_s - ENDS_BEFORE_S))
        closing.set()
    console.print("· the shop closes; waiting until headquarters has everything")
    for surprise in shoppers.deeds.surprises:
        console.print(f"[yellow]· a shopper {surprise}[/yellow]")
    return await starter.drain()


async def _cut(starter: Starter, for_s: float, console: Console) -> None:
    await asyncio.sleep(for_s * CUT_FROM)
    console.print("· the line to headquarters is cut; the shop goes on")
    await starter.cut_line(False)
    await asyncio.sleep(for_s * (CUT_TO - CUT_FROM))
    await starter.cut_line(True)
    console.print("· the line is back")


def _welcome(console: Console, addresses: Addresses, ready_s: float) -> None:
    lines = [
        f"shop at a glance   {addresses.shop}",
        f"kiosk              {addresses.kiosk}",
        f"staff page         {addresses.staff}   {addresses.clerk_name}, PIN {addresses.clerk_pin}",
        f"headquarters       {addresses.hq}",
        "",
        f"ready in {ready_s} s. Ctrl-C ends everything. Kill any process: it comes back.",
    ]
    console.rule("store-gateway")
    # Not in a frame, which would cut what is wider than the terminal: half a login link opens nothing.
    console.print("\n".join(lines), soft_wrap=True)
    console.rule()
