"""Headquarters hears itself through the broker, or makes a new connection."""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

from cloud_bridge.hq.echo import MOST_MISSED, TOPIC, Echo
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles

from .rig import Hq, until

EVERY_S = 0.1


def line_to(hq: Hq, subscriptions: list[str], take: Callable[[Incoming], None], states: list[bool]) -> Mqtt:
    folder = Path(hq.options.data_dir) / "broker"
    tls = TlsFiles(*(str(folder / name) for name in ("ca.crt", "hq.ingest.crt", "hq.ingest.key")))
    return Mqtt(
        "127.0.0.1", hq.addresses.broker_port, secrets.token_hex(8), tls, server_name="localhost", subscriptions=subscriptions,
        on_message=take, on_state=states.append, backoff_base_s=0.01, backoff_cap_s=0.02,
    )  # fmt: skip


async def lives(hq: Hq, subscriptions: list[str], for_s: float) -> int:
    """How many connections a line with an echo makes in a while."""
    states: list[bool] = []
    line = line_to(hq, subscriptions, lambda incoming: _ignore(echo.heard(incoming)), states)
    echo = Echo(line, EVERY_S)
    running = asyncio.gather(line.run(), echo.run())
    await until(lambda: line.connected)
    await asyncio.sleep(for_s)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return states.count(True)


async def test_a_line_that_hears_itself_is_left_alone(demo: Hq) -> None:
    assert await lives(demo, [TOPIC], 12 * EVERY_S) == 1


async def test_a_line_that_hears_nothing_is_made_anew(demo: Hq) -> None:
    assert await lives(demo, ["sgw/1/hq/0/hq/hq/dn/deaf"], 4 * (MOST_MISSED + 2) * EVERY_S) >= 2


async def test_somebody_elses_echo_proves_nothing(demo: Hq) -> None:
    states: list[bool] = []
    line = line_to(demo, [], lambda _: None, states)
    echo = Echo(line, EVERY_S)
    acked: list[bool] = []
    assert echo.heard(Incoming(TOPIC, secrets.token_bytes(16), lambda: acked.append(True)))
    assert not echo.heard(Incoming("sgw/1/demo/0/s1/gw-s1/up/0", b"", lambda: acked.append(False)))
    assert acked == [True]


def _ignore(_: bool) -> None: ...
