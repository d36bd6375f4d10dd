"""`store-gateway hq settle`: a day's signed file, from a running headquarters or its store; and whether such a file is whole."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cloud_bridge.hq import backups, checkpoint
from cloud_bridge.hq.keeping import answering
from cloud_bridge.hq.options import Addresses
from cloud_bridge.hq.settlement import settle
from cloud_bridge.hq.sqlite import connect_writer
from gateway.clock import SystemClock
from gateway.errors import BrokerError, ConfigError, MalformedFrame
from gateway.signed import public_from_hex
from provisioning.authority import Authority, write_private

TIMEOUT_S: Final = 300.0
CURRENCIES: Final = ("TWD", "HKD")


def settle_command(data: Path, out: Path, day: str, issuer: int | None, currency: str) -> tuple[bool, str]:
    """Write a day's file; whether the day may still change, and what to tell.

    Raises:
        ConfigError: There is no such day, headquarters refuses, or the file cannot be written.
        BrokerError: Headquarters stopped answering.
    """
    if currency not in CURRENCIES:
        raise ConfigError(f"nobody knows the currency `{currency}`", "Take TWD or HKD")
    if issuer is not None and not 0 <= issuer < 2**16:
        raise ConfigError(f"there is no issuer {issuer}", "GET /api/issuers lists them")
    running = answering(data)
    text = _stopped(data, day, issuer, currency) if running is None else _running(running, day, issuer, currency)
    try:
        write_private(out, text)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}", "Name another file with --out") from error
    lines = checkpoint.check(text, Authority.open(data / "authority").root_public)
    return lines[1][6] == "provisional", f"{out}: {_said(lines)}"


def verify_command(data: Path, file: Path, key: str) -> str:
    """What a file says, if it is whole and headquarters' own.

    Raises:
        ConfigError: It is not, or there is no key to check it with.
    """
    try:
        public = public_from_hex(key) if key else _own_key(data)
    except MalformedFrame as error:
        raise ConfigError(f"--key: {error}", "64 hex digits, as the checkpoint line ends with") from error
    return f"{file}: whole and signed by headquarters: {_said(checkpoint.check_file(file, public))}"


def _own_key(data: Path) -> Ed25519PublicKey:
    if not (data / "authority" / "root.key").is_file():  # `Authority.open` would make one
        raise ConfigError(f"{data} is not headquarters' folder", "Name it with --data, or the key with --key")
    return Authority.open(data / "authority").root_public


def _said(lines: list[list[str]]) -> str:
    day, issuer, currency, _, state = lines[1][2:]
    uses = sum(int(line[8]) for line in lines if line[0] == "total" and line[1] != "issuer")
    minor = sum(int(line[9]) for line in lines if line[0] == "total" and line[1] != "issuer")
    open_ = [f"{line[1]} {line[9]}" for line in lines if line[0] == "box" and line[1] != "store" and line[9]]
    why = f" ({', '.join(open_[:10])}{' …' if len(open_) > 10 else ''})" if open_ else ""
    return f"{day}, issuer {issuer}, net {uses} uses, {minor} minor units {currency}, {state}{why}"


def _running(addresses: Addresses, day: str, issuer: int | None, currency: str) -> bytes:
    asked = {"day": day, "currency": currency} | ({} if issuer is None else {"issuer": str(issuer)})
    headers = {"Authorization": f"Bearer {addresses.admin_token}"}
    request = urllib.request.Request(f"{addresses.http}/api/settlement.csv?{urlencode(asked)}", headers=headers)  # noqa: S310 - its own address
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=TIMEOUT_S) as reply:
            return bytes(reply.read(checkpoint.MAX_B))
    except urllib.error.HTTPError as error:
        with error:
            raise ConfigError(f"headquarters refuses: {error.read(500).decode('utf-8', 'replace')}", "Write days as 2026-11-22") from error
    except OSError as error:
        raise BrokerError(f"headquarters does not answer: {error}", "Start it, then try again") from error


def _stopped(data: Path, day: str, issuer: int | None, currency: str) -> bytes:
    if not (data / backups.DATABASE).is_file():
        raise ConfigError(f"no headquarters runs with {data}, and there is no {backups.DATABASE}", "Start headquarters first")
    db = connect_writer(data / backups.DATABASE)
    try:
        db.execute("BEGIN")
        found = settle(db, day, issuer, currency, SystemClock().now().wall_us)
        db.execute("ROLLBACK")
    finally:
        db.close()
    return checkpoint.write(found, Authority.open(data / "authority").root).encode()
