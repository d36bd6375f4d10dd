"""What has left headquarters, written down where a restore finds it: no assignment leaves before it is in here.

A file of JSON lines beside the database and the backups' list, each on the disk (fsync) before what it tells of is sent. After a
restore the lines are read again: a stand that was told later than the database knows replaces the database's, an opening that was
pressed later counts as the newest. Reading is harmless when nothing was restored. A last line cut short by a power cut tells of
something that was never sent. Lines are some 300 bytes.

What a later line replaces may go, and so may what can decide nothing any more and is in every backup (`trimming`): `compact` writes the
rest anew, behind a first line that says for how many lines it stands. A position is a count of all lines ever written.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq import accounts, assignments
from cloud_bridge.hq.store import Connection
from gateway.errors import ConfigError
from gateway.rules.assigning import Stand

NAME: Final = "assignments.journal"


class Line(Struct, frozen=True, omit_defaults=True):
    """One thing that left."""

    at_us: int
    stand: Stand | None = None
    opening: tuple[str, int, str] | None = None  # box, number, start
    destroyed: str = ""
    returned: str = ""  # a box of that name enrolled again after it was declared destroyed
    stands_for: int = 0  # of a first line: so many lines were written before the file was written anew,
    kept: int = 0  # and so many lines behind this one are what is left of them


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Line)


class Journal:
    """The file. One task appends at a time."""

    def __init__(self, data: Path) -> None:
        self._path = data / NAME
        self._lock = asyncio.Lock()
        self._file = -1
        self._told: dict[str, int] = {}  # voucher to the latest word of it that is certainly here
        self._destroyed: set[str] = set()
        self._fresh = 0

    async def write(self, *lines: Line) -> None:
        """Return when the lines are on the disk."""
        async with self._lock:
            await asyncio.to_thread(self._append, lines)

    def has(self, stand: Stand) -> bool:
        """Whether this word, or a later one, of a voucher is here for certain."""
        return self._told.get(stand.voucher_id, -1) >= stand.told

    def is_destroyed(self, gateway: str) -> bool:
        """Whether the last word of a box is that it was destroyed."""
        return gateway in self._destroyed

    @property
    def growth(self) -> int:
        """Lines since the file was written anew, or in all."""
        return self._fresh

    def told(self) -> dict[str, int]:
        """The latest word of each voucher that has a line."""
        return dict(self._told)

    def read(self) -> list[Line]:
        """Every line, oldest first.

        Raises:
            ConfigError: A line before the last one cannot be read.
        """
        found = _read(self._path)
        self._remember(found)
        return found

    async def compact(self, over: Mapping[str, int], through: int, recent_us: int) -> int:
        """Write the file anew without what is replaced by a later line or decides nothing any more; how many lines went.

        Args:
            over: Vouchers that nothing can be decided about any more, and the latest word the database has of each.
            through: Up to which position every backup has what the lines tell; only such lines of `over` go.
            recent_us: Openings since then stay, whether there is a newer one or not.
        """
        async with self._lock:
            return await asyncio.to_thread(self._compact, over, through, recent_us)

    def _compact(self, over: Mapping[str, int], through: int, recent_us: int) -> int:
        lines = _read(self._path)
        if not lines:
            return 0
        head = lines[0] if lines[0].stands_for else Line(0)
        body = lines[1:] if head.stands_for else lines
        written = head.stands_for + len(body) - head.kept
        places = [head.stands_for - 1] * head.kept + list(range(head.stands_for, written))
        needed = _needed(body, recent_us)
        left = [
            line
            for line, place, is_needed in zip(body, places, needed, strict=True)
            if is_needed and not (line.stand is not None and place < through and over.get(line.stand.voucher_id, -1) >= line.stand.told)
        ]
        if len(left) == len(body):
            return 0
        self._write_anew([Line(body[-1].at_us, stands_for=written, kept=len(left)), *left])
        return len(body) - len(left)

    def _write_anew(self, lines: list[Line]) -> None:
        unfinished = self._path.with_name(self._path.name + ".unfinished")
        file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(file, "wb") as out:
            out.writelines(_encode(line) + b"\n" for line in lines)
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(self._path)
        _sync_folder(self._path)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._remember(lines)

    def _remember(self, lines: list[Line]) -> None:
        self._told.clear()
        self._destroyed.clear()
        self._fresh = 0
        for line in lines:
            self._note(line)
        self._fresh -= lines[0].kept if lines else 0

    def _append(self, lines: tuple[Line, ...]) -> None:
        if self._file < 0:
            self._open()
        os.write(self._file, b"".join(_encode(line) + b"\n" for line in lines))
        os.fsync(self._file)
        for line in lines:
            self._note(line)

    def _open(self) -> None:
        is_new = not self._path.exists()
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        if is_new:
            _sync_folder(self._path)
        elif (size := os.fstat(self._file).st_size) and os.pread(self._file, 1, size - 1) != b"\n":
            os.ftruncate(self._file, os.pread(self._file, size, 0).rfind(b"\n") + 1)

    def _note(self, line: Line) -> None:
        self._fresh += not line.stands_for
        self._destroyed = (self._destroyed | ({line.destroyed} - {""})) - {line.returned}
        if line.stand is not None:
            self._told[line.stand.voucher_id] = max(line.stand.told, self._told.get(line.stand.voucher_id, -1))


def position(data: Path) -> int:
    """How many lines were ever written: what those tell was in the database before they were.

    Raises:
        ConfigError: A line before the last one cannot be read.
    """
    lines = _read(data / NAME)
    return lines[0].stands_for + len(lines) - 1 - lines[0].kept if lines and lines[0].stands_for else len(lines)


def recall(db: Connection, lines: list[Line]) -> int:
    """Put what had left headquarters into a database that may be older; how many things it did not know."""
    stands: dict[str, Stand] = {}
    for line in lines:
        if line.stand is not None and (line.stand.voucher_id not in stands or line.stand.told >= stands[line.stand.voucher_id].told):
            stands[line.stand.voucher_id] = line.stand
    accounts.reopen(db, {name for name in stands if not assignments.is_there(db, name)}, lines[-1].at_us if lines else 0)
    missed = sum(assignments.recall(db, stand) for stand in stands.values())
    gone: dict[str, int] = {}
    for line in lines:
        if line.opening is not None:
            values = (*line.opening, line.at_us)
            sql = "INSERT INTO openings (gateway, number, epoch, pressed_us, counted) VALUES (?, ?, ?, ?, '{}') ON CONFLICT DO NOTHING"
            missed += db.execute(sql, values).rowcount
        if line.destroyed:
            gone[line.destroyed] = line.at_us
        gone.pop(line.returned, None)
        if line.returned:
            missed += db.execute("DELETE FROM destroyed WHERE gateway = ?", (line.returned,)).rowcount
    for gateway, at_us in gone.items():
        missed += db.execute("INSERT INTO destroyed VALUES (?, ?) ON CONFLICT (gateway) DO NOTHING", (gateway, at_us)).rowcount
    return missed


def _needed(lines: list[Line], recent_us: int) -> list[bool]:
    """Of each line, whether no other one replaces it. Of equal words of a voucher the last one stays."""
    told: dict[str, tuple[int, int]] = {}
    opened: dict[str, int] = {}
    fate: dict[str, int] = {}
    for place, line in enumerate(lines):
        if line.stand is not None:
            told[line.stand.voucher_id] = max(told.get(line.stand.voucher_id, (-1, -1)), (line.stand.told, place))
        if line.opening is not None:
            opened[line.opening[0]] = max(opened.get(line.opening[0], -1), line.opening[1])
        if line.destroyed or line.returned:
            fate[line.destroyed or line.returned] = place

    def is_needed(place: int, line: Line) -> bool:
        if line.stand is not None:
            return told[line.stand.voucher_id][1] == place
        if line.opening is not None:
            return line.at_us >= recent_us or opened[line.opening[0]] == line.opening[1]
        return fate.get(line.destroyed or line.returned) == place

    return [is_needed(place, line) for place, line in enumerate(lines)]


def _read(path: Path) -> list[Line]:
    if not path.exists():
        return []
    found, raw = list[Line](), path.read_bytes().split(b"\n")
    for number, text in enumerate(raw, 1):
        try:
            found += [_decoder.decode(text)] if text else []
        except msgspec.DecodeError as error:
            if number == len(raw):  # no end of line: it was being written when the power went
                break
            hint = "Put the file back from a copy, or call for help"
            raise ConfigError(f"{path}: line {number} cannot be read", hint) from error
    return found


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
