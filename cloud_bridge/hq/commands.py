"""What the command line asks of a running headquarters."""

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cloud_bridge.hq.books import SUMS
from cloud_bridge.hq.options import read_addresses
from cloud_bridge.hq.wan import Line
from gateway.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from rich.table import Table

TIMEOUT_S = 5.0
COUNT_TIMEOUT_S = 3600.0
LANE_WORDS = {0: "money", 1: "traffic", 2: "health"}


def wan_command(data_dir: Path, store: str, line: Line) -> str:
    """Put a shop's line up, down or silent.

    Returns:
        The line's state as headquarters confirms it.

    Raises:
        ConfigError: Headquarters knows no such shop, or never started with that folder.
        BrokerError: Headquarters does not answer.
    """
    body = {"up": line is not Line.DOWN, "silent": line is Line.SILENT}
    return str(_ask(data_dir, f"/api/stores/{quote(store)}/wan", body)["line"])


def boxes_command(data_dir: Path) -> list[dict[str, Any]]:
    """Every box, and whether it is revoked.

    Raises:
        ConfigError: Headquarters never started with that folder.
        BrokerError: Headquarters does not answer.
    """
    return list(_ask(data_dir, "/api/boxes", None))


def revoke_box_command(data_dir: Path, gateway: str) -> str:
    """Revoke a box; its name, as headquarters confirms it.

    Raises:
        ConfigError: Headquarters knows no such box, or never started with that folder.
        BrokerError: Headquarters does not answer.
    """
    return str(_ask(data_dir, f"/api/boxes/{quote(gateway)}/revoke", {})["gateway"])


def revoke_device_command(data_dir: Path, store: str, device_id: str) -> str:
    """Revoke a shop's device; its identifier, as headquarters confirms it.

    Raises:
        ConfigError: Headquarters knows no such shop or device, or never started with that folder.
        BrokerError: Headquarters does not answer.
    """
    return str(_ask(data_dir, f"/api/stores/{quote(store)}/devices/{quote(device_id)}/revoke", {})["device_id"])


def devices_command(data_dir: Path, store: str) -> list[dict[str, Any]]:
    """A shop's paired devices.

    Raises:
        ConfigError: Headquarters knows no such shop, or never started with that folder.
        BrokerError: Headquarters does not answer.
    """
    return list(_ask(data_dir, f"/api/stores/{quote(store)}/devices", None))


def books_command(data_dir: Path, counted: bool) -> dict[str, Any]:
    """The books: their sums, and `entries` for each lane of each epoch.

    Args:
        counted: Count the rows themselves; takes as long as reading all of them does.

    Raises:
        ConfigError: Headquarters never started with that folder.
        BrokerError: Headquarters does not answer.
    """
    return dict(_ask(data_dir, f"/api/books?counted={str(counted).lower()}", None, COUNT_TIMEOUT_S if counted else TIMEOUT_S))


def books_table(found: dict[str, Any]) -> "Table":
    """The books for people; numbers that must not be are red."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table("shop", "start", "lane", *SUMS, box=SIMPLE, caption="produced = received + declared + closed + waiting + unexplained")
    for column in table.columns[3:]:
        column.justify = "right"
    for entry in found["entries"]:
        name = f"[bold]{entry['epoch']}[/bold]" if entry["alive"] else entry["epoch"]
        table.add_row(entry["store"], name, LANE_WORDS[entry["lane"]], *_cells(entry))
    table.add_section()
    table.add_row("all", "", "", *_cells(found))
    return table


def _cells(numbers: dict[str, Any]) -> list[str]:
    red = ("unexplained", "quarantined")
    return [f"[red]{numbers[name]}[/red]" if name in red and numbers[name] else str(numbers[name]) for name in SUMS]


def events_command(data_dir: Path, after: str) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Everything shops told after a cursor, page by page as CloudEvents, each page with the cursor behind it.

    Args:
        after: A cursor, or "" for the beginning.

    Raises:
        ConfigError: That is no cursor, or one of before a restore; or headquarters never started with that folder.
        BrokerError: Headquarters does not answer.
    """
    while True:
        with _opened(data_dir, f"/api/events?after={quote(after)}", None) as response:
            events, after = json.load(response), response.headers["X-Cursor"]
        if not events:
            return
        yield events, after


def _ask(data_dir: Path, path: str, body: dict[str, Any] | None, timeout_s: float = TIMEOUT_S) -> Any:
    """POST, or GET without a body."""
    with _opened(data_dir, path, body, timeout_s) as response:
        return json.load(response)


@contextlib.contextmanager
def _opened(data_dir: Path, path: str, body: dict[str, Any] | None, timeout_s: float = TIMEOUT_S) -> Iterator[Any]:
    addresses = read_addresses(data_dir)
    request = urllib.request.Request(  # noqa: S310 - the address is headquarters' own, http on loopback
        f"{addresses.http}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {addresses.admin_token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310 - as above
            yield response
    except urllib.error.HTTPError as error:
        with error:
            raise ConfigError(f"headquarters refuses: {_detail(error)}", "`store-gateway hq` lists what can be asked") from error
    except (OSError, ValueError, HTTPException) as error:
        raise BrokerError(f"headquarters does not answer: {error}", "Start it, then try again") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"HTTP {error.code}"


def keys_command(data_dir: Path) -> list[dict[str, Any]]:
    """Who may enter headquarters.

    Raises:
        ConfigError: Headquarters never started with that folder.
        BrokerError: Headquarters does not answer.
    """
    return list(_ask(data_dir, "/api/keys", None))


def add_key_command(data_dir: Path, name: str, roles: list[str]) -> str:
    """Make a key for somebody; it is told this once.

    Raises:
        ConfigError: The name cannot be, or there is no such role.
        BrokerError: Headquarters does not answer.
    """
    return str(_ask(data_dir, "/api/keys", {"name": name, "roles": roles})["key"])


def revoke_key_command(data_dir: Path, name: str) -> str:
    """Revoke a key; whose, as headquarters confirms it.

    Raises:
        ConfigError: No such key is in force.
        BrokerError: Headquarters does not answer.
    """
    return str(_ask(data_dir, f"/api/keys/{quote(name)}/revoke", {})["name"])


def journal_command(data_dir: Path, who: str) -> list[dict[str, Any]]:
    """The newest lines of the office's journal; `who` empty: everybody's.

    Raises:
        ConfigError: Headquarters never started with that folder.
        BrokerError: Headquarters does not answer.
    """
    return list(_ask(data_dir, f"/api/journal?who={quote(who)}", None))
