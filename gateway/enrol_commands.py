"""Commands that bring boxes into a chain: labels at headquarters, enrolment at the box."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from gateway.config import load
from gateway.errors import StoreError

if TYPE_CHECKING:
    from cloud_bridge.hq.batch import Outcome

HQ_DATA: Final = Path("build/store/hq")
DataOption = Annotated[Path, typer.Option("--data", help="Headquarters' data folder.")]
DaysOption = Annotated[int, typer.Option("--valid-days", min=1, max=365, help="How long labels are valid.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs; holds labels and PINs, which are told this once.")]


def add_to(app: typer.Typer, hq_app: typer.Typer, default_config: Path) -> None:
    """Add `enroll`, `label` and `hq batch`."""
    _add_enroll(app, default_config)
    _add_label(app)
    _add_batch(hq_app)


def _add_enroll(app: typer.Typer, default_config: Path) -> None:
    @app.command()
    def enroll(
        code: Annotated[str, typer.Argument(metavar="CODE", help="The text of the label's QR code; - reads it from standard input.")],
        config: Annotated[Path, typer.Option("--config", help="The box's configuration.")] = default_config,
    ) -> None:
        """Enrol this box with headquarters by its label. Usually the box's own scanner does it: `store-gateway run enroll`."""
        from gateway.clock import SystemClock
        from provisioning.enroll import enrol

        try:
            box = load(config)
            enrolment = enrol(sys.stdin.readline() if code == "-" else code, box.enrolment_dir, box.store, SystemClock())
        except StoreError as error:
            _fail(str(error))
        typer.echo(f"已註冊 Enrolled: {enrolment.facts.gateway} ({enrolment.facts.store})")


def _add_label(app: typer.Typer) -> None:
    @app.command()
    def label(
        store: Annotated[str, typer.Argument(metavar="STORE", help="The shop, such as tpe-001.")],
        data: DataOption = HQ_DATA,
        out: Annotated[Path | None, typer.Option(help="A PDF to write; else the code is shown here.")] = None,
        days: DaysOption = 30,
        as_json: JsonOption = False,
    ) -> None:
        """A new enrolment label for a shop's box; labels before it stop working."""
        from cloud_bridge.hq.batch import Line, batch, post
        from cloud_bridge.hq.options import read_addresses

        try:
            shops = [shop for shop in post(read_addresses(data), "/api/stores", None) if shop["store"] == store]
            if not shops:
                _fail(f"headquarters knows no shop {store}. `store-gateway hq batch` registers shops")
            box = {key: shops[0][key] for key in ("store", "number", "gateway", "tenant", "name_zh", "name_en", "timezone")}
            outcome = batch(data, [Line(1, box)], again=True, days=days)
        except StoreError as error:
            _fail(str(error))
        if out is not None:
            _print(outcome, out)
        if as_json:
            typer.echo(json.dumps(outcome.issued[0], ensure_ascii=False))
        elif out is None:
            import segno

            segno.make_qr(outcome.issued[0]["label"], error="m", boost_error=False).terminal(compact=True)
            typer.echo(outcome.issued[0]["label"])


def _add_batch(hq_app: typer.Typer) -> None:
    @hq_app.command()
    def batch(
        stores: Annotated[Path, typer.Argument(help="CSV, UTF-8: store,number,name_zh,name_en,timezone,gateway,tenant; two needed.")],
        out: Annotated[Path, typer.Option(help="The sheet of labels to write.")] = Path("labels.pdf"),
        data: DataOption = HQ_DATA,
        again: Annotated[bool, typer.Option("--again", help="New labels also for shops that were registered before.")] = False,
        tenant: Annotated[str, typer.Option(help="The chain, where the file does not say.")] = "demo",
        days: DaysOption = 30,
        as_json: JsonOption = False,
    ) -> None:
        """Register any number of shops and print the labels of their boxes; run again, it adds only what is new."""
        from rich.console import Console

        from cloud_bridge.hq.batch import Outcome, PartlyDone, read_stores

        failed = ""
        try:
            lines = read_stores(stores, tenant)
            outcome = _announce(data, lines, again, days)
        except PartlyDone as error:
            failed, outcome = str(error), error.outcome
        except StoreError as error:
            failed, outcome = str(error), Outcome([], [])
        if outcome.issued:
            _print(outcome, out)  # also after a failure: nobody can print these labels later
        if as_json:
            pdf = str(out) if outcome.issued else None
            typer.echo(json.dumps({"issued": outcome.issued, "unchanged": outcome.unchanged, "pdf": pdf}, ensure_ascii=False))
        elif not failed or outcome.issued:
            _tell(Console(), outcome, out)
        if failed:
            _fail(failed)


def _announce(data: Path, lines: list[Any], again: bool, days: int) -> "Outcome":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cloud_bridge.hq.batch import batch

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("shops", total=len(lines))
        return batch(data, lines, again=again, days=days, done=lambda more: progress.advance(bar, more))


def _print(outcome: "Outcome", out: Path) -> None:
    from provisioning.authority import write_private
    from provisioning.sheet import Sticker, cjk_font, sheets

    font = cjk_font()
    try:
        write_private(out, sheets([Sticker.of(one) for one in outcome.issued], font))
    except OSError as error:
        _fail(f"cannot write {out}: {error.strerror}. Run the same command with --again and another --out: these labels are lost")
    if font is None:
        typer.echo("store-gateway: no Chinese font here, so the labels are in English only (apt install fonts-noto-cjk)", err=True)


def _tell(console: Any, outcome: "Outcome", out: Path) -> None:
    from rich.table import Table

    if outcome.issued:
        table = Table("shop", "box", "label valid until", "first of the staff", "PIN (shown this once)")
        for one in outcome.issued:
            staff = one["staff"] or {"staff_ref": "-", "pin": "-"}
            table.add_row(one["store"], one["gateway"], _day(one["not_after_us"]), staff["staff_ref"], staff["pin"])
        console.print(table)
        console.print(f"{len(outcome.issued)} labels: {out}", soft_wrap=True, highlight=False)
    if outcome.unchanged:
        console.print(f"{len(outcome.unchanged)} registered before, left as they were; --again prints new labels", soft_wrap=True)


def _day(at_us: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d}"


def _fail(message: str) -> NoReturn:
    typer.echo(f"store-gateway: {message}", err=True)
    raise typer.Exit(1)
