"""Commands about who may enter headquarters: keys and the office's journal."""

import datetime
import json
from typing import Annotated, NoReturn

import typer

from gateway.enrol_commands import HQ_DATA, DataOption
from gateway.errors import StoreError

JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
ROLES_HELP = "reader, issuer, events, members, installer or admin; several times for several."


def add_to(hq_app: typer.Typer) -> None:
    """Add `hq keys`, `hq add-key`, `hq revoke-key` and `hq journal`."""
    hq_app.command("keys")(keys)
    hq_app.command("add-key")(add_key)
    hq_app.command("revoke-key")(revoke_key)
    hq_app.command("journal")(journal)


def keys(data: DataOption = HQ_DATA, as_json: JsonOption = False) -> None:
    """Who may enter headquarters, and with which roles."""
    from cloud_bridge.hq.commands import keys_command

    try:
        found = keys_command(data)
    except StoreError as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for one in found:
        state = f"revoked by {one['revoked_by']}" if one["revoked_us"] else "in force"
        typer.echo(f"{one['name']:31}  {','.join(one['roles']):24}  {_when(one['made_us'])} by {one['made_by']}  {state}")


def add_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a person or a program, such as web-shop; never used again.")],
    roles: Annotated[list[str], typer.Option("--role", help=ROLES_HELP)],
    data: DataOption = HQ_DATA,
) -> None:
    """Make a key; it is printed this once and kept nowhere."""
    from cloud_bridge.hq.commands import add_key_command

    try:
        typer.echo(add_key_command(data, name, roles))
    except StoreError as error:
        _fail(str(error))


def revoke_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `store-gateway hq keys` lists it.")], data: DataOption = HQ_DATA
) -> None:
    """Revoke a key, for good and at once."""
    from cloud_bridge.hq.commands import revoke_key_command

    try:
        typer.echo(f"revoked: {revoke_key_command(data, name)}")
    except StoreError as error:
        _fail(str(error))


def journal(
    who: Annotated[str, typer.Option(help="One name; default: everybody.")] = "", data: DataOption = HQ_DATA, as_json: JsonOption = False
) -> None:
    """Every refused and every sensitive action at headquarters, newest first, with who did it."""
    from cloud_bridge.hq.commands import journal_command

    try:
        found = journal_command(data, who)
    except StoreError as error:
        _fail(str(error))
    for one in found:
        line = f"{_when(one['at_us'])}  {one['who'] or '?':16}  {one['status'] or 'begun':5}  {one['route']}  {one['about']}"
        typer.echo(json.dumps(one, ensure_ascii=False) if as_json else line)


def _when(at_us: int) -> str:
    return datetime.datetime.fromtimestamp(at_us / 1e6, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _fail(message: str) -> NoReturn:
    typer.echo(f"store-gateway: {message}", err=True)
    raise typer.Exit(1)
