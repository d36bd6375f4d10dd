"""What the command line asks of a running headquarters."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cloud_bridge.hq.options import read_addresses
from cloud_bridge.hq.wan import Line
from gateway.errors import BrokerError, ConfigError

TIMEOUT_S = 5.0


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


def _ask(data_dir: Path, path: str, body: dict[str, Any] | None) -> Any:
    """POST, or GET without a body."""
    addresses = read_addresses(data_dir)
    request = urllib.request.Request(  # noqa: S310 - the address is headquarters' own, http on loopback
        f"{addresses.http}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {addresses.admin_token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - as above
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise ConfigError(f"headquarters refuses: {_detail(error)}", "`store-gateway hq` lists what can be asked") from error
    except (OSError, ValueError) as error:
        raise BrokerError(f"headquarters does not answer: {error}", "Start it, then try again") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"HTTP {error.code}"
