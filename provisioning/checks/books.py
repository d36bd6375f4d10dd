"""The ledger, read-only: is it there, of this release, what was written, and not too large."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gateway.errors import LedgerError
from gateway.ledger import LedgerReader, connect
from gateway.rules.reasons import Text
from gateway.schema import VERSION
from provisioning.checks.outcome import CONFIG, Box, Check, Outcome, fail, ok, skipped, warn

ROOM_TO_READ_B: Final = 128 * 1024
LARGE_B: Final = 2 * 1024**3
LARGE_WAL_B: Final = 64 * 1024**2  # sixteen times what is folded in at once: nobody has folded it for long
OLD_DOCUMENT_S: Final = 90 * 86_400
MIGRATE: Final = ("執行 store-gateway migrate", "Run `store-gateway migrate`")
MAKE_ROOM: Final = ("先處理 disk-space，再執行一次", "See to `disk-space` first, then run the doctor again")
CALL: Final = (
    "停止使用這顆磁碟，並聯絡總部：已確認的紀錄總部都有",
    "Stop serving from this disk and call headquarters, which holds every acknowledged row",
)


class Unreadable(Exception):
    """The ledger's file cannot be asked."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A connection that cannot write.

    Raises:
        Unreadable: Not there, not a ledger, damaged, or of an older release.
    """
    try:
        connection = connect(path, read_only=True)
    except LedgerError as error:
        raise Unreadable(str(error)) from error
    try:
        yield connection
    except connection.Error as error:
        raise Unreadable(str(error)) from error
    finally:
        connection.close()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[LedgerReader]:
    """What the ledger holds, row by row.

    Raises:
        Unreadable: As above.
    """
    try:
        reader = LedgerReader(path)
    except LedgerError as error:
        raise Unreadable(str(error)) from error
    try:
        yield reader
    except LedgerError as error:
        raise Unreadable(str(error)) from error
    finally:
        reader.close()


def ledger(box: Box) -> list[Outcome]:
    """There, with this release's tables, in the journal mode that durability rests on."""
    path = box.known.ledger_path
    if not path.exists():
        return [fail((f"沒有帳本 {path}", f"There is no ledger at {path}"), MIGRATE)]
    try:
        with opened(path) as connection:
            mode, version = _one(connection, "PRAGMA journal_mode"), _one(connection, "PRAGMA user_version")
    except Unreadable as error:
        # SQLite needs room for its shared memory even to read.
        no_room = shutil.disk_usage(path.parent).free < ROOM_TO_READ_B
        step = MIGRATE if "migrate" in str(error) else MAKE_ROOM if no_room else CALL
        return [fail((f"帳本無法讀取：{error}", f"The ledger cannot be read: {error}"), step)]
    if version > VERSION:
        newer = (f"帳本的版本 {version} 比本軟體 {VERSION} 新", f"The ledger's tables are version {version}, this release knows {VERSION}")
        return [warn(newer, ("可以繼續使用；請安裝較新的軟體", "It still works; install the newer release again"))]
    if mode != "wal":
        return [fail((f"日誌模式是 {mode}，不是 wal", f"The journal mode is {mode}, not wal"), MIGRATE)]
    return [ok(f"帳本版本 {version}，日誌模式 wal", f"Ledger version {version}, journal mode wal")]


def ledger_chain(box: Box) -> list[Outcome]:
    """The youngest epoch's rows are those that were written."""
    try:
        with reading(box.known.ledger_path) as reader:
            damaged, looked_at = reader.first_damaged()
    except Unreadable as error:
        if "migrate" in str(error) or shutil.disk_usage(box.known.state_dir).free < ROOM_TO_READ_B:
            return [skipped("見 ledger", "See `ledger`")]
        return [fail((f"帳本無法讀取：{error}", f"The ledger cannot be read: {error}"), CALL)]
    if damaged:
        return [fail((f"帳本紀錄 {damaged} 已損毀或缺漏", f"Row {damaged} of the ledger is damaged, or rows are missing"), CALL)]
    return [ok(f"目前的 {looked_at} 筆紀錄完整", f"The {looked_at} rows since the last start are what was written")]


def ledger_size(box: Box) -> list[Outcome]:
    """The file and its write-ahead log stay within what a card holds."""
    path = box.known.ledger_path
    size_b, wal_b = _size(path), _size(path.with_name(path.name + "-wal"))
    if not size_b:
        return [skipped("沒有帳本", "There is no ledger")]
    said = (f"{size_b // 1024} kB，預寫日誌 {wal_b // 1024} kB", f"{size_b // 1024} kB, write-ahead log {wal_b // 1024} kB")
    if wal_b > LARGE_WAL_B:
        return [warn(said, ("重新啟動 core，預寫日誌會收回主檔", "Restart core: the log is then folded into the file"))]
    if size_b > LARGE_B:
        return [warn(said, ("確認連線正常並安排更換較大的磁碟", "See that the line is up, and plan a larger disk"))]
    return [ok(*said)]


def documents(box: Box) -> list[Outcome]:
    """What headquarters told the shop: which versions are in force, since when."""
    try:
        with opened(box.known.ledger_path) as connection:
            held = dict(connection.execute("SELECT name, version FROM document"))
            since_us = dict(connection.execute("SELECT name, since_us FROM document WHERE since_us > 0"))
    except Unreadable as error:
        return [skipped(f"帳本無法讀取：{error}", f"The ledger cannot be read: {error}")]
    missing = [name for name in ("keys", "staff") if name not in held]
    if missing:
        return [
            fail(
                (f"還沒收到總部的文件：{'、'.join(missing)}", f"Headquarters' documents have not arrived: {', '.join(missing)}"),
                ("檢查 enrolment、hq 與 line 三項；連線後一分鐘內會自動送達",
                 "Look at `enrolment`, `hq` and `line`; they arrive by themselves within a minute of a working line"),
            )
        ]  # fmt: skip
    ages_s = {name: max(0, time.time() - since_us[name] / 1e6) for name in held if name in since_us}
    listed = "、".join(f"{name} v{held[name]}" for name in sorted(held))
    if ages_s and min(ages_s.values()) > OLD_DOCUMENT_S:
        days = int(min(ages_s.values()) // 86_400)
        return [
            warn(
                (f"總部的文件已 {days} 天沒有更新：{listed}", f"Headquarters' documents are {days} days old: {listed}"),
                ("檢查 line；若連線正常，請總部確認", "Look at `line`; if that is up, ask headquarters"),
            )
        ]
    return [ok(f"生效中的文件：{listed}", f"Documents in force: {listed.replace('、', ', ')}")]


def _one(connection: Any, sql: str) -> Any:
    found = connection.execute(sql).fetchone()
    return found[0] if found else 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


CHECKS: Final = [
    Check(
        "ledger", Text("帳本", "Ledger"),
        Text("沒有帳本就無法兌換，也無法知道票券是否用過", "Without it nothing can be redeemed, nor known as used"), ledger, CONFIG,
    ),
    Check(
        "ledger-chain", Text("帳本完整性", "Ledger's chain"),
        Text("損毀的紀錄可能讓同一張票券用兩次", "A damaged row could let a voucher be used twice"), ledger_chain, CONFIG,
    ),
    Check(
        "ledger-size", Text("帳本大小", "Ledger's size"),
        Text("太大會拖慢啟動並佔滿磁碟", "A large one starts slowly and fills the disk"), ledger_size, CONFIG,
    ),
    Check(
        "documents", Text("總部文件", "Headquarters' documents"),
        Text("沒有金鑰與人員名單，票券無法驗證，店員無法登入", "Without them no voucher is verified, nobody signs in"), documents, CONFIG,
    ),
]  # fmt: skip
