"""The shop, cleared away after each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import GatewayConfig
from tests.conftest import VirtualClock
from tests.gateway.core.shop import Shop


@pytest.fixture
async def shop(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Shop]:
    """A core with HQ's papers in force and nobody connected."""
    shop = Shop(shop_config, clock)
    await shop.open()
    await shop.papers()
    try:
        yield shop
    finally:
        await shop.end()
