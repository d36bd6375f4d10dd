"""What must hold for a fresh clone to install the same libraries everywhere, and no more of them than a box needs."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("build", "dev", "store")
PROJECT = "store-gateway"


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def lock_entries(name: str) -> Iterator[tuple[Requirement, str]]:
    """Every locked requirement with the lines that belong to it: its hashes and what wants it."""
    for block in re.split(r"^(?=\S)", lock_text(name), flags=re.MULTILINE):
        if block.strip():
            head, _, rest = block.partition("\n")
            yield Requirement(head.rstrip(" \\")), rest


def versions(name: str) -> dict[str, set[str]]:
    """Some packages are locked twice, under markers for different Pythons."""
    found: dict[str, set[str]] = {}
    for requirement, _ in lock_entries(name):
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    return found


def wanted_by(name: str) -> dict[str, set[str]]:
    """The lock's own "# via" notes turned round: for each package, which packages it brings along."""
    brought: dict[str, set[str]] = {}
    for requirement, rest in lock_entries(name):
        for parent in re.findall(r"^ +#(?: via)? +([A-Za-z][\w.-]*)", rest, flags=re.MULTILINE):
            brought.setdefault(canonicalize_name(parent), set()).add(canonicalize_name(requirement.name))
    return brought


def direct(*extras: str) -> list[Requirement]:
    """What the project asks for itself, extras that name other extras followed to their end."""
    project = pyproject()["project"]
    found: list[Requirement] = []
    for text in [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]:
        requirement = Requirement(text)
        found += direct(*requirement.extras) if requirement.name == PROJECT else [requirement]
    return found


def installed_by(*extras: str) -> set[str]:
    """All packages that ``store-gateway[extras]`` puts on a box."""
    brought = wanted_by("dev")
    found: set[str] = set()
    todo: set[str] = {canonicalize_name(requirement.name) for requirement in direct(*extras)}
    while todo:
        found |= todo
        todo = {child for parent in todo for child in brought.get(parent, ())} - found
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_host_and_no_path(name: str) -> None:
    text = lock_text(name)
    assert "://" not in text
    assert " @ " not in text
    assert re.search(r"^ *-(?!-hash=sha256:)", text, flags=re.MULTILINE) is None
    assert re.search(r"(^|\s)/\w", text) is None


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_one_version_and_hashes(name: str) -> None:
    entries = list(lock_entries(name))
    assert entries
    for requirement, rest in entries:
        assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), requirement
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", rest), requirement


def test_the_locks_agree_with_each_other() -> None:
    widest = versions("dev")
    assert versions("store").items() <= widest.items()
    build = versions("build")
    assert {name: widest[name] for name in build if name in widest} == {name: build[name] for name in build if name in widest}


@pytest.mark.parametrize(("name", "extras"), [("store", ("store",)), ("dev", tuple(pyproject()["project"]["optional-dependencies"]))])
def test_a_lock_answers_what_pyproject_asks(name: str, extras: tuple[str, ...]) -> None:
    locked = versions(name)
    for requirement in direct(*extras):
        for version in locked.get(canonicalize_name(requirement.name), {"not locked"}):
            assert version != "not locked" and requirement.specifier.contains(version.removeprefix("==")), f"{requirement}: make lock"


def test_the_build_back_end_is_locked() -> None:
    settings = pyproject()
    for text in [*settings["build-system"]["requires"], *settings["dependency-groups"]["build"]]:
        assert canonicalize_name(Requirement(text).name) in versions("build")


def test_a_store_installs_no_development_tools() -> None:
    assert not {"mypy", "playwright", "pytest", "ruff"} & versions("store").keys()


def test_a_locker_only_box_installs_no_opencv_numpy_or_fastapi() -> None:
    box = installed_by("locker")
    assert "pyserial" in box
    assert not {"fastapi", "numpy", "opencv-python-headless", "pydantic", "starlette", "zxing-cpp"} & box


def test_the_walk_through_the_lock_finds_what_a_kiosk_brings_along() -> None:
    """Guards the test above against a walk that finds nothing."""
    assert {"fastapi", "starlette", "pydantic-core", "markupsafe", "cffi"} <= installed_by("kiosk")


def test_git_ignores_the_environment_and_the_lock_that_names_hosts() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {"/.venv/", "/build/", "/uv.lock", "__pycache__/"} <= set(ignored)


def test_the_promised_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert {"all", "setup", "store", "test", "scenarios", "bench", "lock", "clean"} <= targets
    assert ".DEFAULT_GOAL := all" in makefile


def test_setup_without_a_profile_explains_itself() -> None:
    done = subprocess.run([ROOT / "scripts" / "setup"], capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 2
    assert "scripts/setup store" in done.stdout
