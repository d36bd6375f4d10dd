"""One door per outside package, no file too long to read, and nothing in the tree that names a machine it was written on."""

import ast
import fnmatch
import functools
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("gateway", "cloud_bridge", "provisioning", "virtual_store")
MAX_LINES: Final = 400
DOORS: Final[dict[str, tuple[str, ...]]] = {
    "amqtt": ("cloud_bridge/hq/broker.py",),
    "bleak": ("gateway/ble/radio.py",),
    "cv2": ("gateway/scanner/decode.py", "gateway/scanner/camera.py"),
    "dbus_fast": ("gateway/ble/radio.py",),
    "evdev": ("gateway/scanner/handheld.py",),
    "fastapi": ("gateway/kiosk/*", "cloud_bridge/hq/*"),
    "PIL": ("provisioning/sheet.py", "provisioning/voucher_sheet.py"),
    "paho": ("cloud_bridge/mqtt.py",),
    "phonenumbers": ("gateway/phones.py",),
    "psycopg": ("cloud_bridge/hq/postgres.py",),
    "pyzbar": ("gateway/scanner/decode.py",),
    "serial": ("gateway/locker/board.py", "gateway/scanner/handheld.py"),
    "sqlite3": ("gateway/ledger/*", "gateway/schema.py", "cloud_bridge/hq/*"),
    "starlette": ("gateway/kiosk/*", "cloud_bridge/hq/*"),
    "uvicorn": ("gateway/kiosk/*", "cloud_bridge/hq/*"),
    "zxingcpp": ("gateway/scanner/decode.py",),
}
# Written so that this file does not name what it looks for.
MACHINE: Final = re.compile(r"/(?:root|work|home)/(?!\.\.)|(?:pypi|npm|registry)[\w.-]*\.(?:internal|local|corp)\b|site-packages/")
GENERATED: Final = ("requirements/*", "*/static/vendor/*", "LICENSE", "uv.lock")


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(text: str) -> set[str]:
    """Outside packages a module imports, at its top or inside a function, also by name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
            found |= {str(word.value).partition(".")[0] for word in node.args if isinstance(word, ast.Constant)}
    return found


def tracked() -> list[Path]:
    """Every text of the tree that a commit would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    return [ROOT / name for name in listed if name and not any(fnmatch.fnmatch(name, pattern) for pattern in GENERATED)]


def test_there_is_something_to_look_at() -> None:
    assert len(sources()) > 40
    assert ROOT / "gateway" / "chain.py" in sources()


@functools.cache
def imported_by() -> dict[str, set[str]]:
    return {path.relative_to(ROOT).as_posix(): imported(path.read_text(encoding="utf-8")) for path in sources()}


@pytest.mark.parametrize("package", DOORS)
def test_an_outside_package_has_one_door(package: str) -> None:
    for name, packages in imported_by().items():
        if package in packages:
            assert any(fnmatch.fnmatch(name, door) for door in DOORS[package]), f"{name} imports {package}"


def test_an_import_is_seen_wherever_it_stands() -> None:
    text = "import a.b\nfrom c.d import e\nfrom . import f\ndef g():\n    import h\n    importlib.import_module('i.j')\n"
    assert imported(text) == {"a", "c", "h", "i"}


def test_no_file_is_too_long_to_read() -> None:
    paths = [*sources(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    long = {path.relative_to(ROOT).as_posix(): lines for path in paths if (lines := len(path.read_bytes().splitlines())) > MAX_LINES}
    assert long == {}


def test_no_text_names_the_machine_it_was_written_on() -> None:
    found = []
    for path in tracked():
        if path == Path(__file__) or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in MACHINE.finditer(text)]
    assert found == []
