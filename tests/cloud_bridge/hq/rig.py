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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from cloud_bridge.envelope import Batch, Chunk, Header, Want, seal_blocks, unseal_batch
from cloud_bridge.hq.__main__ import run
from cloud_bridge.hq.broker import BrokerFiles, mosquitto_conf
from cloud_bridge.hq.options import Addresses, ExternalBroker, HqOptions, read_addresses
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.ports import free_port
from cloud_bridge.topics import Box
from gateway.clock import SystemClock
from gateway.columns import Tombstone, pack_columns, pack_plain, pack_tombstone
from gateway.config import StoreTable
from gateway.errors import BrokerError, ConfigError
from gateway.events import Event, Instant, RedemptionRefused, TimeTrust, VoucherRedeemed
from gateway.signed import (
    ACK_TAG,
    ANSWER_TAG,
    ASK_TAG,
    BEAT_TAG,
    CLAIM_TAG,
    CLAIMED_TAG,
    DOCUMENT_TAG,
    MANIFEST_TAG,
    RECALL_TAG,
    RENEWED_TAG,
    Ack,
    Ask,
    Beat,
    BeatAnswered,
    Claim,
    Claimed,
    Document,
    DocumentRef,
    Manifest,
    Recall,
    Renewed,
    digest,
    seal,
    unseal,
)
from provisioning.authority import Authority, Enrolment
from provisioning.enroll import enrol

PATIENCE_S = 40.0  # only a failure waits so long; a busy machine may need some of it
START_S = 40.0  # a process of its own imports much; other tests run beside it
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


class WireRow(Struct, frozen=True):
    """A row as a test writes it down."""

    seq: int
    record_us: int
    event: bytes


class Draft(Struct, frozen=True):
    """A batch as a test writes it down; sealed as a box would, true or not."""

    gateway: str
    epoch: str
    parent: str | None
    parent_heads: dict[int, tuple[int, str]]
    lane: int
    rows: list[WireRow]
    head: str
    current: str
    last: dict[int, int]
    cursor: dict[int, int]
    sent_us: int
    proven: bool = True
    tombstone: Tombstone | None = None  # instead of rows
    before: str = ""  # the chain head it says it continues
    columns: bool = False  # as sealed blocks are, instead of plain

    @property
    def first_seq(self) -> int:
        return self.tombstone.first if self.tombstone else self.rows[0].seq if self.rows else 1

    @property
    def last_seq(self) -> int:
        return self.tombstone.last if self.tombstone else self.rows[-1].seq if self.rows else 0


class Block(Struct, frozen=True):
    """What `seal_blocks` takes."""

    first: int
    last: int
    section: bytes


def header_of(draft: Draft) -> Header:
    return Header(
        gateway=draft.gateway, epoch=draft.epoch, proven=draft.proven, parent=draft.parent, parent_heads=draft.parent_heads,
        lane=draft.lane, first=draft.first_seq, last=draft.last_seq, head=draft.head, current=draft.current, last_seqs=draft.last,
        cursors=draft.cursor, sent_us=draft.sent_us, before=draft.before,
    )  # fmt: skip


def section_of(draft: Draft) -> bytes:
    if draft.tombstone is not None:
        return pack_tombstone(draft.tombstone)
    rows = [(row.record_us, bytes(row.event)) for row in draft.rows]
    return pack_columns(rows) if draft.columns else pack_plain(rows)


def seal_batch(draft: Draft, key: Ed25519PrivateKey) -> bytes:
    return seal_blocks(header_of(draft), [Block(draft.first_seq, draft.last_seq, section_of(draft))], key)


def opened(draft: Draft) -> Batch:
    """The batch headquarters gets to see."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"k")
    return unseal_batch(seal_batch(draft, key), key.public_key())


def wire(seq: int, event: Event | bytes, record_us: int | None = None) -> WireRow:
    raw = event if isinstance(event, bytes) else msgspec.json.encode(event)
    return WireRow(seq, record_us if record_us is not None else now_us(), raw)


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
        self.asks: list[Ask] = []
        self.answers: list[BeatAnswered] = []
        self.manifests: list[Manifest] = []
        self.chunks: list[Chunk] = []
        self.renewed: list[Renewed] = []
        self.claimed: list[bytes] = []
        self.recalls: list[Recall] = []
        self.others: list[str] = []
        self.up = asyncio.Event()
        tls = TlsFiles(enrolment.ca_path, enrolment.cert_path, enrolment.key_path)
        self.mqtt = Mqtt(
            "127.0.0.1", port, f"box-{secrets.token_hex(8)}", tls, server_name="localhost",
            subscriptions=[self.box.down(leaf) for leaf in ("ack", "ask", "beat", "manifest", "chunk", "renew", "claimed")],
            on_message=self._heard, on_state=lambda up: self.up.set() if up else self.up.clear(), backoff_base_s=0.05, backoff_cap_s=0.3,
        )  # fmt: skip

    def _heard(self, incoming: Incoming) -> None:
        keys, leaf = self.enrolment.hq_public, incoming.topic.rpartition("/")[2]
        if not incoming.topic.startswith(self.box.prefix):
            self.others.append(incoming.topic)
        elif leaf == "ack":
            self.acks.append(unseal(ACK_TAG, incoming.payload, keys, Ack))
        elif leaf == "ask":
            self.asks.append(unseal(ASK_TAG, incoming.payload, keys, Ask))
        elif leaf == "beat":
            self.answers.append(unseal(ANSWER_TAG, incoming.payload, keys, BeatAnswered))
        elif leaf == "manifest":
            self.manifests.append(unseal(MANIFEST_TAG, incoming.payload, keys, Manifest))
        elif leaf == "claimed" and incoming.payload.startswith(RECALL_TAG):
            self.recalls.append(unseal(RECALL_TAG, incoming.payload, keys, Recall))
        elif leaf == "claimed":
            self.claimed.append(incoming.payload)
        elif leaf == "renew":
            self.renewed.append(unseal(RENEWED_TAG, incoming.payload, keys, Renewed))
        else:
            self.chunks.append(msgspec.json.decode(incoming.payload, type=Chunk))
        incoming.ack()

    def batch(self, rows: list[WireRow], **changes: Any) -> Draft:
        last = {0: rows[-1].seq if rows else 0}
        plain = Draft(self.box.gateway, "1-abc", None, {}, 0, rows, f"{rows[-1].seq if rows else 0:064x}", "1-abc", last, {0: 0}, now_us())
        return msgspec.structs.replace(plain, **changes)

    def send_bytes(self, payload: bytes, topic: str | None = None) -> asyncio.Future[None]:
        return self.mqtt.publish(topic or self.box.up(0), payload, 1)

    async def send(self, batch: Draft) -> Ack:
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

    async def claim_bytes(self, claim: Claim) -> bytes:
        """Ask for a voucher; the sealed answer."""
        before = len(self.claimed)
        self.mqtt.publish(self.box.up("claim"), seal(CLAIM_TAG, claim, self.enrolment.sign_key), 1)
        await until(lambda: len(self.claimed) > before)
        return self.claimed[-1]

    async def claim(self, voucher_id: str, **changes: Any) -> Claimed:
        """Ask for a voucher, for a start that headquarters has heard of."""
        claim = Claim(self.box.gateway, secrets.token_hex(16), voucher_id, "1-abc", True, 0, now_us())
        return unseal(CLAIMED_TAG, await self.claim_bytes(msgspec.structs.replace(claim, **changes)), self.enrolment.hq_public, Claimed)

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


async def addresses_of(data_dir: Path, still_alive: Callable[[], bool], patience_s: float = START_S) -> Addresses:
    async with asyncio.timeout(patience_s):
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
