"""How much disk the box's libraries take without the scanner's: installed anew from the lock, compiled, counted."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.surroundings import ROOT

EXTRAS: Final = ("ble", "bridge", "kiosk", "locker")  # what runs on a box; headquarters' libraries stay there
PACKAGES: Final = ("gateway", "cloud_bridge", "provisioning", "virtual_store")
MB: Final = 1024 * 1024


def without_scanner() -> dict[str, float]:
    """Megabytes of site-packages with its .pyc files and our own packages, how many packages, and the seconds it took."""
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fp-venv-") as folder:
        venv, locked = Path(folder) / "venv", Path(folder) / "locked.txt"
        extras = [word for extra in EXTRAS for word in ("--extra", extra)]
        hashes = ["--generate-hashes", "--no-emit-package", "store-gateway", "--constraint", str(ROOT / "requirements" / "store.txt")]
        _uv("pip", "compile", "--quiet", "--no-header", str(ROOT / "pyproject.toml"), *extras, *hashes, "--output-file", str(locked))
        _uv("venv", "--quiet", "--python", sys.executable, str(venv))
        python = venv / "bin" / "python"
        _uv("pip", "install", "--quiet", "--python", str(python), "--require-hashes", "--requirement", str(locked))
        site = next((venv / "lib").glob("python3*")) / "site-packages"
        for package in PACKAGES:
            shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([python, "-m", "compileall", "-q", "-j", "0", str(site)], check=True, stdout=subprocess.DEVNULL, env=_environment())
        assert len(list(site.rglob("*.pyc"))) > 0.9 * len(list(site.rglob("*.py"))), "compiled files went elsewhere"
        packages = len(list(site.glob("*.dist-info")))
        size_mb = sum(path.lstat().st_size for path in site.rglob("*") if path.is_file()) / MB
    return {
        "install_mb_without_scanner": round(size_mb, 1),
        "install_packages": packages,
        "install_s": round(time.monotonic() - begun_s, 1),
    }


def _environment() -> dict[str, str]:
    """Ours, without what other measurements set: compiled files lie beside their sources, as on a box."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"} | {"UV_PYTHON_DOWNLOADS": "never"}


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    subprocess.run([str(beside) if beside.exists() else "uv", *arguments], check=True, env=_environment())
