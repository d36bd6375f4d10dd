"""Headquarters restored from a backup asks its shops for what it lacks, and no shop forgets a row that a restore may need again."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud_bridge.hq.backups import Backup, Backups, add, check, copy, floor, note_restored, read_list
from cloud_bridge.hq.keeping import backup_command, restore_command
from cloud_bridge.hq.options import HqOptions
from gateway.commands import app
from gateway.errors import ConfigError

from .rig import Hq, headquarters, redeemed, until, wire


def entry(file: str, **marks: int) -> Backup:
    return Backup(file, 0, {"gw": marks})


def test_shops_may_forget_what_the_lowest_kept_backup_and_the_database_hold(tmp_path: Path) -> None:
    assert Backups(tmp_path, 3).reach("gw", "e", 9) == 0
    for file, mark in (("a", 4), ("b", 2), ("c", 7)):  # b was made after a restore
        add(tmp_path, entry(file, e=mark), 3)
    backups = Backups(tmp_path, 3)
    assert [backups.reach("gw", "e", mark) for mark in (9, 1)] == [2, 1]
    assert (backups.reach("gw", "other", 9), backups.reach("other", "e", 9)) == (0, 0)
    add(tmp_path, entry("d", e=8), 3)
    assert [one.file for one in add(tmp_path, entry("e", e=8), 3)] == ["c", "d", "e"]
    assert Backups(tmp_path, 3).reach("gw", "e", 9) == 7
    assert [one.file for one in add(tmp_path, entry("c", e=9), 3)] == ["d", "e", "c"]


def test_the_list_is_not_in_what_is_restored(tmp_path: Path) -> None:
    add(tmp_path, entry("a", e=4), 3)
    assert [one.file for one in read_list(tmp_path)] == ["a"]
    assert not (tmp_path / "hq.db").exists()
    (tmp_path / "backups.json").write_text("[")
    with pytest.raises(ConfigError, match="Remove it"):
        read_list(tmp_path)


@contextlib.asynccontextmanager
async def running(data: Path) -> AsyncIterator[Hq]:
    (data / "addresses.json").unlink(missing_ok=True)  # of the start before
    async with headquarters(HqOptions(data_dir=str(data), keep_backups=2)) as hq:
        yield hq


async def voucher(hq: Hq) -> Any:
    return await hq.post("/api/vouchers", {"store": "s1", "title_zh": "券", "title_en": "Voucher"})


async def unexplained(hq: Hq) -> tuple[int, int]:
    books = await hq.get("/api/books")
    return books["received"], books["unexplained"]


async def test_a_restored_headquarters_fills_its_hole_and_its_books_close(tmp_path: Path) -> None:
    data, file = tmp_path / "hq", tmp_path / "night.db"
    rows = [wire(n, redeemed(n)) for n in range(1, 31)]
    async with running(data) as hq:
        enrolment = await hq.new_box()
        await voucher(hq)
        async with hq.connected(enrolment) as box:
            assert (await box.send(box.batch(rows[:10]))).backed_up == 0
            told: list[tuple[int, int]] = []
            await asyncio.to_thread(backup_command, data, file, lambda done, all_: told.append((done, all_)))
            assert told[-1] == (1, 1)
            ack = await box.send(box.batch(rows[10:20]))
            assert (ack.mark, ack.backed_up) == (20, 10)
            await voucher(hq)
            before = await box.document("vouchers", 3)
        with pytest.raises(ConfigError, match="runs with this folder"):
            await asyncio.to_thread(restore_command, data, file)
    assert restore_command(data, file) == {"gw-s1": {"1-abc": 10}}
    async with running(data) as hq, hq.connected(enrolment) as box:
        assert await unexplained(hq) == (10, 0)
        await box.send(box.batch(rows[20:], cursor={0: 20}))  # it believes twenty to be there
        ask = await until(lambda: box.asks[-1] if box.asks else None)
        assert (ask.epoch, ask.lane, ask.from_seq) == ("1-abc", 0, 10)
        ack = await box.send(box.batch(rows[ask.from_seq :], cursor={0: 10}))
        assert (ack.mark, ack.backed_up) == (30, 10)
        assert await unexplained(hq) == (30, 0)
        after = await box.document("vouchers", before.version + 1)
        assert after.version >= floor(data) > before.version  # or the shop would not heed it
        assert len(after.vouchers) == 1
        await asyncio.to_thread(backup_command, data, tmp_path / "again.db", lambda done, all_: None)
        assert (await box.send(box.batch(rows[29:], cursor={0: 30}))).backed_up == 10


async def test_a_backup_is_of_one_moment_while_rows_come_in(tmp_path: Path) -> None:
    data, file = tmp_path / "hq", tmp_path / "night.db"
    async with running(data) as hq, hq.connected(await hq.new_box()) as box:
        rows = [wire(n, redeemed(n)) for n in range(1, 601)]
        making = [asyncio.to_thread(backup_command, data, tmp_path / f"{n}.db", lambda done, all_: None) for n in range(2)]
        backing = asyncio.gather(*making, asyncio.to_thread(backup_command, data, file, lambda done, all_: None))
        for start in range(0, 600, 50):
            await box.send(box.batch(rows[start : start + 50]))
        await backing
    for made in (file, tmp_path / "0.db", tmp_path / "1.db"):
        marks = check(made)
        database = sqlite3.connect(made)
        counted = database.execute("SELECT count(*) FROM arrivals").fetchone()[0]
        database.close()
        assert counted == marks.get("gw-s1", {}).get("1-abc", 0)


def test_without_a_running_headquarters_the_command_does_it_itself(tmp_path: Path) -> None:
    data, file, run = tmp_path / "hq", tmp_path / "night.db", CliRunner()
    asyncio.run(_begin(data))
    made = run.invoke(app, ["hq", "backup", str(file), "--data", str(data)])
    assert (made.exit_code, file.stat().st_mode & 0o777) == (0, 0o600), made.output
    restored = run.invoke(app, ["hq", "restore", str(file), "--data", str(data)])
    assert (restored.exit_code, "0 money rows" in restored.output) == (0, True)
    assert floor(data) > 0
    for wrong in (["hq", "restore", "--data", str(data)], ["hq", "restore", str(file), "--noted"], ["hq", "restore", str(data / "no")]):
        assert run.invoke(app, wrong).exit_code == 1
    assert run.invoke(app, ["hq", "restore", "--noted", "--data", str(data)]).exit_code == 0
    assert run.invoke(app, ["hq", "backup", str(tmp_path / "no" / "x"), "--data", str(data)]).exit_code == 1
    assert run.invoke(app, ["hq", "backup", str(file), "--data", str(tmp_path)]).exit_code == 1


async def _begin(data: Path) -> None:
    async with running(data):
        pass


@pytest.mark.parametrize("fault", ["empty", "garbage", "flipped", "cut", "other tables"])
def test_what_is_no_whole_backup_is_not_restored(tmp_path: Path, fault: str) -> None:
    data, file = tmp_path / "hq", tmp_path / "night.db"
    asyncio.run(_begin(data))
    copy(data / "hq.db", file, lambda progress: None)
    whole, before = bytearray(file.read_bytes()), (data / "hq.db").read_bytes()
    if fault == "empty":
        whole = bytearray()
    elif fault == "garbage":
        whole = bytearray(b"x" * 9000)
    elif fault == "flipped":
        whole[100:400] = bytes(300)
    elif fault == "cut":
        whole = whole[: len(whole) // 2]
    file.write_bytes(whole)
    if fault == "other tables":
        database = sqlite3.connect(file)
        database.execute("PRAGMA user_version = 99")
        database.close()
    with pytest.raises(ConfigError):
        restore_command(data, file)
    assert (data / "hq.db").read_bytes() == before
    assert floor(data) == 0


def test_a_backup_that_fails_leaves_no_file_and_does_not_count(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no backup"):
        copy(tmp_path / "none.db", tmp_path / "b.db", lambda progress: None)
    assert not list(tmp_path.glob("b.db*"))


def test_the_note_of_a_restore_outruns_every_count_of_documents(tmp_path: Path) -> None:
    note_restored(tmp_path, 1_795_000_000_000_000)
    first = floor(tmp_path)
    assert first > 10_000_000
    note_restored(tmp_path, 1_795_000_001_000_000)
    assert floor(tmp_path) == first + 1
