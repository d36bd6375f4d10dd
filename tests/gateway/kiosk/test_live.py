"""Event streams, and how the server ends."""

import asyncio
import json
import signal
import time
from typing import Any

import httpx
import pytest

from gateway.errors import ConfigError
from gateway.kiosk import live
from gateway.kiosk.app import serve
from gateway.kiosk.live import Changes
from tests.gateway.kiosk.conftest import Shop, open_shop
from tests.gateway.kiosk.desk_stand import COFFEE, DeskStand


async def next_event(lines: Any) -> tuple[str, Any]:
    name = ""
    async for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            return name, json.loads(line[6:])
    raise AssertionError("the stream ended")


async def test_a_station_stream_tells_the_screen_at_once_and_at_each_change(shop: Shop) -> None:
    async with shop.client.stream("GET", "/v1/stations/counter/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        name, view = await next_event(lines)
        assert (name, view["screen"]["state"], view["line"]["up"]) == ("view", "attract", True)
        await shop.redeem(COFFEE)
        _, view = await next_event(lines)
        assert (view["screen"]["state"], view["screen"]["answer"]["decision"]) == ("redeemed", "redeemed")
        shop.desk.line_up = False
        shop.desk.tell()
        assert not (await next_event(lines))[1]["line"]["up"]


async def test_a_silent_stream_beats(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BEAT_S", 0.1)
    async with shop.client.stream("GET", "/v1/store/events") as stream:
        lines = stream.aiter_lines()
        names = [(await next_event(lines))[0] for _ in range(4)]
    assert names[0] == "view" and "beat" in names


async def test_many_streams_cost_core_one_watch(shop: Shop) -> None:
    async with shop.client.stream("GET", "/v1/store/events"), shop.client.stream("GET", "/v1/stations/counter/events"):
        await asyncio.sleep(0.05)
        assert len(shop.desk._ears) == 1


async def test_the_server_ends_promptly_with_open_streams_and_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with open_shop(DeskStand()) as shop:
        assert signal.getsignal(signal.SIGTERM) is before
        async with shop.client.stream("GET", "/v1/store/events") as stream:
            lines = stream.aiter_lines()
            await next_event(lines)
            begun = time.monotonic()
            shop.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await shop.task
            assert time.monotonic() - begun < 2
            assert "data: " not in "".join([line async for line in lines])  # ended in good order, not torn off
        with pytest.raises(httpx.ConnectError):
            await shop.client.get("/healthz")


async def test_an_answer_under_way_is_still_given_at_the_end() -> None:
    desk = DeskStand()
    desk.hold = asyncio.Event()
    async with open_shop(desk) as shop:
        asking = asyncio.ensure_future(shop.redeem(COFFEE))
        await desk.asked.wait()
        shop.task.cancel()
        await asyncio.sleep(0.2)
        desk.hold.set()
        assert (await asking).json()["decision"] == "redeemed"


async def test_a_dead_watch_ends_the_server() -> None:
    class Deaf(DeskStand):
        async def watch(self) -> Any:
            yield
            raise LookupError("the ledger is gone")

    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(serve(Deaf(), "127.0.0.1", 0), 5)  # type: ignore[arg-type]
    assert caught.group_contains(LookupError)


async def test_a_port_in_use_names_the_next_step(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="choose another `port`"):
        await serve(DeskStand(), "127.0.0.1", shop.port)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="address of this machine"):
        await serve(DeskStand(), "192.0.2.1", 0)  # type: ignore[arg-type]


async def test_waiting_for_a_change_ends_by_change_time_or_close() -> None:
    changes = Changes()
    assert await changes.after(0, 0.01) == 0
    waiting = asyncio.ensure_future(changes.after(0, 5))
    await asyncio.sleep(0)
    changes.close()
    assert await waiting == 1 and changes.closed
    assert await changes.after(1, 5) == 1
