"""The machine: clock, power, memory, temperature, where logs go."""

import configparser
import ctypes
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from gateway.clock import BUILT_US
from gateway.events import TimeTrust
from gateway.rules.reasons import Text
from provisioning.checks import systemd
from provisioning.checks.outcome import CORE, Box, Check, Outcome, fail, ok, skipped, warn

TIMEX_B: Final = 512  # struct timex is 208 bytes on 64-bit Linux; all zero means "tell, change nothing"
TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
ASK_S: Final = 2.0
OURS: Final = "etc/systemd/journald.conf.d/10-store.conf"  # as `install` writes it
HOT_C: Final = 80.0  # a Raspberry Pi slows down from here
WARM_C: Final = 70.0
SCARCE: Final = 0.05
LITTLE: Final = 0.12
NOW: Final = {0x1: ("電壓不足", "too little voltage"), 0x4: ("降速中", "slowed down")}
BEFORE: Final = {0x10000: ("開機後曾經電壓不足", "too little voltage since boot"), 0x40000: ("開機後曾經降速", "slowed down since boot")}
SUPPLY: Final = (
    "換成原廠電源供應器（5 V 3 A 以上）與短而粗的線",
    "Use the maker's power supply (5 V, 3 A or more) and a short thick cable",
)


def clock(box: Box) -> list[Outcome]:
    """After the build's date, and kept by NTP."""
    del box
    if time.time_ns() // 1000 < BUILT_US:
        said = (
            f"時鐘顯示 {time.strftime('%Y-%m-%d')}，早於軟體的日期",
            f"The clock says {time.strftime('%Y-%m-%d')}, before this software was made",
        )
        step = (
            '接上網路等一分鐘；沒有網路就執行 sudo date -s "年-月-日 時:分"',
            'Connect the network and wait a minute; without one run `sudo date -s "YYYY-MM-DD HH:MM"`',
        )
        return [fail(said, step)]
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(TIMEX_B))
    if state < 0:
        return [skipped("系統不允許查詢時鐘狀態", "This system does not let the clock's state be asked")]
    if state == TIME_ERROR:
        return [
            warn(
                ("時鐘沒有與網路時間同步", "The clock is not kept by network time"),
                (
                    "執行 sudo timedatectl set-ntp true，並確認網路允許 UDP 123",
                    "Run `sudo timedatectl set-ntp true`, and see that the network lets UDP 123 out",
                ),
            )
        ]
    return [ok("時鐘與網路時間同步", "The clock is kept by network time")]


def time_trust(box: Box) -> list[Outcome]:
    """How far core believes the clock."""
    trust = box.told["time_trust"]
    if trust == TimeTrust.UNTRUSTED:
        return [
            fail(
                ("core 不相信時鐘：與總部或帳本相差太多", "Core does not believe the clock: it contradicts headquarters or the ledger"),
                ("檢查 clock，校正時間後會自動恢復", "Look at `clock`; once the time is right it recovers by itself"),
            )
        ]
    if trust == TimeTrust.SYNCED:
        return [ok("總部確認時間正確", "Headquarters agrees with the clock")]
    return [ok("時間沒有矛盾，總部尚未確認", "Nothing contradicts the clock; headquarters has not confirmed it yet")]


def power(box: Box) -> list[Outcome]:
    """A Raspberry Pi's own word on its supply."""
    del box
    if shutil.which("vcgencmd") is None:
        return [skipped("沒有 vcgencmd：不是 Raspberry Pi", "There is no `vcgencmd`: not a Raspberry Pi")]
    asked = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=ASK_S, check=False)
    try:
        bits = int(asked.stdout.strip().partition("=")[2], 16)
    except ValueError:
        return [skipped("vcgencmd 沒有回答", "`vcgencmd` did not answer")]
    for words, make in ((NOW, fail), (BEFORE, warn)):
        seen = [both for bit, both in words.items() if bits & bit]
        if seen:
            return [make(("、".join(zh for zh, _ in seen), ", ".join(en for _, en in seen)), SUPPLY)]
    return [ok("電源正常", "The supply is good")]


def memory(box: Box) -> list[Outcome]:
    """Enough left for all units."""
    values = {}
    for text in (box.root / "proc" / "meminfo").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, rest = text.partition(":")
        values[name] = int(rest.split()[0]) if rest.split() else 0
    total_kb, left_kb = values["MemTotal"], values["MemAvailable"]
    said = (f"可用記憶體 {left_kb // 1024} MB / {total_kb // 1024} MB", f"{left_kb // 1024} MB of {total_kb // 1024} MB are available")
    step = (
        "重新啟動機器；若再發生請執行 store-gateway support 並聯絡總部",
        "Restart the box; if it comes again, run `store-gateway support` and call headquarters",
    )
    if left_kb < total_kb * SCARCE:
        return [fail(said, step)]
    return [warn(said, step) if left_kb < total_kb * LITTLE else ok(*said)]


def temperature(box: Box) -> list[Outcome]:
    """The hottest sensor."""
    zones = sorted((box.root / "sys" / "class" / "thermal").glob("thermal_zone*/temp"))
    degrees = [found for found in map(_degrees, zones) if found is not None]
    if not degrees:
        return [skipped("這台機器沒有溫度感測器", "This machine has no temperature sensor")]
    hottest = max(degrees)
    said = (f"{hottest:.0f} °C", f"{hottest:.0f} °C")
    step = ("改善通風，遠離陽光與熱源，或加裝風扇", "Give it air, keep it out of the sun, or fit a fan")
    if hottest >= HOT_C:
        return [fail(said, step)]
    return [warn(said, step) if hottest >= WARM_C else ok(*said)]


def _degrees(path: Path) -> float | None:
    try:
        return int(path.read_text(encoding="ascii")) / 1000
    except (OSError, ValueError):
        return None


def journal(box: Box) -> list[Outcome]:
    """Logs stay in memory: a card wears out by writing."""
    if not systemd.runs(box.root):
        return [skipped("這台機器沒有使用 systemd", "systemd does not run here")]
    storage, said_in = journal_storage(box.root)
    if storage in ("volatile", "none"):
        return [ok(f"日誌 Storage={storage}", f"The journal has Storage={storage}")]
    if storage == "auto" and not (box.root / "var" / "log" / "journal").is_dir():
        return [ok("日誌在記憶體中", "The journal is in memory")]
    step = (
        "執行 store-gateway install，它會放入只用記憶體的設定",
        "Run `store-gateway install`, which brings the setting that keeps logs in memory",
    )
    if said_in is not None and (box.root / OURS).is_file():  # installing again would change nothing
        step = (f"刪除 {said_in} 裡的 Storage=，它蓋過了我們的設定", f"Take `Storage=` out of {said_in}, which overrides ours")
    return [warn((f"日誌寫入磁碟（Storage={storage}）", f"The journal writes to the disk (Storage={storage})"), step)]


def journal_storage(root: Path) -> tuple[str, Path | None]:
    """The `Storage=` in force and the file that says so, as journald.conf(5) merges: drop-ins by name, /etc over /run over /usr/lib."""
    files: dict[str, Path] = {}
    for folder in ("usr/lib", "run", "etc"):
        for path in (root / folder / "systemd" / "journald.conf.d").glob("*.conf"):
            files[path.name] = path
    storage, said_in = "auto", None
    for path in [root / "etc" / "systemd" / "journald.conf", *(files[name] for name in sorted(files))]:
        parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        said = (parser.get("Journal", "Storage", fallback=None) or "").strip().lower()
        if said:
            storage, said_in = said, path
    return storage, said_in


CHECKS: Final = [
    Check(
        "clock", Text("時鐘", "Clock"),
        Text("時間不對，票券會太早或太晚失效", "With a wrong time vouchers begin or end on the wrong day"), clock,
    ),
    Check(
        "time-trust", Text("時間可信度", "Trust in the clock"),
        Text("時間不可信時，有期限的票券會被拒絕", "While time is not trusted, vouchers with a date may be refused"), time_trust, CORE,
    ),
    Check(
        "power", Text("電源", "Power"),
        Text("電壓不足會損壞記憶卡並造成當機", "Too little voltage damages the card and crashes the box"), power,
    ),
    Check(
        "memory", Text("記憶體", "Memory"),
        Text("記憶體不足時系統會停掉程序", "When it runs out the system ends processes"), memory,
    ),
    Check(
        "temperature", Text("溫度", "Temperature"),
        Text("過熱會變慢，久了會壞", "A hot box is slow, and does not last"), temperature,
    ),
    Check(
        "journal", Text("系統日誌", "Journal"),
        Text("一直寫日誌會磨損記憶卡", "Logs that are written all the time wear the card out"), journal,
    ),
]  # fmt: skip
