"""The ledger's tables and how they grow. Run before core starts (`store-gateway migrate`; systemd's ExecStartPre).

Only ever add: the previous release must still run on the newest tables, or going back would be a lie. The one exception is
step 2, which turned rows into blocks (ADR 11) when no shop was running yet. Each step and its number are one transaction, so a
power cut leaves the step done or not begun.
"""

import contextlib
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

from gateway.blocks import FIELDS, MAX_BLOCK_ROWS, Local, StoredAnswer, made
from gateway.chain import CHAIN_START, PLACE, mac

PAGE_B: Final = 1024  # a commit writes whole pages, and a redemption fits into one
CARRIED_LANE: Final = 3  # what is no row for headquarters: answers that were given without one


def carry_over(connection: sqlite3.Connection) -> None:
    """Step 2: rows and answers of the first release become blocks. Their links stay those they were sent to headquarters with."""
    found = connection.execute("SELECT chain_key FROM file").fetchone()
    if found is not None:
        key = bytes(found[0])
        for block in _carried(connection, key):
            values = (block.epoch, block.lane, block.first, block.last, block.until_us, block.kinds, block.head, block.body)
            sql = f"INSERT INTO block ({FIELDS}) VALUES (?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant text
            connection.execute(sql, (*values, block.local, block.mac))
        connection.execute("UPDATE file SET key_mac=?", (mac(key, "file"),))
        _sign(connection, key)
    connection.execute("DROP TABLE row")
    connection.execute("DROP TABLE answer")


def _sign(connection: Any, key: bytes) -> None:
    lines = connection.execute("SELECT number, nonce, parent, parent_heads, opened_us FROM epoch").fetchall()
    connection.executemany("UPDATE epoch SET linked=0, mac=? WHERE number=?", [(mac(key, "epoch", *line, 0), line[0]) for line in lines])
    cursors = connection.execute("SELECT epoch, lane, seq FROM cursor").fetchall()
    signed = [(mac(key, "cursor", *cursor, 0), *cursor[:2]) for cursor in cursors]
    connection.executemany("UPDATE cursor SET mac=? WHERE epoch=? AND lane=?", signed)
    applied = "SELECT max(record_us) FROM row WHERE type='CatalogApplied' AND json_extract(event, '$.name')=document.name"
    connection.execute(f"UPDATE document SET since_us=coalesce(({applied}), 0)")  # noqa: S608 - constant text
    documents = connection.execute("SELECT name, version, sealed, since_us FROM document").fetchall()
    connection.executemany("UPDATE document SET mac=? WHERE name=?", [(mac(key, "document", *one), one[0]) for one in documents])


def _carried(connection: Any, key: bytes) -> Iterator[Any]:
    sql = "SELECT epoch, lane, seq, record_us, type, event, source_id, mac FROM row ORDER BY epoch, lane, seq"
    for (epoch, lane), rows in groupby(connection.execute(sql), lambda row: (row[0], row[1])):
        for _, run in groupby(_whole(key, rows), _runs()):
            while piece := list(islice(run, MAX_BLOCK_ROWS)):
                kinds = Counter(row[4] for row in piece)
                local = Local({at: row[6] for at, row in enumerate(piece) if row[6]})
                events = [(row[3], row[5]) for row in piece]
                yield made(key, (epoch, lane, piece[0][2]), events, piece[-1][7], kinds, local)
    answers = connection.execute("SELECT key, request, answer, at_us FROM answer ORDER BY at_us").fetchall()
    (youngest,) = connection.execute("SELECT max(number) FROM epoch").fetchone()
    for first in range(0, len(answers) if youngest else 0, MAX_BLOCK_ROWS):
        piece = answers[first : first + MAX_BLOCK_ROWS]
        local = Local({}, [StoredAnswer(*answer[:3]) for answer in piece])
        nothing = [(at_us, b"null") for _, _, _, at_us in piece]
        yield made(key, (youngest, CARRIED_LANE, first + 1), nothing, CHAIN_START, Counter(), local)


def _runs() -> Callable[[tuple[Any, ...]], int]:
    """Groups rows without a gap: where one was left out, the number changes."""
    at = iter(range(1 << 62))
    return lambda row: int(row[2]) - next(at)


def _whole(key: bytes, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Rows whose link, as the first release made it, is right. What is left out, the next start finds missing."""
    previous = CHAIN_START
    for row in rows:
        head = hashlib.blake2b(previous + PLACE.pack(*row[:4]), key=key, digest_size=16)
        for part in (row[4].encode(), row[5], row[6].encode()):
            head.update(len(part).to_bytes(4, "big"))
            head.update(part)
        if head.digest() == row[7]:
            yield row
        previous = row[7]


MIGRATIONS: Final[list[tuple[str, Callable[[sqlite3.Connection], None] | None]]] = [
    (
        """
    CREATE TABLE file (one INTEGER PRIMARY KEY CHECK (one = 1), chain_key BLOB NOT NULL) STRICT;
    CREATE TABLE epoch (
        number INTEGER PRIMARY KEY, nonce TEXT NOT NULL, parent TEXT, parent_heads TEXT NOT NULL, opened_us INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE row (
        epoch INTEGER NOT NULL, lane INTEGER NOT NULL, seq INTEGER NOT NULL, record_us INTEGER NOT NULL, type TEXT NOT NULL,
        event BLOB NOT NULL, source_id TEXT NOT NULL, mac BLOB NOT NULL, PRIMARY KEY (epoch, lane, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE cursor (
        epoch INTEGER NOT NULL, lane INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (epoch, lane)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE answer (
        key TEXT PRIMARY KEY, request BLOB NOT NULL, answer BLOB NOT NULL, at_us INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE document (
        name TEXT PRIMARY KEY, version INTEGER NOT NULL, sealed BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
        None,
    ),
    (
        """
    CREATE TABLE block (
        id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, lane INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        until_us INTEGER NOT NULL, kinds TEXT NOT NULL, head BLOB NOT NULL, body BLOB NOT NULL, local BLOB, mac BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX block_place ON block (epoch, lane, first);
    CREATE TABLE damaged (
        id INTEGER PRIMARY KEY, found_us INTEGER NOT NULL, epoch INTEGER, lane INTEGER, first INTEGER, last INTEGER, until_us INTEGER,
        kinds TEXT, head BLOB, body BLOB, local BLOB, mac BLOB
    );
    CREATE TABLE trimmed (
        epoch INTEGER NOT NULL, lane INTEGER NOT NULL, seq INTEGER NOT NULL, head BLOB NOT NULL, mac BLOB NOT NULL,
        PRIMARY KEY (epoch, lane)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE kept (
        id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, body BLOB NOT NULL,
        mac BLOB NOT NULL
    ) STRICT;
    CREATE TABLE note (name TEXT PRIMARY KEY, value BLOB NOT NULL, mac BLOB NOT NULL) STRICT, WITHOUT ROWID;
    ALTER TABLE file ADD COLUMN key_mac BLOB;
    ALTER TABLE epoch ADD COLUMN linked INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE epoch ADD COLUMN mac BLOB;
    ALTER TABLE cursor ADD COLUMN backed_up INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE cursor ADD COLUMN mac BLOB;
    ALTER TABLE document ADD COLUMN since_us INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE document ADD COLUMN mac BLOB;
    """,
        carry_over,
    ),
]
VERSION: Final = len(MIGRATIONS)


def migrate(path: Path) -> tuple[int, int]:
    """Bring a ledger's file to this release's tables; a new file is made. Returns the versions before and after."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        before = build(connection)
        path.chmod(0o600)
        return before, max(before, VERSION)


def build(connection: sqlite3.Connection) -> int:
    """Take the steps that are missing, on a connection in autocommit; returns the version before."""
    connection.execute(f"PRAGMA page_size={PAGE_B}")  # of a new file; an old one keeps its own
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    (before,) = connection.execute("PRAGMA user_version").fetchone()
    # The number is four bytes that no hash covers: tables that are there are there.
    if before < VERSION and connection.execute("SELECT 1 FROM sqlite_schema WHERE name='block'").fetchone():
        connection.execute(f"PRAGMA user_version={VERSION}")
        return VERSION
    for number in range(before, VERSION):
        statements, then = MIGRATIONS[number]
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(statement)
            if then is not None:
                then(connection)
            connection.execute(f"PRAGMA user_version={number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return int(before)
