"""Every locked library can be had for a 64-bit Raspberry Pi without a compiler: as a wheel, or as a Debian package that the docs name.

A locked library without such a wheel is allowed if `docs/install.md` lists it under "Debian packages instead of wheels".
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
UV: Final = Path(sys.executable).with_name("uv")
PLATFORM: Final = "aarch64-manylinux_2_28"  # the glibc of Debian 10; every system a box runs has a newer one
UNREACHABLE: Final = re.compile(r"error sending request|dns error|client error \(Connect\)|Network is unreachable", re.IGNORECASE)
HEADING: Final = "Debian packages instead of wheels"

pytestmark = pytest.mark.slow


def from_debian() -> set[str]:
    """The libraries that the docs take from Debian: first column of the table below the heading."""
    page = ROOT / "docs" / "install.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    table = text.partition(HEADING)[2].partition("\n#")[0]
    return {canonicalize_name(name) for name in re.findall(r"^\| *`([\w.-]+)`", table, flags=re.MULTILINE)}


def locked(lock: str, python: str) -> dict[str, str]:
    """What a lock puts on such a box: each requirement with its hashes, by name."""
    machine = {"sys_platform": "linux", "platform_machine": "aarch64", "platform_system": "Linux", "os_name": "posix",
               "platform_python_implementation": "CPython", "implementation_name": "cpython", "python_version": python,
               "python_full_version": f"{python}.0"}  # fmt: skip
    found: dict[str, str] = {}
    for block in re.split(r"^(?=\S)", (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8"), flags=re.MULTILINE):
        if block.strip():
            requirement = Requirement(block.partition("\n")[0].rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate(machine):
                found[canonicalize_name(requirement.name)] = block
    return found


def resolve(requirements: Path, python: str, target: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Ask the registry's own client what it would install there; nothing is downloaded or installed."""
    command = [str(UV), "pip", "install", "--dry-run", "--target", str(target), "--only-binary", ":all:", "--no-deps", *options]
    platform = ["--python-platform", PLATFORM, "--python-version", python]
    done = subprocess.run(
        [*command, *platform, "--requirement", str(requirements)], capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip("the package registry cannot be reached, and what wheels there are is not in uv's cache")
    return done


@pytest.mark.parametrize("python", ["3.11", "3.13"])  # Debian 12's and Debian 13's
@pytest.mark.parametrize("lock", ["store", "dev"])
def test_every_locked_library_has_a_wheel_or_a_debian_package(lock: str, python: str, tmp_path: Path) -> None:
    wanted = {name: block for name, block in locked(lock, python).items() if name not in from_debian()}
    assert len(wanted) > 30
    wheels_only = tmp_path / "wheels.txt"
    wheels_only.write_text("".join(wanted.values()), encoding="utf-8")
    done = resolve(wheels_only, python, tmp_path / "box", "--require-hashes")
    assert done.returncode == 0, f"no wheel for {PLATFORM}, and {HEADING!r} in docs/install.md does not name it:\n{done.stderr}"
    chosen = {canonicalize_name(name) for name in re.findall(r"^ \+ ([\w.-]+)==", done.stdout + done.stderr, flags=re.MULTILINE)}
    assert chosen == wanted.keys()


def test_a_library_without_such_a_wheel_would_be_noticed(tmp_path: Path) -> None:
    """Guards the test above against a client that says yes to everything: this one has wheels for Windows only."""
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("pywin32==308\n", encoding="utf-8")
    done = resolve(foreign, "3.11", tmp_path / "box")
    assert done.returncode != 0
    assert "pywin32" in done.stderr
