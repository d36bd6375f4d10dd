"""Commands for people: start a store, look at one, show its camera something, cut its line."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from gateway import clearing_commands, enrol_commands, key_commands
from gateway.config import GatewayConfig, load
from gateway.errors import CONFIG_EXIT_STATUS, StoreError
from gateway.schema import migrate as migrate_ledger

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The in-store half of O2O retail.")
hq_app = typer.Typer(no_args_is_help=True, help="Headquarters.")
app.add_typer(hq_app, name="hq")
ConfigOption = Annotated[Path, typer.Option("--config", help="The box's configuration.")]
BOX_CONFIG = Path("/etc/store-gateway/gateway.toml")
DEFAULT_CONFIG = BOX_CONFIG if BOX_CONFIG.exists() else Path("build/store/shop/gateway.toml")
enrol_commands.add_to(app, hq_app, DEFAULT_CONFIG)
clearing_commands.add_to(app, hq_app)
key_commands.add_to(hq_app)


@app.command()
def store(
    for_s: Annotated[float | None, typer.Option("--for", help="Seconds to run; then drain, compare and exit.")] = None,
    headless: Annotated[bool, typer.Option(help="Nobody is watching: virtual shoppers do everything.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the store lives between runs.")] = Path("build/store"),
    fresh: Annotated[bool, typer.Option(help="Begin with an empty store in a new folder beside it.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the virtual devices; 0 takes a new one.")] = 0,
    broker: Annotated[str, typer.Option(help="amqtt (inside headquarters), mosquitto, or nats (three nats-servers).")] = "amqtt",
) -> None:
    """A whole store with headquarters on this machine: virtual beacons, camera, lockers and shoppers."""
    from virtual_store.command import Options
    from virtual_store.command import store as run_store

    if fresh:
        import tempfile

        folder = Path(tempfile.mkdtemp(prefix="store-"))
    raise typer.Exit(run_store(Options(folder, for_s, headless, seed, broker)))


@app.command()
def migrate(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Bring the ledger's tables to this release; runs before core starts."""
    before, after = migrate_ledger(_load(config).ledger_path)
    typer.echo(f"ledger: version {before} -> {after}" if before != after else f"ledger: version {after}, nothing to do")


@app.command()
def install(
    root: Annotated[Path, typer.Option("--root", help="Folder of an image to prepare; default: this machine.")] = Path("/"),
    program: Annotated[str, typer.Option(help="Where store-gateway is on that machine; default: this one, in an image below /opt.")] = "",
    now: Annotated[bool, typer.Option("--now", help="Also start the shop.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Make this machine a shop's box: users, folders, systemd units, device rules; may be repeated."""
    from provisioning import install as installing

    try:
        steps = installing.install(installing.Options(root, program, now, dry_run))
    except StoreError as error:
        _fail(str(error), CONFIG_EXIT_STATUS)
    if as_json:
        typer.echo(json.dumps([{"what": step.what, "outcome": step.outcome} for step in steps]))
        return
    Console().print(installing.as_table(steps, dry_run))
    typer.echo(installing.next_step(steps, now))


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """What the shop is doing now, as core sees it."""
    from provisioning.status import as_table, report

    told = report(_load(config))
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        Console().print(as_table(told))
    if not told["serving"]:
        _fail(f"core does not answer: {told['trouble']}. `store-gateway doctor` says what to do")


@app.command()
def doctor(
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    lang: Annotated[str, typer.Option(help="zh-Hant or en.")] = "zh-Hant",
) -> None:
    """What is wrong with this box, why it matters, and the next step. Exit status 1 if anything fails."""
    from provisioning.doctor import LANGUAGES, as_text, examine, exit_status
    from provisioning.doctor import as_json as in_json

    if lang not in LANGUAGES:
        _fail(f"--lang is one of {', '.join(LANGUAGES)}")
    findings = examine(config)
    typer.echo(in_json(findings) if as_json else as_text(findings, lang))
    raise typer.Exit(exit_status(findings))


@app.command()
def support(
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("support.tar.gz"),
    logs: Annotated[Path | None, typer.Option(help="Folder of *.log files, where units do not log to systemd's journal.")] = None,
) -> None:
    """One file for whoever helps from afar: checks, status, settings and logs, without keys, codes, PINs and numbers."""
    from provisioning.support import bundle

    try:
        names = bundle(config, out, logs)
    except OSError as error:
        _fail(f"cannot write {out}: {error.strerror}. Name another file with --out")
    typer.echo(f"{out}: {', '.join(names)}")


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


@app.command()
def pos(
    config: ConfigOption = DEFAULT_CONFIG,
    station: Annotated[str, typer.Option(help="The station it stands at; default: the first one.")] = "",
    url: Annotated[str, typer.Option(help="Where the shop is; default: as its configuration says, on this machine.")] = "",
) -> None:
    """A simulator till: pairs itself, holds, captures, voids and reverses vouchers, and shows each request with its answer."""
    from virtual_store.till import Till, manager_of
    from virtual_store.till_screen import Screen

    loaded = _load(config)
    at, folder = station or (loaded.stations[0].name if loaded.stations else ""), config.resolve().parent.parent
    console = Console()
    till = Till(url or f"http://127.0.0.1:{loaded.core.port}", at, folder / f"till-{at}.key")
    try:
        if not till.is_paired():
            approve = manager_of(folder, till.url)
            till.pair(lambda digits: console.print(f"配對碼 digits: [b]{digits}[/b] → {till.url}/staff, Devices"), approve)
        console.print(f"已配對 paired: {at}")
        Screen(till, console, lambda: console.input("[b]> [/b]")).run()
    except StoreError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


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


HqOption = Annotated[Path, typer.Option(help="Headquarters' data folder.")]
HQ_DATA = Path("build/store/hq")


@hq_app.command()
def devices(
    store_name: Annotated[str, typer.Argument(metavar="STORE", help="The shop, such as tpe-001.")],
    data: HqOption = HQ_DATA,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """A shop's paired devices: kiosk screens, tills and phones."""
    from cloud_bridge.hq.commands import devices_command

    try:
        found = devices_command(data, store_name)
    except StoreError as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for one in found:
        typer.echo(f"{one['device_id']}  {one['state']:8}  {one['kind']:5}  {one['station']}  {one['name']}")


@hq_app.command()
def books(
    data: HqOption = HQ_DATA,
    counted: Annotated[bool, typer.Option("--counted", help="Count the rows themselves instead of believing the marks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Whether every row a box wrote was received or declared: exit status 1 if not."""
    from cloud_bridge.hq.commands import books_command, books_table

    try:
        found = books_command(data, counted)
    except StoreError as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        from rich.console import Console

        console = Console()
        (console if console.is_terminal else Console(width=140)).print(books_table(found))  # into a file nothing is cut off
    if found["unexplained"]:
        raise typer.Exit(1)


@hq_app.command()
def events(
    data: HqOption = HQ_DATA,
    after: Annotated[str, typer.Option("--from", help="Go on behind a cursor, as an earlier call printed it.")] = "",
) -> None:
    """Everything shops told, as CloudEvents: one a line, oldest arrival first; at the end the cursor to go on from, on stderr."""
    from cloud_bridge.hq.commands import events_command

    cursor = after
    try:
        for found, following in events_command(data, after):
            cursor = following
            for one in found:
                typer.echo(json.dumps(one, ensure_ascii=False, separators=(",", ":")))
    except StoreError as error:
        _fail(str(error))
    typer.echo(f"--from {cursor}", err=True)


@hq_app.command("revoke-device")
def revoke_device(
    store_name: Annotated[str, typer.Argument(metavar="STORE", help="The shop, such as tpe-001.")],
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="As `store-gateway hq devices STORE` lists it.")],
    data: HqOption = HQ_DATA,
) -> None:
    """Take a device's right away, for good: a lost tablet, a stolen phone."""
    from cloud_bridge.hq.commands import revoke_device_command

    try:
        typer.echo(f"revoked: {revoke_device_command(data, store_name, device)}")
    except StoreError as error:
        _fail(str(error))


@hq_app.command()
def revoke(
    gateway: Annotated[str, typer.Argument(metavar="GATEWAY", help="The box, such as gw-tpe-001.")],
    data: HqOption = HQ_DATA,
) -> None:
    """Revoke a box: nothing it sends counts any more, and it stops serving as soon as it hears of it."""
    from cloud_bridge.hq.commands import revoke_box_command

    try:
        typer.echo(f"revoked: {revoke_box_command(data, gateway)}")
    except StoreError as error:
        _fail(str(error))


@hq_app.command()
def broker(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="mosquitto, or nats: a cluster of three.")],
    folder: Annotated[Path, typer.Argument(help="Where to write it, for the broker to read.")],
    listen: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - shops come from outside
    port: Annotated[int, typer.Option(help="TLS port for boxes.")] = 8883,
    names: Annotated[list[str] | None, typer.Option("--name", help="Host names its certificate bears; default: localhost.")] = None,
    data: HqOption = HQ_DATA,
) -> None:
    """Write a broker's configuration, certificate and fence; again when boxes came or were revoked, then send the broker SIGHUP."""
    from cloud_bridge.hq.brokers import write

    if kind not in ("mosquitto", "nats"):
        _fail(f"no broker is called `{kind}`: take mosquitto or nats")
    try:
        for path in write(data, kind, folder.resolve(), (listen, port), [*(names or []), "localhost"]):
            typer.echo(path)
    except StoreError as error:
        _fail(str(error))


@hq_app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it, on headquarters' machine.")],
    data: HqOption = HQ_DATA,
) -> None:
    """Back up headquarters' database while everything goes on; with PostgreSQL by pg_dump."""
    from rich.progress import Progress

    from cloud_bridge.hq.keeping import backup_command

    try:
        with Progress(transient=True) as shown:
            task = shown.add_task("backup", total=None)
            backup_command(data, file, lambda done, all_: shown.update(task, completed=done, total=all_))
    except StoreError as error:
        _fail(str(error))
    typer.echo(f"{file}: {file.stat().st_size // 1024} kB" if file.exists() else f"{file}: made")


@hq_app.command()
def restore(
    file: Annotated[Path | None, typer.Argument(help="A file that `store-gateway hq backup` made.")] = None,
    data: HqOption = HQ_DATA,
    noted: Annotated[bool, typer.Option("--noted", help="The database was restored by other means (pg_restore): only note it.")] = False,
) -> None:
    """Put a backup in the place of a stopped headquarters' database; the shops fill what it lacks when it starts again."""
    from cloud_bridge.hq.backups import note_restored
    from cloud_bridge.hq.keeping import restore_command
    from gateway.clock import SystemClock

    if (file is None) is not noted:
        _fail("name a file, or say --noted")
    try:
        if file is None:
            note_restored(data, SystemClock().now().wall_us)
            typer.echo("noted: documents are numbered beyond those shops may hold")
            return
        marks = restore_command(data, file)
    except StoreError as error:
        _fail(str(error))
    rows = sum(mark for epochs in marks.values() for mark in epochs.values())
    typer.echo(f"restored: {rows} money rows of {len(marks)} boxes; start headquarters, and the shops send what it lacks")


def _load(config: Path) -> GatewayConfig:
    try:
        return load(config)
    except StoreError as error:
        _fail(str(error))


def _fail(message: str, status: int = 1) -> NoReturn:
    typer.echo(f"store-gateway: {message}", err=True)
    raise typer.Exit(status)


if __name__ == "__main__":
    sys.exit("use `store-gateway`")
