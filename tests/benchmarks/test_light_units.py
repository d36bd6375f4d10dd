"""What a unit does not load it need not hold: five processes share the memory of a small box."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.running import RunningStore

pytestmark = pytest.mark.slow
UNITS = ("core", "ble@radio", "scanner@counter", "locker@wall", "bridge")
# The command line's, the migrations', and what only one unit needs. (A virtual camera's code drawing brings http and email.)
NOBODY = "typer rich"
NEVER = {
    unit: set(f"{NOBODY} {others}".split())
    for unit, others in {
        "core": "cv2 numpy bleak paho serial amqtt pyzbar zxingcpp",
        "ble@radio": "cv2 numpy fastapi pydantic paho cryptography sqlite3 http email",
        "scanner@counter": "fastapi pydantic paho bleak cryptography sqlite3",
        "locker@wall": "cv2 numpy fastapi pydantic paho cryptography sqlite3 http email",
        "bridge": "cv2 numpy fastapi pydantic jinja2 uvicorn bleak serial",
    }.items()
}


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[str, set[str]]]:
    """By unit, every top-level package that the interpreter itself says it has loaded since it began."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="sgw-", ignore_cleanup_errors=True) as folder:
        patch.setenv("PYTHONPROFILEIMPORTTIME", "1")
        store = RunningStore(Path(folder))
        try:
            logs = {unit: store.starter.keeper.log_path(unit).read_text(encoding="utf-8") for unit in UNITS}
        finally:
            store.close()
        yield {
            unit: {name.partition(".")[0] for name in re.findall(r"^import time:.*\| +([\w.]+)$", log, re.M)} for unit, log in logs.items()
        }


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_that_has_started_holds_nothing_it_has_no_use_for(loaded: dict[str, set[str]], unit: str) -> None:
    assert loaded[unit] & NEVER[unit] == set()


def test_what_units_do_load_is_seen(loaded: dict[str, set[str]]) -> None:
    """Guards the test above against logs that say nothing."""
    assert {"fastapi", "sqlite3", "cryptography"} <= loaded["core"]
    assert {"cv2", "numpy", "zxingcpp"} <= loaded["scanner@counter"]
    assert "serial" in loaded["locker@wall"]
    assert "paho" in loaded["bridge"]
    assert all("asyncio" in found for found in loaded.values())
