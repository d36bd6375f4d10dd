"""Reasons that have to do with who somebody is, with sales and what comes back of them, and with what is taken on trust."""

from typing import Final

from gateway.rules.wording import Reason, reason

REASONS: Final[dict[str, Reason]] = {
    "phone_cannot_spend": reason(
        "電話號碼僅供累點，無法用於兌換",
        "A telephone number earns points, it cannot spend them",
        "請出示會員條碼或票券",
        "Please show your member code or voucher",
    ),
    "receipt_known": reason(
        "此筆銷售先前已記錄", "This receipt was posted before", "無須重送，請處理下一筆", "There is nothing to do; go on with the next one"
    ),
    "unknown_member": reason(
        "查無此會員", "No member has this number", "請核對號碼，或請顧客出示會員條碼", "Check the number, or ask for the member's code"
    ),
    "unknown_member_code": reason("本店查無此會員條碼", "This shop does not know this member's code", "請洽店員", "Please ask our staff"),
    "not_a_number": reason(
        "電話號碼格式不正確",
        "This is no telephone number",
        "請輸入完整號碼，國外號碼請加國碼",
        "Type the whole number, a foreign one with + and its code",
    ),
    "no_members": reason(
        "門市尚未收到會員資料", "This shop has not been told of its members yet", "請稍候，或洽總部", "Wait a little, or call headquarters"
    ),
    "lookups_locked": reason(
        "查詢錯誤次數過多，已停用電話查詢",
        "Too many numbers of nobody: looking up by number is locked",
        "請顧客出示會員條碼；或請店長登入解除",
        "Ask for the member's code, or have a manager sign in and open it again",
    ),
    "risk_cap": reason(
        "門市離線，可先行受理的額度已滿",
        "The shop is offline, and has taken as much on trust as it may",
        "此券未被使用，請待連線恢復後再試",
        "It was not used; please try again when the shop is online",
    ),
    "risk_floor": reason(
        "此券面額超過門市離線時可受理的上限",
        "This voucher is worth more than an offline shop may take on trust",
        "此券未被使用，請待連線恢復後再試",
        "It was not used; please try again when the shop is online",
    ),
    "risk_list_old": reason(
        "門市離線過久，作廢名單已過時",
        "The shop has been offline too long to know which vouchers were cancelled",
        "此券未被使用，請待連線恢復後再試",
        "It was not used; please try again when the shop is online",
    ),
    "store_quota_used": reason(
        "本店的名額已用完",
        "This shop's share of this code is used up",
        "請待門市連線補充名額，或至其他門市使用",
        "Try again when the shop is online, or at another shop",
    ),
    "campaign_quota_used": reason(
        "此優惠碼的總名額已發完", "This code has been used as often as it may be", "請參考其他優惠", "Please look at our other offers"
    ),
    "already_shown": reason(
        "此核銷的結果已顯示過", "The result of this redemption was shown", "如有疑問，請洽店長", "If in doubt, please ask the manager"
    ),
    "already_honoured": reason(
        "此核銷已由店員補給過", "Staff honoured this redemption already", "請勿再次交付", "Please do not hand it over again"
    ),
    "too_late_to_honour": reason("此核銷已超過一日", "This redemption is more than a day old", "請洽總部", "Please call headquarters"),
    "already_rung": reason(
        "此收銀條碼已登錄過", "The till has taken this code already", "請勿再次折抵", "Please take nothing off for it again"
    ),
    "unknown_till_code": reason(
        "本店查無此收銀條碼", "This shop knows no such till code", "請核對數字後再試", "Please check its digits and try again"
    ),
    "consent_over": reason(
        "詢問已結束，未記入會員",
        "The question has ended: nothing was recorded",
        "可再出示會員條碼",
        "Show your member code again if you like",
    ),
    "consent_withdrawn": reason(
        "此會員已撤回同意，未記入會員",
        "This member has withdrawn their consent: nothing was recorded",
        "可於自助機出示會員條碼重新同意，或洽總部",
        "They may agree again with their code at the kiosk, or through headquarters",
    ),
    "unknown_sale": reason(
        "本機查無此筆銷售，或已過久",
        "This box does not know that sale, or it is too long ago",
        "請洽總部辦理退貨",
        "Please ask headquarters to book the return",
    ),
    "return_not_sold": reason(
        "退回的品項不在此筆銷售中", "What came back was not sold in that sale", "請核對明細行與品號", "Check the line and its SKU"
    ),
    "return_too_much": reason(
        "退回的數量或金額超過售出",
        "More pieces or more money than was sold and paid",
        "請核對此筆銷售先前的退貨",
        "Look at what of it came back before",
    ),
    "return_known": reason(
        "此張退貨單先前已記錄",
        "This refund slip was posted before",
        "無須重送，請處理下一筆",
        "There is nothing to do; go on with the next one",
    ),
    "limit_unknown": reason(
        "門市主機剛還原，尚未得知您用過幾次",
        "The shop's box was put back and does not know yet how often you used this offer",
        "此券未被使用，請待總部更新後再試",
        "It was not used; please try again when headquarters has told the shop",
    ),
    "risk_member": reason(
        "門市離線，您近期可先行受理的次數或金額已滿",
        "The shop is offline, and you have lately used as much on trust as one member may",
        "此券未被使用，請待連線恢復後再試",
        "It was not used; please try again when the shop is online",
    ),
}
