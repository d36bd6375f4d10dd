"""The things that are plugged in: scanners, lock boards, the radio, and a library one of them needs."""

import ctypes
import glob
import os
import stat
import subprocess
from pathlib import Path
from typing import Final

from gateway.config import LockerTable, ScannerTable
from gateway.rules.reasons import Text
from provisioning.checks import systemd
from provisioning.checks.outcome import CONFIG, WAIT, Box, Check, Outcome, fail, ok, skipped, warn

ASK_S: Final = 2.0
BLUETOOTHD: Final = "bluetooth.service"
ZBAR: Final = "libzbar.so.0"
GROUP_OF: Final = {"v4l2": "video", "evdev": "input", "serial": "dialout"}
WHAT: Final = {"v4l2": ("攝影機", "camera"), "evdev": ("掃描器", "scanner"), "serial": ("掃描器", "scanner")}


def scanners(box: Box) -> list[Outcome]:
    """Each scanner's device file is there and may be opened."""
    if not box.known.scanners:
        return [skipped("沒有設定掃描器", "No scanner is configured")]
    return [_scanner(one) for one in box.known.scanners]


def _scanner(one: ScannerTable) -> Outcome:
    unit = f"scanner@{one.name}"
    kind, _, device = one.source.partition(":")
    if kind == "virtual":
        return skipped("虛擬攝影機", "A virtual camera", unit)
    if kind == "frames":
        return skipped("畫面由另一個程式提供", "Another program brings the pictures", unit)
    if kind not in WHAT:
        step = (
            "[[scanner]] 的 source 以 v4l2:、frames:、evdev: 或 serial: 開頭",
            "Begin `source` in [[scanner]] with v4l2:, frames:, evdev: or serial:",
        )
        return fail((f"不認得的來源 {one.source}", f"Nobody knows the source {one.source}"), step, unit)
    return _device(device, unit, WHAT[kind], GROUP_OF[kind])


def lockers(box: Box) -> list[Outcome]:
    """Each lock board's serial line is there and may be opened."""
    if not box.known.lockers:
        return [skipped("沒有設定取貨櫃", "No locker is configured")]
    return [_locker(one) for one in box.known.lockers]


def _locker(one: LockerTable) -> Outcome:
    return _device(one.port, f"locker@{one.name}", ("RS-485 轉接器", "RS-485 adapter"), "dialout")


def _device(device: str, unit: str, what: tuple[str, str], group: str) -> Outcome:
    zh, en = what
    path = Path(f"/dev/video{device}") if device.isdigit() else Path(device)
    try:
        is_device = stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        there = _others(path)
        return fail(
            (f"找不到{zh} {path}", f"There is no {en} at {path}"),
            (f"插好{zh}的線；{'現在有：' + there if there else '目前一個也沒看到'}；再改設定檔中的路徑",
             f"Plug the {en} in; {'seen now: ' + there if there else 'none is seen now'}; then correct the path in the configuration"),
            unit,
        )  # fmt: skip
    if not is_device:
        return fail((f"{path} 不是裝置", f"{path} is no device"), (f"改成{zh}的路徑", f"Name the {en}'s own path"), unit)
    if not os.access(path, os.R_OK | os.W_OK):
        step = (f"執行 sudo usermod -aG {group} 使用者，然後重新啟動", f"Run `sudo usermod -aG {group} USER`, then restart")
        return fail((f"沒有權限使用 {path}", f"{path} may not be opened"), step, unit)
    return ok(f"{path} 可用", f"{path} is there and may be opened", unit)


def _others(path: Path) -> str:
    """What is plugged in where that device was looked for."""
    shape = {"/dev/video": "/dev/video*", "/dev/input": "/dev/input/by-id/*"}
    pattern = next((found for start, found in shape.items() if str(path).startswith(start)), "/dev/serial/by-id/*")
    return "、".join(sorted(glob.glob(pattern))[:4])


def bluetooth(box: Box) -> list[Outcome]:
    """bluetoothd answers on the system's D-Bus and has a radio that is switched on."""
    if not box.known.ble.sensors or box.known.ble.radio != "bluez":
        return [skipped("沒有使用真的藍牙", "No real radio is configured")]
    try:
        silence, objects = _bluez_objects()
    except FileNotFoundError:
        return [skipped("沒有 busctl 可以詢問藍牙", "There is no `busctl` to ask with")]
    if silence:
        if systemd.starting(box.root, BLUETOOTHD):
            return [warn(("藍牙服務正在啟動", "bluetoothd is starting"), WAIT)]
        return [
            fail(
                (f"藍牙服務沒有回應：{silence}", f"bluetoothd does not answer: {silence}"),
                ("執行 sudo apt install bluez，再執行 sudo systemctl restart bluetooth",
                 "Run `sudo apt install bluez`, then `sudo systemctl restart bluetooth`"),
            )
        ]  # fmt: skip
    if '"org.bluez.Adapter1"' not in objects:
        unplugged = ("藍牙服務在執行，但沒有看到天線", "bluetoothd runs, but there is no radio")
        if systemd.booting(box.root):
            return [warn(unplugged, WAIT)]
        return [
            fail(
                unplugged,
                ("插上 USB 藍牙接收器，或在 Raspberry Pi 的設定中啟用藍牙", "Plug in a USB radio, or enable Bluetooth on the Raspberry Pi"),
            )
        ]
    if '"Powered" b true' not in objects:
        off = ("藍牙天線已關閉", "The radio is switched off")
        return [
            fail(
                off,
                (
                    "執行 sudo rfkill unblock bluetooth 與 bluetoothctl power on",
                    "Run `sudo rfkill unblock bluetooth` and `bluetoothctl power on`",
                ),
            )
        ]
    return [ok("藍牙服務與天線正常", "bluetoothd answers and its radio is on")]


def _bluez_objects() -> tuple[str, str]:
    """Why bluetoothd does not answer, and what it has; it is not started by being asked."""
    where = ["org.bluez", "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"]
    try:
        asked = subprocess.run(
            ["busctl", "--system", "--auto-start=no", "call", *where], capture_output=True, text=True, timeout=ASK_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {ASK_S:g} s", ""
    return (asked.stderr.strip()[:120] or "it refused", "") if asked.returncode else ("", asked.stdout)


def zbar(box: Box, library: str = ZBAR) -> list[Outcome]:
    """The library that reads linear codes where the first decoder gives up."""
    if not any(one.source.partition(":")[0] in ("v4l2", "frames", "virtual") for one in box.known.scanners):
        return [skipped("沒有使用攝影機", "No camera is configured")]
    try:
        ctypes.CDLL(library)
    except OSError:
        return [
            warn(
                ("缺少 libzbar0：一維條碼讀得較慢", "libzbar0 is missing: linear codes are read more slowly"),
                ("執行 sudo apt install libzbar0", "Run `sudo apt install libzbar0`"),
            )
        ]
    return [ok("libzbar0 可載入", "libzbar0 can be loaded")]


CHECKS: Final = [
    Check(
        "scanners", Text("掃描器", "Scanners"),
        Text("沒有掃描器，顧客只能用手輸入", "Without one customers must type their codes"), scanners, CONFIG,
    ),
    Check(
        "lockers", Text("取貨櫃", "Lockers"),
        Text("櫃門打不開，訂單取不走", "Doors do not open and orders stay inside"), lockers, CONFIG,
    ),
    Check(
        "bluetooth", Text("藍牙", "Bluetooth"),
        Text("沒有藍牙就沒有來客數", "Without a radio nobody is counted"), bluetooth, CONFIG,
    ),
    Check(
        "zbar", Text("條碼程式庫", "Barcode library"),
        Text("第二個讀碼器能救回印得不好的條碼", "The second reader rescues badly printed codes"), zbar, CONFIG,
    ),
]  # fmt: skip
