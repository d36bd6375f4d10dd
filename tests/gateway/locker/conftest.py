"""The bench, cleared away after each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.locker.bench import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    try:
        yield bench
    finally:
        await bench.end()
