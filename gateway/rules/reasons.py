"""Why something was refused or what was decided, in words people can act on: Traditional Chinese first, English second.

A reason's code travels in events and answers; its words are looked up here by every screen, at the shop and at HQ.
"""

from typing import Final

from msgspec import Struct


class Text(Struct, frozen=True):
    """One sentence in both languages."""

    zh: str
    en: str


NOTHING: Final = Text("", "")


class Reason(Struct, frozen=True):
    """What to say, and the next step."""

    text: Text
    next_step: Text


def _reason(zh: str, en: str, next_zh: str, next_en: str) -> Reason:
    return Reason(Text(zh, en), Text(next_zh, next_en))


REASONS: Final[dict[str, Reason]] = {
    "already_redeemed": _reason(
        "此券已使用過", "This voucher has been used already", "如有疑問，請洽店員", "If in doubt, please ask our staff"
    ),
    "forged": _reason(
        "此條碼無法驗證", "This code is not genuine", "請出示原始票券，或洽店員", "Please show the original voucher, or ask our staff"
    ),
    "unreadable": _reason(
        "無法辨識此條碼",
        "This code cannot be read",
        "請調亮螢幕再試一次，或輸入票券代碼",
        "Brighten your screen and try again, or type the code",
    ),
    "mistyped": _reason("代碼輸入有誤", "The typed code has a slip in it", "請核對後重新輸入", "Please check it and type it again"),
    "unknown_code": _reason(
        "本店查無此代碼",
        "This shop does not know this code",
        "請改為出示 QR 碼，或洽店員",
        "Please show its QR code instead, or ask our staff",
    ),
    "unknown_issuer": _reason(
        "本店不受理此發行者的票券", "This shop does not take vouchers of this issuer", "請洽店員", "Please ask our staff"
    ),
    "other_store": _reason(
        "此券限其他門市使用", "This voucher belongs to another shop", "請至票券指定的門市", "Please go to the shop named on it"
    ),
    "not_yet": _reason(
        "此券尚未開始使用", "This voucher is not valid yet", "請於票券所載日期後再來", "Please come back from the date on it"
    ),
    "expired": _reason("此券已過期", "This voucher has expired", "請洽店員", "Please ask our staff"),
    "revoked": _reason("此券已作廢", "This voucher has been cancelled", "請洽店員", "Please ask our staff"),
    "class_unsupported": _reason("此券需連線總部核銷", "Only headquarters may decide on this voucher", "請洽店員", "Please ask our staff"),
    "time_untrusted": _reason(
        "門市時間尚未確認", "The shop's clock is not sure of the date", "請店員協助", "Please ask our staff for help"
    ),
    "card_dropped": _reason(
        "請勿掃描付款卡", "Please do not scan payment cards", "卡號未被保存，請出示票券", "The number was not kept; please show a voucher"
    ),
    "order_cancelled": _reason("此訂單已取消", "This order was cancelled", "請洽店員", "Please ask our staff"),
    "being_prepared": _reason(
        "商品準備中", "Your order is being prepared", "請稍候，備妥後再掃描一次", "Please wait and scan again when it is ready"
    ),
    "already_collected": _reason(
        "此訂單已取貨", "This order was collected already", "如有疑問，請洽店員", "If in doubt, please ask our staff"
    ),
    "door_busy": _reason("櫃門正在開啟中", "The door is opening", "請取出商品並關上櫃門", "Please take your parcel and close the door"),
    "locker_unavailable": _reason(
        "取貨櫃暫時無法使用", "The locker is out of order for now", "請店員協助取貨", "Please ask our staff for your parcel"
    ),
    "no_free_compartment": _reason("沒有空的櫃位", "No compartment is free", "請改放櫃檯", "Please keep it at the counter"),
    "unknown_order": _reason("本店查無此訂單", "This shop does not know this order", "請洽店員", "Please ask our staff"),
    "already_staged": _reason(
        "此訂單已放入櫃中", "This order lies in the locker already", "請核對訂單編號", "Please check the order number"
    ),
    "not_admitted": _reason(
        "門市主機剛啟動，正在核對紀錄",
        "The shop's box has just started and is checking its records",
        "請稍候再試；若持續出現，請洽店員查看畫面上方說明",
        "Please try again in a moment; if it stays, our staff can read the notice at the top",
    ),
    "box_retired": _reason("本機已停用", "This box was retired", "請洽總部", "Please call headquarters"),
    "needs_grant": _reason(
        "門市目前離線，請用手機取得本店授權碼",
        "The shop is offline: it needs a pass for this shop from your phone",
        "請用手機開啟票券連結，掃描畫面上的 QR 碼，再出示授權碼",
        "Open your voucher's link, scan the QR code on the screen, then show the pass",
    ),
    "needs_online": _reason(
        "此券需連線總部核銷，門市目前離線",
        "Headquarters has to decide on this voucher, and the shop is offline",
        "此券未被使用，請稍後再試",
        "It was not used; please try again later",
    ),
    "assigned_elsewhere": _reason(
        "此券已由其他門市保留",
        "Another shop holds this voucher",
        "請至該門市使用，或於票券頁面申請轉店",
        "Use it there, or ask to move it on its page",
    ),
    "grant_stale": _reason(
        "此授權碼已失效", "This pass is no longer valid", "請於票券頁面重新取得授權碼", "Please fetch a new one on your voucher's page"
    ),
    "grant_expired": _reason(
        "此授權碼已過期", "This pass has run out", "請於票券頁面重新取得授權碼", "Please fetch a new one on your voucher's page"
    ),
    "lease_spent": _reason(
        "本店可用額度不足",
        "This shop holds too little of the balance",
        "請降低金額，或待連線後再試",
        "Try a smaller amount, or again when the shop is online",
    ),
    "recalled": _reason(
        "此券正在轉店或退款", "This voucher is being moved or refunded", "請稍後於票券頁面查看", "Please look at its page in a while"
    ),
    "refunded": _reason("此券已退款", "This voucher was refunded", "請洽店員", "Please ask our staff"),
    "unknown_voucher": _reason("總部查無此券", "Headquarters does not know this voucher", "請洽店員", "Please ask our staff"),
    "claim_abandoned": _reason("查詢未完成", "The enquiry was not finished", "請再出示一次票券", "Please show the voucher once more"),
    "not_staff": _reason("需要店員登入", "Only staff may do this", "請先登入", "Please sign in first"),
}

DECISIONS: Final[dict[str, Text]] = {
    "pending": Text("正在向總部查詢", "Asking headquarters"),
    "redeemed": Text("核銷成功", "Redeemed"),
    "collecting": Text("櫃門開啟中，請取貨後關門", "Your door is opening: take your parcel and close it"),
    "collected": Text("取貨完成，謝謝", "Collected, thank you"),
    "staging": Text("櫃門開啟中，請放入商品後關門", "The door is opening: put the parcel in and close it"),
    "staged": Text("商品已備妥", "The parcel is ready"),
}
