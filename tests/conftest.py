"""A clock that is moved by hand, keys as an enrolment would leave them, a shop's configuration and an empty ledger."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clock import BUILT_US
from gateway.config import GatewayConfig, parse
from gateway.events import Instant, TimeTrust
from gateway.schema import migrate

SHOP = """
[store]
tenant = "chain"
store = "taipei-1"
number = 7
gateway = "box-7"
name_zh = "台北一店"
[paths]
state = "{root}/state"
run = "{root}"
[bridge]
host = "localhost"
batch_rows = 50
[[station]]
name = "counter"
scanners = ["counter"]
lockers = ["wall"]
[[station]]
name = "door"
scanners = ["door"]
[[scanner]]
name = "counter"
source = "virtual"
[[scanner]]
name = "door"
source = "virtual"
[[locker]]
name = "wall"
port = "{root}/wall.tty"
compartments = 4
"""


class VirtualClock:
    """A `gateway.clock.Clock` whose wall and monotonic time stand still until they are set."""

    def __init__(self) -> None:
        self.wall_us = BUILT_US + 90 * 86_400 * 1_000_000
        self.mono_ns = 1_000 * 10**9
        self.trust = TimeTrust.HOLDOVER
        self.bounds: tuple[int, int | None] | None = None  # None: as a trusted clock would say
        self.signed_us: list[int] = []
        self.floors_us: list[int] = []

    def now(self) -> Instant:
        return Instant(self.wall_us, self.mono_ns, "virtual0", self.trust)

    def boottime_ns(self) -> int:
        return self.mono_ns

    def bounds_us(self) -> tuple[int, int | None]:
        return (self.wall_us, self.wall_us) if self.bounds is None else self.bounds

    def hear_signed_time(self, signed_us: int) -> None:
        self.signed_us.append(signed_us)

    def raise_floor(self, past_us: int) -> None:
        self.floors_us.append(past_us)

    def advance(self, seconds: float) -> None:
        self.wall_us += round(seconds * 1e6)
        self.mono_ns += round(seconds * 1e9)


async def until(true: Callable[[], bool]) -> None:
    """Wait for what sockets and threads give no event for."""
    async with asyncio.timeout(40):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def fixed_key(number: int) -> Ed25519PrivateKey:
    """A key that is the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


HQ_KEY = fixed_key(1)  # signs documents and acknowledgements
TOKEN_KEY = fixed_key(2)  # signs vouchers and pickups, as key 1 of issuer 1
STRANGER_KEY = fixed_key(9)  # nobody's


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def shop_text(tmp_path: Path) -> str:
    return SHOP.format(root=tmp_path)


@pytest.fixture
def shop_config(shop_text: str) -> GatewayConfig:
    return parse(shop_text)


@pytest.fixture
def ledger_path(shop_config: GatewayConfig) -> Path:
    """A ledger's file with its tables and nothing in them."""
    migrate(shop_config.ledger_path)
    return shop_config.ledger_path
