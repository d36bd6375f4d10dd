"""The desk: every event and every request comes here, is decided at once, and is answered after COMMIT.

Deciding is synchronous on the loop, so two kiosks in the same millisecond are two decisions in a row: the second sees the
first, and its commit, being later in the same queue, cannot be answered before the first is on the disk. What must follow a
decision (a screen, a pulse) hangs on the commit. If a commit fails, nothing of it was answered, and the process ends.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import argon2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.core.devices import Devices
from gateway.core.floor import Floor
from gateway.core.judge import Judge, Verdict
from gateway.core.lockers import Lockers
from gateway.core.meters import Meters, lanes, meters
from gateway.core.requests import ConflictingKey, Request, digest, fingerprint
from gateway.core.road import Road
from gateway.core.stations import Stations
from gateway.core.views import OrderView, Screen, StoreView, UnitView
from gateway.core.watch import Changes, Watch
from gateway.errors import LedgerError
from gateway.events import (
    AckArrived,
    BankSnapshotTaken,
    CodePresented,
    CommandAnswered,
    DeviceChanged,
    DevicePaired,
    DeviceRevoked,
    DocumentArrived,
    DoorEdgeSensed,
    LineChanged,
    OccupancyEstimated,
    ParcelCollected,
    RedemptionRefused,
    Row,
    Stated,
    TimeTrust,
    VisitEnded,
    VisitStarted,
    VoucherRedeemed,
)
from gateway.ledger import Ledger, StoredAnswer, StoredDocument
from gateway.link import LinkServer
from gateway.rules import answers, pickup
from gateway.signed import Staff

log = logging.getLogger(__name__)

SEEN_EVENTS: Final = 50_000  # more than all drivers together keep unanswered
COUNTED: Final = {VisitEnded: "visits", VoucherRedeemed: "redemptions", RedemptionRefused: "refusals", ParcelCollected: "collections"}


class Desk:
    """Core. Made on the loop; `run` serves the link until cancelled or until the ledger fails.

    Args:
        hq: HQ's public keys from this box's enrolment.
    """

    def __init__(self, config: GatewayConfig, clock: Clock, hq: list[Ed25519PublicKey], software: str) -> None:
        self.config = config
        self.clock = clock
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._changes = Changes()
        self._ledger = Ledger(config.ledger_path, clock, software, self._committed, self._broke)
        self._link = LinkServer(config.link_path, clock, self.decide, self._joined)
        self._road = Road(
            config.store.gateway, clock, hq, self._ledger, self._commit_document, lambda notice: self._link.tell("bridge", notice)
        )
        self.devices = Devices(clock, self._road.catalog, self._commit, self._changes.tell)
        self._lockers = Lockers(config.lockers, clock, self._commit, self._link.order)
        self._judge = Judge(config.store.number, self._road.catalog, self._lockers.wall)
        self._floor = Floor(config.ble)
        self._stations = Stations([station.name for station in config.stations], self._changes.tell)
        self._requests: dict[str, Request] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._committing: dict[str, asyncio.Future[bytes]] = {}  # by event id: stated again meanwhile, it waits for the same commit
        self._counts = dict.fromkeys(COUNTED.values(), 0)
        self._refused: Counter[str] = Counter()
        self._units: dict[str, UnitView] = {unit: UnitView(unit=unit, connected=False) for unit in _units(config)}
        self._remember()

    async def run(self) -> None:
        """Serve the drivers.

        Raises:
            LedgerError: A commit failed; nothing after it was answered.
        """
        serving = asyncio.ensure_future(self._link.serve())
        try:
            await asyncio.wait([serving, self._broken], return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                self._broken.result()
            await serving
        finally:
            serving.cancel()
            self._ledger.close()

    # ------------------------------------------------------------ for pages

    def staff(self) -> list[Staff]:
        """Who works here, as HQ says."""
        return list(self._road.catalog.staff.values())

    async def sign_in(self, staff_ref: str, pin: str) -> Staff | None:
        """The person, if the PIN is theirs."""
        person = self._road.catalog.staff.get(staff_ref)
        if person is None:
            return None
        try:
            await asyncio.to_thread(argon2.PasswordHasher().verify, person.pin_hash, pin)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return None
        return person

    def orders(self) -> list[OrderView]:
        """Every order HQ has told of, and where it stands."""
        return [
            OrderView(
                order_id=order.order_id, number=order.number, customer=order.customer, lines=order.lines, state=state, compartment=number
            )
            for order in self._road.catalog.orders.values()
            for state, number in [self._judge.order_state(order)]
        ]

    def screen(self, station: str) -> Screen:
        """What a station shows.

        Raises:
            KeyError: No such station.
        """
        return self._stations.screen(station)

    def watch(self) -> Watch:
        """Yields when anything shown has changed."""
        return self._changes.watch()

    def store_view(self) -> StoreView:
        """The shop at a glance."""
        store, now = self.config.store, self.clock.now()
        return StoreView(
            store=store.store, name_zh=store.name_zh, name_en=store.name_en, epoch=self._ledger.epoch.name, now_us=now.wall_us,
            time_trust=int(now.trust), line=self._road.line(), zones=self._floor.zones(now.wall_us),
            compartments=self._lockers.views(self._judge.order_number), units=list(self._units.values()),
            screens=self._stations.all(), lanes=lanes(self._ledger), documents=dict(self._road.catalog.versions), counts=dict(self._counts),
        )  # fmt: skip

    def meters(self) -> Meters:
        """What can be measured beside it."""
        return meters(self._ledger, self._refused)

    # ------------------------------------------------------------ decisions

    def present(self, code: CodePresented, *, station: str, staff: str | None = None) -> Awaitable[bytes]:
        """Decide on a presented code. The same presentation gets the same bytes, whatever has happened since.

        Raises:
            ConflictingKey: That presentation was another request.
        """
        asked = fingerprint(code, station, staff)
        return self._once(code.presentation_id, asked, code.presentation_id, lambda: self._judge_code(code, station, staff))

    def stage(
        self, order_id: str, *, key: str, staff: str, station: str, bank: str | None = None, compartment: int | None = None
    ) -> Awaitable[bytes]:
        """Open a free compartment for an order's parcel, or the one that is named.

        Raises:
            ConflictingKey: That key was another request.
        """
        place = (bank or self.config.lockers[0].name, compartment) if compartment is not None and self.config.lockers else None
        asked = digest("stage", order_id, staff, station, bank or "", str(place))
        return self._once(key, asked, "", lambda: self._judge_stage(order_id, staff, station, bank, place))

    def _once(self, key: str, asked: bytes, source_id: str, judge: Callable[[], Verdict]) -> Awaitable[bytes]:
        known = self._requests.get(key)
        if known is not None:
            if known.fingerprint != asked:
                raise ConflictingKey("this key belongs to another request", "Take a new presentation_id for each code that is shown")
            return asyncio.shield(known.answer)
        verdict = judge()
        stored = StoredAnswer(key, asked, answers.encode(verdict.answer))
        answered: asyncio.Future[bytes] = self._loop.create_future()
        self._requests[key] = Request(asked, answered)

        def act(_: "asyncio.Future[None]") -> None:
            self._stations.show(verdict.station, verdict.answer)
            if verdict.intent is not None:
                self._lockers.pulse(verdict.intent)
            answered.set_result(stored.answer)

        self._commit(verdict.rows, source_id, stored).add_done_callback(act)
        return asyncio.shield(answered)

    def _judge_code(self, code: CodePresented, station: str, staff: str | None) -> Verdict:
        verdict = self._judge.code(code, station, staff, self.clock)
        place = verdict.place
        if place is not None and not self._link.connected(f"locker@{place[0]}"):
            return self._judge.refuse("locker_unavailable", code, station, staff, self.clock, verdict.answer.reference)
        return verdict if place is None else self._with_intent(verdict, place, "pickup", staff or "shopper", station)

    def _judge_stage(self, order_id: str, staff: str, station: str, bank: str | None, place: pickup.Place | None) -> Verdict:
        verdict = self._judge.stage(order_id, bank, place, station, self.clock.now().wall_us)
        return verdict if verdict.place is None else self._with_intent(verdict, verdict.place, "deposit", staff, station)

    def _with_intent(self, verdict: Verdict, place: pickup.Place, purpose: str, actor: str, station: str) -> Verdict:
        if not self._link.connected(f"locker@{place[0]}"):
            now = self.clock.now()
            refused = answers.refusal("locker_unavailable", now.wall_us, reference=verdict.answer.reference)
            return Verdict(answer=refused, station=station, rows=[])
        intent = self._lockers.intend(place, purpose, verdict.answer.reference, actor, station, self.clock.now())
        verdict.rows.append(intent)
        verdict.intent = intent
        return verdict

    # ------------------------------------------------------------ the link

    def decide(self, unit: str, event_id: str, event: Stated) -> Awaitable[bytes]:
        """Take a driver's event; the awaitable is done after COMMIT and gives the answer."""
        match event:
            case CodePresented():
                return self._code_from_driver(unit, event)
            case AckArrived():
                self._road.take_ack(event)
            case DocumentArrived():
                return self._take_document(event)
            case _ if event_id in self._committing:
                return asyncio.shield(self._committing[event_id])
            case _ if event_id in self._seen:
                pass  # on the disk already
            case VisitStarted() | VisitEnded() | OccupancyEstimated() | DeviceChanged() | LineChanged():
                self._see(event_id)
                return self._then(event_id, self._commit([event], event_id))
            case DoorEdgeSensed():
                return self._doors(event_id, self._lockers.edge(event))
            case BankSnapshotTaken():
                return self._doors(event_id, self._lockers.snapshot(event))
            case CommandAnswered():
                return self._doors(event_id, self._lockers.command_answered(event))
        return self._nothing_to_commit()

    def _code_from_driver(self, unit: str, event: CodePresented) -> Awaitable[bytes]:
        station = self.config.station_of(unit)
        try:
            answered = self.present(event, station=station.name if station else unit)
            self._show_late(event.presentation_id, station.name if station else unit)
            return answered
        except ConflictingKey:
            log.warning("%s used the same presentation_id for two codes", unit)
            return self._nothing_to_commit()

    def _show_late(self, presentation_id: str, station: str) -> None:
        """Core died between the commit and the screen, and the scanner asks again: say now what was decided then.

        A door is not announced: nothing is pulsed on the strength of an old intent, so the customer shows the code again.
        """
        request = self._requests[presentation_id]
        if not request.shown:
            request.shown = True
            answer = answers.decode(request.answer.result())
            if answer.decision in ("redeemed", "refused"):
                self._stations.show(station, answer)

    def _doors(self, event_id: str, rows: list[Row]) -> Awaitable[bytes]:
        self._see(event_id)
        self._changes.tell()
        if not rows:
            return self._nothing_to_commit()
        return self._then(event_id, self._commit(rows, event_id), lambda: self._tell_collected(rows))

    def _tell_collected(self, rows: list[Row]) -> None:
        for row in rows:
            if isinstance(row, ParcelCollected):
                number = self._judge.order_number(row.order_id)
                answer = answers.decision(
                    "collected", self.clock.now().wall_us, reference=row.order_id, order_number=number, compartment=row.compartment
                )
                for station in self.config.stations:
                    if row.bank in station.lockers:
                        self._stations.show(station.name, answer)

    async def _take_document(self, event: DocumentArrived) -> bytes:
        believed = await self._road.take_document(event)
        self.devices.heed()
        self._changes.tell()
        return b"applied" if believed else b"refused"

    def _joined(self, unit: str, connected: bool) -> None:
        known = self._units.get(unit, UnitView(unit=unit, connected=False))
        self._units[unit] = UnitView(unit=unit, connected=connected, device_state=known.device_state)
        if unit == "bridge":
            if connected:
                self._road.tell_bridge()
            else:
                self._road.bridge_left()
        if unit.startswith("ble@") and not connected:
            self._floor.forget_radio()
        self._changes.tell()

    # ------------------------------------------------------------ the ledger

    def _commit(
        self, rows: list[Row], source_id: str = "", answer: StoredAnswer | None = None, document: StoredDocument | None = None
    ) -> "asyncio.Future[None]":
        for row in rows:
            self._fold(row)
        return self._ledger.append(rows, source_id=source_id, answer=answer, document=document)

    def _commit_document(self, row: Row, document: StoredDocument) -> "asyncio.Future[None]":
        return self._commit([row], document=document)

    def _fold(self, row: Row) -> None:
        counted = COUNTED.get(type(row))
        if counted is not None:
            self._counts[counted] += 1
        match row:
            case VoucherRedeemed():
                self._judge.used.fold(row)
            case RedemptionRefused():
                self._refused[row.reason] += 1
            case VisitStarted() | VisitEnded() | OccupancyEstimated():
                self._floor.fold(row)
            case LineChanged():
                self._road.fold(row)
            case DevicePaired() | DeviceRevoked():
                self.devices.fold(row)
            case DeviceChanged():
                view = self._units.get(row.read_point)
                if view is not None:
                    self._units[row.read_point] = UnitView(unit=view.unit, connected=view.connected, device_state=row.device_state)
            case _:
                self._lockers.wall.fold(row)

    def _remember(self) -> None:
        """Rebuild everything core knows from the chain, the stored answers and the documents in force."""
        for stored, row in self._ledger.history():
            self._fold(row)
            if row.event_time.trust is TimeTrust.SYNCED:
                self.clock.raise_floor(stored.record_us)
            if stored.source_id:
                self._see(stored.source_id)
        for source_id in self._ledger.recent_sources():
            self._see(source_id)
        for key, answer in self._ledger.answers().items():
            done = self._loop.create_future()
            done.set_result(answer.answer)
            self._requests[key] = Request(answer.request, done, shown=False)
        self._road.remember()
        self._counts["visits"] = self._ledger.counts().get(VisitEnded.__name__, 0)
        self._lockers.resume()
        self.devices.heed()

    def _see(self, event_id: str) -> None:
        self._seen[event_id] = None
        if len(self._seen) > SEEN_EVENTS:
            self._seen.popitem(last=False)

    def _committed(self) -> None:
        self._road.tell_bridge()
        self._changes.tell()

    def _broke(self, error: LedgerError) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)

    def _then(self, event_id: str, commit: "asyncio.Future[None]", act: Callable[[], None] | None = None) -> Awaitable[bytes]:
        answered = self._committing[event_id] = self._loop.create_future()

        def settle(_: "asyncio.Future[None]") -> None:
            del self._committing[event_id]
            if act is not None:
                act()
            answered.set_result(b"")

        commit.add_done_callback(settle)
        return asyncio.shield(answered)

    def _nothing_to_commit(self) -> Awaitable[bytes]:
        done: asyncio.Future[bytes] = self._loop.create_future()
        done.set_result(b"")
        return done


def _units(config: GatewayConfig) -> list[str]:
    radios = [f"ble@{config.ble.name}"] if config.ble.sensors else []
    return [*radios, *(f"scanner@{s.name}" for s in config.scanners), *(f"locker@{s.name}" for s in config.lockers), "bridge"]
