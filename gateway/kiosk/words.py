"""What pages and refusals of HTTP say, in both languages: `locales/zh-Hant.json` and `locales/en.json`."""

import json
from pathlib import Path
from typing import Final

from gateway.rules.consent import TEXTS

LOCALES: Final = Path(__file__).parent / "locales"
LANGUAGES: Final = ("zh-Hant", "en")  # the first is what a screen starts and ends with


def read_words() -> dict[str, dict[str, str]]:
    """Language to key to words."""
    return {language: json.loads((LOCALES / f"{language}.json").read_text(encoding="utf-8")) for language in LANGUAGES}


WORDS: Final = read_words()
# What a screen asks of a member's consent: rows name its version, so its words are with the rules. Language to key to words.
CONSENT_WORDS: Final = {
    language: {
        f"consent.{version}.{name}": getattr(getattr(text, name), field)
        for version, text in TEXTS.items()
        for name in text.__struct_fields__
    }
    for language, field in zip(LANGUAGES, ("zh", "en"), strict=True)
}


def both(key: str) -> dict[str, str]:
    """The words of a key as answers carry them."""
    return {"zh": WORDS["zh-Hant"][key], "en": WORDS["en"][key]}
