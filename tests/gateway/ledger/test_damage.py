"""Damage, on a real file: what was changed, moved or taken away is found at the start and named; the rest serves."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.blocks import Local, made
from gateway.chain import chain
from gateway.columns import Tombstone, unpack
from gateway.errors import LedgerError
from gateway.events import EpochOpened, RedemptionRefused
from gateway.ledger import Ledger, LedgerReader, StoredAnswer, StoredDocument
from gateway.ledger.records import add_block
from tests.conftest import VirtualClock
from tests.gateway.books import Writer, health, refused, sql, visit, wait


@pytest.fixture
async def writer(ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Writer]:
    writer = Writer(ledger_path, clock)
    yield writer
    writer.close()


async def made_up(writer: Writer, clock: VirtualClock) -> None:
    """Three lives of four refusals with their answers, one visit, one state of a device and a document."""
    for life in range(3):
        ledger = writer.open()
        for number in range(4):
            answer = StoredAnswer(f"{life}-{number}", b"asked", f"answer {life}-{number}".encode())
            await wait(ledger.append([refused(clock, 10 * life + number)], source_id=f"e{number}", answer=answer))
        ledger.append([visit(clock)], source_id="v")
        await wait(ledger.append([health(clock)], document=StoredDocument("orders", life + 1, b"sealed")))
        writer.close()


def refusals(ledger: Ledger) -> list[str]:
    return [row.presentation_id for _, row in ledger.history() if isinstance(row, RedemptionRefused)]


ALL = [f"p{10 * life + number}" for life in range(3) for number in range(4)]


@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_changed_byte_of_a_block_is_found_and_only_its_rows_are_lost(
    writer: Writer, clock: VirtualClock, tmp_path: Path, data: st.DataObject
) -> None:
    sound = tmp_path / "sound.db"
    if not sound.exists():
        await made_up(writer, clock)
        shutil.copy(writer.path, sound)
        shutil.copy(writer.path.with_suffix(".mark"), sound.with_suffix(".mark"))
    shutil.copy(sound, writer.path)
    shutil.copy(sound.with_suffix(".mark"), writer.path.with_suffix(".mark"))
    places = sql(writer.path, "SELECT id, epoch, lane, first FROM block WHERE epoch<=3 ORDER BY id")
    number, epoch, lane, first = data.draw(st.sampled_from(places))
    column = data.draw(st.sampled_from(["body", "head", "mac", "first", "last", "until_us", "kinds", "epoch", "lane"]))
    (before,) = sql(writer.path, f"SELECT {column} FROM block WHERE id=?", number)[0]
    sql(writer.path, f"UPDATE block SET {column}=? WHERE id=?", _damaged(before, data), number)
    ledger = writer.open()
    try:
        assert [(one.epoch.number, one.lane, one.first, one.last) for one in ledger.damage] == [(epoch, lane, first, first)]
        lost = f"p{10 * (epoch - 1) + first - 2}" if lane == 0 else ""
        assert refusals(ledger) == [one for one in ALL if one != lost]
        assert set(ledger.answers()) == {f"{int(one[1:]) // 10}-{int(one[1:]) % 10}" for one in ALL if one != lost}
        reader = LedgerReader(writer.path)
        (stone,) = (block for block in reader.blocks(epoch, lane, first - 1, first))
        reader.close()
        assert unpack(stone.section, first) == Tombstone(first, first, "damaged", [])
        assert len(sql(writer.path, "SELECT 1 FROM damaged")) == 1
    finally:
        writer.close()
    again = writer.open()  # named once, mended for good
    assert again.damage == [] and again.harmed == []
    writer.close()


def _damaged(before: Any, data: st.DataObject) -> Any:
    if isinstance(before, int):
        return before + data.draw(st.integers(1_000, 2_000))
    if isinstance(before, str):
        return before + "x"
    place = data.draw(st.integers(0, len(before) - 1))
    return before[:place] + bytes([before[place] ^ data.draw(st.integers(1, 255))]) + before[place + 1 :]


@pytest.mark.parametrize(
    ("statement", "damage"),
    [
        ("DELETE FROM block WHERE epoch=2 AND lane=0 AND first=3", [(2, 0, 3, 3)]),
        ("DELETE FROM block WHERE epoch=2 AND lane=0 AND first=5", [(2, 0, 5, 5)]),  # the last of its epoch
        ("DELETE FROM block WHERE epoch=2 AND lane=0 AND first>1", [(2, 0, 2, 5)]),
        ("DELETE FROM block WHERE epoch=2", [(2, 0, 1, 5), (2, 1, 1, 1), (2, 2, 1, 1)]),
        ("DELETE FROM block WHERE epoch=1", [(1, 0, 1, 5), (1, 1, 1, 1), (1, 2, 1, 1)]),
        ("DELETE FROM block WHERE epoch=3 AND first>1", [(3, 0, 2, 5)]),  # the youngest: only the mark knows
        ("DELETE FROM block WHERE lane=1 AND epoch=3", [(3, 1, 1, 1)]),
    ],
)
async def test_missing_rows_are_named(writer: Writer, clock: VirtualClock, statement: str, damage: list[Any]) -> None:
    await made_up(writer, clock)
    sql(writer.path, statement)
    ledger = writer.open()
    assert [(one.epoch.number, one.lane, one.first, one.last) for one in ledger.damage] == damage
    gone = {(one.epoch.number, seq) for one in ledger.damage if one.lane == 0 for seq in range(one.first, one.last + 1)}
    assert refusals(ledger) == [one for one in ALL if (int(one[1:]) // 10 + 1, int(one[1:]) % 10 + 2) not in gone]
    again = writer.reopen()
    assert again.damage == [] and again.epoch.number == 5


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE epoch SET nonce='00000000' WHERE number=2",
        "UPDATE epoch SET parent_heads='{' WHERE number=2",
        "DELETE FROM epoch WHERE number=2",
        "UPDATE epoch SET nonce='00000000' WHERE number=3",  # the mark knows its name
        "DELETE FROM epoch WHERE number=3",
        "UPDATE file SET chain_key=zeroblob(32)",  # a copy lies beside the mark
        "UPDATE cursor SET seq=9",
        "UPDATE block SET local=zeroblob(length(local)) WHERE epoch=2 AND first=2",
        "UPDATE document SET version=7",
        "UPDATE document SET sealed=x'00'",
        "PRAGMA user_version=0",
    ],
)
async def test_other_records_are_mended_or_dropped_and_no_row_is_lost(writer: Writer, clock: VirtualClock, statement: str) -> None:
    await made_up(writer, clock)
    names = [epoch.name for epoch in _epochs(writer.path)]
    ledger = writer.open()
    ledger.move_cursor(1, 0, 2)
    writer.close()
    names.append(_epochs(writer.path)[-1].name)
    sql(writer.path, statement)
    if "user_version" in statement:
        from gateway.schema import migrate

        migrate(writer.path)
    ledger = writer.open()
    assert ledger.damage == []
    assert refusals(ledger) == ALL
    assert [epoch.name for epoch in _epochs(writer.path)][:-1] == names
    assert [row.parent for _, row in ledger.history() if isinstance(row, EpochOpened)] == [None, *names]
    if "document" in statement:
        assert ledger.documents() == [] and "document orders" in ledger.harmed
    if "cursor" in statement:
        assert ledger.cursors == {} and ledger.harmed == ["a record of cursor 1/0"]
    if "local" in statement:
        assert len(ledger.answers()) == len(ALL) - 1 and ledger.harmed
    ledger = writer.reopen()
    assert ledger.damage == [] and ledger.harmed == []


def _epochs(path: Path) -> list[Any]:
    reader = LedgerReader(path)
    try:
        return reader.epochs()
    finally:
        reader.close()


async def test_damage_is_not_forgotten_when_the_start_that_found_it_dies(writer: Writer, clock: VirtualClock) -> None:
    """Mending and the new epoch are one transaction: no later start can take the mended ledger over from an epoch before."""
    await made_up(writer, clock)
    sql(writer.path, "DELETE FROM block WHERE epoch=2 AND lane=0 AND first=3")
    sql(writer.path, "CREATE TRIGGER no BEFORE INSERT ON epoch BEGIN SELECT raise(ABORT, 'no'); END")
    with pytest.raises(LedgerError):
        writer.open()
    sql(writer.path, "DROP TRIGGER no")
    assert len(writer.open().damage) == 1


async def test_a_row_of_a_newer_release_stops_an_older_one(writer: Writer, clock: VirtualClock) -> None:
    """It may be a use of a voucher: an older release that passed it over would redeem twice."""
    await wait(writer.open().append([refused(clock)]))
    writer.close()
    key = sql(writer.path, "SELECT chain_key FROM file")[0][0]
    (previous,) = sql(writer.path, "SELECT head FROM block WHERE first=2")[0]
    event = b'{"type":"GrantRedeemed"}'
    head = chain(key, previous, (1, 0, 3, 7), event)
    import sqlite3
    from collections import Counter

    connection = sqlite3.connect(writer.path, isolation_level=None)
    add_block(connection, made(key, (1, 0, 3), [(7, event)], head, Counter(["GrantRedeemed"]), Local()))
    connection.close()
    with pytest.raises(LedgerError, match="does not know"):
        list(writer.open().history())
