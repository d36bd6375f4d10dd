"""Coming back after the line was lost: when, and how often."""

import asyncio
import contextlib

import pytest

from cloud_bridge.mqtt import Mqtt


async def attempts(spread_s: float, for_s: float) -> int:
    """How often a line knocks at a broker that closes every connection."""
    knocks = 0

    def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal knocks
        knocks += 1
        writer.close()

    async with await asyncio.start_server(slam, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        line = Mqtt(
            "127.0.0.1", port, "box", None, on_message=lambda _: None, on_state=lambda _: None, backoff_base_s=0.01, backoff_cap_s=0.02
        )
        line.spread_s = spread_s
        running = asyncio.ensure_future(line.run())
        await asyncio.sleep(for_s)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return knocks


@pytest.mark.parametrize(("spread_s", "least", "most"), [(0.0, 10, 10**6), (30.0, 1, 4)])
async def test_a_box_comes_back_within_the_time_headquarters_asks_its_shops_to_spread_over(spread_s: float, least: int, most: int) -> None:
    assert least <= await attempts(spread_s, 1.0) <= most
