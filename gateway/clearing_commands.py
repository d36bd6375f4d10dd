"""Commands of headquarters' clearing: issue vouchers by the thousand, settle a day."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from gateway.enrol_commands import HQ_DATA, DataOption
from gateway.errors import StoreError

if TYPE_CHECKING:
    from cloud_bridge.hq.bulk import Made
    from cloud_bridge.hq.issuing import Line

COLUMNS: Final = ("voucher_id", "store", "title_zh", "title_en", "value_minor", "valid_until", "token", "short_code", "typed", "secret")
SECRET_MODE: Final = 0o600


def add_to(app: typer.Typer, hq_app: typer.Typer) -> None:
    """Add `issue`, `hq issue` and `hq settle`."""
    app.command("issue")(issue)
    hq_app.command("issue")(issue)
    hq_app.command("settle")(settle)


def issue(
    vouchers: Annotated[
        Path, typer.Argument(help="CSV, UTF-8; title_zh needed: store,title_en,uses,value_minor,valid_days,campaign,count,voucher_class.")
    ],
    codes: Annotated[Path, typer.Option(help="The CSV of codes to write. Codes are money: keep it to yourself.")] = Path("codes.csv"),
    out: Annotated[Path | None, typer.Option(help="A PDF of QR codes to write; of many, several: sheet-001.pdf and so on.")] = None,
    per_page: Annotated[int, typer.Option("--per-page", help="Vouchers a sheet: 8, 12 or 24.")] = 24,
    order: Annotated[str, typer.Option(help="A name: under another one, the same file issues other vouchers.")] = "",
    data: DataOption = HQ_DATA,
) -> None:
    """Issue any number of vouchers; run again, it adds only what is missing and writes all codes anew."""
    from cloud_bridge.hq.issuing import read_vouchers

    if per_page not in (8, 12, 24):
        _fail("--per-page is 8, 12 or 24")
    try:
        lines = read_vouchers(vouchers, order)
        new, again, scan_only = _issue(data, vouchers, lines, codes)
        sheets = _print(codes, out, per_page, new + again) if out is not None else []
    except StoreError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"cannot write {error.filename}: {error.strerror}. Run the same command again with another --codes or --out")
    typer.echo(f"{new} issued, {again} issued before: {codes}" + "".join(f"\n{path}" for path in sheets))
    if scan_only:
        typer.echo(f"{scan_only} of them are beyond what their shop's list holds, or for any shop: to be scanned, not typed", err=True)


def settle(
    day: Annotated[str, typer.Option(help="The shops' day, such as 2026-11-22.")] = "",
    issuer: Annotated[int | None, typer.Option(help="One issuer's number; default: all.")] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("settlement.csv"),
    currency: Annotated[str, typer.Option(help="The chain's: TWD or HKD.")] = "TWD",
    verify: Annotated[Path | None, typer.Option(help="Check such a file instead.")] = None,
    key: Annotated[str, typer.Option(help="With --verify: headquarters' root key, 64 hex digits; default: of --data.")] = "",
    data: DataOption = HQ_DATA,
) -> None:
    """What each issuer owes each shop for a day, as a signed file. Exit status 3: the day is not complete yet."""
    from cloud_bridge.hq import settling

    if (verify is None) is (not day):
        _fail("name a --day, or a file with --verify")
    try:
        if verify is not None:
            typer.echo(settling.verify_command(data, verify, key))
            return
        provisional, words = settling.settle_command(data, out, day, issuer, currency)
    except StoreError as error:
        _fail(str(error))
    typer.echo(words)
    if provisional:
        raise typer.Exit(3)


def _issue(data: Path, path: Path, lines: list["Line"], codes: Path) -> tuple[int, int, int]:
    """Issue, and write the codes: the whole file or none. How many are new, how many not, how many can only be scanned."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cloud_bridge.hq.issuing import issue_lines, road_to

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    part, counts = codes.with_name(codes.name + ".part"), [0, 0, 0]
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, road_to(data) as road, _private(part) as file:
        bar = progress.add_task("vouchers", total=sum(line.count for line in lines))
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for made in issue_lines(road, path, lines, lambda more: progress.advance(bar, more)):
            rows.writerow(_row(made))
            counts[0 if made.new else 1] += 1
            counts[2] += not made.typed
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, codes)
    return counts[0], counts[1], counts[2]


def _row(made: "Made") -> tuple[Any, ...]:
    return (
        made.voucher_id, made.store, made.title_zh, made.title_en, made.value_minor, made.not_after_s, made.token, made.short_code,
        int(made.typed), made.secret,
    )  # fmt: skip


def _private(path: Path) -> Any:
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE), "w", encoding="utf-8", newline="")


def _print(codes: Path, out: Path, per_page: int, count: int) -> list[Path]:
    """The sheets, drawn from the file of codes."""
    from rich.console import Console
    from rich.progress import Progress

    from provisioning.authority import write_private
    from provisioning.sheet import cjk_font
    from provisioning.voucher_sheet import PAGES_A_FILE, files

    font = cjk_font()
    if font is None:
        typer.echo("store-gateway: no Chinese font here, so the vouchers are in English only (apt install fonts-noto-cjk)", err=True)
    written, many = list[Path](), count > per_page * PAGES_A_FILE
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("sheets", total=count)
        for number, pdf in enumerate(files(_printed(codes), per_page, font, lambda: progress.advance(bar)), 1):
            path = out.with_name(f"{out.stem}-{number:03}{out.suffix}") if many else out
            write_private(path, pdf)
            written.append(path)
    return written


def _printed(codes: Path) -> Iterator[Any]:
    from provisioning.voucher_sheet import Printed

    with codes.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Printed(
                row["token"], row["title_zh"], row["title_en"], row["short_code"], row["typed"] == "1", row["store"],
                int(row["valid_until"]),
            )  # fmt: skip


def _fail(message: str) -> NoReturn:
    typer.echo(f"store-gateway: {message}", err=True)
    raise typer.Exit(1)
