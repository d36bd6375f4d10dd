"""The bridge process: carries rows up and HQ's words down; believes neither the broker nor itself.

It reads the ledger no further than core names, sends, and forgets nothing: only core moves the cursor, on HQ's signed
acknowledgement. The line counts as up while HQ answers heartbeats, whatever the TCP connection says.
"""

import asyncio
import contextlib
import logging
import secrets
from typing import Any

import msgspec

from cloud_bridge.envelope import MAX_BATCH_B, MAX_BATCH_UNPACKED_B, Batch, Chunk, WireRow, seal_batch
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.outbox import Outbox, Span
from cloud_bridge.renewal import Renewal, Road
from cloud_bridge.spool import Spool
from cloud_bridge.topics import Box
from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.errors import BrokerError, MalformedFrame
from gateway.events import AckArrived, DocumentArrived, LineChanged
from gateway.health import Watchdog, enrolment_dir
from gateway.ledger import Epoch, LedgerReader, StoredRow
from gateway.link import LedgerReaches, LinkClient, Notice
from gateway.signed import ACK_TAG, ANSWER_TAG, BEAT_TAG, MANIFEST_TAG, Ack, Beat, BeatAnswered, Manifest, seal, unseal
from provisioning.authority import Enrolment
from provisioning.enroll import SignedTime

log = logging.getLogger(__name__)

BEAT_S = 1.0
LOOK_AGAIN_S = 0.25  # how soon a resend timer is looked at
AT_REST_S = 2.0  # the same, while nothing waits to be sent or acknowledged


class Bridge:
    """One box's way to HQ."""

    def __init__(self, config: GatewayConfig, enrolment: Enrolment, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._box = Box(config.store.tenant, config.store.store, config.store.gateway)
        self._key = enrolment.sign_key
        self._hq = enrolment.hq_public
        self._link = LinkClient(config.link_path, "bridge", clock)
        self._link.on_notice(self._heed)
        self._link.on_connect(self._greet)
        self._outbox = Outbox(config.bridge.batch_rows)
        self._spool = Spool(config.state_dir / "spool")
        self._notice: LedgerReaches | None = None
        self._reader: LedgerReader | None = None
        self._epochs: dict[int, Epoch] = {}
        self._stir = asyncio.Event()
        self._beat_number = 0
        self._heard_ns = 0
        self._up: bool | None = None
        self._said: asyncio.Future[bytes] | None = None
        self._watchdog = Watchdog("send", "beat")
        self._bounds = SignedTime(clock, enrolment).bounds
        self._renewal = Renewal(
            enrolment, config.state_dir, clock,
            Road(self._box, self._line, lambda: self._mqtt.connected, self._renew_up, self._trial_beat, self._use_files),
        )  # fmt: skip
        downward = [self._box.down(leaf) for leaf in ("ack", "beat", "manifest", "chunk", "renew")]
        told = {"subscriptions": downward, "on_message": self._take, "on_state": self._connected}
        self._mqtt = self._line(self._renewal.files(), told)

    async def run(self) -> None:
        """Carry until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run())
            tasks.create_task(self._mqtt.run())
            tasks.create_task(self._send_for_ever())
            tasks.create_task(self._beat_for_ever())
            tasks.create_task(self._watchdog.run())
            tasks.create_task(self._renewal.run())

    def _line(self, tls: TlsFiles, told: dict[str, Any]) -> Mqtt:
        bridge, name = self._config.bridge, f"{self._config.store.gateway}-{secrets.token_hex(4)}"
        return Mqtt(bridge.host, bridge.port, name, tls, server_name=bridge.server_name, bounds=self._bounds, **told)

    def _use_files(self, tls: TlsFiles) -> None:
        self._mqtt.tls = tls

    def _renew_up(self, topic: str, payload: bytes) -> None:
        self._mqtt.publish(topic, payload, 1)

    def _trial_beat(self, number: int) -> bytes | None:
        return self._beat(self._notice, number) if self._notice is not None else None

    # ------------------------------------------------------------ up

    async def _send_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: that of 3.11 may swallow a cancellation.
                async with asyncio.timeout(LOOK_AGAIN_S if self._is_under_way() else AT_REST_S):
                    await self._stir.wait()
            self._stir.clear()
            self._watchdog.turned("send")
            while self._mqtt.connected and self._link.connected and (span := self._outbox.next(self._now_s())):
                try:
                    message, upto = await asyncio.to_thread(self._read, span)
                    self._outbox.shorten(span, upto)
                    self._mqtt.publish(self._box.up(span.lane), message, 1)
                    self._watchdog.turned("send")
                except BrokerError:
                    self._outbox.restart()
                    break

    def _is_under_way(self) -> bool:
        return self._notice is not None and _waiting(self._notice) > 0

    def _read(self, span: Span) -> tuple[bytes, int]:
        """The message of a span, cut down to what one may hold, and its last row."""
        notice = self._notice
        if notice is None:
            raise BrokerError("core has gone")
        rows = self._ledger().rows(span.epoch, span.lane, span.after, span.upto)
        while True:
            message = self._message(notice, span, rows)
            fits = len(message) <= MAX_BATCH_B and sum(len(row.event) for row in rows) <= MAX_BATCH_UNPACKED_B // 2
            if fits or len(rows) == 1:
                return message, rows[-1].seq
            rows = rows[: len(rows) // 2]

    def _message(self, notice: LedgerReaches, span: Span, rows: list[StoredRow]) -> bytes:
        epoch, current = self._epoch(span.epoch), self._epoch(notice.epoch)
        batch = Batch(
            gateway=self._config.store.gateway, epoch=epoch.name, parent=epoch.parent, parent_heads=epoch.parent_heads, lane=span.lane,
            rows=[WireRow(row.seq, row.record_us, msgspec.Raw(row.event)) for row in rows], head=rows[-1].mac.hex(),
            current=current.name, last=notice.reach[notice.epoch], cursor=notice.cursors.get(notice.epoch, {}),
            sent_us=self._clock.now().wall_us,
        )  # fmt: skip
        return seal_batch(batch, self._key)

    def _ledger(self) -> LedgerReader:
        if self._reader is None:
            self._reader = LedgerReader(self._config.ledger_path)
        return self._reader

    def _epoch(self, number: int) -> Epoch:
        if number not in self._epochs:
            self._epochs = {epoch.number: epoch for epoch in self._ledger().epochs()}
        return self._epochs[number]

    async def _beat_for_ever(self) -> None:
        while True:
            self._judge_line()
            self._watchdog.turned("beat")
            if self._mqtt.connected and self._notice is not None:
                with contextlib.suppress(BrokerError):
                    if self._notice.epoch not in self._epochs:
                        await asyncio.to_thread(self._epoch, self._notice.epoch)
                    self._mqtt.publish(self._box.up("beat"), self._next_beat(self._notice), 0)
            self._ask_for_documents()
            await asyncio.sleep(BEAT_S)

    def _next_beat(self, notice: LedgerReaches) -> bytes:
        self._beat_number += 1
        return self._beat(notice, self._beat_number)

    def _beat(self, notice: LedgerReaches, number: int) -> bytes:
        beat = Beat(
            gateway=self._config.store.gateway, number=number, epoch=self._epoch(notice.epoch).name,
            last=notice.reach[notice.epoch], cursor=notice.cursors.get(notice.epoch, {}), waiting=_waiting(notice),
            sent_us=self._clock.now().wall_us,
        )  # fmt: skip
        return seal(BEAT_TAG, beat, self._key)

    # ------------------------------------------------------------ down

    def _take(self, incoming: Incoming) -> None:
        incoming.ack()  # nothing that comes down is lost for good: acks repeat, manifests are retained, chunks are asked for again
        leaf = incoming.topic.rpartition("/")[2]
        try:
            if leaf == "ack":
                self._take_ack(incoming.payload)
            elif leaf == "beat":
                self._take_answer(incoming.payload)
            elif leaf == "renew":
                self._renewal.heard(incoming.payload)
            elif leaf == "manifest":
                self._spool.heed(unseal(MANIFEST_TAG, incoming.payload, self._hq, Manifest))
                self._announce_documents()
                self._ask_for_documents()
            elif leaf == "chunk":
                self._spool.put(msgspec.json.decode(incoming.payload, type=Chunk))
                self._announce_documents()
                self._ask_for_documents()
        except (MalformedFrame, ValueError, msgspec.DecodeError) as error:
            log.warning("a message on %s was not understood: %s", leaf, error)

    def _take_ack(self, payload: bytes) -> None:
        ack = unseal(ACK_TAG, payload, self._hq, Ack)
        number = int(ack.epoch.partition("-")[0])
        if ack.seq > 0 and ack.head:
            self._link.state(AckArrived(payload))
        if ack.mark < ack.seq or ack.seq == 0 or not ack.head:
            self._outbox.rewind(number, ack.lane, ack.mark)
        self._heard()

    def _take_answer(self, payload: bytes) -> None:
        answer = unseal(ANSWER_TAG, payload, self._hq, BeatAnswered)
        self._clock.hear_signed_time(answer.hq_time_us)
        late = self._beat_number - answer.number
        if 0 <= late <= self._config.bridge.answer_s / BEAT_S:  # a slow line answers an earlier beat
            self._heard()

    def _ask_for_documents(self) -> None:
        if not self._mqtt.connected:
            return
        for want in self._spool.wants(self._now_s()):
            with contextlib.suppress(BrokerError):
                self._mqtt.publish(self._box.up("want"), msgspec.json.encode(want), 1)

    def _announce_documents(self) -> None:
        for ref, path in self._spool.arrived():
            self._link.state(DocumentArrived(ref.name, ref.version, ref.sha256, str(path)), f"document-{ref.sha256}")

    # ------------------------------------------------------------ the line

    def _connected(self, up: bool) -> None:
        if up:
            self._outbox.restart()
            self._stir.set()
        else:
            self._heard_ns = 0
            self._judge_line()

    def _heard(self) -> None:
        self._heard_ns = self._clock.boottime_ns()
        self._judge_line()

    def _judge_line(self) -> None:
        silent_s = (self._clock.boottime_ns() - self._heard_ns) / 1e9
        up = self._heard_ns > 0 and silent_s < self._config.bridge.answer_s
        if up != self._up:
            self._up = up
            self._said = self._link.state(LineChanged(up, self._clock.now()))
            log.info("the line to headquarters is %s", "up" if up else "down")
        if self._mqtt.connected and self._heard_ns and silent_s > 2 * self._config.bridge.answer_s:
            self._heard_ns = 0
            self._mqtt.drop()  # open, and nothing comes through

    # ------------------------------------------------------------ core

    def _heed(self, notice: Notice) -> None:
        if self._notice is not None and notice.epoch != self._notice.epoch:
            self._epochs = {}
        self._notice = notice
        self._outbox.heed(notice.reach, notice.cursors, self._now_s())
        self._stir.set()

    def _greet(self) -> None:
        if self._up is not None and self._said is not None and self._said.done():  # else the link states it again by itself
            self._said = self._link.state(LineChanged(self._up, self._clock.now()))

    def _now_s(self) -> float:
        return self._clock.boottime_ns() / 1e9


def _waiting(notice: LedgerReaches) -> int:
    return sum(seq - notice.cursors.get(epoch, {}).get(lane, 0) for epoch, lanes in notice.reach.items() for lane, seq in lanes.items())


async def run(config: GatewayConfig, name: str, clock: Clock) -> None:
    """The bridge unit; there is one, so `name` is empty.

    Raises:
        ConfigError: The box is not enrolled.
    """
    del name
    await Bridge(config, Enrolment.load(enrolment_dir(config.enrolment_dir)), clock).run()
