"""`store-gateway hq issue vouchers.csv`: any number of vouchers from one file, through a running headquarters or, if none runs, its store.

The file is checked as a whole first, and everything wrong with it is told by line: until then nothing is issued. Every voucher has a
key made of the order's name, its line's words and its number, so the command may be run again after an interruption, or with a
longer file: it adds what is missing and tells everything again. A part of the file is issued whole or not at all.
"""

import contextlib
import csv
import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from cloud_bridge.hq import backups, bulk, registry
from cloud_bridge.hq.batch import Refused, csv_of, post
from cloud_bridge.hq.bulk import AT_ONCE, MOST_DAYS, MOST_MINOR, MOST_USES, Made, Piece
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.intake import RowRefused
from cloud_bridge.hq.keeping import answering
from cloud_bridge.hq.sqlite import SqliteConnection, connect_writer
from gateway.clock import SystemClock
from gateway.errors import ConfigError, StoreError
from provisioning.authority import Authority

NEEDED: Final = ("title_zh",)
NUMBERS: Final = {  # lowest, highest, what an empty field means
    "uses": (1, MOST_USES, 1), "value_minor": (0, MOST_MINOR, 0), "valid_days": (1, MOST_DAYS, 30), "campaign": (0, MOST_MINOR, 1),
    "count": (1, 1_000_000, 1),
}  # fmt: skip
COLUMNS: Final = ("store", *NEEDED, "title_en", *NUMBERS, "voucher_class")
VOUCHER_CLASSES: Final = ("store_bound", "granted", "hq_live", "leased", "bounded_risk")
STORE: Final = re.compile(r"[A-Za-z0-9_-]{0,40}")
MOST_PIECES: Final = 1_000_000
MAX_TITLE: Final = 80
MOST_TOLD: Final = 20
TIMEOUT_S: Final = 60.0
MOST_REQUEST_B: Final = 64_000  # headquarters takes no longer ones
NOTHING: Final = "Mend these lines; nothing was issued"


class Line(Struct, frozen=True):
    """One line of the file: so many vouchers of a kind."""

    number: int  # as editors count
    count: int
    piece: Piece  # with the key all of them begin with

    def pieces(self) -> Iterator[tuple[int, Piece]]:
        """Each voucher, with the line's number."""
        for number in range(1, self.count + 1):
            yield self.number, msgspec.structs.replace(self.piece, piece=f"{self.piece.piece}-{number}")


class Road(Protocol):
    """How vouchers are asked for."""

    def stores(self) -> set[str]: ...
    def issue(self, pieces: list[Piece]) -> list[Made]: ...


class PartlyIssued(ConfigError):
    """The file was not taken to its end; whole parts of it were."""


def read_vouchers(path: Path, order: str = "") -> list[Line]:
    """The lines of a CSV file, UTF-8, with a heading line.

    Args:
        path: The file.
        order: Its name: under another one, the same file issues other vouchers.

    Raises:
        ConfigError: It cannot be used; every line that is wrong is named, up to twenty.
    """
    rows = csv_of(path, "the vouchers")
    wrong, lines, seen = list[str](), list[Line](), Counter[str]()
    try:
        _check_heading(rows.fieldnames or [], path)
        for row in rows:
            given = {key.strip(): value.strip() for key, value in row.items() if isinstance(value, str) and value.strip()}
            if given or "" in row:
                found = _wrong(row, given)
                wrong += [f"line {rows.line_num}: {what}" for what in found]
                lines += [] if found else [_line(rows.line_num, given, order, seen)]
    except csv.Error as error:
        wrong.append(f"line {rows.line_num + 1}: {error}")
    _refuse(path, wrong)
    if not lines:
        raise ConfigError(f"{path} names no voucher", "One line for each kind, under the heading " + ",".join(COLUMNS))
    if (total := sum(line.count for line in lines)) > MOST_PIECES:
        raise ConfigError(f"{path} asks for {total:,} vouchers", f"At most {MOST_PIECES:,} in one file: split it")
    return lines


def issue_lines(road: Road, path: Path, lines: list[Line], done: Callable[[int], None] = lambda _: None) -> Iterator[Made]:
    """Issue the lines, part by part; every voucher, in the file's order.

    Raises:
        ConfigError: Some shop does not exist; nothing was issued.
        PartlyIssued: Headquarters refuses or stops answering; the parts before stand.
    """
    known = road.stores()
    _refuse(path, [f"line {one.number}: there is no shop {one.piece.store}" for one in lines if one.piece.store not in known | {""}])
    for part in _parts(piece for line in lines for piece in line.pieces()):
        try:
            made = road.issue([piece for _, piece in part])
        except StoreError as error:
            told = "\n  ".join([str(error), *_by_line(error, part)])
            raise PartlyIssued(told, "Mend it and run the same command again: what is issued is not issued twice") from error
        yield from made
        done(len(made))


@contextlib.contextmanager
def road_to(data: Path) -> Iterator[Road]:
    """The way to headquarters: its API if it runs, else its store.

    Raises:
        ConfigError: Neither is there.
    """
    running = answering(data)
    if running is not None:
        yield _Running(running)
        return
    if not (data / backups.DATABASE).is_file():
        raise ConfigError(f"no headquarters runs with {data}, and there is no {backups.DATABASE}", "Start headquarters first")
    db = connect_writer(data / backups.DATABASE)
    try:
        yield _Stopped(db, Press(Authority.open(data / "authority"), backups.floor(data)))
    finally:
        db.close()


class _Running:
    def __init__(self, addresses: Any) -> None:
        self._addresses = addresses

    def stores(self) -> set[str]:
        return {box["store"] for box in post(self._addresses, "/api/boxes", None, TIMEOUT_S)}

    def issue(self, pieces: list[Piece]) -> list[Made]:
        body = {"pieces": msgspec.to_builtins(pieces)}
        return msgspec.convert(post(self._addresses, "/api/issue", body, TIMEOUT_S), list[Made])


class _Stopped:
    def __init__(self, db: SqliteConnection, press: Press) -> None:
        self._db = db
        self._press = press

    def stores(self) -> set[str]:
        return {row.store for row in registry.boxes(self._db)}

    def issue(self, pieces: list[Piece]) -> list[Made]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            made, _ = bulk.issue(self._db, self._press, pieces, SystemClock().now().wall_us)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return made


def _parts(pieces: Iterable[tuple[int, Piece]]) -> Iterator[list[tuple[int, Piece]]]:
    """As many at once as one transaction and one request take."""
    part, size_b = list[tuple[int, Piece]](), 0
    for number, piece in pieces:
        more_b = len(json.dumps(msgspec.to_builtins(piece))) + 2
        if part and (len(part) == AT_ONCE or size_b + more_b > MOST_REQUEST_B):
            yield part
            part, size_b = [], 0
        part.append((number, piece))
        size_b += more_b
    if part:
        yield part


def _by_line(error: StoreError, part: list[tuple[int, Piece]]) -> list[str]:
    rows: dict[Any, str] = error.said.get("rows", {}) if isinstance(error, Refused) else {}
    rows = dict(error.rows) if isinstance(error, RowRefused) else rows
    return sorted({f"line {part[int(place)][0]}: {why}" for place, why in rows.items()})[:MOST_TOLD]


def _refuse(path: Path, wrong: list[str]) -> None:
    if wrong:
        more = f"\n  and {len(wrong) - MOST_TOLD} more" if len(wrong) > MOST_TOLD else ""
        raise ConfigError(f"{path}:\n  " + "\n  ".join(wrong[:MOST_TOLD]) + more, NOTHING)


def _check_heading(names: Any, path: Path) -> None:
    given = [name.strip() for name in names]
    for name in given:
        if name not in COLUMNS:
            nearest = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.0)
            raise ConfigError(f"{path}, line 1: nobody knows the column `{name}`", f"Did you mean `{nearest[0]}`?")
        if given.count(name) > 1:
            raise ConfigError(f"{path}, line 1: the column `{name}` is there twice", "Keep one of them")
    if "title_zh" not in given:
        raise ConfigError(f"{path}, line 1: there is no column title_zh", "Columns: " + ",".join(COLUMNS))


def _wrong(row: dict[str, Any], given: dict[str, str]) -> list[str]:
    wrong = ["more columns than the heading has (put titles with commas in quotes)"] if "" in row else []
    if not STORE.fullmatch(given.get("store", "")):
        wrong.append(f"store `{given['store'][:60]}` is not 1 to 40 letters, digits, - or _; leave it empty for any shop")
    if "title_zh" not in given:
        wrong.append("title_zh is empty: say what the voucher is for")
    wrong += [f"{key} has more than {MAX_TITLE} letters" for key in ("title_zh", "title_en") if len(given.get(key, "")) > MAX_TITLE]
    if (voucher_class := given.get("voucher_class", "granted")) not in VOUCHER_CLASSES:
        nearest = difflib.get_close_matches(voucher_class[:20], VOUCHER_CLASSES, n=1, cutoff=0.0)
        wrong.append(f"nobody knows the class `{voucher_class[:20]}`: did you mean `{nearest[0]}`? (open codes: POST /api/open-codes)")
    for key, (lowest, highest, _) in NUMBERS.items():
        if key in given and not _is_between(given[key], lowest, highest):
            wrong.append(f"{key} `{given[key][:20]}` is not a whole number from {lowest} to {highest}")
    return wrong


def _is_between(text: str, lowest: int, highest: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12 and lowest <= int(text) <= highest


def _line(number: int, given: dict[str, str], order: str, seen: Counter[str]) -> Line:
    """Its key is of its words, `count` left out, and of how many such lines stand before it: a file may grow."""
    numbers = {key: int(given.get(key, default)) for key, (_, _, default) in NUMBERS.items()}
    count = numbers.pop("count")
    words = {"store": given.get("store", ""), "title_zh": given["title_zh"], "title_en": given.get("title_en", "")}
    words |= {"voucher_class": given["voucher_class"]} if "voucher_class" in given else {}  # a file of before keeps its keys
    content = msgspec.json.encode([order, words, numbers]).decode()
    seen[content] += 1
    key = hashlib.sha256(f"{content}\n{seen[content]}".encode()).hexdigest()[:32]
    return Line(number, count, msgspec.convert({"piece": key} | words | numbers, Piece))
