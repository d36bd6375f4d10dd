"""The line to a broker: whole messages, and coming back after it was lost."""

import asyncio
import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client

from cloud_bridge.mqtt import Incoming, Mqtt
from cloud_bridge.ports import free_port

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


@contextlib.contextmanager
def plain_mosquitto(folder: Path, port: int) -> Iterator[None]:
    """A broker without TLS, for what happens on the wire."""
    (folder / "conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([MOSQUITTO, "-c", str(folder / "conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(5)


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


@pytest.mark.skipif(not Path(MOSQUITTO).exists(), reason="mosquitto is not installed (apt-get install mosquitto)")
async def test_only_the_lines_own_thread_writes_to_its_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers put a small packet between the halves of a large one, and two threads in one TLS socket may break both."""
    port, arrived, writers = free_port(), 0, set[int]()
    send = Client._sock_send

    def watched(client: Client, packet: bytes) -> int:
        writers.add(threading.get_ident())
        return int(send(client, packet))

    def heard(incoming: Incoming) -> None:
        nonlocal arrived
        arrived += 1
        incoming.ack()

    monkeypatch.setattr(Client, "_sock_send", watched)
    with plain_mosquitto(tmp_path, port):
        line = Mqtt("127.0.0.1", port, "box", None, subscriptions=["small"], on_message=heard, on_state=lambda _: None)
        running = asyncio.ensure_future(line.run())
        async with asyncio.timeout(60):
            while not line.connected:  # noqa: ASYNC110 - what is waited for happens in a thread
                await asyncio.sleep(0.01)
            await asyncio.gather(*(line.publish(*what) for what in [("large", bytes(2_000_000)), ("small", b"x")] * 20))
            while arrived < 20:  # noqa: ASYNC110 - the broker acknowledges before it delivers
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (len(writers), threading.get_ident() in writers) == (1, False)
