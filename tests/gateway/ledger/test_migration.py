"""How tables grow: the first release's rows become blocks, and from then on only additions."""

import re
import sqlite3
from pathlib import Path

import pytest

from benchmarks.crash import OLD_ROWS, Acknowledged, write_old
from gateway.events import EpochOpened, VoucherRedeemed
from gateway.ledger import LedgerReader, StoredAnswer
from gateway.schema import MIGRATIONS, VERSION, migrate
from tests.conftest import VirtualClock
from tests.gateway.books import Writer, refused, sql, wait

ADDITIONS = re.compile(r"CREATE TABLE|CREATE (UNIQUE )?INDEX|ALTER TABLE \w+ ADD COLUMN(?!.* NOT NULL(?!.* DEFAULT))")


@pytest.fixture
def old(tmp_path: Path, clock: VirtualClock) -> Path:
    """A ledger of the first release with two rows a cursor has passed, and a document."""
    import itertools

    path = tmp_path / "ledger.db"
    write_old(path, clock, itertools.count(1), Acknowledged(tmp_path / "ack"))
    sql(path, "INSERT INTO cursor VALUES (1, 0, 2)")
    sql(path, "INSERT INTO document VALUES ('orders', 3, x'0102')")
    sql(path, "INSERT INTO row VALUES (1, 2, 1, 77, 'CatalogApplied', x'7b7d', '', x'00')")  # a row whose link is wrong
    return path


async def test_rows_answers_cursors_and_documents_of_the_first_release_are_carried_over(old: Path, clock: VirtualClock) -> None:
    rows = sql(old, "SELECT seq, record_us, event, mac FROM row WHERE lane=0 ORDER BY seq")
    assert migrate(old) == (1, VERSION)
    writer = Writer(old, clock)
    ledger = writer.open()
    assert ledger.harmed == []
    history = list(ledger.history())
    carried = [(stored.seq, stored.record_us, stored.event) for stored, _ in history if stored.epoch == 1]
    assert carried == [tuple(row[:3]) for row in rows]
    assert len([row for _, row in history if isinstance(row, VoucherRedeemed)]) == OLD_ROWS - 1
    assert ledger.answers() == {str(number): StoredAnswer(str(number), b"\0", b"\1") for number in range(1, OLD_ROWS + 1)}
    assert (ledger.cursors, ledger.reach[1]) == ({1: {0: 2}}, {0: OLD_ROWS})
    assert [(one.name, one.version, one.sealed) for one in ledger.documents()] == [("orders", 3, b"\1\2")]
    # headquarters knows the heads by their old links
    assert ledger.epoch.parent_heads == {0: (OLD_ROWS, rows[-1][3].hex())}
    assert ledger.head_at(1, 0, OLD_ROWS) == rows[-1][3].hex()
    assert [row.parent for _, row in history if isinstance(row, EpochOpened)] == [None, "1-aaaaaaaa"]
    await wait(ledger.append([refused(clock)]))
    again = writer.reopen()
    assert again.damage == [] and len(list(again.history())) == len(history) + 2
    writer.close()


async def test_damage_of_the_first_release_is_found_by_the_start_behind_the_migration(old: Path, clock: VirtualClock) -> None:
    sql(old, "UPDATE row SET record_us=record_us+1 WHERE seq=9 AND lane=0")
    migrate(old)
    ledger = (writer := Writer(old, clock)).open()
    assert [(one.epoch.number, one.lane, one.first, one.last) for one in ledger.damage] == [(1, 0, 9, 9)]
    assert len([row for _, row in ledger.history() if isinstance(row, VoucherRedeemed)]) == OLD_ROWS - 2
    writer.close()


def test_the_first_release_does_not_start_on_blocks(old: Path) -> None:
    """It would not see uses made since; it stops, since the table it reads is gone."""
    migrate(old)
    with pytest.raises(sqlite3.OperationalError, match="no such table: row"):
        sql(old, "SELECT epoch, lane, max(seq) FROM row GROUP BY epoch, lane")


def test_steps_after_the_second_only_add() -> None:
    for statements, then in MIGRATIONS[2:]:
        assert then is None
        for statement in filter(str.strip, statements.split(";")):
            assert ADDITIONS.match(" ".join(statement.split())), statement


def test_the_watch_over_additions_sees_what_is_none() -> None:
    for fine in ("CREATE TABLE a (b)", "ALTER TABLE a ADD COLUMN b INTEGER NOT NULL DEFAULT 0", "ALTER TABLE a ADD COLUMN b TEXT"):
        assert ADDITIONS.match(fine)
    for not_fine in ("DROP TABLE a", "ALTER TABLE a ADD COLUMN b TEXT NOT NULL", "ALTER TABLE a RENAME TO b", "UPDATE a SET b=1"):
        assert not ADDITIONS.match(not_fine)


async def test_this_release_runs_on_the_next_ones_tables(ledger_path: Path, clock: VirtualClock) -> None:
    """The next release will have added columns, tables and an index: going back to this one must work."""
    writer = Writer(ledger_path, clock)
    await wait(writer.open().append([refused(clock)], answer=StoredAnswer("k", b"a", b"b")))
    writer.close()
    names = [name for (name,) in sql(ledger_path, "SELECT name FROM sqlite_schema WHERE type='table'")]
    assert {"block", "epoch", "cursor", "document", "trimmed", "kept", "note", "file", "damaged"} <= set(names)
    for name in names:
        sql(ledger_path, f"ALTER TABLE {name} ADD COLUMN added_later INTEGER NOT NULL DEFAULT 7")
    sql(ledger_path, "CREATE TABLE later (id INTEGER PRIMARY KEY)")
    sql(ledger_path, "CREATE INDEX by_time ON block (until_us)")
    sql(ledger_path, f"PRAGMA user_version={VERSION + 1}")
    assert migrate(ledger_path) == (VERSION + 1, VERSION + 1)
    ledger = writer.open()
    await wait(ledger.append([refused(clock, 2)], answer=StoredAnswer("l", b"a", b"b")))
    ledger.move_cursor(1, 0, 2)
    ledger = writer.reopen()
    assert ledger.damage == [] and ledger.harmed == [] and ledger.cursors == {1: {0: 2}}
    assert set(ledger.answers()) == {"k", "l"} and len(list(ledger.history())) == 5
    writer.close()
    reader = LedgerReader(ledger_path)
    assert reader.blocks(2, 0, 0, 2)
    reader.close()
