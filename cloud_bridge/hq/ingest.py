"""The road's end: takes what boxes send, and says so only when it is on the disk.

Batches that wait are taken together, in one transaction. After its commit each is answered with a signed acknowledgement,
and only then is the broker told that the message was read. Beats and document pieces go another way, so that a backlog of
a week does not make a shop look dead.

Everything here comes from outside. What is too large, unsigned, signed by another box, or out of bounds is counted by kind,
logged at most once a minute and forgotten; the broker is told it was read, or it would come again for ever.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from cloud_bridge.envelope import MAX_BATCH_B, Chunk, Header, Want, unseal_batch
from cloud_bridge.hq import devices, registry
from cloud_bridge.hq.bounds import MOST, check_batch, check_beat, refuse_unless, why
from cloud_bridge.hq.broker import BrokerAddress, Fence
from cloud_bridge.hq.claims import Claims, Known
from cloud_bridge.hq.documents import Press, chunk_of, newest_chunk
from cloud_bridge.hq.echo import Echo
from cloud_bridge.hq.feed import Change, Feed
from cloud_bridge.hq.journal import Journal
from cloud_bridge.hq.openings import Openings
from cloud_bridge.hq.presence import Heard, Presence, read_heard, write_heard
from cloud_bridge.hq.ready import ReadyBatch, make_ready
from cloud_bridge.hq.registry import BoxRow
from cloud_bridge.hq.store import Store, StoreAway
from cloud_bridge.hq.streams import Place
from cloud_bridge.hq.take import Taken, Verdict, take
from cloud_bridge.hq.telling import Telling
from cloud_bridge.mqtt import Incoming, Mqtt
from cloud_bridge.topics import ALL_UP, parse_up
from gateway.clock import Clock
from gateway.errors import BrokerError, MalformedFrame
from gateway.events import Lane
from gateway.signed import (
    ACK_TAG,
    ANSWER_TAG,
    ASK_TAG,
    BEAT_TAG,
    RENEW_TAG,
    Ack,
    Ask,
    Beat,
    BeatAnswered,
    Renew,
    public_from_hex,
    seal,
    unseal,
)

log = logging.getLogger(__name__)

MOST_WAITING: Final = 256  # messages; what comes beyond is dropped and sent again by its box
GROUP_MESSAGES: Final = 32  # taken in one transaction: one fsync for all
MAX_SMALL_B: Final = 8_192  # beats and wants
MAX_BEAT_UNPACKED_B: Final = 16_384
LOG_EVERY_S: Final = 60.0
WRITE_BEATS_S: Final = 5.0
CONNECTS_PER_S: Final = 200.0  # full TLS handshakes a small broker takes (measured: 270 on two cores); boxes come back spread by it
MANIFEST_FIRST_S: Final = 0.2  # a piece of a document that was not announced is dropped
MOST_ASKED: Final = 10_000
ASK_AGAIN_S: Final = 5.0  # an ask may be lost like anything else
AWAY_S: Final = 0.5  # how long to wait for a database that cannot be reached


class _Opened(Struct, frozen=True):
    incoming: Incoming
    known: Known
    batch: ReadyBatch


class Ingest:
    """Headquarters' client at the broker."""

    def __init__(
        self, store: Store, press: Press, root: Ed25519PrivateKey, clock: Clock, feed: Feed, broker: BrokerAddress, fence: Fence,
        journal: Journal,
    ) -> None:  # fmt: skip
        self._fence = fence
        self.presence = Presence()
        self.rejected: Counter[str] = Counter()  # by kind
        self.openings = Openings(store, press)
        self.claims = Claims(store, press, root, journal, self._now_us, partial(self._send, qos=1), self.announce, self.openings.unproven)
        self.openings.leaving = self.claims.opening
        self.backed_up: Callable[[str, str, int], int] = lambda gateway, epoch, mark: 0  # how far backups reach; nobody makes any
        self.complaints: Counter[str] = Counter()  # by registered box: it signed, or claimed to, what cannot be
        self._store = store
        self._press = press
        self._root = root
        self._clock = clock
        self._feed = feed
        self._known: dict[str, Known] = {}
        self._batches: asyncio.Queue[Incoming] = asyncio.Queue(MOST_WAITING)
        self._opened: asyncio.Queue[list[_Opened]] = asyncio.Queue(1)
        self._small: asyncio.Queue[Incoming] = asyncio.Queue(MOST_WAITING)
        self._came_up = asyncio.Event()
        self._logged_s = -LOG_EVERY_S
        self._away = False  # the database, as far as rows know
        self._asked_s: dict[tuple[str, str, int], float] = {}
        self._mqtt = Mqtt(
            broker.host, broker.port, f"hq-{secrets.token_hex(16)}", broker.tls, server_name=broker.server_name,
            subscriptions=[ALL_UP], on_message=self._arrived, on_state=self._line_changed, backoff_base_s=0.1, backoff_cap_s=2.0,
            others=broker.others,
        )  # fmt: skip
        self._echo = Echo(self._mqtt)
        self.telling = Telling(store, press, self._now_us, self.announce)

    @property
    def connected(self) -> bool:
        """Whether the broker has us."""
        return self._mqtt.connected

    async def run(self) -> None:
        """Take rows until cancelled."""
        if missed := await self.claims.start():
            log.warning("%d things that left after the backup were read from the journal", missed)
        await self.learn_boxes()
        self.presence.remember(await self._store.read(read_heard))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._mqtt.run())
            tasks.create_task(self._echo.run())
            tasks.create_task(self._open_batches())
            tasks.create_task(self._take_batches())
            tasks.create_task(self._answer_small())
            tasks.create_task(self._announce_all())
            tasks.create_task(self._watch_presence())
            tasks.create_task(self.telling.run())

    async def learn_boxes(self) -> None:
        """Read the registry again: a box was enrolled, or revoked."""
        rows, retired = await self._store.read(lambda db: (registry.boxes(db), devices.retired_boxes(db)))
        counting = [row for row in rows if row.gateway not in retired]
        self._known = {row.gateway: Known(row, public_from_hex(row.public)) for row in counting if row.public is not None}
        self._fence.revoked = retired

    def known(self, gateway: str) -> Known | None:
        """An enrolled box that counts; None: there is none of that name."""
        return self._known.get(gateway)

    async def announce(self, row: BoxRow) -> None:
        """Publish a box's manifest, retained. Without a connection it is published when there is one."""
        manifest = await self._store.read(partial(self._press.manifest, row=row, now_us=self._now_us()))
        self._send(row.box.down("manifest"), manifest, qos=1, retain=True)

    async def dismiss(self, row: BoxRow) -> None:
        """Tell a revoked box, which may ask for nothing any more: its manifest, then the document that says so, unasked.

        Both are retained, for a box that is away. A topic keeps but one message, so the document goes as one piece.
        """
        await self.announce(row)
        await asyncio.sleep(MANIFEST_FIRST_S)
        pieces: list[Chunk] = []
        while True:
            offset = sum(len(piece.data) for piece in pieces)
            piece = await self._store.read(partial(newest_chunk, gateway=row.gateway, name="devices", offset=offset))
            if piece is None:
                break
            pieces.append(piece)
        if pieces:
            whole = msgspec.structs.replace(pieces[0], data=b"".join(piece.data for piece in pieces))
            self._send(row.box.down("chunk"), msgspec.json.encode(whole), qos=1, retain=True)

    # -- on paho's word, on the loop

    def _line_changed(self, up: bool) -> None:
        if up:
            self._came_up.set()
        self._feed.tell(Change())

    def _arrived(self, incoming: Incoming) -> None:
        if self._echo.heard(incoming):
            return
        if len(incoming.payload) > MAX_BATCH_B:
            self._reject(incoming, "too large")
            return
        queue = self._batches if incoming.topic.rpartition("/")[2].isdigit() else self._small
        try:
            queue.put_nowait(incoming)
        except asyncio.QueueFull:
            self._reject(incoming, "too many waiting")

    # -- batches

    async def _open_batches(self) -> None:
        """Open one group while the one before is being committed."""
        while True:
            group = [await self._batches.get()]
            while len(group) < GROUP_MESSAGES and not self._batches.empty():
                group.append(self._batches.get_nowait())
            opened, refused = await asyncio.to_thread(self._open_all, group)
            for incoming, reason in refused:
                self._reject(incoming, reason)
            if opened:
                await self._opened.put(opened)

    async def _take_batches(self) -> None:
        while True:
            group = await self._opened.get()
            while not await self._took(group):  # noqa: ASYNC110 - a database that is away gives no event
                await asyncio.sleep(AWAY_S)

    async def _took(self, group: list[_Opened]) -> bool:
        """Whether a group could be taken. While the database is away no beat is answered, so boxes keep their rows and wait."""
        try:
            await self._take_group(group)
        except StoreAway:
            self._away = True
            return False
        self._away = False
        return True

    async def _take_group(self, group: list[_Opened]) -> None:
        now_us = self._now_us()
        batches = [opened.batch for opened in group]
        taken = await self._store.write(lambda db: take(db, batches, now_us, self._feed.watched))
        for opened, result in zip(group, taken, strict=True):
            row, header = opened.known.row, opened.batch.header
            if await self.openings.heed_batch(row, header, result.mark, result.verdict is Verdict.DIVERGED, now_us):
                await self.announce(row)
            self._answer_batch(row, header, result)
            opened.incoming.ack()
        self.telling.wake()
        self._feed.tell(Change(tuple(row for result in taken for row in result.rows)))

    def _answer_batch(self, row: BoxRow, header: Header, result: Taken) -> None:
        for lost in result.lost:
            self._ask(row, lost)
        if result.verdict is Verdict.DIVERGED:
            # Never acknowledged: the box must not forget rows that contradict what is stored here. A person has to look.
            self._count("other rows under known numbers", row.gateway)
            return
        if result.first is not None:
            # What has to come first is acknowledged as far as it has come, so that the box sends on from there.
            self._send_ack(row, result.first.epoch, result.first.lane, result.first.mark, result.first.head, result.first.mark)
            self._ask(row, result.first)
        self._send_ack(row, header.epoch, header.lane, result.seq, result.head, result.mark)

    def _send_ack(self, row: BoxRow, epoch: str, lane: int, seq: int, head: str, mark: int) -> None:
        backed_up = self.backed_up(row.gateway, epoch, mark) if lane == Lane.MONEY else 0
        opening = self.openings.number(row.gateway, epoch)
        ack = Ack(row.gateway, epoch, lane, seq, head, mark, self._now_us(), backed_up, opening)
        self._send(row.box.down("ack"), seal(ACK_TAG, ack, self._root), qos=1)

    def _ask(self, row: BoxRow, place: Place) -> None:
        """Ask for the rows after a mark again; a box that has not been told that they are here need not heed it."""
        now_s = time.monotonic()
        stream = (row.gateway, place.epoch, place.lane)
        if now_s - self._asked_s.get(stream, -ASK_AGAIN_S) < ASK_AGAIN_S:
            return
        if len(self._asked_s) > MOST_ASKED:
            self._asked_s.clear()
        self._asked_s[stream] = now_s
        ask = Ask(row.gateway, place.epoch, place.lane, place.mark, self._now_us())
        self._send(row.box.down("ask"), seal(ASK_TAG, ask, self._root), qos=1)

    def _open_all(self, group: list[Incoming]) -> tuple[list[_Opened], list[tuple[Incoming, str]]]:
        opened: list[_Opened] = []
        refused: list[tuple[Incoming, str]] = []
        for incoming in group:
            try:
                known, leaf = self._whose(incoming.topic)
                batch = unseal_batch(incoming.payload, known.key)
                check_batch(batch, known.row.gateway, leaf)
                opened.append(_Opened(incoming, known, make_ready(batch, known.row.timezone)))
            except (MalformedFrame, RecursionError) as error:
                refused.append((incoming, why(error)))
        return opened, refused

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
                answer = {"beat": self._answer_beat, "want": self._answer_want, "renew": self._answer_renew, "claim": self.claims.take}
                refuse_unless(leaf in answer, "an unknown topic")
                await answer[leaf](incoming, known)
            except (MalformedFrame, RecursionError) as error:
                self._reject(incoming, why(error))
            except StoreAway:
                self._reject(incoming, "the database is away")  # the box asks and beats again
            else:
                incoming.ack()

    async def _answer_beat(self, incoming: Incoming, known: Known) -> None:
        beat = unseal(BEAT_TAG, incoming.payload, [known.key], Beat, MAX_BEAT_UNPACKED_B)
        refuse_unless(beat.gateway == known.row.gateway, "a beat of another box")
        check_beat(beat)
        now_us = self._now_us()
        news = self.presence.hear(beat, now_us)
        if self._away:
            return
        answer = BeatAnswered(beat.gateway, beat.number, now_us, len(self._known) / CONNECTS_PER_S)
        self._send(known.row.box.down("beat"), seal(ANSWER_TAG, answer, self._root), qos=0)
        if news:
            self._feed.tell(Change())
        if await self.openings.heed_beat(known.row, beat, now_us):
            await self.announce(known.row)
        await self.claims.heard(known.row)

    async def _answer_want(self, incoming: Incoming, known: Known) -> None:
        try:
            want = msgspec.json.decode(incoming.payload, type=Want)
        except (msgspec.DecodeError, ValueError) as error:
            raise MalformedFrame("not a wanted piece") from error
        refuse_unless(len(want.name) <= 40 and 0 <= want.version < MOST and 0 <= want.offset < MOST, "an impossible piece")
        chunk = await self._store.read(partial(chunk_of, gateway=known.row.gateway, want=want))
        if chunk is not None:  # else an old version: the manifest on its way names the new one
            self._send(known.row.box.down("chunk"), msgspec.json.encode(chunk), qos=1)

    async def _answer_renew(self, incoming: Incoming, known: Known) -> None:
        ask = unseal(RENEW_TAG, incoming.payload, [known.key], Renew, MAX_SMALL_B)
        refuse_unless(ask.gateway == known.row.gateway, "a request of another box")
        self._send(known.row.box.down("renew"), await asyncio.to_thread(self._press.renew, ask.csr, ask.gateway), qos=1)

    # -- the rest

    async def _announce_all(self) -> None:
        while True:
            await self._came_up.wait()
            self._came_up.clear()
            try:
                rows = await self._store.read(registry.boxes)
                for row in rows:
                    await self.announce(row)
                for row in rows:
                    if row.gateway in self._fence.revoked:  # a broker that was started anew has forgotten its farewell
                        await self.dismiss(row)
            except StoreAway:
                self._came_up.set()
                await asyncio.sleep(AWAY_S)

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
                written_s = time.monotonic()
                await self._write_heard(heard)

    async def _write_heard(self, heard: dict[str, Heard]) -> None:
        try:
            lost = await self._store.write(partial(write_heard, heard=heard))
        except StoreAway:
            return  # the next beats say it again
        for gateway, places in lost.items():
            for place in places:
                if gateway in self._known:
                    self._ask(self._known[gateway].row, place)

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
