"""A box renews its certificate over its own line to a real headquarters, and never gives up a pair that works for one that may not."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cloud_bridge.hq.options import HqOptions
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.renewal import Pace, Renewal, Road
from cloud_bridge.topics import Box
from gateway.errors import BrokerError, MalformedFrame
from gateway.signed import BEAT_TAG, RENEWED_TAG, Beat, Renewed, seal
from provisioning.authority import Authority, Enrolment
from provisioning.renewing import DUE_AT, Identity, due_us, new_key
from tests.cloud_bridge.hq.rig import Hq, cancel, headquarters, now_us, until
from tests.conftest import VirtualClock

PACE = Pace(look_s=0.05, line_s=0.05, reply_s=2.0, trial_s=2.0, again_s=0.05)
DAY_S = 86_400


class Bridge:
    """As much of the bridge as renewal needs: a line in use, beats, and a clock to turn."""

    def __init__(self, enrolment: Enrolment, state: Path, port: int) -> None:
        self.enrolment = enrolment
        self.clock = VirtualClock()
        self.clock.wall_us = now_us()
        self.trial_port = self.port = port
        self.box = Box(enrolment.facts.tenant, enrolment.facts.store, enrolment.facts.gateway)
        self.lose_replies = False
        road = Road(self.box, self._trial, lambda: self.line.connected, self._publish, self._beat, self._use)
        self.renewal = Renewal(enrolment, state, self.clock, road, PACE)
        self.identity = Identity(enrolment, state)
        told = {"subscriptions": [self.box.down("renew")], "on_message": self._heard, "on_state": lambda _: None}
        self.line = self._line(self.renewal.files(), port, told)

    def _line(self, tls: TlsFiles, port: int, told: dict[str, Any]) -> Mqtt:
        name = f"gw-{secrets.token_hex(8)}"
        return Mqtt("127.0.0.1", port, name, tls, server_name="localhost", backoff_base_s=0.05, backoff_cap_s=0.2, **told)

    def _trial(self, tls: TlsFiles, told: dict[str, Any]) -> Mqtt:
        return self._line(tls, self.trial_port, told)

    def _beat(self, number: int) -> bytes:
        beat = Beat(self.box.gateway, number, "1-abc", {0: 0}, {0: 0}, 0, now_us())
        return seal(BEAT_TAG, beat, self.enrolment.sign_key)

    def _publish(self, topic: str, payload: bytes) -> None:
        self.line.publish(topic, payload, 1)

    def _use(self, tls: TlsFiles) -> None:
        self.line.tls = tls

    def _heard(self, incoming: Incoming) -> None:
        incoming.ack()
        if not self.lose_replies:
            self.renewal.heard(incoming.payload)

    @property
    def serial(self) -> int:
        return self.identity.in_force().certificate.serial_number

    def pass_time(self, days: float) -> None:
        self.clock.advance(days * DAY_S)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator["Bridge"]:
        running = asyncio.create_task(self.line.run())
        try:
            await until(lambda: self.line.connected)
            yield self
        finally:
            await cancel(running)

    @contextlib.asynccontextmanager
    async def renewing(self) -> AsyncIterator["Bridge"]:
        async with self.connected():
            running = asyncio.create_task(self.renewal.run())
            try:
                yield self
            finally:
                await cancel(running)


@pytest.fixture
async def hq(tmp_path: Path) -> AsyncIterator[Hq]:
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"))) as running:
        yield running


@pytest.fixture
async def bridge(hq: Hq, tmp_path: Path) -> Bridge:
    return Bridge(await hq.new_box(), tmp_path / "state", hq.addresses.broker_port)


async def test_at_two_thirds_of_its_life_a_certificate_is_renewed_and_used(bridge: Bridge) -> None:
    enrolled = bridge.identity.in_force()
    due_days = (due_us(enrolled.certificate) - bridge.clock.wall_us) / 1e6 / DAY_S
    assert 30 * DUE_AT * 0.9 - 1 < due_days < 30 * DUE_AT * 1.1 + 1
    async with bridge.renewing():
        bridge.pass_time(due_days - 0.1)
        await asyncio.sleep(0.4)
        assert bridge.serial == enrolled.certificate.serial_number
        bridge.pass_time(0.2)
        await until(lambda: bridge.serial != enrolled.certificate.serial_number)
        await until(lambda: bridge.line.tls is not None and bridge.line.tls.cert == bridge.identity.in_force().cert_path)
    new = bridge.identity.in_force()
    assert Path(new.key_path).read_bytes() != Path(enrolled.key_path).read_bytes()
    assert new.certificate.public_key() != enrolled.certificate.public_key()
    async with bridge.connected():
        assert bridge.line.connected


async def test_a_key_of_a_stranger_renews_nothing(bridge: Bridge, tmp_path: Path) -> None:
    before, stranger = bridge.serial, Authority.open(tmp_path / "stranger")
    _, csr = new_key("gw-s1")
    async with bridge.connected():
        asking = asyncio.ensure_future(bridge.renewal.renew())
        forged = seal(RENEWED_TAG, Renewed("gw-s1", stranger.issue_client(csr, "gw-s1")), stranger.root)
        with pytest.raises(MalformedFrame):
            bridge.renewal.heard(forged)
        await asking  # headquarters' own answer came, too
    assert bridge.serial != before
    authority = x509.load_pem_x509_certificate(Path(bridge.enrolment.ca_path).read_bytes())
    bridge.identity.in_force().certificate.verify_directly_issued_by(authority)


@pytest.mark.slow
async def test_without_an_answer_the_old_pair_stays_and_it_tries_again(bridge: Bridge) -> None:
    before = bridge.serial
    bridge.pass_time(25)
    bridge.lose_replies = True
    async with bridge.renewing():
        await asyncio.sleep(2.5)
        assert bridge.serial == before and bridge.identity.next() is None
        bridge.lose_replies = False
        await until(lambda: bridge.serial != before)


@pytest.mark.slow
async def test_a_pair_that_gets_no_answer_is_dropped_and_the_old_one_goes_on(bridge: Bridge) -> None:
    before = bridge.serial
    async with bridge.connected():
        silent = socket.create_server(("127.0.0.1", 0))  # takes connections and says nothing
        bridge.trial_port = silent.getsockname()[1]
        with pytest.raises(BrokerError, match="new certificate"):
            await bridge.renewal.renew()
        assert bridge.serial == before and bridge.identity.next() is None
        assert bridge.line.connected  # nobody noticed
        bridge.trial_port = bridge.port
        await bridge.renewal.renew()
        silent.close()
    assert bridge.serial != before


async def test_a_certificate_that_came_before_a_power_cut_is_tried_and_not_asked_for_again(bridge: Bridge) -> None:
    before, port = bridge.serial, bridge.trial_port
    async with bridge.connected():
        bridge.trial_port = 1  # nobody listens there
        trying = asyncio.ensure_future(bridge.renewal.renew())
        await until(lambda: bridge.identity.next())
        trying.cancel()  # the power goes in the middle of the trial
        await asyncio.gather(trying, return_exceptions=True)
        waiting = bridge.identity.next()
        assert waiting is not None and bridge.serial == before
        bridge.trial_port, bridge.lose_replies = port, True
        await bridge.renewal.renew()
    assert bridge.serial == waiting.certificate.serial_number


@pytest.mark.slow
async def test_a_revoked_box_cannot_renew(bridge: Bridge, hq: Hq) -> None:
    before = bridge.serial
    async with bridge.connected():
        revoking = asyncio.ensure_future(hq.post("/api/boxes/gw-s1/revoke"))
        await asyncio.sleep(0.3)
        with pytest.raises(BrokerError):
            await bridge.renewal.renew()
        await revoking
    assert bridge.serial == before
