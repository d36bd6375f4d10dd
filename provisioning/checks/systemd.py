"""What systemd says of services. Where it does not run or does not answer, nothing is known of any."""

import subprocess
from pathlib import Path
from typing import Final

ASK_S: Final = 2.0
ACTIVE: Final = "active"
STARTING: Final = "starting"  # for the first time: it has not failed, it just has not got there
FIELDS: Final = ("ActiveState", "SubState", "NRestarts", "Job")


def runs(root: Path) -> bool:
    """Whether this machine was started by systemd."""
    return (root / "run" / "systemd" / "system").is_dir()


def booting(root: Path) -> bool:
    """Whether systemd has not yet come to the end of what is started at boot: until then a device may take its time."""
    return runs(root) and _call("is-system-running").strip() in ("initializing", "starting")


def starting(root: Path, service: str) -> bool:
    """Whether it is too early to miss a service."""
    return booting(root) or states(root, [service]).get(service) == STARTING


def states(root: Path, services: list[str]) -> dict[str, str]:
    """Each service's state: `STARTING`, or systemd's own word for it."""
    if not runs(root):
        return {}
    blocks = _call("show", f"--property={','.join(FIELDS)}", *services).strip().split("\n\n")
    told = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
    if len(told) != len(services) or not all("ActiveState" in one for one in told):
        return {}
    return {service: _word(one) for service, one in zip(services, told, strict=True)}


def _call(*words: str) -> str:
    try:
        return subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=ASK_S, check=False).stdout
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""


def _word(told: dict[str, str]) -> str:
    """One that fails again and again is `activating` too: between its starts, and in each but the first."""
    first = told.get("NRestarts", "0") == "0" and told.get("SubState") != "auto-restart"
    waits = told["ActiveState"] == "inactive" and told.get("Job", "0") not in ("", "0")  # for a unit before it
    return STARTING if first and (waits or told["ActiveState"] == "activating") else told["ActiveState"]
