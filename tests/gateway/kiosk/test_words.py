"""Words and files that pages take along."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from gateway.kiosk.screens import HERE
from gateway.kiosk.words import WORDS, both
from tests.gateway.kiosk.conftest import Shop

SOURCES = [*HERE.glob("*.py"), *HERE.glob("templates/*.html"), *HERE.glob("static/*.js")]
OUTSIDE = re.compile(r"(?:https?:)?//(?!www\.w3\.org/)[a-z0-9.-]+\.[a-z]{2,}", re.IGNORECASE)


def test_both_languages_say_everything() -> None:
    zh, en = WORDS["zh-Hant"], WORDS["en"]
    assert list(zh) == list(en)
    assert all(text.strip() for words in WORDS.values() for text in words.values())
    for key in zh:
        assert sorted(re.findall(r"{\w+}", zh[key])) == sorted(re.findall(r"{\w+}", en[key])), key


def test_every_word_is_used_and_every_used_word_exists() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    named = set(re.findall(r"[\"']((?:common|kiosk|read|result|staff|glance|wall)\.[a-z_.]+)[\"']", text))
    errors = {f"error.{name}{more}" for name in re.findall(r"[\"'(]([a-z_]+)[\"')]", text) for more in ("", ".next")}
    known = set(WORDS["en"])
    assert {key for key in known if not key.startswith("error.")} - named == set()
    assert {key for key in known if key.startswith("error.")} - errors == set()
    files = {"glance.html", "kiosk.html", "staff.html", "kiosk.js", "staff.js", "glance.js", "kiosk.css", "staff.css", "glance.css"}
    assert {key for key in named if not key.endswith(".") and key not in files} - known == set()


def test_an_unknown_key_is_an_error_not_an_empty_label() -> None:
    with pytest.raises(KeyError):
        both("no.such.key")


def test_the_decoder_is_the_one_we_checked() -> None:
    folder = HERE / "static/vendor/zxing"
    table = dict(re.findall(r"\| `(zxing_reader\.\w+)` \|.*?\| `([0-9a-f]{64})` \|", (folder / "README.md").read_text()))
    assert set(table) == {"zxing_reader.js", "zxing_reader.wasm"}
    for name, digest in table.items():
        packed = folder / f"{name}.gz"
        found = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
        assert hashlib.sha256(found).hexdigest() == digest, name
    assert (folder / "LICENSE").read_text().startswith("MIT License")


@pytest.mark.parametrize("path", sorted({*HERE.glob("templates/*"), *HERE.glob("static/*.*")}), ids=lambda path: path.name)
def test_no_page_names_another_server(path: Path) -> None:
    assert OUTSIDE.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sorted(HERE.glob("static/*.js")), ids=lambda path: path.name)
def test_no_script_makes_markup_of_text(path: Path) -> None:
    assert not re.search(
        r"\.innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text(encoding="utf-8")
    )


async def test_pages_speak_the_language_they_are_asked_for(shop: Shop) -> None:
    zh, en = (await shop.client.get("/kiosk/counter")).text, (await shop.client.get("/kiosk/counter?lang=en")).text
    assert '<html lang="zh-Hant">' in zh and "請出示您的條碼</span>" in zh
    assert '<html lang="en">' in en and "Show your code</span>" in en
    assert '<html lang="zh-Hant">' in (await shop.client.get('/kiosk/counter?lang="><script>')).text


async def test_a_name_in_the_staff_list_cannot_bring_markup(shop: Shop) -> None:
    people = shop.desk.staff()
    evil = type(people[0])("s-9", "<script>alert(1)</script>", "", [])
    shop.desk.staff = lambda: [evil]  # type: ignore[method-assign]
    page = (await shop.client.get("/staff")).text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
