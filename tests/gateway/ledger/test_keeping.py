"""What becomes of rows later: merged, trimmed, forgotten, asked for again; and what decides something is never forgotten."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.columns import Tombstone, unpack
from gateway.events import RedemptionRefused, VoucherRedeemed
from gateway.ledger import Ledger, LedgerReader, StoredAnswer
from tests.conftest import VirtualClock
from tests.gateway.books import Writer, refused, sql, visit, wait

DAYS_4 = 4 * 86_400


@pytest.fixture
async def writer(ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Writer]:
    writer = Writer(ledger_path, clock)
    yield writer
    assert writer.failures == []
    writer.close()


async def pass_time(ledger: Ledger, clock: VirtualClock, seconds: float) -> None:
    """The writing thread has seen that so much time has passed, and has done what is due. Until then it slept by the real clock."""
    await ledger.prove()
    clock.advance(seconds)
    await ledger.prove()
    await asyncio.sleep(0.003)  # nobody waits for the writing thread: it has time for what is old
    await ledger.prove()


async def in_time(ledger: Ledger, clock: VirtualClock, true: Callable[[], bool]) -> None:
    """What the writing thread does when nobody waits, it does at some time."""
    for _ in range(200):
        if true():
            return
        await pass_time(ledger, clock, 6)
    assert true()


async def traffic(ledger: Ledger, clock: VirtualClock, seconds: int, a_second: int = 50) -> None:
    numbers = itertools.count()
    for _ in range(seconds):
        done = [ledger.append([visit(clock, next(numbers))], source_id=f"v{number}") for number in range(a_second)]
        await pass_time(ledger, clock, 1)
        await asyncio.wait_for(asyncio.gather(*done), 10)


def used(clock: VirtualClock, number: int) -> VoucherRedeemed:
    return VoucherRedeemed(f"r{number}", f"v{number}", 1, 1, "counter", "kiosk", None, 1, clock.now())


def places(path: Path, lane: int) -> list[tuple[int, int]]:
    return [tuple(row) for row in sql(path, "SELECT first, last FROM block WHERE lane=? ORDER BY epoch, first", lane)]


async def test_a_backlog_is_merged_and_reads_the_same(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    reader = LedgerReader(writer.path)
    await traffic(ledger, clock, 20)
    before = reader.rows(1, 1, 0, 1_000, 2_000)
    assert len(before) == 1_000
    await traffic(ledger, clock, 15)
    await in_time(ledger, clock, lambda: (1, 500) in places(writer.path, 1))
    assert (1_701, 1_750) in places(writer.path, 1)  # the youngest are left alone: they may be on their way
    after = reader.rows(1, 1, 0, 1_000, 2_000)
    assert [(row.seq, row.record_us, row.event, row.mac) for row in after] == [
        (row.seq, row.record_us, row.event, row.mac) for row in before
    ]
    assert [(block.first, block.last) for block in reader.blocks(1, 1, 480, 10_000, 600)][:1] == [(1, 500)]
    assert reader.head_at(1, 1, 50) == before[49].mac  # an acknowledgement of what was a block of its own still fits
    reader.close()
    again = writer.reopen()
    assert again.damage == [] and again.reach[1] == {0: 1, 1: 1_750}


async def test_traffic_is_trimmed_behind_the_cursor_and_not_before(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    await traffic(ledger, clock, 40)
    counted = ledger.counts()
    ledger.move_cursor(1, 1, 1_025)
    await in_time(ledger, clock, lambda: places(writer.path, 1)[0][0] > 1_000)
    assert places(writer.path, 1)[0][0] == 1_001  # whole blocks only, and the cursor lies inside this one
    assert ledger.counts() == counted  # what was trimmed is still counted
    assert ledger.reach[1][1] == 2_000
    ledger.move_cursor(1, 1, 2_000)
    await in_time(ledger, clock, lambda: places(writer.path, 1) == [])
    again = writer.reopen()
    assert again.damage == [] and again.reach[1][1] == 2_000 and again.epoch.parent_heads[1][0] == 2_000
    assert again.counts() == counted | {"EpochOpened": 2}


async def test_money_is_trimmed_behind_the_backup_and_three_days_and_its_uses_are_kept(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    for number in range(40):
        await wait(ledger.append([used(clock, number)], answer=StoredAnswer(f"k{number}", b"a", b"b")))
        await wait(ledger.append([refused(clock, number)], answer=StoredAnswer(f"r{number}", b"a", b"c")))
    name = ledger.epoch.name
    ledger.move_cursor(1, 0, 81)
    await pass_time(ledger, clock, 100)
    ledger.backed_up(name, 0, 61)
    await pass_time(ledger, clock, 10)
    assert places(writer.path, 0)[0] == (1, 1)  # too young
    clock.advance(DAYS_4)
    await in_time(ledger, clock, lambda: places(writer.path, 0)[0][0] > 61)
    assert places(writer.path, 0)[0] == (62, 62)
    assert len(ledger.counts()) == 3
    again = writer.reopen()
    assert again.damage == [] and again.harmed == []
    rows = [row for _, row in again.history()]
    assert [row.voucher_id for row in rows if isinstance(row, VoucherRedeemed)] == [f"v{number}" for number in range(40)]
    assert [row.presentation_id for row in rows if isinstance(row, RedemptionRefused)] == [f"p{number}" for number in range(30, 40)]
    assert "k39" in again.answers() and "k0" not in again.answers()
    assert again.head_at(1, 0, 61) is not None and again.head_at(1, 0, 40) is None
    assert [again.reader.head_before(1, 0, first).hex() for first in (61, 62)] == ["", again.head_at(1, 0, 61)]


async def test_an_epoch_that_headquarters_has_becomes_one_line_and_can_still_be_asked_for(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    await wait(ledger.append([used(clock, 1), used(clock, 2)]))
    await traffic(ledger, clock, 2, 10)
    name = ledger.epoch.name
    ledger = writer.reopen()
    clock.advance(DAYS_4)
    ledger.move_cursor(1, 0, 3)
    ledger.move_cursor(1, 1, 20)
    ledger.backed_up(name, 0, 3)
    await in_time(ledger, clock, lambda: 1 not in ledger.reach)
    await wait(ledger.append([used(clock, 3)]))
    assert set(ledger.reach) == {2} and set(ledger.cursors) <= {2}
    assert sql(writer.path, "SELECT 1 FROM block WHERE epoch=1") == sql(writer.path, "SELECT 1 FROM trimmed WHERE epoch=1") == []
    ledger = writer.reopen()
    assert ledger.damage == [] and set(ledger.reach) == {2, 3}
    assert len([row for _, row in ledger.history() if isinstance(row, VoucherRedeemed)]) == 3
    assert ledger.ask_back(name, 0, 0) and not ledger.ask_back(name, 0, 2) and not ledger.ask_back("9-00000000", 0, 0)
    assert ledger.reach[1] == {0: 3, 1: 20} and ledger.cursors[1] == {0: 0, 1: 20}
    await pass_time(ledger, clock, 2)
    reader = LedgerReader(writer.path)
    (lost,) = reader.blocks(1, 0, 0, 3)
    assert (lost.first, lost.last, lost.head.hex()) == (1, 3, reader.epochs()[1].parent_heads[0][1])
    assert unpack(lost.section, 1) == Tombstone(1, 3, "hq_lost", [])
    assert reader.blocks(1, 1, 20, 20) == []
    reader.close()
    again = writer.reopen()
    assert again.damage == [] and again.cursors[1] == {0: 0, 1: 20}


async def test_the_cursor_goes_back_and_only_what_is_trimmed_is_lost(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    await traffic(ledger, clock, 30, 20)
    ledger.move_cursor(1, 1, 400)
    await in_time(ledger, clock, lambda: places(writer.path, 1)[0] == (401, 420))
    assert ledger.ask_back(ledger.epoch.name, 1, 100) and ledger.cursors[1][1] == 100
    assert not ledger.ask_back(ledger.epoch.name, 1, 300)
    assert not ledger.ask_back(ledger.epoch.name, 3, 0) and not ledger.ask_back(ledger.epoch.name, 1, -1)
    reader = LedgerReader(writer.path)
    blocks = reader.blocks(1, 1, 100, 600)
    assert [(block.first, block.last) for block in blocks[:2]] == [(101, 400), (401, 420)]
    assert isinstance(unpack(blocks[0].section, 101), Tombstone) and isinstance(unpack(blocks[1].section, 401), list)
    reader.close()
    await pass_time(ledger, clock, 2)
    assert writer.reopen().cursors[1][1] == 100


async def test_answers_without_a_row_are_forgotten_after_three_days(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    await wait(ledger.append([], answer=StoredAnswer("old", b"a", b"b")))
    clock.advance(DAYS_4)
    ledger = writer.reopen()
    await wait(ledger.append([], answer=StoredAnswer("new", b"a", b"b")))
    assert set(ledger.answers()) == {"old"}
    await in_time(ledger, clock, lambda: len(places(writer.path, 3)) == 1)
    again = writer.reopen()
    assert set(again.answers()) == {"new"} and again.damage == [] and again.harmed == []


async def test_a_blocks_reader_keeps_to_whole_blocks_below_what_core_names(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    for number in range(5):
        await wait(ledger.append([refused(clock, number), refused(clock, 100 + number)]))
    reader = LedgerReader(writer.path)
    assert [(block.first, block.last) for block in reader.blocks(1, 0, 0, 11)] == [(1, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)]
    assert [(block.first, block.last) for block in reader.blocks(1, 0, 2, 8)] == [(2, 3), (4, 5), (6, 7)]
    assert [(block.first, block.last) for block in reader.blocks(1, 0, 1, 11, 3)] == [(2, 3)]
    assert [(block.first, block.last) for block in reader.blocks(1, 0, 1, 11, 1)] == [(2, 3)]
    assert reader.blocks(1, 0, 11, 11) == reader.blocks(1, 1, 0, 5) == reader.blocks(7, 0, 0, 5) == []
    reader.close()
