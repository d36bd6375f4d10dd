"""A box that boots in 1970, or in 2038, enrols and connects: real processes whose wall clock is shifted, OpenSSL's included."""

import asyncio
import contextlib
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud_bridge.hq.options import HqOptions
from cloud_bridge.ports import free_port
from gateway.schema import migrate
from tests.cloud_bridge.hq.rig import Hq, headquarters

SHIM = Path(__file__).parents[1] / "shims" / "clockshim.c"
CC = shutil.which("gcc") or shutil.which("cc")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CC is None, reason="apt-get install gcc")]
YEARS = {"1970": 60, "2038": 2_147_000_000}

CONFIG = """
[store]
tenant = "demo"
store = "s1"
number = 1
gateway = "gw-s1"
[paths]
state = "state"
run = "run"
[bridge]
host = "127.0.0.1"
port = {broker}
server_name = "localhost"
[core]
port = {port}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("shim") / "clockshim.so"
    subprocess.run([str(CC), "-O2", "-shared", "-fPIC", "-o", str(built), str(SHIM)], check=True)
    return built


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[Hq]:
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"))) as running:
        yield running


def lost(shim: Path, year: str) -> dict[str, str]:
    return os.environ | {"LD_PRELOAD": str(shim), "CLOCK_SHIFT_S": str(YEARS[year] - int(time.time()))}


def box(folder: Path, broker: int) -> Path:
    (folder / "state").mkdir()
    (folder / "run").mkdir()
    config = folder / "gateway.toml"
    config.write_text(CONFIG.format(broker=broker, port=free_port()))
    return config


@contextlib.asynccontextmanager
async def unit(name: str, config: Path, environment: dict[str, str]) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", "run", name, "--config", str(config), env=environment)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def test_the_shim_shifts_what_openssl_believes(shim: Path, tmp_path: Path) -> None:
    """Else the tests below would show nothing."""
    from provisioning.authority import Authority

    authority = Authority.open(tmp_path)
    authority.issue_server(tmp_path / "server", ["localhost"])
    verify = ["openssl", "verify", "-CAfile", str(tmp_path / "ca.crt"), str(tmp_path / "server" / "server.crt")]
    if shutil.which("openssl") is None:
        pytest.skip("apt-get install openssl")
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    for year in YEARS:
        told = subprocess.run(verify, capture_output=True, check=False, env=lost(shim, year), text=True)
        assert told.returncode != 0 and ("not yet valid" in told.stderr or "expired" in told.stderr)
    assert ssl.OPENSSL_VERSION


@pytest.mark.parametrize("year", YEARS)
async def test_a_box_without_the_time_enrols_and_its_bridge_connects(hq: Hq, shim: Path, year: str) -> None:
    label = (await hq.post("/api/boxes", {"store": "s1", "gateway": "gw-s1", "number": 1}))["label"]
    environment = lost(shim, year)
    with tempfile.TemporaryDirectory(prefix="sgw-") as folder:
        config = box(Path(folder), hq.addresses.broker_port)
        enrolling = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "enroll", "-", "--config", str(config), env=environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await enrolling.communicate(f"{label}\n".encode())
        assert enrolling.returncode == 0, said.decode()
        assert "gw-s1" in said.decode()
        await asyncio.to_thread(migrate, Path(folder) / "state" / "ledger.db")
        async with unit("core", config, environment), unit("bridge", config, environment), asyncio.timeout(60):
            while (await hq.get("/api/stores"))[0]["line"] != "up":  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def test_without_the_door_a_box_of_1970_connects_by_what_is_certain(hq: Hq, shim: Path) -> None:
    """The firewall of the chain lets only the broker's port through."""
    label = (await hq.post("/api/boxes", {"store": "s1", "gateway": "gw-s1", "number": 1}))["label"]
    with tempfile.TemporaryDirectory(prefix="sgw-") as folder:
        config = box(Path(folder), hq.addresses.broker_port)
        command = [sys.executable, "-m", "gateway", "enroll", label, "--config", str(config)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        facts = Path(folder) / "state" / "enrolment" / "hq.json"
        facts.write_text(facts.read_text().replace(hq.addresses.door, "127.0.0.1:9"))
        await asyncio.to_thread(migrate, Path(folder) / "state" / "ledger.db")
        environment = lost(shim, "1970")
        async with unit("core", config, environment), unit("bridge", config, environment), asyncio.timeout(60):
            while (await hq.get("/api/stores"))[0]["line"] != "up":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
