"""Headquarters on a real broker, each in processes of its own, and boxes that speak to it over real TLS."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from cloud_bridge.envelope import Header, seal_blocks
from cloud_bridge.hq import brokers
from cloud_bridge.hq.broker import BrokerFiles
from cloud_bridge.hq.options import Addresses, read_addresses
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.ports import free_port
from cloud_bridge.topics import Box as Topics
from gateway.chain import encode_event
from gateway.clock import SystemClock
from gateway.columns import pack_plain
from gateway.config import StoreTable
from gateway.errors import BrokerError, ConfigError, MalformedFrame
from gateway.events import Instant, RedemptionRefused, TimeTrust
from gateway.signed import ACK_TAG, ANSWER_TAG, BEAT_TAG, MANIFEST_TAG, Ack, Beat, BeatAnswered, Manifest, seal, unseal
from provisioning.authority import Enrolment
from provisioning.enroll import enrol
from virtual_store.brokers import OwnBroker

PATIENCE_S = 40.0
BOXES = [f"gw-{store}" for store in "abcdefghijklmnop"]
AT_US = time.time_ns() // 1000  # today, or headquarters counts it for another day
T = TypeVar("T")


class Site:
    """One headquarters with its broker. `boxes` are enrolled one after the other, each for one test."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.hq_dir = folder / "hq"
        port = free_port()
        own = OwnBroker.of(kind, self.hq_dir, folder / "broker", port, BOXES) if kind != "amqtt" else OwnBroker({}, "")
        own_port = f"broker_port = {port}\n" if kind == "amqtt" else ""
        self.hq_dir.mkdir(exist_ok=True)
        (folder / "hq.toml").write_text(f'data_dir = "{self.hq_dir}"\n{own_port}{own.table}')
        self._commands = own.commands | {"hq": [sys.executable, "-m", "gateway", "run", "hq", "--config", str(folder / "hq.toml")]}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._enrolled = 0

    def __enter__(self) -> "Site":
        try:
            for name in self._commands:
                self.start(name)
            self._until(self._is_ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()

    def start(self, name: str) -> None:
        """Start one of its processes."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(self._commands[name], stdout=log, stderr=log)

    def kill_a_broker(self) -> None:
        """kill -9 of a broker, and a new one in its place."""
        name = {"amqtt": "hq", "mosquitto": "broker", "nats": "broker-n1"}[self.kind]
        self._processes[name].send_signal(signal.SIGKILL)
        self._processes[name].wait()
        self.start(name)

    def revoke(self, gateway: str) -> None:
        """Revoke a box as an operator does: at headquarters, then in the broker's list."""
        self.ask(f"/api/boxes/{gateway}/revoke", {})
        if self.kind == "amqtt":
            return
        folder = self.folder / "broker"
        if self.kind == "mosquitto":
            files = BrokerFiles(*(str(folder / name) for name in ("ca.crt", "server.crt", "server.key")))
            brokers.mosquitto(folder, "127.0.0.1", self.addresses.broker_port, files, [gateway])
        else:
            brokers.nats_users(folder, BOXES, [gateway])
        for name, process in self._processes.items():
            if name.startswith("broker"):
                process.send_signal(signal.SIGHUP)

    @property
    def addresses(self) -> Addresses:
        """Where it listens."""
        return read_addresses(self.hq_dir)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Headquarters' API."""
        addresses = self.addresses
        headers = {"Authorization": f"Bearer {addresses.admin_token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(addresses.http + path, data, headers), timeout=PATIENCE_S) as reply:
            return json.load(reply)

    def new_box(self) -> Enrolment:
        """Register the next shop and enrol its box."""
        gateway = BOXES[self._enrolled]
        self._enrolled += 1
        store = StoreTable(tenant="demo", store=f"s{self._enrolled}", number=self._enrolled, gateway=gateway)
        told = {"store": store.store, "gateway": gateway, "number": store.number, "name_zh": "門市", "name_en": "Shop"}
        return enrol(self.ask("/api/boxes", told)["label"], self.folder / gateway, store, SystemClock())

    def own_tls(self) -> TlsFiles:
        """Headquarters' own certificate."""
        return TlsFiles(*(str(self.hq_dir / "broker" / name) for name in ("ca.crt", "hq.ingest.crt", "hq.ingest.key")))

    def _is_ready(self) -> bool:
        for name, process in self._processes.items():
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()[-2000:]
        with contextlib.suppress(ConfigError):
            return bool(self.addresses)
        return False

    def _until(self, there: Callable[[], bool]) -> None:
        ends_s = time.monotonic() + 2 * PATIENCE_S
        while not there():
            assert time.monotonic() < ends_s, "the site did not come up"
            time.sleep(0.05)


class Heard(Struct, frozen=True):
    """A message from the broker."""

    topic: str
    payload: bytes
    retained: bool


class Box:
    """A box's side of the road."""

    def __init__(self, enrolment: Enrolment, addresses: Addresses, subscriptions: list[str] | None = None) -> None:
        self.enrolment = enrolment
        self.topics = Topics(enrolment.facts.tenant, enrolment.facts.store, enrolment.facts.gateway)
        self.heard: list[Heard] = []
        self.ups = 0
        tls = TlsFiles(enrolment.ca_path, enrolment.cert_path, enrolment.key_path)
        asked = subscriptions or [self.topics.down(leaf) for leaf in ("ack", "ask", "beat", "manifest", "chunk", "renew")]
        self.mqtt = Mqtt(
            addresses.broker_host, addresses.broker_port, f"box-{secrets.token_hex(8)}", tls, server_name="localhost", subscriptions=asked,
            on_message=self._take, on_state=self._state, backoff_base_s=0.05, backoff_cap_s=0.5,
            others=[(host, int(port)) for host, _, port in (text.rpartition(":") for text in addresses.others)],
        )  # fmt: skip

    def _state(self, up: bool) -> None:
        self.ups += up

    def _take(self, incoming: Incoming) -> None:
        incoming.ack()
        self.heard.append(Heard(incoming.topic, incoming.payload, incoming.retained))

    def of(self, leaf: str, tag: bytes, shape: type[T]) -> list[T]:
        """What headquarters has said on one of the box's own topics."""
        found = []
        for heard in self.heard:
            if heard.topic == self.topics.down(leaf):
                with contextlib.suppress(MalformedFrame):
                    found.append(unseal(tag, heard.payload, self.enrolment.hq_public, shape))
        return found

    def batch(self, first: int, last: int, lane: int = 0) -> bytes:
        """A sealed batch of rows."""
        section = pack_plain([(AT_US, encode_event(refused(seq))) for seq in range(first, last + 1)])
        header = Header(
            gateway=self.topics.gateway, epoch="1-abc", proven=True, parent=None, parent_heads={}, lane=lane, first=first, last=last,
            head=f"{last:032x}", current="1-abc", last_seqs={lane: last}, cursors={}, sent_us=time.time_ns() // 1000,
        )  # fmt: skip
        return seal_blocks(header, [Sent(first, last, section)], self.enrolment.sign_key)

    async def send(self, first: int, last: int, lane: int = 0) -> Ack:
        """Send a batch, again and again as a bridge would, until it is acknowledged."""
        message = self.batch(first, last, lane)
        for attempt in range(12):
            if attempt % 4 == 3:
                self.mqtt.drop()  # a bridge does, too, when only beats are answered
            with contextlib.suppress(BrokerError):
                self.mqtt.publish(self.topics.up(lane), message, 1)
            with contextlib.suppress(TimeoutError):
                return await until(lambda: next((ack for ack in self.acks() if ack.lane == lane and ack.mark >= last), None), 3)
        raise TimeoutError("never acknowledged")

    def acks(self) -> list[Ack]:
        """All that came."""
        return self.of("ack", ACK_TAG, Ack)

    async def beat(self, number: int) -> BeatAnswered:
        """Send a beat until it is answered."""
        beat = Beat(self.topics.gateway, number, "1-abc", {0: 0}, {0: 0}, 0, time.time_ns() // 1000)
        for _ in range(10):
            if self.mqtt.connected:
                self.mqtt.publish(self.topics.up("beat"), seal(BEAT_TAG, beat, self.enrolment.sign_key), 0)
            with contextlib.suppress(TimeoutError):
                return await until(
                    lambda: next((one for one in self.of("beat", ANSWER_TAG, BeatAnswered) if one.number == number), None), 2
                )
        raise TimeoutError("never answered")

    def manifests(self) -> list[Manifest]:
        """All that came."""
        return self.of("manifest", MANIFEST_TAG, Manifest)


def refused(seq: int) -> RedemptionRefused:
    """Always the same event under the same number."""
    return RedemptionRefused(f"p{seq}", None, "expired", "door", "till", None, Instant(AT_US, 1, "0" * 8, TimeTrust.HOLDOVER))


class Sent(Struct, frozen=True):
    """A block."""

    first: int
    last: int
    section: bytes


@contextlib.asynccontextmanager
async def connected(box: Box) -> AsyncIterator[Box]:
    """The box's line, up, until the block ends."""
    running = asyncio.ensure_future(box.mqtt.run())
    try:
        await until(lambda: box.mqtt.connected)
        yield box
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(what: Callable[[], T | None], patience_s: float = PATIENCE_S) -> T:
    """The first true value `what` gives."""
    async with asyncio.timeout(patience_s):
        while not (found := what()):  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.01)
    return found


@contextlib.contextmanager
def site_on(kind: str, folder: Path) -> Iterator[Site]:
    """Headquarters on that broker."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    with Site(kind, folder) as site:
        yield site
