"""The command of headquarters' members: exchange the secret under which their numbers are found."""

from typing import Annotated, Any, NoReturn

import typer

from gateway.enrol_commands import HQ_DATA, DataOption
from gateway.errors import StoreError


def add_to(hq_app: typer.Typer) -> None:
    """Add `hq rotate-members`."""
    hq_app.command("rotate-members")(rotate_members)


def rotate_members(
    region: Annotated[str, typer.Argument(help="A region, such as TW; none: say how every exchange stands.")] = "",
    overlap_days: Annotated[int, typer.Option(help="How long sales written under the old secret can still be joined to members.")] = 14,
    finish: Annotated[bool, typer.Option("--finish", help="End the overlap now: the old secret is deleted.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --finish: although boxes have not taken the new list.")] = False,
    data: DataOption = HQ_DATA,
) -> None:
    """Exchange the secret of a region's telephone numbers. Nobody is asked for a number; update all boxes of the region first."""
    from cloud_bridge.hq.commands import exchange_command, exchanges_command, finish_exchange_command

    try:
        if not region:
            found = exchanges_command(data)
        else:
            found = [finish_exchange_command(data, region, force) if finish else exchange_command(data, region, overlap_days)]
    except StoreError as error:
        _fail(str(error))
    for one in found:
        typer.echo(said(one))


def said(one: dict[str, Any]) -> str:
    """How an exchange stands, in one line."""
    done = "files scrubbed" if one["is_scrubbed"] else "finished" if one["finished_us"] else "overlap lasts"
    heard = one["boxes"] - len(one["unheard"])
    waiting = f", waiting for {', '.join(one['unheard'][:5])}" if one["unheard"] and not one["finished_us"] else ""
    return (
        f"{one['region']} version {one['version']}: {one['members']} numbers and {one['cards']} cards moved on, "
        f"{heard} of {one['boxes']} boxes have the new list{waiting}; {done}"
    )


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(1)
