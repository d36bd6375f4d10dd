"""The road's end: takes what boxes send, and says so only when it is on the disk.

Batches that wait are taken together, in one transaction. After its commit each is answered with a signed acknowledgement,
and only then is the broker told that the message was read. Beats and document pieces go another way, so that a backlog of
a week does not make a shop look dead.

Everything here comes from outside. What is too large, unsigned, signed by another box, or out of bounds is counted by kind,
logged at most once a minute and forgotten; the broker is told it was read, or it would come again for ever.
"""

import asyncio
import logging
import re
import secrets
import time
from collections import Counter
from functools import partial
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from cloud_bridge.envelope import MAX_BATCH_B, Batch, Want, unseal_batch
from cloud_bridge.hq import devices, registry
from cloud_bridge.hq.broker import Fence
from cloud_bridge.hq.documents import Press, chunk_of, newest_chunk
from cloud_bridge.hq.effects import effect
from cloud_bridge.hq.feed import Change, Feed
from cloud_bridge.hq.presence import Presence, read_heard, write_heard
from cloud_bridge.hq.registry import BoxRow
from cloud_bridge.hq.sqlite import Store, Taken, Verdict, take
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.topics import ALL_UP, parse_up
from gateway.clock import Clock
from gateway.errors import BrokerError, MalformedFrame
from gateway.events import Lane
from gateway.signed import ACK_TAG, ANSWER_TAG, BEAT_TAG, RENEW_TAG, Ack, Beat, BeatAnswered, Renew, public_from_hex, seal, unseal

log = logging.getLogger(__name__)

MOST_WAITING: Final = 256  # messages; what comes beyond is dropped and sent again by its box
GROUP_MESSAGES: Final = 32  # taken in one transaction: one fsync for all
MAX_SMALL_B: Final = 8_192  # beats and wants
MAX_BEAT_UNPACKED_B: Final = 16_384
LOG_EVERY_S: Final = 60.0
WRITE_BEATS_S: Final = 5.0
MANIFEST_FIRST_S: Final = 0.2  # a piece of a document that was not announced is dropped
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
HEAD: Final = re.compile(r"[0-9a-f]{0,128}")
MOST: Final = 1 << 62  # what SQLite holds, with room
LAST_MOMENT_US: Final = 253_402_214_400_000_000  # the end of year 9999, less a day for time zones
LANES: Final = frozenset(Lane)


class BrokerAddress(Struct, frozen=True):
    """Where the broker is, and how headquarters' own client enters."""

    host: str
    port: int
    tls: TlsFiles | None
    server_name: str = ""


class Known(Struct, frozen=True):
    """An enrolled box."""

    row: BoxRow
    key: Ed25519PublicKey


class Ingest:
    """Headquarters' client at the broker."""

    def __init__(
        self, store: Store, press: Press, root: Ed25519PrivateKey, clock: Clock, feed: Feed, broker: BrokerAddress, fence: Fence
    ) -> None:
        self._fence = fence
        self.presence = Presence()
        self.rejected: Counter[str] = Counter()  # by kind
        self.complaints: Counter[str] = Counter()  # by registered box: it signed, or claimed to, what cannot be
        self._store = store
        self._press = press
        self._root = root
        self._clock = clock
        self._feed = feed
        self._known: dict[str, Known] = {}
        self._batches: asyncio.Queue[Incoming] = asyncio.Queue(MOST_WAITING)
        self._small: asyncio.Queue[Incoming] = asyncio.Queue(MOST_WAITING)
        self._came_up = asyncio.Event()
        self._logged_s = -LOG_EVERY_S
        self._mqtt = Mqtt(
            broker.host, broker.port, f"hq-{secrets.token_hex(16)}", broker.tls, server_name=broker.server_name,
            subscriptions=[ALL_UP], on_message=self._arrived, on_state=self._line_changed, backoff_base_s=0.1, backoff_cap_s=2.0,
        )  # fmt: skip

    @property
    def connected(self) -> bool:
        """Whether the broker has us."""
        return self._mqtt.connected

    async def run(self) -> None:
        """Take rows until cancelled."""
        await self.learn_boxes()
        self.presence.remember(await self._store.read(read_heard))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._mqtt.run())
            tasks.create_task(self._take_batches())
            tasks.create_task(self._answer_small())
            tasks.create_task(self._announce_all())
            tasks.create_task(self._watch_presence())

    async def learn_boxes(self) -> None:
        """Read the registry again: a box was enrolled, or revoked."""
        rows, retired = await self._store.read(lambda db: (registry.boxes(db), devices.retired_boxes(db)))
        counting = [row for row in rows if row.gateway not in retired]
        self._known = {row.gateway: Known(row, public_from_hex(row.public)) for row in counting if row.public is not None}
        self._fence.revoked = retired

    async def announce(self, row: BoxRow) -> None:
        """Publish a box's manifest, retained. Without a connection it is published when there is one."""
        manifest = await self._store.read(partial(self._press.manifest, row=row, now_us=self._now_us()))
        self._send(row.box.down("manifest"), manifest, qos=1, retain=True)

    async def dismiss(self, row: BoxRow) -> None:
        """Tell a revoked box, which may ask for nothing any more: its manifest, then the document that says so, unasked."""
        await self.announce(row)
        await asyncio.sleep(MANIFEST_FIRST_S)
        offset = 0
        while (chunk := await self._store.read(partial(newest_chunk, gateway=row.gateway, name="devices", offset=offset))) is not None:
            self._send(row.box.down("chunk"), msgspec.json.encode(chunk), qos=1)
            offset += len(chunk.data)

    # -- on paho's word, on the loop

    def _line_changed(self, up: bool) -> None:
        if up:
            self._came_up.set()
        self._feed.tell(Change())

    def _arrived(self, incoming: Incoming) -> None:
        if len(incoming.payload) > MAX_BATCH_B:
            self._reject(incoming, "too large")
            return
        queue = self._batches if incoming.topic.rpartition("/")[2].isdigit() else self._small
        try:
            queue.put_nowait(incoming)
        except asyncio.QueueFull:
            self._reject(incoming, "too many waiting")

    # -- batches

    async def _take_batches(self) -> None:
        while True:
            group = [await self._batches.get()]
            while len(group) < GROUP_MESSAGES and not self._batches.empty():
                group.append(self._batches.get_nowait())
            opened = await asyncio.to_thread(self._open_all, group)
            for incoming, why in opened.refused:
                self._reject(incoming, why)
            if opened.batches:
                await self._take_group(opened.batches)

    async def _take_group(self, opened: list[tuple[Incoming, Known, Batch]]) -> None:
        now_us = self._now_us()
        batches = [batch for _, _, batch in opened]
        taken = await self._store.write(lambda db: [take(db, batch, now_us, effect) for batch in batches])
        for (incoming, known, batch), result in zip(opened, taken, strict=True):
            self._answer_batch(known.row, batch, result)
            incoming.ack()
        self._feed.tell(Change(tuple(row for result in taken for row in result.rows)))

    def _answer_batch(self, row: BoxRow, batch: Batch, result: Taken) -> None:
        if result.verdict is Verdict.DIVERGED:
            # Never acknowledged: the box must not forget rows that contradict what is stored here. A person has to look.
            self._count("other rows under known numbers", row.gateway)
            return
        ack = Ack(batch.gateway, batch.epoch, batch.lane, result.seq, result.head, result.mark, self._now_us())
        self._send(row.box.down("ack"), seal(ACK_TAG, ack, self._root), qos=1)

    def _open_all(self, group: list[Incoming]) -> "_Opened":
        opened = _Opened([], [])
        for incoming in group:
            try:
                known, leaf = self._whose(incoming.topic)
                opened.batches.append((incoming, known, _open_batch(incoming.payload, known, leaf)))
            except (MalformedFrame, RecursionError) as error:
                opened.refused.append((incoming, _why(error)))
        return opened

    def _whose(self, topic: str) -> tuple[Known, str]:
        box, leaf = parse_up(topic)
        known = self._known.get(box.gateway)
        if known is None or known.row.box != box:
            raise MalformedFrame("not an enrolled box's topic")
        return known, leaf

    # -- beats and wants

    async def _answer_small(self) -> None:
        while True:
            incoming = await self._small.get()
            try:
                known, leaf = self._whose(incoming.topic)
                if len(incoming.payload) > MAX_SMALL_B:
                    raise MalformedFrame("too large")
                if leaf == "beat":
                    self._answer_beat(incoming, known)
                elif leaf == "want":
                    await self._answer_want(incoming, known)
                elif leaf == "renew":
                    await self._answer_renew(incoming, known)
                else:
                    raise MalformedFrame("an unknown topic")
            except (MalformedFrame, RecursionError) as error:
                self._reject(incoming, _why(error))
            else:
                incoming.ack()

    def _answer_beat(self, incoming: Incoming, known: Known) -> None:
        beat = unseal(BEAT_TAG, incoming.payload, [known.key], Beat, MAX_BEAT_UNPACKED_B)
        _refuse_unless(beat.gateway == known.row.gateway and bool(NAME.fullmatch(beat.epoch)), "a beat of another box")
        _refuse_unless(_lanes_fit(beat.last) and 0 <= beat.waiting < MOST, "a beat with impossible numbers")
        now_us = self._now_us()
        news = self.presence.hear(beat, now_us)
        answer = BeatAnswered(beat.gateway, beat.number, now_us)
        self._send(known.row.box.down("beat"), seal(ANSWER_TAG, answer, self._root), qos=0)
        if news:
            self._feed.tell(Change())

    async def _answer_want(self, incoming: Incoming, known: Known) -> None:
        try:
            want = msgspec.json.decode(incoming.payload, type=Want)
        except (msgspec.DecodeError, ValueError) as error:
            raise MalformedFrame("not a wanted piece") from error
        _refuse_unless(len(want.name) <= 40 and 0 <= want.version < MOST and 0 <= want.offset < MOST, "an impossible piece")
        chunk = await self._store.read(partial(chunk_of, gateway=known.row.gateway, want=want))
        if chunk is not None:  # else an old version: the manifest on its way names the new one
            self._send(known.row.box.down("chunk"), msgspec.json.encode(chunk), qos=1)

    async def _answer_renew(self, incoming: Incoming, known: Known) -> None:
        ask = unseal(RENEW_TAG, incoming.payload, [known.key], Renew, MAX_SMALL_B)
        _refuse_unless(ask.gateway == known.row.gateway, "a request of another box")
        self._send(known.row.box.down("renew"), await asyncio.to_thread(self._press.renew, ask.csr, ask.gateway), qos=1)

    # -- the rest

    async def _announce_all(self) -> None:
        while True:
            await self._came_up.wait()
            self._came_up.clear()
            for row in await self._store.read(registry.boxes):
                await self.announce(row)

    async def _watch_presence(self) -> None:
        """Tell watchers when a shop falls silent; write beats down now and then."""
        before: frozenset[str] = frozenset()
        written_s = time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            up = self.presence.up_now(self._now_us())
            if up != before:
                self._feed.tell(Change())
            before = up
            if time.monotonic() - written_s >= WRITE_BEATS_S and (heard := self.presence.take_unwritten()):
                await self._store.write(partial(write_heard, heard=heard))
                written_s = time.monotonic()

    def _send(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        try:
            self._mqtt.publish(topic, payload, qos, retain)
        except BrokerError:
            log.debug("not sent: no broker")  # the box asks or sends again; manifests follow on the next connection

    def _reject(self, incoming: Incoming, why: str) -> None:
        levels = incoming.topic.split("/")
        self._count(why, levels[5] if len(levels) == 8 and levels[5] in self._known else "")
        incoming.ack()

    def _count(self, why: str, gateway: str) -> None:
        self.rejected[why] += 1
        if gateway:
            self.complaints[gateway] += 1
        if time.monotonic() - self._logged_s >= LOG_EVERY_S:
            self._logged_s = time.monotonic()
            log.warning("messages not taken so far: %s", dict(self.rejected.most_common(10)))

    def _now_us(self) -> int:
        return self._clock.now().wall_us


class _Opened(Struct):
    batches: list[tuple[Incoming, Known, Batch]]
    refused: list[tuple[Incoming, str]]


def _open_batch(payload: bytes, known: Known, leaf: str) -> Batch:
    """A batch whose every number and name fits the store.

    Raises:
        MalformedFrame: It is not that box's, or does not fit.
    """
    batch = unseal_batch(payload, known.key)
    _refuse_unless(batch.gateway == known.row.gateway, "a batch of another box")
    _refuse_unless(batch.lane in LANES and leaf == str(batch.lane), "a batch of another lane")
    names = (batch.epoch, batch.current, batch.parent if batch.parent is not None else batch.epoch)
    _refuse_unless(all(NAME.fullmatch(name) for name in names), "an impossible epoch")
    heads = {lane: seq for lane, (seq, _) in batch.parent_heads.items()}
    hexes = [batch.head, *(head for _, head in batch.parent_heads.values())]
    _refuse_unless(all(HEAD.fullmatch(head) for head in hexes), "an impossible chain head")
    _refuse_unless(_lanes_fit(heads) and _lanes_fit(batch.last) and _lanes_fit(batch.cursor), "impossible numbers")
    _refuse_unless(batch.last_seq < MOST and all(0 <= row.record_us < LAST_MOMENT_US for row in batch.rows), "impossible numbers")
    return batch


def _lanes_fit(numbers: dict[int, int]) -> bool:
    return all(lane in LANES and 0 <= seq < MOST for lane, seq in numbers.items())


def _why(error: Exception) -> str:
    """The kind of complaint, without what varies: kinds are counted, and outsiders must not make new ones."""
    return str(error.args[0]).partition(":")[0][:80] if isinstance(error, MalformedFrame) else "nested too deeply"


def _refuse_unless(fits: bool, why: str) -> None:
    if not fits:
        raise MalformedFrame(why)
