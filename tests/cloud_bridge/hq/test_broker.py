"""Who gets in, and who hears what, at both brokers."""

import asyncio
import contextlib
import secrets
import ssl
import struct
from pathlib import Path

import pytest

from cloud_bridge.hq.broker import OWN_NAME, allowed
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.topics import ALL_UP, LEVEL
from gateway.errors import BrokerError, ConfigError
from provisioning.authority import Authority, write_private

from .rig import Hq, TestBox, cancel, redeemed, until, wire


@pytest.mark.parametrize(
    ("topic", "publishing", "may"),
    [
        ("sgw/1/demo/0/s1/gw-1/up/0", True, True),
        ("sgw/1/demo/0/s1/gw-1/dn/ack", False, True),
        ("sgw/1/+/+/+/gw-1/dn/+", False, True),
        ("sgw/1/demo/0/s1/gw-1/dn/ack", True, False),
        ("sgw/1/demo/0/s1/gw-1/up/0", False, False),
        ("sgw/1/demo/0/s1/gw-2/up/0", True, False),
        ("sgw/1/demo/0/s1/+/dn/ack", False, False),
        ("sgw/1/#", False, False),
        ("#", False, False),
        ("sgw/1/demo/0/s1/gw-1/dn/ack/more", False, False),
        ("sgw/2/demo/0/s1/gw-1/up/0", True, False),
        ("$SYS/broker/uptime", False, False),
        ("", True, False),
    ],
)
def test_a_box_stays_inside_its_own_tree(topic: str, publishing: bool, may: bool) -> None:
    assert allowed("gw-1", topic, publishing=publishing) is may


def test_no_box_can_bear_headquarters_name() -> None:
    assert LEVEL.fullmatch(OWN_NAME) is None
    assert not allowed("+", "sgw/1/demo/0/s1/+/dn/ack", publishing=False)


async def never_up(port: int, tls: TlsFiles | None, subscriptions: tuple[str, ...] = (), wait_s: float = 1.2) -> list[Incoming]:
    """A client that must not come up."""
    states: list[bool] = []
    heard: list[Incoming] = []
    client = Mqtt(
        "127.0.0.1", port, secrets.token_hex(8), tls, server_name="localhost", subscriptions=subscriptions, on_message=heard.append,
        on_state=states.append, connect_timeout_s=0.5, backoff_cap_s=0.2,
    )  # fmt: skip
    task = asyncio.create_task(client.run())
    await asyncio.sleep(wait_s)
    with pytest.raises(BrokerError):
        client.publish("sgw/1/demo/0/s1/gw-s1/up/0", b"x", 1)
    await cancel(task)
    assert states == []
    return heard


async def test_who_shows_no_certificate_is_refused(hq: Hq, tmp_path: Path) -> None:
    await never_up(hq.addresses.broker_port, None)
    context = ssl.create_default_context(cafile=str(tmp_path / "hq" / "broker" / "ca.crt"))
    # TLS 1.3 lets the client's handshake end first: the refusal comes with the first answer.
    reader, writer = await asyncio.open_connection("127.0.0.1", hq.addresses.broker_port, ssl=context, server_hostname="localhost")
    writer.write(bytes.fromhex("101000044d5154540402003c00046e6f6e65"))
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        async with asyncio.timeout(3):
            await reader.readexactly(4)
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()


async def test_a_strangers_certificate_is_refused(hq: Hq, tmp_path: Path) -> None:
    stranger = Authority.open(tmp_path / "stranger")
    cert, key = stranger.issue_own_client(tmp_path / "stranger", "gw-s1")
    await never_up(hq.addresses.broker_port, TlsFiles(str(tmp_path / "hq" / "broker" / "ca.crt"), str(cert), str(key)))


async def test_a_stranger_broker_is_not_believed(hq: Hq, tmp_path: Path) -> None:
    enrolment = await hq.new_box()
    stranger = Authority.open(tmp_path / "stranger")
    write_private(tmp_path / "stranger" / "ca.crt", stranger.ca_pem.encode())
    await never_up(hq.addresses.broker_port, TlsFiles(str(tmp_path / "stranger" / "ca.crt"), enrolment.cert_path, enrolment.key_path))


async def test_a_box_cannot_listen_to_another(hq: Hq, box: TestBox) -> None:
    """Subscriptions outside its tree are refused or deliver nothing."""
    other = await hq.new_box("s2", 2)
    spy = TestBox(box.enrolment, hq.addresses.broker_port)
    spy.mqtt.subscriptions = ("sgw/1/demo/0/s2/gw-s2/dn/ack", "sgw/1/demo/0/s2/gw-s2/dn/manifest", ALL_UP)
    task = asyncio.create_task(spy.mqtt.run())
    async with hq.connected(other) as victim:
        await asyncio.sleep(0.3)
        await victim.send(victim.batch([wire(1, redeemed(1))]))
        await asyncio.sleep(0.3)
    await cancel(task)
    assert spy.others == []
    assert spy.acks == []


async def test_missing_files_are_for_a_person_to_mend() -> None:
    tls = TlsFiles("/nonexistent/ca", "/nonexistent/crt", "/nonexistent/key")
    client = Mqtt("127.0.0.1", 1, "x", tls, on_message=print, on_state=print)
    with pytest.raises(ConfigError, match="Enrol"):
        await client.run()


async def test_the_line_comes_back_by_itself_and_subscribes_again(hq: Hq, box: TestBox) -> None:
    await box.send(box.batch([wire(1, redeemed(1))]))
    pending = box.send_bytes(b"x" * 100)
    box.mqtt.drop()
    await until(lambda: not box.up.is_set())
    assert not box.mqtt.connected
    await until(box.up.is_set)
    assert pending.done()
    assert (await box.send(box.batch([wire(2, redeemed(2))]))).mark == 2


@pytest.mark.slow
async def test_a_broker_that_accepts_and_says_nothing_is_left_again() -> None:
    met: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: met.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    states: list[bool] = []
    client = Mqtt("127.0.0.1", port, "x", None, on_message=print, on_state=states.append, connect_timeout_s=0.2, backoff_cap_s=0.1)
    task = asyncio.create_task(client.run())
    await until(lambda: len(met) >= 3)
    await cancel(task)
    server.close()
    for writer in met:
        writer.close()
    assert states == []


async def test_a_message_is_acknowledged_only_when_its_reader_says_so() -> None:
    """Against a broker of a few lines, to see the PUBACK on the wire."""
    pubacks: list[bytes] = []
    sent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, length = await reader.readexactly(2)
                body = await reader.readexactly(length)
                if kind == 0x10:
                    writer.write(b"\x20\x02\x00\x00")
                elif kind == 0x82:
                    writer.write(b"\x90\x03" + body[:2] + b"\x01")
                    payload = struct.pack(">H", 1) + b"t" + struct.pack(">H", 77) + b"hello"
                    writer.write(bytes([0x32, len(payload)]) + payload)
                    sent.set()
                elif kind == 0x40:
                    pubacks.append(body)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    heard: list[Incoming] = []
    port = server.sockets[0].getsockname()[1]
    client = Mqtt("127.0.0.1", port, "x", None, subscriptions=["t"], on_message=heard.append, on_state=print)
    task = asyncio.create_task(client.run())
    await sent.wait()
    (incoming,) = await until(lambda: heard)
    assert (incoming.topic, incoming.payload) == ("t", b"hello")
    await asyncio.sleep(0.1)
    assert pubacks == []
    incoming.ack()
    assert await until(lambda: pubacks) == [struct.pack(">H", 77)]
    await cancel(task)
    server.close()
