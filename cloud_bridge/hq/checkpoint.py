"""A settlement as a file that nobody can change unseen: CSV whose last line is headquarters' signature over all lines above it.

Signed are the fields, not their punctuation: a spreadsheet may save the file with other quotes and line ends. What is signed::

    "SGF1 settlement" LF | JSON (a list of lines, each a list of texts, without blanks), UTF-8

The signature is Ed25519 by headquarters' root key. `check` also adds everything up again.
"""

import csv
import io
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cloud_bridge.hq.settlement import SUMMED, Lanes, Loss, Owed, Settlement
from gateway.errors import ConfigError, MalformedFrame
from gateway.signed import public_hex

TAG: Final = b"SGF1 settlement\n"
FIRST: Final = "store-gateway settlement 1"
LAST: Final = "checkpoint"
MAX_B: Final = 64 * 1024 * 1024
MOST_DIGITS: Final = 18
OWED: Final = ("issuer", "store", "gateway", *SUMMED)
ABOUT: Final = ("what", "day", "issuer", "currency", "made_us", "state")
NEXT: Final = "Ask headquarters for the file again"


def write(settlement: Settlement, key: Ed25519PrivateKey) -> str:
    """The file."""
    state = "provisional" if settlement.provisional else "final"
    issuer = "all" if settlement.issuer is None else str(settlement.issuer)
    lines = [
        ["about", *ABOUT], ["about", FIRST, settlement.day, issuer, settlement.currency, str(settlement.made_us), state],
        ["owed", *OWED], *(_owed("owed", one) for one in settlement.owed),
        ["total", *OWED], *(_owed("total", one) for one in settlement.totals),
        ["box", *Lanes.__struct_fields__],
        *(["box", *(str(getattr(one, name)) for name in Lanes.__struct_fields__)] for one in settlement.boxes),
        *([["loss", *Loss.__struct_fields__]] if settlement.losses else []),
        *(["loss", *(str(getattr(one, name)) for name in Loss.__struct_fields__)] for one in settlement.losses),
    ]  # fmt: skip
    out = io.StringIO()
    signature = key.sign(_signed(lines)).hex()
    csv.writer(out, lineterminator="\n").writerows([*lines, [LAST, signature, public_hex(key.public_key())]])
    return out.getvalue()


def check(content: bytes, key: Ed25519PublicKey) -> list[list[str]]:
    """The lines of a file that is whole and headquarters' own, without the checkpoint.

    Raises:
        MalformedFrame: It is not: changed, cut off, signed by somebody else, or no settlement.
    """
    lines = _lines(content)
    if len(lines) < 2 or len(lines[1]) != len(ABOUT) + 1 or lines[1][1] != FIRST or lines[-1][0] != LAST or len(lines[-1]) != 3:
        raise MalformedFrame("not a settlement with its checkpoint", NEXT)
    if lines[-1][2] != public_hex(key):
        raise MalformedFrame("signed with a key that is not this headquarters'", "Look whose file it is")
    try:
        key.verify(bytes.fromhex(lines[-1][1]), _signed(lines[:-1]))
    except (InvalidSignature, ValueError) as error:
        raise MalformedFrame("the signature does not fit: something in the file was changed", NEXT) from error
    _add_up(lines[:-1])
    return lines[:-1]


def check_file(path: Path, key: Ed25519PublicKey) -> list[list[str]]:
    """As `check`, of a file.

    Raises:
        ConfigError: It cannot be read, or is not what it should be.
    """
    try:
        if path.stat().st_size > MAX_B:
            raise ConfigError(f"{path} is too big for a settlement", NEXT)
        return check(path.read_bytes(), key)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "Name the file with the settlement") from error
    except MalformedFrame as error:
        raise ConfigError(f"{path}: {error}") from error


def _owed(kind: str, one: Owed) -> list[str]:
    return [kind, *(str(getattr(one, name)) for name in OWED)]


def _signed(lines: list[list[str]]) -> bytes:
    return TAG + msgspec.json.encode(lines)


def _lines(content: bytes) -> list[list[str]]:
    if len(content) > MAX_B:
        raise MalformedFrame("too big for a settlement", NEXT)
    try:
        text = content.decode("utf-8-sig")
        return [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise MalformedFrame(f"not CSV in UTF-8: {error}", NEXT) from error


def _add_up(lines: list[list[str]]) -> None:
    """Signed or not, totals that are not the sums of their lines are refused."""
    sums: dict[str, dict[str, list[int]]] = {"owed": {}, "total": {}}
    for line in lines:
        if line[0] in sums and len(line) != len(OWED) + 1:
            raise MalformedFrame("a line has not as many fields as its heading", NEXT)
        if line[0] in sums and line[1] != OWED[0]:
            known = sums[line[0]].setdefault(line[1], [0] * len(SUMMED))
            sums[line[0]][line[1]] = [have + _number(text) for have, text in zip(known, line[4:], strict=True)]
    if sums["owed"] != sums["total"]:
        raise MalformedFrame("the totals are not the sums of their lines", NEXT)


def _number(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise MalformedFrame("not a number", NEXT)
    try:
        return int(text)
    except ValueError as error:
        raise MalformedFrame("not a number", NEXT) from error
