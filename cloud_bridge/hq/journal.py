"""What has left headquarters, written down where a restore finds it: no assignment leaves before it is in here.

A file of JSON lines beside the database and the backups' list, each on the disk (fsync) before what it tells of is sent. After a
restore the lines are read again: a stand that was told later than the database knows replaces the database's, an opening that was
pressed later counts as the newest. Reading is harmless when nothing was restored. A last line cut short by a power cut tells of
something that was never sent. Lines are some 300 bytes.
"""

import asyncio
import os
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


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Line)


class Journal:
    """The file. One task appends at a time."""

    def __init__(self, data: Path) -> None:
        self._path = data / NAME
        self._lock = asyncio.Lock()
        self._file = -1
        self._told: dict[str, int] = {}  # voucher to the latest word of it that is certainly here

    async def write(self, *lines: Line) -> None:
        """Return when the lines are on the disk."""
        async with self._lock:
            await asyncio.to_thread(self._append, lines)

    def has(self, stand: Stand) -> bool:
        """Whether this word, or a later one, of a voucher is here for certain."""
        return self._told.get(stand.voucher_id, -1) >= stand.told

    def read(self) -> list[Line]:
        """Every line, oldest first.

        Raises:
            ConfigError: A line before the last one cannot be read.
        """
        if not self._path.exists():
            return []
        found, raw = [], self._path.read_bytes().split(b"\n")
        for number, text in enumerate(raw, 1):
            try:
                found += [_decoder.decode(text)] if text else []
            except msgspec.DecodeError as error:
                if number == len(raw):  # no end of line: it was being written when the power went
                    break
                hint = "Put the file back from a copy, or call for help"
                raise ConfigError(f"{self._path}: line {number} cannot be read", hint) from error
        for line in found:
            self._note(line)
        return found

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
            folder = os.open(self._path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        elif (size := os.fstat(self._file).st_size) and os.pread(self._file, 1, size - 1) != b"\n":
            os.ftruncate(self._file, os.pread(self._file, size, 0).rfind(b"\n") + 1)

    def _note(self, line: Line) -> None:
        if line.stand is not None:
            self._told[line.stand.voucher_id] = max(line.stand.told, self._told.get(line.stand.voucher_id, -1))


def recall(db: Connection, lines: list[Line]) -> int:
    """Put what had left headquarters into a database that may be older; how many things it did not know."""
    stands = {line.stand.voucher_id: line.stand for line in lines if line.stand is not None}
    accounts.reopen(db, {name for name in stands if not assignments.is_there(db, name)}, lines[-1].at_us if lines else 0)
    missed = sum(assignments.recall(db, stand) for stand in stands.values())
    for line in lines:
        if line.opening is not None:
            values = (*line.opening, line.at_us)
            sql = "INSERT INTO openings (gateway, number, epoch, pressed_us, counted) VALUES (?, ?, ?, ?, '{}') ON CONFLICT DO NOTHING"
            missed += db.execute(sql, values).rowcount
        if line.destroyed:
            sql = "INSERT INTO destroyed VALUES (?, ?) ON CONFLICT (gateway) DO NOTHING"
            missed += db.execute(sql, (line.destroyed, line.at_us)).rowcount
    return missed
