"""What the command line asks of a running headquarters."""

import json
import urllib.error
import urllib.request
from pathlib import Path

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
    addresses = read_addresses(data_dir)
    body = json.dumps({"up": line is not Line.DOWN, "silent": line is Line.SILENT}).encode()
    request = urllib.request.Request(  # noqa: S310 - the address is headquarters' own, http on loopback
        f"{addresses.http}/api/stores/{store}/wan",
        body,
        {"Content-Type": "application/json", "Authorization": f"Bearer {addresses.admin_token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - as above
            return str(json.load(response)["line"])
    except urllib.error.HTTPError as error:
        with error:
            raise ConfigError(f"headquarters refuses: HTTP {error.code}", "`store-gateway hq` lists the shops") from error
    except (OSError, ValueError, KeyError) as error:
        raise BrokerError(f"headquarters does not answer: {error}", "Start it, then try again") from error
