"""What a screen asks a member before what they do is joined to them, and what their last word on it is. Pure.

A consent is to a text: each version of it stays here for good, since rows name it. Whoever changes a word makes a new version and puts
it in force; `tests/gateway/rules/test_consent.py` holds every version to its words. Silence is no consent, and a consent that was
withdrawn stops everything until it is given anew, at a screen or to headquarters: a till's word that "the customer agreed" does not.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from gateway.events import MemberConsented, TimeTrust
from gateway.rules.reasons import Text

BIND: Final = "bind"
MOST_SAID: Final = 50_000  # members whose last word at this shop is remembered: as many as a region has


class ConsentText(Struct, frozen=True):
    """What is on the screen."""

    question: Text
    stored: Text  # what
    kept: Text  # how long, and how it ends
    yes: Text
    no: Text
    standing: Text  # instead of the question, of somebody who has agreed already
    go_on: Text  # instead of yes
    stop: Text  # instead of no


TEXTS: Final[dict[str, ConsentText]] = {
    "bind-1": ConsentText(
        Text("要把這次消費記入您的會員嗎？", "Record this visit under your membership?"),
        Text(
            "會記錄：用了哪張票券、時間、門市。不記姓名、電話與付款資料。",
            "Recorded: which voucher, when, in which shop. No name, telephone number or payment data.",
        ),
        Text(
            "保存至您要求刪除會員為止；隨時可在此出示會員條碼停止。",
            "Kept until you ask to have your membership erased. Show your member code here at any time to stop.",
        ),
        Text("要，記入會員", "Yes, record it"),
        Text("不要", "No"),
        Text("您已同意把消費記入會員", "You have agreed to have visits recorded under your membership"),
        Text("繼續記入", "Go on"),
        Text("停止，撤回同意", "Stop, withdraw it"),
    )
}
IN_FORCE: Final = "bind-1"


class Standing(StrEnum):
    """A member's last word on a consent."""

    UNSAID = "unsaid"
    GIVEN = "given"
    WITHDRAWN = "withdrawn"


class Word(Struct, frozen=True, gc=False):
    """What somebody said, and when: µs since 1970 UTC."""

    given: bool
    at_us: int
    version: str = ""  # of the text; empty: said to headquarters


class Consents:
    """The last word of each member who said something at this shop."""

    def __init__(self) -> None:
        self._said: dict[str, Word] = {}

    def fold(self, row: MemberConsented, place: object = None) -> None:
        """Take a row, from the past or just decided. A clock that is not believed never makes a withdrawal look old, nor a consent new."""
        at_us = row.event_time.wall_us
        if row.event_time.trust is TimeTrust.UNTRUSTED:
            at_us = 0 if row.given else 1 << 62
        if row.consent == BIND:
            self._said.pop(row.member_ref, None)  # the newest last
            self._said[row.member_ref] = Word(row.given, at_us, row.text_version)
            if len(self._said) > MOST_SAID:
                del self._said[next(iter(self._said))]

    def last(self, member_ref: str, told: Word | None) -> Word | None:
        """The last word, of what was said here and what headquarters told; of two in one moment the withdrawal. None: none."""
        words = [word for word in (self._said.get(member_ref), told) if word is not None]
        return max(words, key=lambda word: (word.at_us, not word.given), default=None)


def standing(word: Word | None) -> Standing:
    """What a last word comes to."""
    if word is None:
        return Standing.UNSAID
    return Standing.GIVEN if word.given else Standing.WITHDRAWN


def told_word(consents: list[str], said: list[tuple[str, bool, int]]) -> Word | None:
    """What headquarters tells of a member's consent to being joined. One it holds without a time was there before it kept times."""
    found = next((Word(given, at_us) for consent, given, at_us in said if consent == BIND), None)
    return found or (Word(True, 0) if BIND in consents else None)
