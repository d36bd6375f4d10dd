"""`store-gateway support`: one file that tells a helper far away what a box is like, without telling them anybody's secrets.

Nothing is copied whole. The configuration is written anew from the keys this release knows; of the ledger only counts go along;
every text passes `redaction`, and a last look takes out any line that still holds a piece of this box's own keys.
"""

import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.config import GatewayConfig
from provisioning.checks import books
from provisioning.checks.running import configured_units
from provisioning.doctor import as_json, examine, look_at
from provisioning.redaction import MARK, redact
from provisioning.renewing import IDENTITY
from provisioning.status import report, software

LOG_LINES: Final = 400  # of each unit
LOG_B: Final = 128 * 1024
ASK_S: Final = 5.0
PIECE: Final = 16  # letters of a key that must not appear
STATUS_KEYS: Final = (
    "serving", "trouble", "store", "gateway", "epoch", "now_us", "time_trust", "line", "lanes", "units", "documents", "counts", "versions",
    "certificate",
)  # fmt: skip
README: Final = """\
What `store-gateway support` gathered on this box. Keys, codes, PINs, long numbers, names and addresses of radios were taken out
on the box; ‹marks› show where. The ledger is counted, none of its events is here. Look through it before you send it.

doctor.json    every check of `store-gateway doctor`
status.json    what the shop was doing
config.json    the configuration's known keys; followed tags are only counted
ledger.json    sizes and counts
machine.json   system, disk, memory
units.txt      what systemd says of the units
logs/          the last lines of each unit
"""


def bundle(config_path: Path, out: Path, logs: Path | None = None) -> list[str]:
    """Write the bundle, readable by its owner only; returns the names in it.

    Args:
        config_path: The box's configuration; a broken one is no hindrance.
        out: The file to write, `.tar.gz`.
        logs: Folder of `*.log` files, where units do not log to systemd's journal.
    """
    members = redacted(gather(config_path, logs), _own_secrets(config_path))
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in members.items():
            content = text.encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"support/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(content))
    return list(members)


def gather(config_path: Path, logs: Path | None = None) -> dict[str, str]:
    """Name to text of everything that goes along, not yet redacted."""
    config = look_at(config_path).config
    members: dict[str, Any] = {"doctor.json": json.loads(as_json(examine(config_path))), "machine.json": machine(config_path)}
    if config is not None:
        told = report(config)
        members["status.json"] = {key: told[key] for key in STATUS_KEYS if key in told}
        members["config.json"] = known_keys(config)
        members["ledger.json"] = ledger_counts(config.ledger_path)
    texts = {name: _pretty(_clean(value)) for name, value in members.items()}
    texts["units.txt"] = _said("systemctl", "status", "--no-pager", "--lines=0", "store*")
    return {"README.txt": README, **texts, **last_lines(config, logs or config_path.resolve().parent.parent / "logs")}


def redacted(members: dict[str, str], secrets: set[str]) -> dict[str, str]:
    """The members as they may leave the box. JSON was cleaned value by value, so that its numbers stay numbers."""
    return {name: _without(text if name.endswith(".json") else redact(text), secrets) for name, text in members.items()}


def known_keys(config: GatewayConfig) -> dict[str, Any]:
    """The configuration as this release understands it; who may be followed is only counted."""
    table: dict[str, Any] = msgspec.to_builtins(config)
    table["ble"]["tags"] = len(config.ble.tags)
    return table


def ledger_counts(path: Path) -> dict[str, Any]:
    """Sizes, epochs, rows by type: no event, no identifier."""
    files = {one.name: one.stat().st_size for one in sorted(path.parent.glob("ledger.db*"))} if path.parent.is_dir() else {}
    try:
        with books.opened(path) as connection, books.reading(path) as reader:
            return {
                "bytes": files,
                "rows": reader.counts(),
                "lanes": [dict(zip(("epoch", "lane", "last", "record_us"), found, strict=True)) for found in reader.lanes()],
                "damaged": connection.execute("SELECT count(*) FROM damaged").fetchone()[0],
                "documents": dict(connection.execute("SELECT name, version FROM document")),
            }
    except books.Unreadable as error:
        return {"bytes": files, "trouble": str(error)}


def machine(config_path: Path) -> dict[str, Any]:
    """The system, its disk, its memory."""
    disk = shutil.disk_usage(config_path.resolve().parent if config_path.exists() else Path("/"))
    return {
        "software": software(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "model": _first_line(Path("/proc/device-tree/model")),
        "cores": os.cpu_count(),
        "load": [round(one, 2) for one in os.getloadavg()],
        "up_s": int(time.clock_gettime(time.CLOCK_BOOTTIME)),
        "disk_b": {"total": disk.total, "free": disk.free},
        "memory": {line.split()[0].rstrip(":"): line.split()[1] + " kB" for line in _lines(Path("/proc/meminfo"))[:3]},
    }


def last_lines(config: GatewayConfig | None, logs: Path) -> dict[str, str]:
    """The last lines of each unit: from systemd's journal, else from files."""
    if Path("/run/systemd/system").is_dir():
        units = ["core", *(configured_units(config) if config else ["bridge"])]
        asked = {unit: ("journalctl", "--no-pager", "-o", "short-iso", "-n", str(LOG_LINES), "-u", f"store-{unit}") for unit in units}
        return {f"logs/{unit}.txt": _said(*command) for unit, command in asked.items()}
    return {f"logs/{path.stem}.txt": _tail(path) for path in sorted(logs.glob("*.log"))}


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_B))
            return "\n".join(file.read(LOG_B).decode("utf-8", "replace").splitlines()[-LOG_LINES:])
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _said(*command: str) -> str:
    try:
        asked = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]} did not answer: {error}"
    return (asked.stdout or asked.stderr)[-LOG_B:]


def _clean(value: Any) -> Any:
    """Every text in it redacted; numbers, which are counts and times of our own, stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(key)): _clean(inner) for key, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else value


def _own_secrets(config_path: Path) -> set[str]:
    """Pieces of this box's private keys, wherever its configuration says they lie."""
    config = look_at(config_path).config
    pieces: set[str] = set()
    paths = [*config.enrolment_dir.glob("*.key"), *(config.state_dir / IDENTITY).glob("*.pem")] if config else []
    for path in paths:
        for line in _lines(path):
            pieces |= {line[at : at + PIECE] for at in range(len(line) - PIECE + 1)} if not line.startswith("-----") else set()
    return pieces


def _without(text: str, secrets: set[str]) -> str:
    if not secrets:
        return text
    return "\n".join(
        MARK.format("key") if any(line[at : at + PIECE] in secrets for at in range(len(line) - PIECE + 1)) else line
        for line in text.split("\n")
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _first_line(path: Path) -> str:
    return "".join(_lines(path)[:1]).strip("\0")
