"""Why a box is not enrolled, in words the person beside it can act on: Traditional Chinese first, English second.

A reason's code travels between headquarters and box; the words are looked up on either side.
"""

from typing import Final

from gateway.errors import BrokerError, ConfigError
from gateway.rules.reasons import Reason, Text


def _reason(zh: str, en: str, next_zh: str, next_en: str) -> Reason:
    return Reason(Text(zh, en), Text(next_zh, next_en))


_NEW_LABEL: Final = ("請總部重新列印此機的標籤", "Ask headquarters to print a new label for this box")
REASONS: Final[dict[str, Reason]] = {
    "not_a_label": _reason(
        "這不是註冊標籤", "This is not an enrolment label",
        "請掃描總部寄來、標有此機編號的標籤", "Scan the label headquarters sent for this box",
    ),
    "label_used": _reason(
        "此標籤已被另一台機器使用", "Another box has used this label already",
        "請通知總部：可能有人盜用標籤；總部會作廢並重新列印", "Tell headquarters: somebody may have stolen it; they replace it",
    ),
    "label_expired": _reason("此標籤已過期", "This label has expired", *_NEW_LABEL),
    "label_replaced": _reason(
        "此標籤已由較新的標籤取代", "A newer label has replaced this one", "請掃描最新列印的標籤", "Scan the newest label"
    ),
    "secret_wrong": _reason("總部不認得此標籤", "Headquarters does not know this label", *_NEW_LABEL),
    "wrong_box": _reason(
        "此標籤屬於另一台機器或門市", "This label belongs to another box or shop",
        "請核對標籤上的機器編號與此機設定是否相同", "Compare the box on the label with this box's configuration",
    ),
    "wrong_hq": _reason(
        "對方不是標籤上的總部", "Whoever answers is not the headquarters on the label",
        "請勿繼續；檢查網路是否被攔截，並通知總部", "Do not go on: the line may be intercepted; tell headquarters",
    ),
    "hq_unreachable": _reason(
        "無法連線到總部", "Headquarters cannot be reached",
        "請檢查網路線或 Wi-Fi；連上後會自動再試", "Check the cable or Wi-Fi; it is tried again by itself",
    ),
    "clock_impossible": _reason(
        "時間不可能正確，憑證無法確認", "The time cannot be right, so certificates cannot be judged",
        "請總部檢查伺服器時間與憑證，再掃描一次", "Ask headquarters to check its server's clock and certificate, then scan again",
    ),
    "bad_keys": _reason(
        "總部無法使用此機的金鑰", "Headquarters cannot use this box's keys",
        "請更新此機軟體後再試", "Update this box's software, then scan again",
    ),
    "enrolled_already": _reason(
        "此機已經註冊", "This box is enrolled already", "不需再做任何事；若要更換請先重設此機", "Nothing to do; to move it, reset it first"
    ),
}  # fmt: skip


class EnrolRefused(ConfigError):
    """This box is not enrolled, and trying again with the same label will not help; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason if reason in REASONS else "secret_wrong"
        self.words = REASONS[self.reason]
        super().__init__(*_said(self.words, detail))


class HqUnreachable(BrokerError):
    """Headquarters did not answer: it is tried again."""

    reason: Final = "hq_unreachable"

    def __init__(self, detail: str = "") -> None:
        self.words = REASONS[self.reason]
        super().__init__(*_said(self.words, detail))


def _said(words: Reason, detail: str) -> tuple[str, str]:
    what = f"{words.text.zh} ({words.text.en}{f': {detail}' if detail else ''})"
    return what, f"{words.next_step.zh} ({words.next_step.en})"
