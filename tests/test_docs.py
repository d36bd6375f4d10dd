"""What the docs say exists: commands and their options, keys, targets, checks, files, words on screens."""

import json
import re
import shlex
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from cloud_bridge.hq import metrics as hq_metrics
from gateway.commands import app
from gateway.config import SECTION_TYPES, parse
from provisioning.doctor import CHECKS

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS: Final = [ROOT / "docs" / f"{name}.md" for name in ("install", "clerk", "operator", "developer")]
COMMAND: Final = re.compile(r"store-gateway ((?:hq )?[a-z][a-z-]*(?:[^\S\n]+(?!`)[^\s`,;:()]+)*)")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_of(path: Path) -> list[str]:
    """Code spans and lines of fenced blocks."""
    text = text_of(path)
    fenced = re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [*spans, *(line for block in fenced for line in block.splitlines())]


def commands() -> dict[str, Any]:
    """Every command by its words, such as `hq batch`."""
    root: Any = typer.main.get_command(app)
    found: dict[str, Any] = {}
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {word}": one for word, one in inner.items()} if inner else {name: command}
    return found


def said_commands(path: Path) -> list[list[str]]:
    """Each `store-gateway WORDS` in the code of a document."""
    return [shlex.split(found.split(" #")[0]) for code in code_of(path) for found in COMMAND.findall(code) if "…" not in found]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_command_and_option_named_exists(path: Path) -> None:
    known = commands()
    for words in said_commands(path):
        if words[0] == "run":
            continue
        name = " ".join(words[:2]) if words[0] == "hq" else words[0]
        if name == "hq":
            continue
        assert name in known, f"{path.name}: store-gateway {' '.join(words)}"
        options = {option for parameter in known[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in options | {"--help"}, f"{path.name}: {word} of store-gateway {name}"


def test_commands_are_found_in_the_docs() -> None:
    said = {words[0] for path in OURS for words in said_commands(path)}
    assert {"doctor", "support", "status", "install", "enroll", "label", "migrate", "hq"} <= said


def test_every_check_is_explained_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", text_of(ROOT / "docs" / "install.md"), re.MULTILINE)
    assert [name for name, _ in rows] == [check.id for check in CHECKS]
    assert all(len(words) > 10 for _, words in rows)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_every_configuration_shown_is_accepted(path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)
    for block in blocks:
        assert parse(block).store.store
    for section in re.findall(r"`\[+([a-z.]+)\]+`", text_of(path)):
        assert section in SECTION_TYPES
    assert blocks or path.name != "install.md"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_make_target_and_file_named_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for target in (found for code in code_of(path) for found in re.findall(r"^make ([a-z]+)", code)):
        assert target in targets, f"{path.name}: make {target}"
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text_of(path)):
        assert "://" in link or (path.parent / link).exists(), f"{path.name}: {link}"
    if path in OURS:
        for named in re.findall(r"`((?:gateway|cloud_bridge|provisioning|systemd|tests|contract|virtual_store)/[\w./]*)`", text_of(path)):
            assert (ROOT / named).exists(), f"{path.name}: {named}"


def test_the_words_an_installer_and_a_clerk_read_are_those_on_the_screens() -> None:
    shown = "".join(text_of(path) for path in (ROOT / "gateway").rglob("*.py")) + "".join(
        text_of(path) for folder in ("gateway/kiosk/locales", "cloud_bridge/hq/pages/locales") for path in (ROOT / folder).glob("*.json")
    )
    shown += "".join(text_of(path) for path in (ROOT / "provisioning").glob("*.py"))
    for path in (ROOT / "docs" / "install.md", ROOT / "docs" / "clerk.md"):
        for words in re.findall("「([^」]+)」", text_of(path)):
            assert words in shown, f"{path.name}: {words}"
    for words in re.findall(r"^\| ([一-鿿][^|]*?) \| [a-z]", text_of(ROOT / "docs" / "install.md"), re.MULTILINE):
        assert all(part in shown for part in words.split(", ")), words


def test_the_clerks_page_is_one_page_in_both_languages() -> None:
    text = text_of(ROOT / "docs" / "clerk.md")
    chinese, english = text.split("## English")
    assert len(re.findall("[一-鿿]", chinese)) > 250 and len(english.split()) > 150
    assert len(text.splitlines()) < 60
    bold = [re.findall(r"\*\*(.+?)\*\*", part) for part in (chinese, english)]
    assert len(bold[0]) == len(bold[1]) >= 7  # the same matters in both


def test_every_series_an_operator_may_watch_exists() -> None:
    exposed = hq_metrics.expose([], {}, True, 0)
    for name in re.findall(r"`(hq_\w+)", text_of(ROOT / "docs" / "operator.md")):
        assert f"# TYPE {name} " in exposed, name


def test_the_dashboards_words_are_the_operators() -> None:
    text = text_of(ROOT / "docs" / "operator.md")
    for language in ("zh-Hant", "en"):
        words = json.loads(text_of(ROOT / f"cloud_bridge/hq/pages/locales/{language}.json"))
        for key in ("complete.all", "complete.missing", "complete.cut"):
            spoken = re.sub(r"^as of …, ", "", words[key].format(time="…", n="n"))
            assert spoken in text, words[key]
        assert words["nav.dashboard"] in text or language == "en"
