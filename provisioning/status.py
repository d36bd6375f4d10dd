"""`store-gateway status`: what the shop is doing now, for people a table, for programs one JSON object."""

import platform
from importlib import metadata
from typing import Any, Final

from rich.table import Table

from gateway.config import GatewayConfig
from gateway.schema import VERSION
from provisioning.checks.trust import days_left, read_certificate
from provisioning.doctor import ask_core

LANE_NAMES: Final = {0: "money and lockers", 1: "foot traffic", 2: "health"}
TRUST_NAMES: Final = {0: "agreed with headquarters", 1: "nothing contradicts it", 2: "not believed"}


def report(config: GatewayConfig) -> dict[str, Any]:
    """Core's view with what core does not know; `serving` is false, and `trouble` says why, when it does not answer."""
    view, trouble = ask_core(config)
    about = {
        "serving": view is not None,
        "trouble": trouble,
        "gateway": config.store.gateway,
        "versions": {"software": software(), "python": platform.python_version(), "ledger": VERSION},
        "certificate": _certificate(config),
    }
    return about if view is None else {**view, **about}


def software() -> str:
    """This release's number."""
    try:
        return metadata.version("store-gateway")
    except metadata.PackageNotFoundError:
        return "not installed"


def _certificate(config: GatewayConfig) -> dict[str, Any] | None:
    try:
        own = read_certificate(config)
    except (OSError, ValueError) as error:
        return {"days_left": None, "until": None, "trouble": type(error).__name__}
    if own is None:
        return None
    return {"days_left": round(days_left(own), 1), "until": own.not_valid_after_utc.isoformat(), "trouble": ""}


def as_table(report: dict[str, Any]) -> Table:
    """For people."""
    table = Table("what", "state")
    for unit in report.get("units", []):
        table.add_row(unit["unit"], unit["device_state"] if unit["connected"] else "[red]gone[/red]")
    if report["serving"]:
        _add_shop(table, report)
    certificate = report["certificate"]
    if certificate is None:
        table.add_row("certificate", "[red]not enrolled[/red]")
    elif certificate["days_left"] is None:
        table.add_row("certificate", f"[red]cannot be read: {certificate['trouble']}[/red]")
    else:
        table.add_row("certificate", f"{certificate['days_left']:.0f} days left")
    table.add_row("software", report["versions"]["software"])
    return table


def _add_shop(table: Table, report: dict[str, Any]) -> None:
    line, admission = report["line"], report["admission"]
    awaited = f": waits for {', '.join(admission['awaited'])}" if admission["awaited"] else f": {admission['doubt'] or admission['state']}"
    table.add_row("may redeem", f"yes ({admission['how']})" if admission["admitted"] else f"[red]no{awaited}[/red]")
    table.add_row("line to headquarters", "up" if line["up"] else "[red]down[/red]")
    table.add_row("rows headquarters has not yet", str(line["waiting"]))
    for lane in report["lanes"]:
        table.add_row(f"  {LANE_NAMES[lane['lane']]}", f"{lane['waiting']} wait, {lane['cursor']} of {lane['last']} of this epoch there")
    table.add_row("clock", TRUST_NAMES[report["time_trust"]])
    table.add_row("epoch", report["epoch"])
    for name, version in sorted(report["documents"].items()):
        table.add_row(f"document {name}", f"version {version}")
    for name, count in report["counts"].items():
        table.add_row(name, str(count))
