"""A real ledger, core's real judge of the road, the real outbox and the real ingest, with nothing but a line in memory between."""

import asyncio
import json
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud_bridge.hq import backups, openings
from cloud_bridge.hq.books import Entry, books
from cloud_bridge.hq.broker import BrokerAddress, Fence
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.feed import Feed
from cloud_bridge.hq.ingest import Ingest
from cloud_bridge.hq.journal import Journal
from cloud_bridge.hq.registry import BoxRow, expect_box
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.mqtt import Incoming
from cloud_bridge.outbox import Outbox
from cloud_bridge.sender import Bench
from cloud_bridge.topics import Box
from gateway.core.road import Road
from gateway.events import AckArrived, AskArrived, LineChanged, Row, SubjectKind, VisitStarted, VoucherRedeemed
from gateway.ledger import Ledger, LedgerReader
from gateway.link import LedgerReaches
from gateway.schema import migrate
from gateway.signed import ACK_TAG, ASK_TAG, BEAT_TAG, Ack, Ask, Beat, Document, public_hex, seal, unseal
from provisioning.authority import Authority
from tests.conftest import VirtualClock

GATEWAY = "box-7"
BOX = Box("t", "s1", GATEWAY)
BOX_KEY = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
BATCH_ROWS = 3
T = TypeVar("T")


class Believer:
    """Stands where admission stands: the road carries rows whoever may decide."""

    proven = True

    def hold(self, document: Document) -> None:
        """No opening comes along this line."""

    def take_ack(self, ack: Ack) -> None:
        """No witness listens."""

    def acknowledged(self, lane: int) -> None:
        """Nobody waits."""

    def open(self, document: Document) -> list[Row] | None:
        """No document comes along this line."""
        return None

    def applied(self, document: Document) -> None:
        """No document comes along this line."""


class CaughtIngest(Ingest):
    """Headquarters' ingest, whose messages to the box go into a list."""

    sent: list[tuple[str, bytes]]

    def _send(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        self.sent.append((topic.rpartition("/")[2], payload))


class Shop:
    """The box: its folder, its core while it runs, its bridge."""

    def __init__(self, folder: Path, clock: VirtualClock, hq: Ed25519PrivateKey, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.folder = folder
        self.clock = clock
        self.answered: set[str] = set()  # redemptions that a customer was told of
        self.number = 0
        self._hq = hq.public_key()
        self._run = run
        folder.mkdir()
        migrate(folder / "ledger.db")
        self.start()

    def start(self) -> None:
        """Core and bridge come up."""
        self._run(self._start())

    async def _start(self) -> None:
        self.notice: LedgerReaches | None = None
        self.outbox = Outbox(BATCH_ROWS)
        self.bench = Bench(self.folder / "ledger.db", GATEWAY, BOX_KEY, self.clock, 0)
        self.ledger = Ledger(self.folder / "ledger.db", self.clock, "model", self._committed, self._failed)
        self.road = Road(GATEWAY, self.clock, [self._hq], self.ledger, lambda rows, document: self.ledger.append(rows), self._told)
        self.road.listener = Believer()
        self.epoch = self.ledger.epoch
        self.road.tell_bridge()
        self.outbox.restart(self.now_s)
        self.outbox.heard(self.now_s)

    def stop(self) -> None:
        """Both end."""
        self._run(self._stop())

    async def _stop(self) -> None:
        self.bench.close()
        self.ledger.close()

    def crash(self) -> None:
        """Both die as they are, and come up again: what the file held at that moment is all there is."""
        copy = self.folder.with_name("crashed")
        shutil.copytree(self.folder, copy)
        self.put_back(copy)

    def put_back(self, image: Path) -> None:
        """The disk becomes an image of it."""
        self.stop()
        shutil.rmtree(self.folder)
        shutil.copytree(image, self.folder)
        if image.name == "crashed":
            shutil.rmtree(image)
        self.start()

    def redeem(self) -> None:
        """A customer's voucher is taken: after the commit she is told so."""
        self._run(self._redeem())

    async def _redeem(self) -> None:
        self.number += 1
        redemption = f"r{self.number}"
        row = VoucherRedeemed(redemption, f"v{self.number}", 1, 1, "counter", "scanner", None, 1, self.clock.now())
        async with asyncio.timeout(40):
            await self.ledger.append([row])
        self.answered.add(redemption)

    def notice_visit(self) -> None:
        """Foot traffic, and something of lane 2; they go to the disk with the first money row a second later."""
        self._run(self._notice_visit())

    async def _notice_visit(self) -> None:
        self.number += 1
        visit = VisitStarted("ble", f"visit-{self.number}", "trolley", SubjectKind.TAG, "door", self.clock.now())
        done = self.ledger.append([visit, LineChanged(True, self.clock.now())])
        while not done.done():
            await asyncio.sleep(0.002)
            self.clock.advance(1.5)
            await self._redeem()

    def rest(self) -> None:
        """Nothing is written for a while: the ledger looks after what it keeps."""
        self._run(self._rest())

    async def _rest(self) -> None:
        for _ in range(14):
            await self.ledger.prove()
            await asyncio.sleep(0.001)

    @property
    def now_s(self) -> float:
        """The bridge's clock."""
        return self.clock.boottime_ns() / 1e9

    def batches(self, most: int = 20) -> list[tuple[str, bytes]]:
        """What the bridge sends now: (topic, message)."""
        return list(self._run(self._batches(most)))

    async def _batches(self, most: int) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        while self.notice is not None and len(found) < most and (span := self.outbox.next(self.now_s)) is not None:
            sealed = await self.bench.seal(span, self.notice)
            if sealed is None:
                break
            self.outbox.sent(span, sealed.upto, len(sealed.message), self.now_s)
            found.append((BOX.up(span.lane), sealed.message))
        return found

    def beat(self) -> tuple[str, bytes]:
        """The bridge's heartbeat."""
        assert self.notice is not None
        beat = Beat(
            gateway=GATEWAY, number=1, epoch=self.epoch.name, last=self.notice.reach[self.notice.epoch],
            cursor=self.notice.cursors.get(self.notice.epoch, {}), waiting=0, sent_us=self.clock.now().wall_us,
            proven=True, parent=self.epoch.parent, parent_heads=self.epoch.parent_heads,
        )  # fmt: skip
        return BOX.up("beat"), seal(BEAT_TAG, beat, BOX_KEY)

    def hear(self, leaf: str, payload: bytes) -> None:
        """A message of headquarters reaches the bridge, which passes it on to core."""
        self._run(self._hear(leaf, payload))

    async def _hear(self, leaf: str, payload: bytes) -> None:
        if leaf == "ack":
            ack = unseal(ACK_TAG, payload, [self._hq], Ack)
            self.outbox.answered(int(ack.epoch.partition("-")[0]), ack.lane, ack.seq, ack.mark, ack.hq_time_us, self.now_s)
            if ack.seq > 0 and ack.head:
                self.road.take(AckArrived(payload))
        elif leaf == "ask":
            ask = unseal(ASK_TAG, payload, [self._hq], Ask)
            self.outbox.forget(int(ask.epoch.partition("-")[0]), ask.lane, ask.from_seq, ask.hq_time_us)
            self.road.take(AskArrived(payload))
        elif leaf == "beat":
            self.outbox.heard(self.now_s)

    def on_disk(self) -> dict[tuple[str, int, int], bytes]:
        """Every money row the disk holds, by epoch, lane and number."""
        reader = LedgerReader(self.folder / "ledger.db")
        try:
            names = {epoch.number: epoch.name for epoch in reader.epochs()}
            return {(names[row.epoch], row.lane, row.seq): row.event for row, _ in reader.history()}
        finally:
            reader.close()

    def _committed(self) -> None:
        self.road.tell_bridge()

    def _failed(self, error: Exception) -> None:
        raise AssertionError(error)

    def _told(self, notice: LedgerReaches) -> None:
        self.notice = notice
        self.outbox.heed(notice.reach, notice.cursors, self.now_s)


class Headquarters:
    """Ingest on an SQLite file, without a broker."""

    def __init__(self, folder: Path, clock: VirtualClock, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.folder = folder
        self.clock = clock
        self.backups: list[Path] = []
        self._run = run
        folder.mkdir()
        self.authority = Authority.open(folder / "authority")
        self.start()
        self.call(lambda db: expect_box(db, BoxRow(GATEWAY, "t", "0", "s1", 1, "店", "Shop", "Asia/Taipei", None), 1))
        self.call(lambda db: db.execute("UPDATE boxes SET public = ?, enrolled_us = 1", (public_hex(BOX_KEY.public_key()),)).rowcount)
        self._run(self.ingest.learn_boxes())

    def start(self) -> None:
        """Ingest comes up."""
        self._run(self._start())

    async def _start(self) -> None:
        self.store = SqliteStore(self.folder / backups.DATABASE)
        await self.store.open()
        press = Press(self.authority, backups.floor(self.folder))
        address = BrokerAddress("127.0.0.1", 1, None)
        self.ingest = CaughtIngest(
            self.store, press, self.authority.root, self.clock, Feed(), address, Fence(frozenset()), Journal(self.folder)
        )
        self.ingest.sent = []
        self.ingest.backed_up = backups.Backups(self.folder, 2).reach
        await self.ingest.learn_boxes()

    def restart(self) -> None:
        """It dies between two transactions, and comes up again."""
        self._run(self.store.close())
        self.start()

    def call(self, work: Callable[[Any], T]) -> T:
        """A transaction."""
        return self._run(self.store.write(work))  # type: ignore[no-any-return]

    def hear(self, topic: str, payload: bytes) -> list[tuple[str, bytes]]:
        """A message arrives; what is answered."""
        self._run(self._hear(topic, payload))
        sent, self.ingest.sent = self.ingest.sent, []
        return [(leaf, message) for leaf, message in sent if leaf in ("ack", "ask", "beat")]

    async def _hear(self, topic: str, payload: bytes) -> None:
        incoming = Incoming(topic, payload, lambda: None)
        self.ingest._asked_s.clear()
        if topic.endswith("beat"):
            known, _ = self.ingest._whose(topic)
            await self.ingest._answer_beat(incoming, known)
            await self.ingest._write_heard(self.ingest.presence.take_unwritten())
            return
        opened, refused = self.ingest._open_all([incoming])
        assert not refused, refused
        await self.ingest._take_group(opened)

    def back_up(self) -> None:
        """A backup is made; the two latest are kept."""
        file = self.folder / f"backup-{len(self.backups)}.db"
        marks = backups.copy(self.folder / backups.DATABASE, file, lambda progress: None)
        backups.add(self.folder, backups.Backup(str(file), self.clock.now().wall_us, marks), 2)
        self.ingest.backed_up = backups.Backups(self.folder, 2).reach
        self.backups.append(file)

    @property
    def restorable(self) -> list[Path]:
        """Backups that may still be restored."""
        return [Path(one.file) for one in backups.read_list(self.folder)]

    def restore(self, file: Path) -> None:
        """It is put back to a backup."""
        self._run(self.store.close())
        backups.restore(self.folder, file, self.clock.now().wall_us)
        self.start()

    def books(self) -> list[Entry]:
        """The books, every row counted."""
        return self._run(self.store.read(lambda db: books(db, counted=True)))  # type: ignore[no-any-return]

    def rows(self) -> list[tuple[str, int, int, str]]:
        """Every stored row."""
        asked = "SELECT epoch, lane, seq, event FROM rows ORDER BY epoch, lane, seq"
        return self._run(self.store.read(lambda db: [tuple(row) for row in db.execute(asked).fetchall()]))  # type: ignore[no-any-return]

    def order(self) -> list[tuple[str, int, int]]:
        """Epoch, lane and number of every row, in the order of arrival."""
        asked = "SELECT epoch, lane, seq FROM rows ORDER BY id"
        return self._run(self.store.read(lambda db: [tuple(row) for row in db.execute(asked).fetchall()]))  # type: ignore[no-any-return]

    def parent(self, epoch: str) -> tuple[str, dict[int, int]] | None:
        """An epoch's parent and how far its lanes had come."""

        def found(db: Any) -> tuple[str, dict[int, int]] | None:
            row = db.execute("SELECT parent, parent_heads FROM epochs WHERE epoch = ?", (epoch,)).fetchone()
            return (row[0], {int(lane): seq for lane, (seq, _) in json.loads(row[1]).items()}) if row and row[0] else None

        return self._run(self.store.read(found))  # type: ignore[no-any-return]

    def declared(self, epoch: str, lane: int) -> bool:
        """Whether rows of a lane were declared lost."""
        return any(entry.declared for entry in self.books() if (entry.epoch, entry.lane) == (epoch, lane))

    def alarms(self) -> int:
        """How many boxes seem to run from old images."""
        return self._run(self.store.read(openings.alarmed))  # type: ignore[no-any-return]
