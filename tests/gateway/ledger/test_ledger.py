"""The ledger, on a real file: nothing acknowledged is lost, and the classes of durability are kept."""

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.chain import decode_event
from gateway.clock import SystemClock
from gateway.errors import LedgerError
from gateway.events import EpochOpened, Lane, LineChanged, RedemptionRefused, VoucherRedeemed
from gateway.ledger import Ledger, LedgerReader, StoredAnswer, StoredDocument, connect
from gateway.schema import VERSION, migrate
from tests.conftest import VirtualClock, until
from tests.gateway.books import Writer, health, refused, sql, visit, wait


@pytest.fixture
async def writer(ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Writer]:
    writer = Writer(ledger_path, clock)
    yield writer
    writer.close()


# ---------------------------------------------------------------- opening


async def test_durability_is_set_and_looked_at(writer: Writer) -> None:
    connection = connect(writer.path, read_only=False)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_a_file_that_forgot_its_journal_is_not_written(writer: Writer) -> None:
    sql(writer.path, "PRAGMA journal_mode=DELETE")
    with pytest.raises(LedgerError, match="journal delete"):
        writer.open()


async def test_a_file_without_tables_or_no_file_is_refused_with_the_next_step(tmp_path: Path, clock: VirtualClock) -> None:
    migrate(tmp_path / "old.db")
    sql(tmp_path / "old.db", "PRAGMA user_version=0")
    for name in ("old.db", "absent.db", "absent/ledger.db"):
        writer = Writer(tmp_path / name, clock)
        for _ in range(2):  # nothing is left locked by the first try
            with pytest.raises(LedgerError) as error:
                writer.open()
            assert error.value.hint
            assert "another process" not in str(error.value)


async def test_tables_of_a_newer_release_still_serve(writer: Writer) -> None:
    sql(writer.path, f"PRAGMA user_version={VERSION + 1}")
    writer.open()


async def test_migrating_is_done_once_and_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.db"
    assert [migrate(path), migrate(path)] == [(0, VERSION), (VERSION, VERSION)]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_one_ledger_has_one_writer(writer: Writer) -> None:
    writer.open()
    with pytest.raises(LedgerError, match="another process"):
        writer.open()
    script = "import asyncio, sys; from pathlib import Path; from tests.gateway.ledger_writer import write; "
    script += "asyncio.run(write(Path(sys.argv[1]), 'x'))"
    other = subprocess.run([sys.executable, "-c", script, str(writer.path)], capture_output=True, text=True, check=False)  # noqa: ASYNC221
    assert "another process writes this ledger" in other.stderr
    assert other.stdout == ""


async def test_a_path_with_odd_letters_is_a_path(tmp_path: Path, clock: VirtualClock) -> None:
    path = tmp_path / "a shop #1? 100%" / "ledger.db"
    migrate(path)
    writer = Writer(path, clock)
    writer.open()
    writer.close()


# ---------------------------------------------------------------- epochs and rows


async def test_every_start_opens_an_epoch_that_names_its_parent_and_how_far_it_came(writer: Writer, clock: VirtualClock) -> None:
    first = writer.open()
    assert (first.epoch.number, first.epoch.parent, first.epoch.parent_heads) == (1, None, {})
    await wait(first.append([refused(clock, 1)]))
    await wait(first.append([refused(clock, 2), health(clock)]))
    first_name = first.epoch.name
    second = writer.reopen()
    assert (second.epoch.number, second.epoch.parent) == (2, first_name)
    reader = LedgerReader(writer.path)
    ends = {lane: reader.rows(1, lane, 0, 100)[-1] for lane in (0, 2)}
    assert second.epoch.parent_heads == {lane: (row.seq, row.mac.hex()) for lane, row in ends.items()}
    third = writer.reopen()  # the second epoch was empty but for its first row
    assert (third.epoch.number, third.epoch.parent) == (3, second.epoch.name)
    assert [epoch.number for epoch in reader.epochs()] == [1, 2, 3]
    opened = [row for _, row in third.history() if isinstance(row, EpochOpened)]
    assert [row.parent for row in opened] == [None, first_name, second.epoch.name]
    assert opened[1].parent_heads == second.epoch.parent_heads
    reader.close()


async def test_numbers_of_a_lane_have_no_gap(writer: Writer, clock: VirtualClock) -> None:
    kinds = [refused, visit, health]
    rng = random.Random(3)
    for _ in range(3):
        ledger = writer.open()
        for number in range(60):
            ledger.append([rng.choice(kinds)(clock, number) for _ in range(rng.randint(1, 4))])
        writer.close()
    reader = LedgerReader(writer.path)
    for epoch in reader.epochs():
        for lane in Lane:
            seqs = [row.seq for row in reader.rows(epoch.number, lane, 0, 10_000)]
            assert seqs == list(range(1, len(seqs) + 1))
            assert len(seqs) > 10
    reader.close()


async def test_a_reader_gets_what_it_asks_for(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    await wait(ledger.append([refused(clock, number) for number in range(10)]))
    reader = LedgerReader(writer.path)
    assert [row.seq for row in reader.rows(1, 0, 3, 7)] == [4, 5, 6, 7]
    assert [row.seq for row in reader.rows(1, 0, 3, 100, limit=2)] == [4, 5]
    assert reader.rows(1, 1, 0, 100) == []
    assert reader.rows(2, 0, 0, 100) == []
    assert reader.counts() == ledger.counts() == {"EpochOpened": 1, "RedemptionRefused": 10}
    with pytest.raises(sqlite3.OperationalError):
        reader._connection.execute("DELETE FROM block")
    reader.close()


async def test_history_gives_back_what_was_written(writer: Writer, clock: VirtualClock) -> None:
    rows = [refused(clock, 1), VoucherRedeemed("r", "v", 1, 1, "門口", "kiosk", None, 1, clock.now())]
    await wait(writer.open().append(rows, source_id="event-1"))
    ledger = writer.reopen()
    found = list(ledger.history())
    assert [row for _, row in found if not isinstance(row, EpochOpened)] == rows
    assert [stored.source_id for stored, _ in found] == ["", "event-1", "", ""]


async def test_the_reach_names_committed_rows_only(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    assert ledger.reach == {1: {0: 1}}
    ledger.append([visit(clock)])
    await wait(ledger.append([refused(clock)]))
    assert ledger.reach == {1: {0: 2}}
    assert writer.reopen().reach == {1: {0: 2, 1: 1}, 2: {0: 1}}


# ---------------------------------------------------------------- durability classes


async def test_writers_at_the_same_time_share_a_commit(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    blocker = sqlite3.connect(writer.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # the first commit cannot begin before all 64 wait
    done = [ledger.append([refused(clock, number)]) for number in range(64)]
    await asyncio.sleep(0.02)
    assert not any(future.done() for future in done)
    blocker.execute("ROLLBACK")
    blocker.close()
    await asyncio.wait_for(asyncio.gather(*done), 10)
    assert writer.commits <= 2
    assert ledger.reach == {1: {0: 65}}


async def test_foot_traffic_waits_for_its_second_and_money_does_not(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    slow = [ledger.append([visit(clock, number)]) for number in range(20)] + [ledger.append([health(clock)])]
    for number in range(5):
        await wait(ledger.append([refused(clock, number)]))
    assert writer.commits == 5
    assert not any(future.done() for future in slow)
    clock.advance(0.99)
    await wait(ledger.append([refused(clock)]))
    assert not any(future.done() for future in slow)
    clock.advance(0.01)
    await wait(ledger.append([refused(clock)]))
    await asyncio.wait_for(asyncio.gather(*slow), 10)
    assert writer.commits == 7  # all the traffic with the last of them
    again = ledger.append([visit(clock)])
    await wait(ledger.append([refused(clock)]))
    assert not again.done()  # a new second began


async def test_traffic_alone_is_committed_when_its_second_is_over(ledger_path: Path) -> None:
    clock = SystemClock()
    commits: list[int] = []
    ledger = Ledger(ledger_path, clock, "test", lambda: commits.append(clock.boottime_ns()), print)
    futures = [ledger.append([LineChanged(True, clock.now())]) for _ in range(10)]
    begun_ns = clock.boottime_ns()
    await asyncio.wait_for(asyncio.gather(*futures), 10)
    assert clock.boottime_ns() - begun_ns > 0.9e9
    assert len(commits) == 1
    ledger.close()


async def test_a_document_and_an_answer_are_not_traffic(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    await wait(ledger.append([health(clock)], document=StoredDocument("vouchers", 1, b"sealed")))
    await wait(ledger.append([], answer=StoredAnswer("k", b"request", b"answer")))
    assert ledger.documents() == [StoredDocument("vouchers", 1, b"sealed")]


async def test_closing_leaves_one_whole_file(writer: Writer, clock: VirtualClock) -> None:
    await wait(writer.open().append([refused(clock)]))
    writer.close()
    assert not writer.path.with_name("ledger.db-wal").exists()


async def test_closing_commits_what_waits(writer: Writer, clock: VirtualClock) -> None:
    future = writer.open().append([visit(clock)])
    writer.close()
    await wait(future)
    assert len(sql(writer.path, "SELECT * FROM block WHERE lane=1")) == 1


async def test_a_proof_writes_nothing_and_waits_for_the_writing_thread(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    before = sql(writer.path, "PRAGMA data_version"), writer.path.with_name("ledger.db-wal").stat().st_size
    order: list[str] = []
    done = ledger.append([refused(clock)])
    done.add_done_callback(lambda _: order.append("row"))
    await wait(done)
    size_b = writer.path.with_name("ledger.db-wal").stat().st_size
    assert size_b > before[1]
    blocker = sqlite3.connect(writer.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # somebody looks at the file with a tool: no reason to end
    await asyncio.wait_for(ledger.prove(), 10)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert writer.path.with_name("ledger.db-wal").stat().st_size == size_b
    writer._open[0]._connection.close()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await ledger.prove()
    assert len(writer.failures) == 1


async def test_more_rows_than_a_block_holds_are_several(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    rows = [visit(clock, number) for number in range(2_500)]
    ledger.append(rows, source_id="first")
    await ledger.prove()
    clock.advance(2)
    await wait(ledger.append([refused(clock)], answer=StoredAnswer("k", b"a", b"b")))
    assert ledger.reach[1] == {0: 2, 1: 2_500}
    assert sql(writer.path, "SELECT first, last FROM block WHERE lane=1 ORDER BY first") == [(1, 1_000), (1_001, 2_000), (2_001, 2_500)]
    again = writer.reopen()
    assert [decode_event(row.event) for row in again.reader.rows(1, 1, 0, 2_500, 3_000)] == rows
    assert again.recent_sources() == ["first"] and again.damage == []


async def test_after_a_failed_commit_nothing_is_answered_and_somebody_is_told(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    await wait(ledger.append([], answer=StoredAnswer("k", b"", b"first")))
    sql(writer.path, "CREATE TRIGGER no BEFORE INSERT ON block BEGIN SELECT raise(ABORT, 'no'); END")
    failing = ledger.append([refused(clock)], answer=StoredAnswer("k", b"", b"second"))
    after = ledger.append([refused(clock)])
    await until(lambda: bool(writer.failures))
    await asyncio.sleep(0.05)
    assert not failing.done()
    assert not after.done()
    assert len(writer.failures) == 1
    writer.close()
    sql(writer.path, "DROP TRIGGER no")
    again = writer.open()
    assert again.answers()["k"].answer == b"first"
    assert [stored.type for stored, _ in again.history()] == ["EpochOpened", "EpochOpened"]


async def test_a_row_that_cannot_be_written_ends_the_ledger_loudly(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    clock.wall_us = -1
    future = ledger.append([refused(clock)])
    await until(lambda: bool(writer.failures))
    assert not future.done()


# ---------------------------------------------------------------- answers, documents, cursors


async def test_answers_are_the_same_bytes_after_a_restart(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    rng = random.Random(5)
    stored = [StoredAnswer(f"k{number}", rng.randbytes(16), rng.randbytes(200)) for number in range(50)]
    await asyncio.wait_for(asyncio.gather(*(ledger.append([refused(clock)], answer=answer) for answer in stored)), 10)
    assert writer.reopen().answers() == {answer.key: answer for answer in stored}


async def test_a_newer_document_replaces_the_older(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    for version in (1, 2):
        await wait(ledger.append([health(clock)], document=StoredDocument("orders", version, bytes([version]))))
    assert writer.reopen().documents() == [StoredDocument("orders", 2, b"\2")]


async def test_a_cursor_moves_forward_only_and_outlives_a_restart(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    await wait(ledger.append([refused(clock, number) for number in range(9)]))
    assert ledger.waiting == 10
    ledger.move_cursor(1, 0, 7)
    ledger.move_cursor(1, 0, 4)
    assert (ledger.cursors, ledger.waiting) == ({1: {0: 7}}, 3)
    again = writer.reopen()
    assert (again.cursors, again.waiting) == ({1: {0: 7}}, 4)


async def test_heads_and_names_are_found(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    await wait(ledger.append([refused(clock)]))
    await wait(ledger.append([refused(clock, 2), refused(clock, 3)]))
    heads = sql(writer.path, "SELECT head FROM block ORDER BY first")
    assert [ledger.head_at(1, 0, seq) for seq in (1, 2, 4, 5)] == [head.hex() for (head,) in heads] + [None]
    assert ledger.head == {0: (4, heads[-1][0])}
    inner = ledger.head_at(1, 0, 3)
    assert inner is not None and inner not in [head.hex() for (head,) in heads]
    assert [row.mac.hex() for row in ledger.reader.rows(1, 0, 2, 3)] == [inner]
    assert [ledger.reader.head_before(1, 0, first).hex() for first in (1, 2, 3)] == ["", *(head.hex() for (head,) in heads[:2])][:3]
    assert ledger.epoch_number(ledger.epoch.name) == 1
    assert ledger.epoch_number("1-00000000") is None


async def test_sources_of_slow_rows_are_remembered(writer: Writer, clock: VirtualClock) -> None:
    ledger = writer.open()
    for number in range(5):
        ledger.append([visit(clock, number)], source_id=f"e{number}")
    ledger.append([health(clock)], source_id="h")
    assert set(writer.reopen().recent_sources()) == {"e0", "e1", "e2", "e3", "e4", "h"}


# ---------------------------------------------------------------- power


@pytest.mark.slow
async def test_what_was_acknowledged_survives_kill_9(writer: Writer, tmp_path: Path) -> None:
    rng = random.Random(11)
    acknowledged: list[str] = []
    for life in range(16):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.gateway.ledger_writer", str(writer.path), f"life{life}",
            stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(rng.randint(1, 400)):
            acknowledged.append((await process.stdout.readline()).decode().strip())
        await asyncio.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        rest = await process.stdout.read()
        await process.wait()
        acknowledged += rest.decode().split("\n")[:-1]
        ledger = writer.open()
        written = {row.presentation_id for _, row in ledger.history() if isinstance(row, RedemptionRefused)}
        answers = ledger.answers()
        writer.close()
        assert written >= set(acknowledged)
        assert written == set(answers)  # a row and its answer are one
        for key in acknowledged:
            assert answers[key].answer == f"answer to {key}".encode()
    assert len(acknowledged) > 1_000
