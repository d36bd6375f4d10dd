"""What a sentence and a reason are: Traditional Chinese first, English second."""

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


def reason(zh: str, en: str, next_zh: str, next_en: str) -> Reason:
    """Of four sentences."""
    return Reason(Text(zh, en), Text(next_zh, next_en))
