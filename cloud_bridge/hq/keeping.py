"""Backups over headquarters' API, and the commands that ask for them or do without a running headquarters."""

import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from cloud_bridge.hq.backups import DATABASE, Backup, Backups, Marks, Progress, add, copy, restore
from cloud_bridge.hq.journal import position
from cloud_bridge.hq.options import Addresses, read_addresses
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Store
from gateway.clock import Clock, SystemClock
from gateway.errors import BrokerError, ConfigError

ANSWERS_S: Final = 3.0
LONGEST_S: Final = 3_600.0
Tell = Callable[[int, int], None]


class NewBackup(BaseModel):
    """Where to write it, on headquarters' machine."""

    model_config = ConfigDict(extra="forbid")
    file: str = Field(min_length=1, max_length=1_000)


def backup_routes(backups: Backups, store: Store, clock: Clock) -> APIRouter:
    """The backups' part of the API."""
    router = APIRouter(prefix="/api", tags=["backups"])

    async def told(file: Path) -> AsyncIterator[bytes]:
        try:
            async for progress in backups.make(store, file, clock.now().wall_us):
                yield msgspec.json.encode(progress) + b"\n"
        except ConfigError as error:
            yield json.dumps({"error": str(error)}).encode() + b"\n"

    @router.post("/backups", summary="Make a backup while everything goes on: lines of JSON tell how far it has come")
    async def make(body: NewBackup) -> StreamingResponse:
        file = Path(body.file)
        if not file.is_absolute() or not file.parent.is_dir():
            raise RefusedAsk(422, f"{file} is not a file in a folder of headquarters' machine")
        return StreamingResponse(told(file), media_type="application/x-ndjson")

    return router


def backup_command(data: Path, file: Path, tell: Tell, keep: int = 7) -> None:
    """Make a backup: by headquarters if it runs, else here.

    Raises:
        ConfigError: It cannot be made.
        BrokerError: Headquarters stopped answering.
    """
    running = answering(data)
    if running is not None:
        _ask(running, file.absolute(), tell)
        return
    if not (data / DATABASE).is_file():
        raise ConfigError(f"there is no {data / DATABASE}", "Start headquarters first: it knows its database")
    journalled = position(data)
    marks = copy(data / DATABASE, file, lambda progress: tell(progress.done, progress.all))
    add(data, Backup(str(file.absolute()), SystemClock().now().wall_us, marks, journalled), keep)


def restore_command(data: Path, file: Path) -> Marks:
    """Put a backup in the place of a stopped headquarters' database; what it holds.

    Raises:
        ConfigError: Headquarters runs, or the file is no backup.
    """
    if answering(data) is not None:
        raise ConfigError("headquarters runs with this folder", "Stop it first, restore, then start it again")
    return restore(data, file, SystemClock().now().wall_us)


def answering(data: Path) -> Addresses | None:
    """Where a running headquarters answers; None: it does not."""
    try:
        addresses = read_addresses(data)
    except ConfigError:
        return None
    try:
        with _open(addresses, "/healthz", None, ANSWERS_S):
            return addresses
    except urllib.error.HTTPError as error:
        error.close()
        return addresses  # it answers, if only that something is amiss
    except OSError:
        return None


def _ask(addresses: Addresses, file: Path, tell: Tell) -> None:
    try:
        with _open(addresses, "/api/backups", {"file": str(file)}, LONGEST_S) as reply:
            for line in reply:
                said = json.loads(line)
                if "error" in said:
                    raise ConfigError(said["error"])
                progress = msgspec.convert(said, Progress)
                tell(progress.done, progress.all)
    except urllib.error.HTTPError as error:
        with error:
            raise ConfigError(f"headquarters refuses: {error.read(500).decode('utf-8', 'replace')}") from error
    except OSError as error:
        raise BrokerError(f"headquarters does not answer: {error}", "Start it, then try again") from error


def _open(addresses: Addresses, path: str, body: dict[str, Any] | None, timeout_s: float) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {addresses.admin_token}"}
    request = urllib.request.Request(addresses.http + path, data, headers)  # noqa: S310 - headquarters' own address, http on loopback
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout_s)
