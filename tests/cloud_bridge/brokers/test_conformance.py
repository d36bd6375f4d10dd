"""The same promises on every broker: nothing but MQTT 3.1.1, QoS 1 and a clean session is asked of it.

Real processes: headquarters, and amqtt inside it, one mosquitto 2, or three nats-servers with JetStream.
"""

import asyncio
import contextlib
import secrets
import ssl
from pathlib import Path

import msgspec
import pytest

from cloud_bridge.envelope import Chunk
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.topics import ALL_UP
from gateway.errors import BrokerError
from gateway.signed import DOCUMENT_TAG, Document, unseal
from provisioning.authority import Authority

from .site import Box, Site, connected, until

pytestmark = [pytest.mark.slow]
QUIET_S = 1.5


async def joined(site: Site, subscriptions: list[str] | None = None) -> Box:
    """A new box, enrolled over HTTPS."""
    return Box(await asyncio.to_thread(site.new_box), site.addresses, subscriptions)


async def test_rows_arrive_once_however_often_they_are_sent_and_each_is_acknowledged_after_the_commit(site: Site) -> None:
    async with connected(await joined(site)) as box:
        for first, last in ((1, 10), (11, 11), (1, 11), (8, 30)):
            ack = await box.send(first, last)
            assert ack.seq == min(last, ack.mark) and ack.head == f"{ack.seq:032x}"
        assert (await box.send(1, 5, lane=1)).mark == 5
        assert (await box.beat(7)).number == 7
        found = await asyncio.to_thread(site.ask, f"/api/stores/{box.topics.store}/counts")
        assert found["refusals"] == 35  # 30 of lane 0, 5 of lane 1
        assert (await asyncio.to_thread(site.ask, "/api/books"))["unexplained"] == 0


async def test_batches_keep_their_order_up_to_what_a_line_holds_unanswered(site: Site) -> None:
    async with connected(await joined(site)) as box:
        await box.send(1, 1)
        most = box.mqtt.max_inflight  # beyond it paho itself may let a message overtake another; a bridge sends far fewer
        messages = [box.batch(seq, seq) for seq in range(2, most + 1)]
        for message in messages:
            box.mqtt.publish(box.topics.up(0), message, 1)
        await until(lambda: max((ack.mark for ack in box.acks()), default=0) == most, 60.0)
        assert [ack.mark for ack in box.acks()] == sorted(ack.mark for ack in box.acks())


async def test_a_manifest_waits_for_the_box_that_comes_later(site: Site) -> None:
    box = await joined(site)
    await asyncio.sleep(QUIET_S)
    async with connected(box):
        manifest = await until(lambda: box.manifests()[-1] if box.manifests() else None)
        assert manifest.gateway == box.topics.gateway
        assert {"keys", "staff"} <= {ref.name for ref in manifest.documents}


async def test_a_box_cannot_speak_for_another(site: Site) -> None:
    async with connected(await joined(site)) as thief, connected(await joined(site)) as victim:
        await victim.send(1, 1)
        forged = victim.batch(2, 2)
        for topic in (victim.topics.up(0), victim.topics.down("ack"), victim.topics.down("manifest")):
            thief.mqtt.publish(topic, forged, 1)  # sealed by the victim's own key: only the fence can stop it
            await asyncio.sleep(QUIET_S / 3)
            await until(lambda: thief.mqtt.connected)  # a broker may cut off who tries
        await thief.send(1, 3)
        assert forged not in [one.payload for one in victim.heard]
        assert (await victim.send(2, 2)).mark == 2
        assert (await asyncio.to_thread(site.ask, f"/api/stores/{victim.topics.store}/counts"))["refusals"] == 2


async def test_a_box_cannot_hear_what_is_for_another(site: Site) -> None:
    victim_enrolment = await asyncio.to_thread(site.new_box)
    thief_enrolment = await asyncio.to_thread(site.new_box)
    victim = Box(victim_enrolment, site.addresses)
    filters = [victim.topics.down("ack"), f"{victim.topics.prefix}/dn/+", f"{victim.topics.prefix}/#", "sgw/1/+/+/+/+/dn/+", "#", ALL_UP]
    async with connected(victim):
        for asked in filters:
            thief = Box(thief_enrolment, site.addresses, [asked])
            listening = asyncio.ensure_future(thief.mqtt.run())
            await asyncio.sleep(QUIET_S / 3)
            seq = filters.index(asked) + 1
            await victim.send(seq, seq)
            await victim.beat(seq)
            await asyncio.sleep(QUIET_S / 3)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            assert [heard.topic for heard in thief.heard if not heard.topic.startswith(thief.topics.prefix)] == [], asked


async def heard_by(site: Site, tls: TlsFiles | None) -> tuple[list[bool], list[Incoming]]:
    """What a client with that certificate comes to."""
    states: list[bool] = []
    heard: list[Incoming] = []
    host, port = site.addresses.broker_host, site.addresses.broker_port
    client = Mqtt(
        host, port, secrets.token_hex(8), tls, server_name="localhost", subscriptions=["sgw/1/#"], on_message=heard.append,
        on_state=states.append, connect_timeout_s=0.7, backoff_cap_s=0.2,
    )  # fmt: skip
    running = asyncio.ensure_future(client.run())
    await asyncio.sleep(QUIET_S)
    with pytest.raises(BrokerError):
        client.publish("sgw/1/demo/0/s1/gw-a/up/0", b"x", 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return states, heard


async def test_nobody_comes_in_without_a_certificate_of_this_chain(site: Site, tmp_path: Path) -> None:
    assert await heard_by(site, None) == ([], [])
    stranger = Authority.open(tmp_path / "stranger")
    cert, key = stranger.issue_own_client(tmp_path / "stranger", "hq.ingest")
    assert await heard_by(site, TlsFiles(site.own_tls().ca, str(cert), str(key))) == ([], [])
    context = ssl.create_default_context(cafile=site.own_tls().ca)
    reader, writer = await asyncio.open_connection(
        site.addresses.broker_host, site.addresses.broker_port, ssl=context, server_hostname="localhost"
    )
    writer.write(bytes.fromhex("101000044d5154540402003c00046e6f6e65"))
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        async with asyncio.timeout(5):
            await reader.readexactly(4)
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize("size_b", [400_000, 3_000_000])
async def test_a_message_that_is_too_large_stops_nobody(site: Site, size_b: int) -> None:
    async with connected(await joined(site)) as clumsy, connected(await joined(site)) as other:
        await clumsy.send(1, 1)
        clumsy.mqtt.publish(clumsy.topics.up(0), secrets.token_bytes(size_b), 1)
        assert (await other.send(1, 1)).mark == 1
        await asyncio.sleep(QUIET_S)
        await until(lambda: clumsy.mqtt.connected)
        assert (await clumsy.send(2, 2)).mark == 2


async def test_a_revoked_box_is_heard_no_more_and_others_go_on(site: Site) -> None:
    async with connected(await joined(site)) as revoked, connected(await joined(site)) as other:
        await revoked.send(1, 1)
        tap = Box(other.enrolment, site.addresses, [ALL_UP])
        tap.mqtt.tls = site.own_tls()
        async with connected(tap):
            await asyncio.to_thread(site.revoke, revoked.topics.gateway)
            await asyncio.sleep(QUIET_S)
            tap.mqtt.drop()  # nats-server 2.9 delivers nothing more to those that were there when it read its users again
            await until(lambda: not tap.mqtt.connected)
            await until(lambda: tap.mqtt.connected)
            tap.heard.clear()
            with contextlib.suppress(BrokerError):  # it may have been cut off
                revoked.mqtt.publish(revoked.topics.up(0), revoked.batch(2, 2), 1)
            assert (await other.send(1, 1)).mark == 1
            await asyncio.sleep(QUIET_S)
            assert [heard.topic for heard in tap.heard if heard.topic.startswith(revoked.topics.prefix)] == []
            assert tap.heard


async def test_a_box_that_was_away_when_it_was_revoked_hears_it_when_it_is_back_and_is_not_heard(site: Site) -> None:
    enrolment = await asyncio.to_thread(site.new_box)
    async with connected(Box(enrolment, site.addresses)) as box:
        await box.send(1, 1)
    await asyncio.to_thread(site.revoke, box.topics.gateway)
    await asyncio.to_thread(site.kill_a_broker)  # what it kept is told again
    async with connected(Box(enrolment, site.addresses)) as back:
        chunk = await until(lambda: next((one.payload for one in back.heard if one.topic == back.topics.down("chunk")), None))
        assert unseal(DOCUMENT_TAG, msgspec.json.decode(chunk, type=Chunk).data, enrolment.hq_public, Document).retired
        with contextlib.suppress(BrokerError):
            back.mqtt.publish(back.topics.up(0), back.batch(2, 2), 1)
        await asyncio.sleep(QUIET_S)
        assert back.acks() == []
    assert (await asyncio.to_thread(site.ask, f"/api/stores/{back.topics.store}/counts"))["refusals"] == 1


async def test_everybody_comes_back_after_kill_9_of_the_broker(site: Site) -> None:
    async with connected(await joined(site)) as box:
        await box.send(1, 5)
        await asyncio.to_thread(site.kill_a_broker)
        assert (await box.send(6, 9)).mark == 9
        assert (await box.beat(2)).number == 2
        assert (await asyncio.to_thread(site.ask, f"/api/stores/{box.topics.store}/counts"))["refusals"] == 9
