"""A whole headquarters for tests, on a real broker, and a box that speaks to it over real TLS."""

import asyncio
import contextlib
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from cloud_bridge.envelope import Batch, Chunk, Want, WireRow, seal_batch
from cloud_bridge.hq.__main__ import run
from cloud_bridge.hq.broker import BrokerFiles, free_port, mosquitto_conf
from cloud_bridge.hq.options import Addresses, ExternalBroker, HqOptions, read_addresses
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.topics import Box
from gateway.clock import SystemClock
from gateway.config import StoreTable
from gateway.errors import BrokerError, ConfigError
from gateway.events import Event, Instant, RedemptionRefused, TimeTrust, VoucherRedeemed
from gateway.signed import (
    ACK_TAG,
    ANSWER_TAG,
    BEAT_TAG,
    DOCUMENT_TAG,
    MANIFEST_TAG,
    RENEWED_TAG,
    Ack,
    Beat,
    BeatAnswered,
    Document,
    DocumentRef,
    Manifest,
    Renewed,
    digest,
    seal,
    unseal,
)
from provisioning.authority import Authority, Enrolment
from provisioning.enroll import enrol

PATIENCE_S = 8.0
AT_US = 1_795_000_000_000_000
T = TypeVar("T")


def now_us() -> int:
    return time.time_ns() // 1000


def instant(wall_us: int | None = None) -> Instant:
    return Instant(wall_us if wall_us is not None else now_us(), 1, "0" * 8, TimeTrust.HOLDOVER)


def redeemed(number: int, voucher_id: str = "0") -> VoucherRedeemed:
    return VoucherRedeemed(f"r{number}", voucher_id, 1, 1, "kiosk-1", "camera@front", None, 1, instant())


def refused(number: int, voucher_id: str | None = None, reason: str = "already_redeemed") -> RedemptionRefused:
    return RedemptionRefused(f"p{number}", voucher_id, reason, "kiosk-1", "camera@front", None, instant())


def wire(seq: int, event: Event | bytes, record_us: int | None = None) -> WireRow:
    raw = event if isinstance(event, bytes) else msgspec.json.encode(event)
    return WireRow(seq, record_us if record_us is not None else now_us(), msgspec.Raw(raw))


async def until(what: Callable[[], T | None], patience_s: float = PATIENCE_S) -> T:
    """The first true value `what` gives."""
    async with asyncio.timeout(patience_s):
        while not (found := what()):  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.01)
    return found


class TestBox:
    """A box's side of the road: its keys, its connection, everything it ever heard."""

    __test__ = False

    def __init__(self, enrolment: Enrolment, port: int) -> None:
        self.enrolment = enrolment
        facts = enrolment.facts
        self.box = Box(facts.tenant, facts.store, facts.gateway)
        self.acks: list[Ack] = []
        self.answers: list[BeatAnswered] = []
        self.manifests: list[Manifest] = []
        self.chunks: list[Chunk] = []
        self.renewed: list[Renewed] = []
        self.others: list[str] = []
        self.up = asyncio.Event()
        tls = TlsFiles(enrolment.ca_path, enrolment.cert_path, enrolment.key_path)
        self.mqtt = Mqtt(
            "127.0.0.1", port, f"box-{secrets.token_hex(8)}", tls, server_name="localhost",
            subscriptions=[self.box.down(leaf) for leaf in ("ack", "beat", "manifest", "chunk", "renew")],
            on_message=self._heard, on_state=lambda up: self.up.set() if up else self.up.clear(), backoff_base_s=0.05, backoff_cap_s=0.3,
        )  # fmt: skip

    def _heard(self, incoming: Incoming) -> None:
        keys, leaf = self.enrolment.hq_public, incoming.topic.rpartition("/")[2]
        if not incoming.topic.startswith(self.box.prefix):
            self.others.append(incoming.topic)
        elif leaf == "ack":
            self.acks.append(unseal(ACK_TAG, incoming.payload, keys, Ack))
        elif leaf == "beat":
            self.answers.append(unseal(ANSWER_TAG, incoming.payload, keys, BeatAnswered))
        elif leaf == "manifest":
            self.manifests.append(unseal(MANIFEST_TAG, incoming.payload, keys, Manifest))
        elif leaf == "renew":
            self.renewed.append(unseal(RENEWED_TAG, incoming.payload, keys, Renewed))
        else:
            self.chunks.append(msgspec.json.decode(incoming.payload, type=Chunk))
        incoming.ack()

    def batch(self, rows: list[WireRow], **changes: Any) -> Batch:
        last = {0: rows[-1].seq if rows else 0}
        plain = Batch(self.box.gateway, "1-abc", None, {}, 0, rows, f"{rows[-1].seq if rows else 0:064x}", "1-abc", last, {0: 0}, now_us())
        return msgspec.structs.replace(plain, **changes)

    def send_bytes(self, payload: bytes, topic: str | None = None) -> asyncio.Future[None]:
        return self.mqtt.publish(topic or self.box.up(0), payload, 1)

    async def send(self, batch: Batch) -> Ack:
        """Send a batch and wait for its acknowledgement."""
        before = len(self.acks)
        self.send_bytes(seal_batch(batch, self.enrolment.sign_key), self.box.up(batch.lane))
        await until(lambda: len(self.acks) > before)
        return self.acks[-1]

    async def beat(self, number: int = 1, **changes: Any) -> BeatAnswered:
        before = len(self.answers)
        beat = msgspec.structs.replace(Beat(self.box.gateway, number, "1-abc", {0: 0}, {0: 0}, 0, now_us()), **changes)
        self.mqtt.publish(self.box.up("beat"), seal(BEAT_TAG, beat, self.enrolment.sign_key), 0)
        await until(lambda: len(self.answers) > before)
        return self.answers[-1]

    async def document(self, name: str, version: int = 1) -> Document:
        """Fetch a document as a bridge does: manifest, pieces, hash, signature. At least that version."""

        def named() -> DocumentRef | None:
            refs = self.manifests[-1].documents if self.manifests else []
            return next((ref for ref in refs if ref.name == name and ref.version >= version), None)

        ref = await until(named)
        sealed = b""
        while len(sealed) < ref.size_b:
            self.chunks.clear()
            self.mqtt.publish(self.box.up("want"), msgspec.json.encode(Want(name, ref.version, len(sealed))), 1)
            await until(lambda: self.chunks)
            sealed += self.chunks[-1].data
        assert digest(sealed) == ref.sha256
        return unseal(DOCUMENT_TAG, sealed, self.enrolment.hq_public, Document)


def shop(store: str = "s1", number: int = 1, gateway: str = "") -> StoreTable:
    """Who a box is, as its configuration says."""
    return StoreTable(tenant="demo", store=store, number=number, gateway=gateway or f"gw-{store}")


class Hq:
    """A running headquarters."""

    def __init__(self, options: HqOptions, addresses: Addresses, folder: Path) -> None:
        self.options = options
        self.addresses = addresses
        self.folder = folder
        self.http = httpx.AsyncClient(
            base_url=addresses.http, headers={"Authorization": f"Bearer {addresses.admin_token}"}, timeout=PATIENCE_S, trust_env=False
        )

    async def get(self, path: str) -> Any:
        response = await self.http.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        response = await self.http.post(path, json=body or {})
        assert response.is_success, response.text
        return response.json()

    async def new_box(self, store: str = "s1", number: int = 1) -> Enrolment:
        """Register a shop and enrol its box, over HTTP."""
        asked = {"store": store, "gateway": f"gw-{store}", "number": number, "name_zh": f"門市 {number}", "name_en": f"Shop {number}"}
        label = (await self.post("/api/boxes", asked))["label"]
        return await self.enrol(label, f"box-{store}", shop(store, number))

    async def enrol(self, label: str, folder: str, table: StoreTable) -> Enrolment:
        """Enrol a box by its label, over real TLS."""
        return await asyncio.to_thread(enrol, label, self.folder / folder, table, SystemClock())

    @contextlib.asynccontextmanager
    async def connected(self, enrolment: Enrolment, port: int | None = None) -> AsyncIterator[TestBox]:
        box = TestBox(enrolment, port or self.addresses.broker_port)
        task = asyncio.create_task(box.mqtt.run())
        try:
            await asyncio.wait_for(box.up.wait(), PATIENCE_S)
            yield box
        finally:
            await cancel(task)


async def cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, BrokerError):
        await task


async def addresses_of(data_dir: Path, still_alive: Callable[[], bool]) -> Addresses:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(ConfigError):
                return read_addresses(data_dir)
            assert still_alive()
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def headquarters(options: HqOptions) -> AsyncIterator[Hq]:
    """Headquarters in this process, until the block ends."""
    data = Path(options.data_dir)
    task = asyncio.create_task(run(options))
    try:
        hq = Hq(options, await addresses_of(data, lambda: not task.done()), data.parent)
        try:
            yield hq
        finally:
            await hq.http.aclose()
    finally:
        done = task.done()
        await cancel(task)
        assert not done, "headquarters ended by itself"


@contextlib.contextmanager
def mosquitto(folder: Path, data_dir: Path, binary: str) -> Any:
    """A real mosquitto with our configuration, trusting the authority headquarters will use."""
    authority = Authority.open(data_dir / "authority")
    folder.mkdir()
    (folder / "ca.crt").write_text(authority.ca_pem)
    cert, key = authority.issue_server(folder, ["localhost", "127.0.0.1"])
    port = free_port()
    conf = mosquitto_conf(folder, "127.0.0.1", port, BrokerFiles(str(folder / "ca.crt"), str(cert), str(key)))
    conf.write_text(conf.read_text() + "user root\n")  # as root it would drop to a user that cannot read this folder
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "-c", str(conf)], stdout=log, stderr=log)
    try:
        yield ExternalBroker(host="127.0.0.1", port=port, server_name="localhost")
    finally:
        process.terminate()
        process.wait(5)
