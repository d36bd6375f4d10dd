"""The ledger's tables and how they grow. Run before core starts (`store-gateway migrate`; systemd's ExecStartPre).

Only ever add: the previous release must still run on the newest tables, or going back would be a lie. Each step and its
number are one transaction, so a power cut leaves the step done or not begun.
"""

from pathlib import Path
from typing import Final

MIGRATIONS: Final[list[str]] = [
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
]
VERSION: Final = len(MIGRATIONS)


def migrate(path: Path) -> tuple[int, int]:
    """Bring a ledger's file to this release's tables; a new file is made. Returns the versions before and after.

    sqlite-utils is imported here and not above: core reads `VERSION` and must not carry it in memory.
    """
    import sqlite_utils

    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite_utils.Database(path)
    try:
        database.conn.isolation_level = None
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        (before,) = database.execute("PRAGMA user_version").fetchone()
        for number in range(before, VERSION):
            database.conn.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version={number + 1}; COMMIT;")
        path.chmod(0o600)
        return before, max(before, VERSION)
    finally:
        database.close()
