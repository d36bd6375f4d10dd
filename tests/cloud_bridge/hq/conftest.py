"""Headquarters on each broker it must work with."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud_bridge.hq.options import HqOptions

from .rig import Hq, TestBox, headquarters, mosquitto
from .stores import postgres, store

__all__ = ["postgres", "store"]


@pytest.fixture(params=["amqtt", "mosquitto"])
async def hq(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hq]:
    data = tmp_path / "hq"
    if request.param == "amqtt":
        async with headquarters(HqOptions(data_dir=str(data))) as running:
            yield running
        return
    binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    if not Path(binary).exists():
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    with mosquitto(tmp_path / "mosquitto", data, binary) as external:
        async with headquarters(HqOptions(data_dir=str(data), external=external)) as running:
            yield running


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Hq]:
    """Headquarters with its own broker only: what does not depend on the broker is shown once."""
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"))) as running:
        yield running


@pytest.fixture
async def box(hq: Hq) -> AsyncIterator[TestBox]:
    async with hq.connected(await hq.new_box()) as connected:
        yield connected
