"""The bridge process: carries rows up and HQ's words down; believes neither the broker nor itself.

It reads the ledger no further than core names, sends, and forgets nothing: only core moves the cursor, on HQ's signed
acknowledgement. The line counts as up while HQ answers heartbeats, whatever the TCP connection says.
"""

import asyncio
import contextlib
import logging
import secrets
from functools import partial
from typing import Any

import msgspec

from cloud_bridge.envelope import Chunk
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from cloud_bridge.outbox import MARKS_KEPT, Outbox
from cloud_bridge.renewal import Renewal, Road
from cloud_bridge.sender import MONEY, NICENESS, SLOW, Bench, Sender, Way
from cloud_bridge.spool import Spool
from cloud_bridge.topics import Box
from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.errors import BrokerError, MalformedFrame
from gateway.events import AckArrived, AskArrived, ClaimedArrived, DocumentArrived, LineChanged
from gateway.health import Watchdog, enrolment_dir
from gateway.ledger import Epoch
from gateway.link import LedgerReaches, LinkClient, Notice
from gateway.signed import (
    ACK_TAG,
    ANSWER_TAG,
    ASK_TAG,
    BEAT_TAG,
    CLAIM_TAG,
    MANIFEST_TAG,
    Ack,
    Ask,
    Beat,
    BeatAnswered,
    Claim,
    DocumentRef,
    Manifest,
    seal,
    unseal,
)
from provisioning.authority import Enrolment
from provisioning.enroll import SignedTime

log = logging.getLogger(__name__)

BEAT_S = 1.0
BEATS_KEPT = 60  # beats whose time of sending is known; a later answer says nothing about the line
DROP_AGAIN_S = 300.0  # if that did not help, HQ has its reasons
LONGEST_SPREAD_S = 600.0  # headquarters may ask its shops to come back spread over so long


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
        self._epoch: Epoch | None = None  # the current one
        self._acks: dict[tuple[int, int], tuple[int, bytes]] = {}  # by epoch and lane: HQ's furthest word, and up to where
        self._dropped_s = -DROP_AGAIN_S
        self._beat_number = 0
        self._beat_now = asyncio.Event()
        self._beaten_s: dict[int, float] = {}  # when each beat was sent
        self._heard_ns = 0
        self._up: bool | None = None
        self._said: asyncio.Future[bytes] | None = None
        self._watchdog = Watchdog("money", "traffic", "beat")
        way = Way(self._outbox, self._open_way, self._publish_batch, self._watchdog.turned, self._now_s)
        ledger = (config.ledger_path, config.store.gateway, enrolment.sign_key, clock)
        self._benches = (Bench(*ledger, 0), Bench(*ledger, NICENESS))
        self._senders = (
            Sender("money", MONEY, self._benches[0], way, rests=False),
            Sender("traffic", SLOW, self._benches[1], way, rests=True),
        )  # fmt: skip
        self._bounds = SignedTime(clock, enrolment).bounds
        self._renewal = Renewal(
            enrolment, config.state_dir, clock,
            Road(self._box, self._line, lambda: self._mqtt.connected, self._renew_up, self._trial_beat, self._use_files),
        )  # fmt: skip
        downward = [self._box.down(leaf) for leaf in ("ack", "ask", "beat", "manifest", "chunk", "renew", "claimed")]
        told = {"subscriptions": downward, "on_message": self._take, "on_state": self._connected}
        self._mqtt = self._line(self._renewal.files(), told)

    async def run(self) -> None:
        """Carry until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._link.run())
                tasks.create_task(self._mqtt.run())
                for sender in self._senders:
                    tasks.create_task(sender.run())
                tasks.create_task(self._beat_for_ever())
                tasks.create_task(self._watchdog.run())
                tasks.create_task(self._renewal.run())
        finally:
            for bench in self._benches:
                bench.close()

    def _line(self, tls: TlsFiles, told: dict[str, Any]) -> Mqtt:
        bridge, name = self._config.bridge, f"{self._config.store.gateway}-{secrets.token_hex(4)}"
        return Mqtt(bridge.host, bridge.port, name, tls, server_name=bridge.server_name, bounds=self._bounds, **told)

    def _use_files(self, tls: TlsFiles) -> None:
        self._mqtt.tls = tls

    def _renew_up(self, topic: str, payload: bytes) -> None:
        self._mqtt.publish(topic, payload, 1)

    def _trial_beat(self, number: int) -> bytes | None:
        notice, epoch = self._notice, self._epoch
        return self._beat(notice, epoch, number) if notice is not None and epoch is not None and epoch.number == notice.epoch else None

    # ------------------------------------------------------------ up

    def _open_way(self) -> LedgerReaches | None:
        """What core last said, while core and broker are both there."""
        return self._notice if self._mqtt.connected and self._link.connected else None

    def _publish_batch(self, lane: int, message: bytes) -> None:
        self._mqtt.publish(self._box.up(lane), message, 1)

    async def _beat_for_ever(self) -> None:
        while True:
            self._judge_line()
            self._watchdog.turned("beat")
            self._beat_now.clear()
            if self._mqtt.connected and (notice := self._notice) is not None:
                if self._epoch is None or self._epoch.number != notice.epoch:
                    self._epoch = await self._benches[0].epoch(notice.epoch)
                with contextlib.suppress(BrokerError):
                    self._mqtt.publish(self._box.up("beat"), self._next_beat(notice, self._epoch), 0)
            self._claim(frozenset())
            self._ask_for_documents()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._beat_now.wait()

    def _next_beat(self, notice: LedgerReaches, epoch: Epoch) -> bytes:
        self._beat_number += 1
        self._beaten_s[self._beat_number] = self._now_s()
        self._beaten_s.pop(self._beat_number - BEATS_KEPT, None)
        return self._beat(notice, epoch, self._beat_number)

    def _claim(self, but: frozenset[str]) -> None:
        """Ask for what core wants and headquarters has not answered; a claim may be lost like anything else."""
        notice, epoch = self._notice, self._epoch
        if notice is None or epoch is None or epoch.number != notice.epoch or not self._mqtt.connected:
            return
        for one in notice.claims:
            if one.claim_id not in but:
                now_us, gateway = self._clock.now().wall_us, self._config.store.gateway
                claim = Claim(gateway, one.claim_id, one.voucher_id, epoch.name, notice.proven, one.units, now_us)
                with contextlib.suppress(BrokerError):
                    self._mqtt.publish(self._box.up("claim"), seal(CLAIM_TAG, claim, self._key), 1)

    def _beat(self, notice: LedgerReaches, epoch: Epoch, number: int) -> bytes:
        beat = Beat(
            gateway=self._config.store.gateway, number=number, epoch=epoch.name, last=notice.reach[notice.epoch],
            cursor=notice.cursors.get(notice.epoch, {}), waiting=_waiting(notice), sent_us=self._clock.now().wall_us,
            proven=notice.proven, parent=epoch.parent, parent_heads=epoch.parent_heads,
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
            elif leaf == "ask":
                self._take_ask(incoming.payload)
            elif leaf == "renew":
                self._renewal.heard(incoming.payload)
            elif leaf == "claimed":
                self._link.state(ClaimedArrived(incoming.payload))
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
        number = _epoch_number(ack.epoch)
        if (ack.seq > 0 and ack.head) or ack.opening:
            self._link.state(AckArrived(payload))
        if ack.seq > self._acks.get((number, ack.lane), (0, b""))[0]:
            self._acks[number, ack.lane] = ack.seq, payload
        self._outbox.answered(number, ack.lane, ack.seq, ack.mark, ack.hq_time_us, self._now_s())
        self._heard()

    def _take_ask(self, payload: bytes) -> None:
        ask = unseal(ASK_TAG, payload, self._hq, Ask)
        number = _epoch_number(ask.epoch)
        if self._acks.get((number, ask.lane), (0, b""))[0] > ask.from_seq:
            del self._acks[number, ask.lane]
        self._outbox.forget(number, ask.lane, ask.from_seq, ask.hq_time_us)
        self._link.state(AskArrived(payload))

    def _take_answer(self, payload: bytes) -> None:
        answer = unseal(ANSWER_TAG, payload, self._hq, BeatAnswered)
        self._clock.hear_signed_time(answer.hq_time_us)
        self._mqtt.spread_s = min(LONGEST_SPREAD_S, max(0.0, answer.spread_s))
        sent_s = self._beaten_s.get(answer.number)
        if sent_s is None:
            return
        if self._now_s() - sent_s <= self._config.bridge.answer_s:  # a slow line answers an earlier beat
            self._outbox.heard(sent_s)
            self._heard()

    def _ask_for_documents(self) -> None:
        if not self._mqtt.connected:
            return
        for want in self._spool.wants(self._now_s()):
            with contextlib.suppress(BrokerError):
                self._mqtt.publish(self._box.up("want"), msgspec.json.encode(want), 1)

    def _announce_documents(self) -> None:
        for ref, path in self._spool.arrived():
            answered = self._link.state(DocumentArrived(ref.name, ref.version, ref.sha256, str(path)), f"document-{ref.sha256}")
            answered.add_done_callback(partial(self._document_answered, ref))

    def _document_answered(self, ref: DocumentRef, answered: "asyncio.Future[bytes]") -> None:
        if not answered.cancelled() and answered.result() == b"applied":
            self._spool.taken(ref)

    # ------------------------------------------------------------ the line

    def _connected(self, up: bool) -> None:
        if up:
            self._outbox.restart(self._now_s())
            self._beat_now.set()  # its answer opens the way
        else:
            self._heard_ns = 0
            self._judge_line()

    def _heard(self) -> None:
        self._heard_ns = self._clock.boottime_ns()
        self._judge_line()
        for sender in self._senders:
            sender.stir()

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
        if self._mqtt.connected and self._now_s() - self._dropped_s > DROP_AGAIN_S and self._outbox.is_unheard():
            self._dropped_s = self._now_s()
            log.warning("beats are answered and batches are not: a new connection is made")
            self._mqtt.drop()

    # ------------------------------------------------------------ core

    def _heed(self, notice: Notice) -> None:
        if self._notice is None or self._notice.epoch != notice.epoch:
            self._beat_now.set()
            self._remind(notice)
        asked = frozenset(one.claim_id for one in self._notice.claims) if self._notice is not None else frozenset()
        self._notice = notice
        self._claim(asked)
        self._outbox.heed(notice.reach, notice.cursors, self._now_s())
        for sender in self._senders:
            sender.stir()

    def _remind(self, notice: LedgerReaches) -> None:
        """Core started anew, and its cursors' last second may be lost: HQ's word still counts, so nothing goes up again for it."""
        for place in sorted(self._acks)[:-MARKS_KEPT]:
            del self._acks[place]
        for (epoch, lane), (seq, payload) in self._acks.items():
            if epoch in notice.reach and seq > notice.cursors.get(epoch, {}).get(lane, 0):
                self._link.state(AckArrived(payload))

    def _greet(self) -> None:
        self._notice = None  # of the core before; this one says anew how far it is
        if self._up is not None and self._said is not None and self._said.done():  # else the link states it again by itself
            self._said = self._link.state(LineChanged(self._up, self._clock.now()))

    def _now_s(self) -> float:
        return self._clock.boottime_ns() / 1e9


def _waiting(notice: LedgerReaches) -> int:
    return sum(seq - notice.cursors.get(epoch, {}).get(lane, 0) for epoch, lanes in notice.reach.items() for lane, seq in lanes.items())


def _epoch_number(name: str) -> int:
    """Raises ValueError if it is no epoch's name."""
    return int(name.partition("-")[0])


async def run(config: GatewayConfig, name: str, clock: Clock) -> None:
    """The bridge unit; there is one, so `name` is empty.

    Raises:
        ConfigError: The box is not enrolled.
    """
    del name
    await Bridge(config, Enrolment.load(enrolment_dir(config.enrolment_dir)), clock).run()
