"""Whether this start may redeem and hand over, and who has yet to speak for it."""

from typing import Final

from gateway.rules.reasons import Text
from provisioning.checks.outcome import CORE, Box, Check, Outcome, fail, ok, skipped, warn

WHY: Final = {
    "parent": ("上次啟動時就未通過核對", "The start before was not admitted either"),
    "lost": ("帳本遺失，已重新開始", "The ledger was lost and begun anew"),
    "damage": ("帳本有損毀的紀錄", "Rows of the ledger are damaged"),
    "witness": ("有裝置看過本機沒有的紀錄：磁碟可能是舊的備份", "A device was shown rows that are not here: the disk may be an old image"),
    "headquarters": ("總部要求核對：磁碟可能是舊的備份", "Headquarters knows more than this disk: it may be an old image"),
    "mark": ("總部已收過本機沒有的紀錄：磁碟可能是舊的備份", "Headquarters has rows that are not here: the disk may be an old image"),
}
FOR_HQ: Final = (
    "確認 line 正常：接通後總部會自動核可。若磁碟剛換過或還原過，請告知總部",
    "See that `line` is up: headquarters then opens it by itself. If the disk was changed or restored, tell headquarters",
)


def admission(box: Box) -> list[Outcome]:
    """Nothing off the disk contradicts it, or headquarters has opened it."""
    now = box.told.get("admission")
    if not isinstance(now, dict):
        return [skipped("core 沒有回報", "Core does not tell")]
    if now["admitted"]:
        return [ok("已可核銷", f"Admitted ({now['how']})")]
    since_min = max(0, box.told["now_us"] - now["since_us"]) // 60_000_000
    if now["state"] == "doubted":
        zh, en = WHY.get(now["doubt"], ("", ""))
        return [fail((f"{zh}（已 {since_min} 分鐘）", f"{en} ({since_min} min so far)"), FOR_HQ)]
    if now["awaited"]:
        names = now["awaited"]
        return [
            fail(
                (f"等待裝置：{'、'.join(names)}（已 {since_min} 分鐘）", f"Waits for {', '.join(names)} ({since_min} min so far)"),
                ("開啟這些裝置的頁面；遺失的由店長在員工頁停用。接通 line 也可以",
                 "Open the pages of these devices; a manager revokes one that is lost, on the staff page. A working line helps too"),
            )
        ]  # fmt: skip
    return [warn(("剛啟動，數秒後完成", "Just started: a few seconds more"), ("稍候再執行一次", "Run the doctor again in a moment"))]


CHECKS: Final = [
    Check(
        "admission", Text("啟動核對", "Admission"),
        Text("還原成舊備份的磁碟會忘記用過的票券，所以未通過核對前不核銷",
             "A disk put back to an old image forgets what was used; until it is admitted, nothing is redeemed"), admission, CORE,
    ),
]  # fmt: skip
