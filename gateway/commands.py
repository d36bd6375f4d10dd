"""Commands for people: start a store, look at one, show its camera something, cut its line."""

import asyncio
import json
import sys
import urllib.request
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from gateway.config import GatewayConfig, load
from gateway.errors import StoreError
from gateway.schema import migrate as migrate_ledger

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The in-store half of O2O retail.")
hq_app = typer.Typer(no_args_is_help=True, help="Headquarters.")
app.add_typer(hq_app, name="hq")
ConfigOption = Annotated[Path, typer.Option("--config", help="The box's configuration.")]
DEFAULT_CONFIG = Path("build/store/shop/gateway.toml")


@app.command()
def store(
    for_s: Annotated[float | None, typer.Option("--for", help="Seconds to run; then drain, compare and exit.")] = None,
    headless: Annotated[bool, typer.Option(help="Nobody is watching: virtual shoppers do everything.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the store lives between runs.")] = Path("build/store"),
    fresh: Annotated[bool, typer.Option(help="Begin with an empty store in a new folder beside it.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the virtual devices; 0 takes a new one.")] = 0,
) -> None:
    """A whole store with headquarters on this machine: virtual beacons, camera, lockers and shoppers."""
    from virtual_store.command import Options
    from virtual_store.command import store as run_store

    if fresh:
        import tempfile

        folder = Path(tempfile.mkdtemp(prefix="store-"))
    raise typer.Exit(run_store(Options(folder, for_s, headless, seed)))


@app.command()
def migrate(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Bring the ledger's tables to this release; runs before core starts."""
    before, after = migrate_ledger(_load(config).ledger_path)
    typer.echo(f"ledger: version {before} -> {after}" if before != after else f"ledger: version {after}, nothing to do")


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """What the shop is doing now, as core sees it."""
    core = _load(config).core
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{core.port}/v1/store", timeout=5) as reply:
            view = json.load(reply)
    except OSError as error:
        _fail(f"core does not answer on port {core.port} ({error}). Is it running? `make store` starts one")
    if as_json:
        typer.echo(json.dumps(view, ensure_ascii=False))
        return
    table = Table("what", "state")
    for unit in view["units"]:
        table.add_row(unit["unit"], unit["device_state"] if unit["connected"] else "[red]gone[/red]")
    table.add_row("line to headquarters", "up" if view["line"]["up"] else "[red]down[/red]")
    table.add_row("rows headquarters has not yet", str(view["line"]["waiting"]))
    for name, count in view["counts"].items():
        table.add_row(name, str(count))
    Console().print(table)


@app.command()
def show(
    text: Annotated[str, typer.Argument(help="What the code says.")],
    config: ConfigOption = DEFAULT_CONFIG,
    camera: Annotated[str, typer.Option(help="Scanner instance with a virtual camera.")] = "counter",
    seconds: Annotated[float, typer.Option(help="How long it is held there.")] = 2.5,
) -> None:
    """Hold a code before a virtual camera."""
    from virtual_store.shoppers import show as hold

    control = Path(_load(config).paths.run) / f"camera-{camera}.ctl"
    try:
        asyncio.run(hold(control, text, seconds))
    except OSError as error:
        _fail(f"nobody answers at {control} ({error}). Is that camera virtual and its process running?")
    typer.echo("shown")


@hq_app.command()
def wan(
    store_name: Annotated[str, typer.Argument(metavar="STORE", help="The shop, such as tpe-001.")],
    down: Annotated[bool, typer.Option("--down/--up", help="Cut the line, or mend it.")],
    data: Annotated[Path, typer.Option(help="Headquarters' data folder.")] = Path("build/store/hq"),
    silent: Annotated[bool, typer.Option(help="With --down: a line that is open and carries nothing.")] = False,
) -> None:
    """Cut a shop's line to headquarters, or mend it."""
    from cloud_bridge.hq.commands import wan_command
    from cloud_bridge.hq.wan import Line

    try:
        typer.echo(wan_command(data, store_name, Line.SILENT if down and silent else Line.DOWN if down else Line.UP))
    except StoreError as error:
        _fail(str(error))


def _load(config: Path) -> GatewayConfig:
    try:
        return load(config)
    except StoreError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"store-gateway: {message}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit("use `store-gateway`")
