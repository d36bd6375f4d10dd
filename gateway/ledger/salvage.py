"""Moving what is readable of a damaged file into a new one. Records are only copied: the start that follows tells which are whole.

A scan ends at the first bad page, so a table is read again from behind it, and at last row by row. One bad letter in the tables'
own text would hide all of them: that text is known, so it is put right first, in a copy.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gateway.schema import build

TABLES: Final = ("file", "epoch", "block", "cursor", "document", "trimmed", "kept", "note", "damaged")
PIECE_B: Final = 24  # of a table's text, by which its place is found
FEW: Final = 8  # letters that may differ
STEPS: Final = (1, 16, 256, 4096, 65_536)  # how far to skip behind a bad page


def salvage(damaged: Path, new: Path, key: bytes | None) -> None:
    """Make `new`, with whatever of `damaged` SQLite still reads.

    Args:
        key: The file's key, if it is known from elsewhere.
    """
    for suffix in ("", "-wal", "-shm", "-journal"):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
    target = sqlite3.connect(new, isolation_level=None)
    copy = new.with_name(f"{new.name}.copy")
    try:
        new.chmod(0o600)
        build(target)
        damaged = _legible(damaged, copy, [sql.encode() for (sql,) in target.execute("SELECT sql FROM sqlite_schema WHERE sql<>''")])
        target.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            for columns, row in _rows(damaged, table):
                names, marks = ", ".join(columns), ", ".join("?" * len(columns))
                with contextlib.suppress(sqlite3.IntegrityError, sqlite3.OperationalError):  # a broken row does not fit
                    target.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", row)  # noqa: S608 - names of ours
        if key is not None:
            target.execute("INSERT OR REPLACE INTO file (one, chain_key) VALUES (1, ?)", (key,))
        target.execute("COMMIT")
    finally:
        target.close()
        for suffix in ("", "-wal", "-shm"):
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)


def _legible(damaged: Path, copy: Path, texts: list[bytes]) -> Path:
    """The file itself if SQLite understands its tables, else a copy in which their text is as it was."""
    try:
        with contextlib.closing(sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True)) as source:
            if all(source.execute(f"PRAGMA table_info({table})").fetchall() for table in TABLES):
                return damaged
    except (sqlite3.Error, UnicodeDecodeError):
        pass
    content = bytearray(damaged.read_bytes())
    for text in texts:
        if text not in content:
            _put_right(content, text)
    copy.touch(0o600)
    copy.write_bytes(content)
    log = damaged.with_name(f"{damaged.name}-wal")
    if log.exists():
        shutil.copyfile(log, copy.with_name(f"{copy.name}-wal"))
    return copy


def _put_right(content: bytearray, text: bytes) -> None:
    """Write a known text over the place that differs from it in a few letters."""
    for piece in range(0, len(text) - PIECE_B, PIECE_B):
        at = content.find(text[piece : piece + PIECE_B])
        while at >= 0:
            begin = at - piece
            window = content[begin : begin + len(text)] if begin >= 0 else b""
            if len(window) == len(text) and sum(one != other for one, other in zip(window, text, strict=True)) <= FEW:
                content[begin : begin + len(text)] = text
                return
            at = content.find(text[piece : piece + PIECE_B], at + 1)


def _rows(path: Path, table: str) -> Iterator[tuple[list[str], tuple[Any, ...]]]:
    try:
        source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except (sqlite3.Error, UnicodeDecodeError):
        return
    try:
        source.text_factory = _text
        columns = [str(line[1]) for line in source.execute(f"PRAGMA table_info({table})")]
        keyed = any(line[1] == "id" for line in source.execute(f"PRAGMA table_info({table})"))
        names = ", ".join(columns)
        if columns:
            found = _by_id(source, table, names) if keyed else _straight(source, f"SELECT {names} FROM {table}")  # noqa: S608
            yield from ((columns, row) for row in found)
    except (sqlite3.Error, UnicodeDecodeError):
        return
    finally:
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
            source.close()


def _straight(source: sqlite3.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
        yield from source.execute(sql)


def _by_id(source: sqlite3.Connection, table: str, names: str) -> Iterator[tuple[Any, ...]]:
    after, skipped, last = 0, 0, _last(source, table)
    while after <= last:
        try:
            # by `id`, whatever order the columns have, and not through an index that may be damaged too
            sql = f"SELECT id, {names} FROM {table} NOT INDEXED WHERE id>? ORDER BY id"  # noqa: S608 - names of ours
            for number, *row in source.execute(sql, (after,)):
                if number <= after:
                    raise sqlite3.DatabaseError("out of order")
                after, skipped = number, 0
                yield tuple(row)
            return
        except (sqlite3.Error, UnicodeDecodeError):
            after += STEPS[min(skipped // 8, len(STEPS) - 1)]
            skipped += 1


def _last(source: sqlite3.Connection, table: str) -> int:
    for sql in (f"SELECT max(id) FROM {table}", f"SELECT id FROM {table} ORDER BY id DESC"):  # noqa: S608 - names of ours
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
            found = source.execute(sql).fetchone()
            if found is not None and isinstance(found[0], int):
                return int(found[0])
    return 1 << 20


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
