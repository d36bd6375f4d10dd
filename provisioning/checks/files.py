"""Configuration, folders, keys, disk: what must be there before anything runs."""

import os
import secrets
import shutil
import stat
import zoneinfo
from pathlib import Path
from typing import Final

from gateway.rules.reasons import Text
from provisioning.checks.outcome import CONFIG, Box, Check, Outcome, fail, ok, skipped, warn
from provisioning.renewing import IDENTITY

FULL_SHARE: Final = 0.02  # of the disk left: core may stop taking foot traffic
LOW_SHARE: Final = 0.10
LOW_B: Final = 200 * 1024 * 1024  # a week of a busy shop's rows and the write-ahead log
SOCKET_PATH_B: Final = 108  # sun_path of Linux


def config(box: Box) -> list[Outcome]:
    """Readable, TOML, every key known, every value of its kind."""
    if box.config is None:
        what = (f"設定檔無法使用：{box.config_trouble}", f"The configuration cannot be used: {box.config_trouble}")
        return [fail(what, ("照上面的提示修改設定檔，然後再執行一次", "Mend the file as that sentence says, then run the doctor again"))]
    return [ok(f"{box.config_path} 可讀，沒有不認得的項目", f"{box.config_path} can be read and has no unknown key")]


def timezone(box: Box) -> list[Outcome]:
    """The shop's time zone exists on this machine."""
    name = box.known.store.timezone
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return [
            fail(
                (f"找不到時區 {name}", f"There is no time zone {name}"),
                ("把 [store] 的 timezone 改成 Asia/Taipei 之類的名稱，或執行 apt install tzdata",
                 "Set `timezone` in [store] to a name such as Asia/Taipei, or run `apt install tzdata`"),
            )
        ]  # fmt: skip
    return [ok(f"時區 {name}", f"Time zone {name}")]


def folders(box: Box) -> list[Outcome]:
    """State and run folders are there, may be written, and the socket's path fits."""
    found = [_folder(box.known.state_dir), _folder(Path(box.known.paths.run))]
    if len(os.fsencode(box.known.link_path)) >= SOCKET_PATH_B:
        found.append(
            fail(
                (f"路徑太長，無法建立 socket：{box.known.link_path}", f"The path is too long for a socket: {box.known.link_path}"),
                ("把 [paths] 的 run 改成較短的路徑", "Set `run` in [paths] to a shorter path"),
            )
        )
    return found


def _folder(path: Path) -> Outcome:
    make = (f"建立資料夾並交給執行服務的使用者：{path}", f"Make the folder and give it to the user that runs the units: {path}")
    if not path.is_dir():
        return fail((f"沒有資料夾 {path}", f"There is no folder {path}"), make, str(path))
    if not os.access(path, os.W_OK | os.X_OK):
        return fail((f"無法寫入 {path}", f"{path} cannot be written"), make, str(path))
    return ok(f"{path} 可寫入", f"{path} can be written", str(path))


def keys(box: Box) -> list[Outcome]:
    """Secrets are readable by their owner only."""
    folder, found = box.known.enrolment_dir, []
    try:
        secret = [path for path in sorted(folder.iterdir()) if path.suffix == ".key"]
        secret += sorted((box.known.state_dir / IDENTITY).glob("*.pem"))
    except FileNotFoundError:
        secret = []
    except OSError as error:
        return [_unreadable(folder, error)]
    for path in [*secret, box.known.ledger_path]:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
        if mode & 0o077:
            found.append(
                fail(
                    (f"其他使用者可以讀取 {path}（權限 {mode:04o}）", f"Others may read {path} (mode {mode:04o})"),
                    (f"執行 chmod 600 {path}", f"Run `chmod 600 {path}`"),
                    path.name,
                )
            )
        elif path.exists() and not os.access(path, os.R_OK):
            found.append(_unreadable(path, PermissionError("permission denied")))
    if not secret:
        return [*found, skipped("還沒有金鑰：尚未註冊", "There are no keys yet: not enrolled")]
    return found or [ok(f"{len(secret)} 把金鑰只有擁有者可讀", f"{len(secret)} keys are readable by their owner only")]


def _unreadable(path: Path, error: OSError) -> Outcome:
    return fail(
        (f"無法讀取 {path}：{error.strerror or error}", f"{path} cannot be read: {error.strerror or error}"),
        ("用 sudo 再執行一次；仍然失敗就把檔案交還給服務的使用者",
         "Run the doctor again with sudo; if that fails too, give the file back to the user that runs the units"),
        path.name,
    )  # fmt: skip


def disk_space(box: Box) -> list[Outcome]:
    """Room for rows, and for names of files."""
    path = _nearest(box.known.state_dir)
    usage, counts = shutil.disk_usage(path), os.statvfs(path)
    free_mb = usage.free // 1024**2
    step = (
        "刪除不需要的檔案，或換較大的儲存裝置；`store-gateway support` 會列出大小",
        "Delete what is not needed or fit a larger disk; `store-gateway support` lists the sizes",
    )
    said = (f"只剩 {free_mb} MB（共 {usage.total // 1024**2} MB）", f"Only {free_mb} MB of {usage.total // 1024**2} MB are left")
    inodes = counts.f_favail / counts.f_files if counts.f_files else 1.0
    if usage.free < usage.total * FULL_SHARE:
        return [fail(said, step)]
    if inodes < FULL_SHARE:
        return [fail(("檔案系統的 inode 用完了", "The file system has no inodes left"), step)]
    if usage.free < min(usage.total * LOW_SHARE, LOW_B) or inodes < LOW_SHARE:
        return [warn(said, step)]
    return [ok(f"還有 {free_mb} MB", f"{free_mb} MB are free")]


def disk_writes(box: Box) -> list[Outcome]:
    """A file can really be written and flushed: a worn card turns read-only without a word."""
    folder = box.known.state_dir
    if not folder.is_dir():
        return [skipped("沒有資料夾可以試寫", "There is no folder to try")]
    path = folder / f".doctor-{secrets.token_hex(4)}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, bytes(4096))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)
    except OSError as error:
        return [
            fail(
                (f"無法在 {folder} 寫入檔案：{error.strerror}", f"No file can be written in {folder}: {error.strerror}"),
                ("檢查磁碟是否已滿、唯讀或權限錯誤；記憶卡變成唯讀就要更換",
                 "See whether the disk is full, read-only or another user's; a card that has become read-only must be replaced"),
            )
        ]  # fmt: skip
    return [ok("寫入並確認落盤成功", "A file was written and flushed")]


def _nearest(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


CHECKS: Final = [
    Check(
        "config", Text("設定檔", "Configuration"),
        Text("沒有設定檔，任何程序都不會啟動", "Without it no process starts"), config,
    ),
    Check(
        "timezone", Text("時區", "Time zone"),
        Text("票券的有效日以門市當地時間計算", "Vouchers are valid by the shop's local time"), timezone, CONFIG,
    ),
    Check(
        "folders", Text("資料夾", "Folders"),
        Text("帳本、金鑰與內部連線放在這裡", "The ledger, the keys and the processes' socket live there"), folders, CONFIG,
    ),
    Check(
        "keys", Text("金鑰權限", "Key permissions"),
        Text("拿到金鑰的人可以冒充這家門市", "Who reads a key can pretend to be this shop"), keys, CONFIG,
    ),
    Check(
        "disk-space", Text("磁碟空間", "Disk space"),
        Text("磁碟滿了，兌換只能靠預留空間撐一陣子", "On a full disk redemptions live off a small reserve"), disk_space, CONFIG,
    ),
    Check(
        "disk-writes", Text("磁碟寫入", "Disk writes"),
        Text("每一筆兌換都要先寫入磁碟才算數", "A redemption counts only once it is on the disk"), disk_writes, CONFIG,
    ),
]  # fmt: skip
