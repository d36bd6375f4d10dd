"""`store-gateway hq batch stores.csv`: one command announces any number of shops and prints one sheet of labels.

The file is checked as a whole first, and everything wrong with it is told by line. Headquarters then takes shops by the
twenty, each twenty in one transaction. What was registered before is left alone, so the command may be run again after an
interruption; `again` voids the old labels and issues new ones.
"""

import csv
import difflib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from zoneinfo import available_timezones

from msgspec import Struct

from cloud_bridge.hq.options import Addresses, read_addresses
from gateway.errors import BrokerError, ConfigError

AT_ONCE: Final = 20
TIMEOUT_S: Final = 30.0  # twenty PINs are hashed slowly on purpose
NEEDED: Final = ("store", "number")
OPTIONAL: Final = ("name_zh", "name_en", "timezone", "gateway", "tenant")
LEVEL: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
MAX_NAME: Final = 80
MAX_NUMBER: Final = 2**32 - 1
MOST_TOLD: Final = 20


class Line(Struct, frozen=True):
    """One shop of the file."""

    number: int  # of the line, as editors count
    box: dict[str, Any]  # as `POST /api/boxes/batch` takes it


class Outcome(Struct, frozen=True):
    """What became of a file. `issued` holds labels and PINs, which are told this once."""

    issued: list[dict[str, Any]]
    unchanged: list[dict[str, Any]]


def csv_of(path: Path, what: str) -> "csv.DictReader[str]":
    """The rows of a CSV file, UTF-8, with a heading line; what a row has too many of stands under the key "".

    Args:
        what: What people put into it, for the hint.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", f"Name the file with {what}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8", "In Excel, save it as 'CSV UTF-8 (comma delimited)'") from error
    return csv.DictReader(text.splitlines(), restkey="", strict=True)


def read_stores(path: Path, tenant: str) -> list[Line]:
    """The shops of a CSV file, UTF-8, with a heading line.

    Raises:
        ConfigError: It cannot be used; every line that is wrong is named, up to twenty.
    """
    rows = csv_of(path, "the shops")
    _check_heading(rows.fieldnames or [], path)
    lines, wrong, seen = list[Line](), list[str](), dict[tuple[str, Any], int]()
    try:
        for row in rows:
            if any(value.strip() for value in row.values() if isinstance(value, str)):
                line = Line(rows.line_num, _box(row, tenant))
                lines.append(line)
                wrong += [f"line {line.number}: {what}" for what in [*_wrong(row, line.box), *_doubled(line, seen)]]
    except csv.Error as error:
        wrong.append(f"line {rows.line_num + 1}: {error}")
    if wrong:
        more = f"\n  and {len(wrong) - MOST_TOLD} more" if len(wrong) > MOST_TOLD else ""
        raise ConfigError(f"{path}:\n  " + "\n  ".join(wrong[:MOST_TOLD]) + more, "Mend these lines; nothing was registered")
    if not lines:
        raise ConfigError(f"{path} names no shop", "One line for each, under the heading " + ",".join((*NEEDED, *OPTIONAL)))
    return lines


def batch(data: Path, lines: list[Line], *, again: bool, days: int, done: Callable[[int], None] = lambda _: None) -> Outcome:
    """Announce the shops at the headquarters that runs with `data`.

    Args:
        data: Headquarters' data folder.
        lines: From `read_stores`.
        again: New labels also for shops that were registered before.
        days: How long labels are valid.
        done: Called with how many more shops are done.

    Raises:
        PartlyDone: Headquarters refuses some shop or does not answer; what was issued before is in it.
        ConfigError: It never started with that folder.
    """
    addresses = read_addresses(data)
    outcome = Outcome([], [])
    for start in range(0, len(lines), AT_ONCE):
        part = lines[start : start + AT_ONCE]
        body = {"boxes": [line.box for line in part], "again": again, "valid_days": days}
        try:
            answers = post(addresses, "/api/boxes/batch", body, TIMEOUT_S)
        except Refused as refused:
            raise PartlyDone(_by_line(refused, part), outcome) from refused
        except BrokerError as error:
            raise PartlyDone(str(error), outcome) from error
        for answer in answers:
            (outcome.issued if answer["label"] else outcome.unchanged).append(answer)
        done(len(part))
    return outcome


class Refused(ConfigError):
    """Headquarters refuses; `said` is its answer."""

    def __init__(self, status: int, said: dict[str, Any]) -> None:
        super().__init__(f"headquarters refuses: {said.get('detail', f'HTTP {status}')}")
        self.said = said


class PartlyDone(ConfigError):
    """The file was not taken to its end."""

    def __init__(self, why: str, outcome: Outcome) -> None:
        super().__init__(why, "Mend it and run the same command again: shops that are registered are left alone")
        self.outcome = outcome


def post(addresses: Addresses, path: str, body: dict[str, Any] | None, timeout_s: float = 5.0) -> Any:
    """Ask a running headquarters' API; None as body only looks.

    Raises:
        Refused: It says no.
        BrokerError: It does not answer.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {addresses.admin_token}"}
    request = urllib.request.Request(addresses.http + path, data, headers)  # noqa: S310 - headquarters' own address, http on loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise Refused(error.code, _said(error)) from error
    except (OSError, ValueError) as error:
        raise BrokerError(f"headquarters does not answer: {error}", "Start it, then try again") from error


def _said(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        said = json.load(error)
    except (ValueError, OSError):
        return {}
    return said if isinstance(said, dict) else {}


def _by_line(refused: Refused, part: list[Line]) -> str:
    rows = refused.said.get("rows", {})
    told = [f"line {line.number}: {line.box['store']}: {rows[str(place)]}" for place, line in enumerate(part) if str(place) in rows]
    if not told and len(part) == 1:
        told = [f"line {part[0].number}: {part[0].box['store']}: {refused.said.get('detail', refused)}"]
    return "\n  ".join(["headquarters refuses:", *told]) if told else str(refused)


def _check_heading(names: Any, path: Path) -> None:
    known = {*NEEDED, *OPTIONAL}
    for name in names:
        if name.strip() not in known:
            nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
            raise ConfigError(f"{path}, line 1: nobody knows the column `{name}`", f"Did you mean `{nearest[0]}`?")
    missing = [name for name in NEEDED if name not in [given.strip() for given in names]]
    if missing:
        raise ConfigError(f"{path}, line 1: there is no column {' and no '.join(missing)}", "Columns: " + ",".join((*NEEDED, *OPTIONAL)))


def _box(row: dict[str, Any], tenant: str) -> dict[str, Any]:
    given = {key.strip(): value.strip() for key, value in row.items() if isinstance(value, str) and value.strip()}
    number = given.get("number", "")
    return {
        "store": given.get("store", ""), "number": int(number) if number.isascii() and number.isdigit() else 0,
        "gateway": given.get("gateway") or f"gw-{given.get('store', '')}", "tenant": given.get("tenant", tenant),
        "name_zh": given.get("name_zh", ""), "name_en": given.get("name_en", ""), "timezone": given.get("timezone", "Asia/Taipei"),
    }  # fmt: skip


def _wrong(row: dict[str, Any], box: dict[str, Any]) -> list[str]:
    wrong = []
    if "" in row:
        wrong.append("more columns than the heading has (put names with commas in quotes)")
    for key in ("store", "gateway", "tenant"):
        if not LEVEL.fullmatch(box[key]):
            wrong.append(f"{key} `{box[key]}` is not 1 to 40 letters, digits, - or _")
    if not 1 <= box["number"] <= MAX_NUMBER:
        wrong.append(f"number `{row.get('number')}` is not a whole number from 1 to {MAX_NUMBER}")
    if box["timezone"] not in available_timezones():
        wrong.append(f"there is no time zone `{box['timezone']}` (an IANA name such as Asia/Taipei)")
    wrong += [f"{key} has more than {MAX_NAME} letters" for key in ("name_zh", "name_en") if len(box[key]) > MAX_NAME]
    return wrong


def _doubled(line: Line, seen: dict[tuple[str, Any], int]) -> list[str]:
    wrong = []
    for key in ("store", "number", "gateway"):
        first = seen.setdefault((key, line.box[key]), line.number)
        if first != line.number and line.box[key]:
            wrong.append(f"{key} `{line.box[key]}` is in line {first} already")
    return wrong
