"""`store-gateway run UNIT`: one process of the store, from its configuration to its end.

Light on purpose: Typer, rich and every other unit's libraries stay out of a unit's memory.
"""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
import tomllib
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from gateway import memory
from gateway.clock import SystemClock
from gateway.config import GatewayConfig, load
from gateway.errors import CONFIG_EXIT_STATUS, ConfigError, LedgerError
from gateway.health import Watchdog, enrolment_dir, tell
from gateway.logs import to_stderr

if TYPE_CHECKING:
    from gateway.core.desk import Desk

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG: Final = 1
LITTLE_DISK_B: Final = 64 * 2**20  # below it core's status says so; the ledger takes half a kilobyte a sale
# Unit kind to the module whose `run(config, name, clock)` is its process.
DRIVERS: Final = {
    "ble": ("gateway.ble.__main__", "run"),
    "scanner": ("gateway.scanner.__main__", "run"),
    "locker": ("gateway.locker.__main__", "run"),
    "board": ("gateway.locker.__main__", "run_virtual"),
    "bridge": ("cloud_bridge.__main__", "run"),
}
KINDS: Final = ("core", "enroll", *DRIVERS, "hq")


def run_unit(arguments: list[str]) -> int:
    """Run a unit until it is told to end: `UNIT --config FILE [--with-parent]`. Returns the exit status."""
    to_stderr()
    try:
        unit, config = _understand(arguments)
        memory.share_heaps()
        start = _headquarters(config) if unit == "hq" else _unit(unit, load(config))
        asyncio.run(_until_told(start))
    except ConfigError as error:
        print(f"store-gateway: {error}", file=sys.stderr)
        return CONFIG_EXIT_STATUS
    except LedgerError as error:
        log.critical("%s", error)
        return 1
    except BaseExceptionGroup as group:
        return _status_of(group)
    return 0


def _understand(arguments: list[str]) -> tuple[str, Path]:
    words = list(arguments)
    if "--with-parent" in words:
        words.remove("--with-parent")
        import ctypes  # for this only; on a box systemd is the parent

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if len(words) != 3 or words[1] != "--config":
        raise ConfigError("usage: store-gateway run UNIT --config FILE", f"UNIT is one of {', '.join(KINDS)}, with @NAME for an instance")
    return words[0], Path(words[2])


def _unit(unit: str, config: GatewayConfig) -> Callable[[], Awaitable[None]]:
    kind, _, name = unit.partition("@")
    if kind == "core":
        return lambda: run_core(config)
    if kind == "enroll":
        return lambda: run_enroll(config)
    if kind not in DRIVERS:
        raise ConfigError(f"there is no unit {unit}", f"Known: {', '.join(KINDS)}")
    module, function = DRIVERS[kind]
    run = getattr(import_module(module), function)
    return lambda: run(config, name, SystemClock())


def _headquarters(options: Path) -> Callable[[], Awaitable[None]]:
    from cloud_bridge.hq.__main__ import run
    from cloud_bridge.hq.options import HqOptions

    try:
        loaded = msgspec.toml.decode(options.read_bytes(), type=HqOptions)
    except (OSError, msgspec.DecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot use {options}: {error}", "docs/configuration.md lists headquarters' options") from error
    return lambda: run(loaded)


async def run_core(config: GatewayConfig) -> None:
    """Core: the desk on the link, and the kiosk's doors on top of it."""
    from gateway.core.desk import Desk
    from gateway.core.passes import Signer
    from gateway.kiosk.app import serve
    from provisioning.authority import Enrolment

    enrolment = Enrolment.load(enrolment_dir(config.enrolment_dir))
    secret, signer = enrolment.sign_key.private_bytes_raw(), Signer(enrolment.facts.page, enrolment.sign_key)
    desk = Desk(config, SystemClock(), enrolment.hq_public, software(), secret=secret, signer=signer)
    listening = asyncio.Event()
    # One inside the other: at the end the doors answer what is under way, and only then does the desk close its ledger.
    async with asyncio.TaskGroup() as core:
        core.create_task(desk.run())
        async with asyncio.TaskGroup() as doors:
            doors.create_task(serve(desk, config.core.host, config.core.port, listening=lambda _port: listening.set()))
            doors.create_task(Watchdog().run(functools.partial(_prove_core, desk, listening)))


async def run_enroll(config: GatewayConfig) -> None:
    """Until this box is enrolled: its label is read by its scanners or pasted into its page. Then ends."""
    from gateway.kiosk.enrol import serve
    from provisioning.unit import EnrolDesk, run

    def page(desk: EnrolDesk) -> Awaitable[None]:
        store = config.store
        present = functools.partial(desk.present, by_page=True)
        return serve(config.core.host, config.core.port, store.gateway, store.name_zh or store.store, lambda: desk.standing, present)

    async with asyncio.TaskGroup() as tasks:
        watched = tasks.create_task(Watchdog().run(_nothing_to_prove))
        await run(config, SystemClock(), page)
        watched.cancel()


async def _nothing_to_prove() -> str:
    return "waiting for a label"


async def _prove_core(desk: "Desk", listening: asyncio.Event) -> str:
    """Returns once core has taken a connection of the link and its ledger has answered through both of its connections.

    Nothing is written, so a full disk answers too: it is degraded, not dead.
    """
    await listening.wait()
    await _connect(desk.config.link_path)
    await desk.prove()
    disk = os.statvfs(desk.config.state_dir)
    free_b = disk.f_bavail * disk.f_frsize
    return "serving" if free_b > LITTLE_DISK_B else f"degraded: {free_b // 2**20} MB left on the disk"


async def _connect(link: Path) -> None:
    while True:
        try:
            _, writer = await asyncio.open_unix_connection(link)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return


def software() -> str:
    """This release, as epochs name it."""
    from importlib import metadata  # 3 MB with all that it brings along; only core asks

    try:
        return f"store-gateway {metadata.version('store-gateway')}"
    except metadata.PackageNotFoundError:
        return "store-gateway (not installed)"


async def _until_told(start: Callable[[], Awaitable[None]]) -> None:
    """Run until done, or until SIGTERM or SIGINT asks for an orderly end."""
    running = asyncio.ensure_future(start())
    loop = asyncio.get_running_loop()
    memory.tidy_when_settled()
    told = asyncio.Event()

    def end() -> None:
        tell("STOPPING=1")
        told.set()
        running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    if not told.is_set() and running.cancelled():
        raise asyncio.CancelledError


def _status_of(group: BaseExceptionGroup[BaseException]) -> int:
    settings, rest = group.split(ConfigError)
    for error in _leaves(settings):
        print(f"store-gateway: {error}", file=sys.stderr)
    if rest is None:
        return CONFIG_EXIT_STATUS
    known, unknown = rest.split(LedgerError)
    for error in _leaves(known):
        log.critical("%s", error)
    if unknown is not None:
        log.critical("the unit ends", exc_info=unknown)
    return 1


def _leaves(group: BaseExceptionGroup[BaseException] | None) -> list[BaseException]:
    if group is None:
        return []
    return [leaf for error in group.exceptions for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])]
