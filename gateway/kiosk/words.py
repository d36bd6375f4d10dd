"""What pages and refusals of HTTP say, in both languages: `locales/zh-Hant.json` and `locales/en.json`."""

import json
from pathlib import Path
from typing import Final

LOCALES: Final = Path(__file__).parent / "locales"
LANGUAGES: Final = ("zh-Hant", "en")  # the first is what a screen starts and ends with


def read_words() -> dict[str, dict[str, str]]:
    """Language to key to words."""
    return {language: json.loads((LOCALES / f"{language}.json").read_text(encoding="utf-8")) for language in LANGUAGES}


WORDS: Final = read_words()


def both(key: str) -> dict[str, str]:
    """The words of a key as answers carry them."""
    return {"zh": WORDS["zh-Hant"][key], "en": WORDS["en"][key]}
