"""Why something was refused or what was decided, in words people can act on: Traditional Chinese first, English second.

A reason's code travels in events and answers; its words are looked up here by every screen, at the shop and at HQ.
"""

from typing import Final

from gateway.rules import reasons_of_trust
from gateway.rules.wording import NOTHING as NOTHING
from gateway.rules.wording import Reason as Reason
from gateway.rules.wording import Text as Text
from gateway.rules.wording import reason as _reason

REASONS: Final[dict[str, Reason]] = reasons_of_trust.REASONS | {
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
    "key_revoked": _reason(
        "發行者已停用此批票券",
        "The issuer has withdrawn the vouchers of this batch",
        "請向發行者換發新券，或洽店員",
        "Please ask its issuer for a new one, or ask our staff",
    ),
    "key_retired": _reason(
        "此券以停用的金鑰簽發",
        "This voucher was signed with a key no longer in use",
        "請向發行者換發新券，或洽店員",
        "Please ask its issuer for a new one, or ask our staff",
    ),
    "unknown_item": _reason(
        "本店不受理此票種",
        "This shop does not take this kind of ticket",
        "請至票券所載地點，或洽店員",
        "Please go where it says, or ask our staff",
    ),
    "ambiguous_code": _reason(
        "此代碼不足以辨識票券", "This code alone does not tell which voucher it is", "請改為出示 QR 碼", "Please show its QR code instead"
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
    "unknown_campaign": _reason("本店沒有此活動", "This shop does not have this offer", "請洽店員", "Please ask our staff"),
    "campaign_not_begun": _reason(
        "活動尚未開始", "This offer has not begun yet", "請於活動開始後再來", "Please come back when it has begun"
    ),
    "campaign_ended": _reason("活動已結束", "This offer has ended", "請參考其他優惠", "Please look at our other offers"),
    "outside_window": _reason(
        "現在不在可使用的時段", "This is not its time", "請於所載的日期與時段前來", "Please come back on the days and hours it names"
    ),
    "campaign_elsewhere": _reason(
        "本店不適用此活動", "This offer is not for this shop", "請至活動指定的門市", "Please go to a shop named in the offer"
    ),
    "other_currency": _reason("此活動不適用這個幣別", "This offer is in another currency", "請洽店員", "Please ask our staff"),
    "member_missing": _reason("此活動限會員", "This offer is for members", "請先出示會員條碼", "Please show your member code first"),
    "limit_member": _reason(
        "您已達此活動的使用上限", "You have used this offer as often as it allows", "請參考其他優惠", "Please look at our other offers"
    ),
    "limit_member_day": _reason(
        "您今日已達此活動的使用上限", "You have used this offer as often as it allows today", "請明日再來", "Please come back tomorrow"
    ),
    "limit_day": _reason("今日活動名額已用完", "Today's share of this offer is used up", "請明日再來", "Please come back tomorrow"),
    "not_combinable": _reason(
        "無法與已使用的優惠併用",
        "This offer cannot be combined with another one in use",
        "請擇一使用",
        "Please choose one of them",
    ),
    "item_missing": _reason(
        "未購買指定商品", "The item for this offer is not in your basket", "請加入指定商品後再試", "Please add the item and try again"
    ),
    "not_enough_items": _reason(
        "指定商品數量不足", "There are too few items for this offer", "請再加購指定商品", "Please add more of its items"
    ),
    "items_taken": _reason(
        "指定商品已用於其他優惠", "The items are in use for another offer", "請再加購指定商品", "Please add more of its items"
    ),
    "minimum_not_reached": _reason(
        "未達消費門檻", "The minimum spend is not reached", "請再加購至門檻金額", "Please add items up to the minimum"
    ),
    "nothing_to_take_off": _reason(
        "沒有可折抵的金額", "There is nothing left to take off", "此優惠未使用，請留待下次", "It was not used: please keep it for next time"
    ),
    "balance_empty": _reason("此券餘額為零", "This voucher has no balance left", "請改用其他付款方式", "Please pay another way"),
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
    "exhausted": _reason("此券已全部用完", "Nothing is left of this voucher", "如有疑問，請洽店員", "If in doubt, please ask our staff"),
    "not_enough_left": _reason(
        "此券剩餘不足", "Not as much is left of this voucher", "請改用剩餘的次數或金額", "Please ask for no more than what is left"
    ),
    "held": _reason(
        "此券正在另一筆結帳中使用", "Another sale is using this voucher just now", "請稍候再試", "Please try again in a few minutes"
    ),
    "amount_needed": _reason(
        "此券為面額券，需於收銀台輸入金額",
        "This voucher has a value: the till says how much of it",
        "請至收銀台結帳",
        "Please use it at the till",
    ),
    "no_face_value": _reason(
        "此券不能部分折抵金額", "No amount can be taken off this voucher", "請勿輸入金額，再試一次", "Please try again without an amount"
    ),
    "stock_out": _reason("本店贈品已發完", "This shop has none left to give", "請洽店員", "Please ask our staff"),
    "daily_stock_out": _reason("本店今日贈品已發完", "This shop has given out all of today's", "請明日再來", "Please come back tomorrow"),
    "session_full": _reason("此場次已額滿", "This session is full", "請洽店員改訂其他場次", "Please ask our staff for another session"),
    "not_a_voucher": _reason(
        "此條碼不是票券", "This code is no voucher", "取貨條碼請於取貨櫃掃描", "Please show codes for pickup at the lockers"
    ),
    "unknown_authorization": _reason("查無此保留", "There is no such hold", "請重新掃描票券", "Please scan the voucher again"),
    "already_captured": _reason("此保留已核銷", "This hold was captured already", "請核對交易編號", "Please check the number of the sale"),
    "hold_voided": _reason("此保留已取消", "This hold was voided", "請重新掃描票券", "Please scan the voucher again"),
    "hold_expired": _reason(
        "保留已逾時，票券已被使用",
        "The hold ran out, and the voucher was used meanwhile",
        "請由收銀台撤銷此筆折抵",
        "The till has to take this discount back",
    ),
    "other_device": _reason(
        "此保留屬於另一台裝置", "Another device holds this", "請於原裝置操作，或請店員登入", "Use that device, or have staff sign in"
    ),
    "unknown_redemption": _reason("本店查無此核銷", "This shop does not know this redemption", "請洽總部", "Please call headquarters"),
    "already_reversed": _reason("此核銷已取消過", "This redemption was reversed already", "無需再操作", "There is nothing left to do"),
    "too_late_to_reverse": _reason(
        "已超過可取消核銷的時間", "It is too late to reverse this here", "請向總部申請退回", "Please ask headquarters for a refund"
    ),
    "manager_needed": _reason(
        "僅原裝置或店長可取消此核銷", "Only the same device or a manager may reverse this", "請店長登入", "Please have a manager sign in"
    ),
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
    "points_needed": _reason(
        "此為點數帳戶，需輸入使用點數",
        "This is a points account: the till says how many of them",
        "請至收銀台輸入點數",
        "Please use it at the till",
    ),
    "no_points": _reason("此券沒有點數", "This voucher holds no points", "請勿輸入點數，再試一次", "Please try again without points"),
    "not_staff": _reason("需要店員登入", "Only staff may do this", "請先登入", "Please sign in first"),
    "other_member": _reason(
        "此券屬於另一位會員",
        "This voucher is another member's",
        "請出示本人的會員條碼，或洽店員",
        "Please show your own code, or ask our staff",
    ),
}

DECISIONS: Final[dict[str, Text]] = {
    "pending": Text("正在向總部查詢", "Asking headquarters"),
    "redeemed": Text("核銷成功", "Redeemed"),
    "valid": Text("此券可使用", "This voucher can be used"),
    "authorized": Text("已為此筆結帳保留", "Held for this sale"),
    "voided": Text("已取消保留", "No longer held"),
    "reversed": Text("已取消核銷，票券恢復可用", "Reversed: the voucher can be used again"),
    "collecting": Text("櫃門開啟中，請取貨後關門", "Your door is opening: take your parcel and close it"),
    "collected": Text("取貨完成，謝謝", "Collected, thank you"),
    "staging": Text("櫃門開啟中，請放入商品後關門", "The door is opening: put the parcel in and close it"),
    "staged": Text("商品已備妥", "The parcel is ready"),
    "sale_posted": Text("銷售已記錄", "The sale is recorded"),
    "recognised": Text("已辨識會員", "Member recognised"),
    "honoured": Text("已登記補給，請交付商品", "Noted: please hand it over"),
    "rung": Text("收銀已登錄", "Taken by the till"),
    "returned": Text("退貨已記錄", "The return is recorded"),
    "show_member": Text("請出示您的會員條碼", "Show your member code"),
    "join_next": Text("好，請出示票券", "Now show your voucher"),
    "joined": Text("已記入您的會員", "Recorded under your membership"),
    "not_joined": Text("好，未記入會員", "Fine: nothing was recorded"),
    "consent_withdrawn": Text("已撤回同意，之後不再記入", "Withdrawn: nothing more is recorded"),
}

POINTS_PENDING: Final = Text("點數待入帳", "Points pending")
POINTS_BACK: Final = Text("此筆點數將由總部收回", "Its points will be taken back by headquarters")
REVISIT_PENDING: Final = Text("回訪獎勵待總部確認", "Your return gift is pending: headquarters will confirm it")
PRACTICE: Final = Text("【練習】", "[Practice] ")  # before every decision on a practice voucher


def practised(text: Text) -> Text:
    """What a screen says of a decision that does not count."""
    return Text(PRACTICE.zh + text.zh, PRACTICE.en + text.en)


def unseen(at: str, *, to_staff: bool) -> Reason:
    """Instead of saying only that it was used: it was accepted at `at` (HH:MM, shop time), and no screen is known to have said so."""
    if to_staff:
        step = Text("確認顧客尚未取得後，請選擇原因補給", "Once you are sure that nothing was handed over, say why and do it now")
    else:
        step = Text("請店員以手機掃描此券確認", "Please have our staff scan it with their phone")
    return _reason(
        f"此券已於 {at} 受理，但畫面可能未顯示", f"Accepted at {at}; the screen may have failed to show it",
        step.zh, step.en,
    )  # fmt: skip
