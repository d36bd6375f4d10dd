"""What is left of something in files: looked for in every byte, in what was compressed, and in the pages a database has given up."""

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from backports import zstd

MAGIC = b"\x28\xb5\x2f\xfd"  # of a zstd frame
WINDOW_B = 24
PLACES = 300  # looked at in a blob: a page of a kilobyte that was left is found in one as small as 300 kB
MOST_B = 64 * 1024 * 1024


def spellings(needles: Iterable[str]) -> list[bytes]:
    """Each needle as text, in UTF-16, and as the bytes its hex stands for."""
    found: list[bytes] = []
    for needle in needles:
        found += [needle.encode(), needle.encode("utf-16-le")]
        if len(needle) % 2 == 0 and len(needle) >= 16 and all(letter in "0123456789abcdef" for letter in needle):
            found.append(bytes.fromhex(needle))
    return found


def traces(folder: Path, needles: Iterable[str]) -> list[tuple[str, str]]:
    """The files below a folder in which any of the needles is, and which."""
    spelled = [(needle, spellings([needle])) for needle in needles]
    found = set()
    for path in files(folder):
        for piece in pieces(path):
            found |= {(path.name, needle) for needle, spells in spelled if any(one in piece for one in spells)}
    return sorted(found)


def remains(folder: Path, blobs: Iterable[bytes], but: Iterable[bytes] = ()) -> list[str]:
    """The files below a folder that still have a piece of one of the blobs: what a database gave up, its page may still hold.

    Pieces that are also in one of `but` do not count: two compressed lists of nearly the same people share some.
    """
    whole = {path.name: path.read_bytes() for path in files(folder)}
    meant = list(but)
    found = set()
    for blob in blobs:
        for at in range(0, max(1, len(blob) - WINDOW_B), max(8, len(blob) // PLACES)):
            piece = blob[at : at + WINDOW_B]
            if not any(piece in one for one in meant):
                found |= {name for name, data in whole.items() if piece in data}
    return sorted(found)


def files(folder: Path) -> list[Path]:
    """Every file below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def pieces(path: Path) -> Iterator[bytes]:
    """Everything that can be read in a file: its bytes, the values of a database, and what any of that was compressed from."""
    data = path.read_bytes()
    yield data
    yield from unpacked(data)
    if data.startswith(b"SQLite format 3\x00"):
        for value in values(path):
            yield value
            yield from unpacked(value)


def unpacked(data: bytes) -> Iterator[bytes]:
    """What zstd frames anywhere in bytes hold."""
    at = data.find(MAGIC)
    while at >= 0:
        with contextlib.suppress(zstd.ZstdError):
            yield zstd.ZstdDecompressor().decompress(data[at:], max_length=MOST_B)
        at = data.find(MAGIC, at + 1)


def values(path: Path) -> Iterator[bytes]:
    """Every value of every table, read from a copy, so that the database itself is left alone."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        for suffix in ("", "-wal"):
            if path.with_name(path.name + suffix).exists():
                shutil.copyfile(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
        db = sqlite3.connect(copy)
        db.text_factory = bytes
        try:
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in db.execute(f'SELECT * FROM "{name.decode()}"'):
                    yield from (value for value in row if isinstance(value, bytes))
        finally:
            db.close()
