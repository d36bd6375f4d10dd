"""Both stores, for the one suite that both have to pass."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from cloud_bridge.hq.postgres import PostgresStore
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.hq.store import Store

from .cluster import BINARIES, Cluster, cluster

NUMBERS: Final = itertools.count(1)
MISSING: Final = "PostgreSQL 15 is not installed (apt-get install postgresql-15)"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """One server for all tests of a process; each takes a database of its own."""
    if not (BINARIES / "initdb").exists():
        pytest.skip(MISSING)
    with cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store
    if request.param == "sqlite":
        made = SqliteStore(tmp_path / "hq.db")
    else:
        made = PostgresStore(request.getfixturevalue("postgres").make_database(f"store_{next(NUMBERS)}"))
    await made.open()
    yield made
    await made.close()
