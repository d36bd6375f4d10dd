"""The desk: every event and every request comes here, is decided at once, and is answered after COMMIT.

Deciding is synchronous on the loop, so two kiosks in the same millisecond are two decisions in a row: the second sees the
first, and its commit, being later in the same queue, cannot be answered before the first is on the disk. What must follow a
decision (a screen, a pulse) hangs on the commit. If a commit fails, nothing of it was answered, and the process ends.
"""

import asyncio
from collections.abc import Awaitable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.clock import Clock
from gateway.codes import is_cardlike
from gateway.config import GatewayConfig
from gateway.core.admission import Admissions
from gateway.core.anywhere import Anywhere
from gateway.core.balances import Balances
from gateway.core.binding import Binding
from gateway.core.checkins import CheckIns
from gateway.core.claims import Claims
from gateway.core.counter import Counter, zone_of
from gateway.core.deeds import Deeds
from gateway.core.devices import Device, Devices
from gateway.core.drivers import Drivers
from gateway.core.floor import Floor
from gateway.core.greeting import Greeting
from gateway.core.judge import Judge, Verdict
from gateway.core.knowledge import Knowledge
from gateway.core.lockers import Lockers
from gateway.core.members import Members
from gateway.core.meters import Meters, lanes, meters
from gateway.core.offers import offering
from gateway.core.passes import Passes, Signer
from gateway.core.people import is_pin_of
from gateway.core.receipts import Posting, Receipts
from gateway.core.requests import Past, Requests, digest
from gateway.core.road import Road
from gateway.core.showing import Showing
from gateway.core.stations import Stations
from gateway.core.till import Till
from gateway.core.timekeeping import ClockWatch
from gateway.core.verdict import REDEEM, Actor, Asked
from gateway.core.views import OrderView, Screen, StoreView
from gateway.core.watch import Changes, Watch
from gateway.core.witnesses import Heard, Witnesses, unacknowledged
from gateway.errors import LedgerError
from gateway.events import (
    AssignmentTaken,
    AuthorizationEnded,
    CodePresented,
    DeviceChanged,
    DevicePaired,
    DeviceRevoked,
    LineChanged,
    RedemptionReversed,
    Row,
    Stated,
    VoucherAuthorized,
    VoucherRedeemed,
)
from gateway.ledger import Ledger, LedgerReader
from gateway.ledger.connect import were_set_aside
from gateway.link import LinkServer
from gateway.rules.definitions import Campaigns
from gateway.signed import Staff
from gateway.verifiers import Keyring


class Desk:
    """Core. Made on the loop; `run` serves the link until cancelled or until the ledger fails.

    Args:
        hq: HQ's public keys from this box's enrolment.
        secret: Known to this box alone, the same after a restart: key of the marks that witnesses keep.
        signer: Signs what screens show to shoppers' phones; None: they are shown nothing.
    """

    def __init__(
        self, config: GatewayConfig, clock: Clock, hq: list[Ed25519PublicKey], software: str, *, secret: bytes, signer: Signer | None = None
    ) -> None:
        self.config = config
        self.clock = clock
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drivers: Drivers
        self._admissions: Admissions
        self._changes = Changes()
        tell = self._changes.tell
        self._ledger = Ledger(config.ledger_path, clock, software, self._committed, self._broke)
        self._knowledge = Knowledge(self._ledger, clock)
        commit = self._knowledge.commit
        self._link = LinkServer(config.link_path, clock, self.decide, lambda *told: self._drivers.joined(*told))
        self._road = Road(
            config.store.gateway, clock, hq, self._ledger, lambda rows, document: commit(rows, document=document),
            lambda notice: self._link.tell("bridge", notice), secret,
        )  # fmt: skip
        self.devices = Devices(clock, self._road.catalog, commit, tell)
        self._lockers = Lockers(config.lockers, clock, commit, self._link.order)
        offer = offering(config.store, self._road.catalog, clock, lambda *asked: self._binding.count(*asked))
        counter = Counter(
            config.till, self._road.catalog, clock, lambda: self._admissions.admitted, offer, zone_of(config.store.timezone),
        )  # fmt: skip
        self._judge = Judge(config.store.number, self._road.catalog, self._lockers.wall, lambda: self._admissions.admitted, counter)
        self._claims = Claims(
            config.store.gateway, hq, clock, self._ledger, commit, lambda: self._admissions.admitted, lambda: self._road.up,
            self._road.tell_bridge, self._judge.refuse,
        )  # fmt: skip
        self.members = Members(
            config.members, config.store.gateway, self._road.catalog.roll, clock, signer.key if signer else None, secret,
            lambda rows, document: commit(rows, document=document), tell,
        )  # fmt: skip
        self._binding = Binding(self.members, self._road.catalog, clock, config.store)
        self._receipts = Receipts(clock, counter.used, lambda: self._road.catalog.orders, self._binding)
        greeting = Greeting(self.members, clock, self._judge.refuse)
        self._judge.member, self._judge.points_of = greeting.present, greeting.account
        self._balances = Balances(
            self._claims, counter.used, clock, self._judge.refuse, offer, lambda: self._road.up, lambda: self._admissions.admitted,
            self._knowledge.was_acked, config.till.hold_s,
        )  # fmt: skip
        counter.lent = self._balances
        self._judge.assigned, self._judge.granted, self._judge.lent = self._claims.present, self._claims.bring, self._balances.decide
        self._anywhere = Anywhere(self._road.catalog, clock, counter, self._claims, self._road, self._knowledge, config.store.number)
        self._judge.shared, self._road.wanted = self._anywhere.shared, self._anywhere.wanted
        self._floor = Floor(config.ble)
        self._stations = Stations([station.name for station in config.stations], tell)
        self._requests: Requests[Verdict] = Requests(
            lambda verdict: self.till.showing.tell(verdict),
            lambda verdict, source_id, answer: self.till.commit(verdict, source_id, answer), lambda verdict: self._deeds.act(verdict),
            Past(clock.boottime_ns, lambda: self._knowledge.place, self._knowledge.is_acked), lambda verdict: self._deeds.waits(verdict),
        )  # fmt: skip
        showing = Showing(
            counter, self._road.catalog, clock, self.devices, commit, lambda: self._admissions.admitted,
            prefix=config.till.code_prefix, codes=config.till.codes,
        )  # fmt: skip
        self._deeds = Deeds(
            self._judge, self._binding, showing, self._lockers, self._stations, clock, config.stations, self._link.connected
        )
        self.till = Till(counter, self._judge, clock, commit, self._requests, self._deeds.of_code, showing)
        self.till.joined, self.till.consents, self.till.returns = self._binding.captured, self._binding.consents, self._receipts.returns
        self._anywhere.adopt_members = self._binding.book.adopt
        self._drivers = Drivers(
            config, self._knowledge, self._road, self._lockers, self._floor, present=self._present_at, collected=self._deeds.collected,
            tell=tell, claimed=self._claims.take,
        )  # fmt: skip
        self._clock_watch = ClockWatch(clock, commit)
        self.checkins = CheckIns(config, signer, clock)
        self._remember(secret, signer)

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
            self.members.rest()
            self._ledger.close()

    async def prove(self) -> None:
        """Return once the ledger has answered. Nothing is written, so a full disk answers too."""
        await self._ledger.prove()

    # ------------------------------------------------------------ for pages

    def staff(self) -> list[Staff]:
        """Who works here, as HQ says."""
        return list(self._road.catalog.staff.values())

    async def sign_in(self, staff_ref: str, pin: str) -> Staff | None:
        """The person, if the PIN is theirs."""
        person = self._road.catalog.staff.get(staff_ref)
        return person if person is not None and await is_pin_of(person, pin) else None

    def campaigns(self) -> Campaigns:
        """The campaigns in force here, as HQ says."""
        return self._road.catalog.campaigns

    def keys(self) -> Keyring:
        """The keys codes are signed with, as HQ says."""
        return self._road.catalog.keys

    async def write(self, rows: list[Row]) -> None:
        """Write down what was decided outside the verbs; returns after the commit."""
        if rows:  # a commit of nothing never comes
            await asyncio.shield(self._knowledge.commit(rows))

    def orders(self) -> list[OrderView]:
        """Every order HQ has told of, and where it stands."""
        return self._judge.orders()

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
        risk, quotas = self._anywhere.views()
        return StoreView(
            store=store.store, name_zh=store.name_zh, name_en=store.name_en, epoch=self._ledger.epoch.name, now_us=now.wall_us,
            time_trust=int(now.trust), line=self._road.line(), zones=self._floor.zones(now.wall_us),
            compartments=self._lockers.views(self._judge.order_number), units=self._drivers.views(), screens=self._stations.all(),
            lanes=lanes(self._ledger), documents=dict(self._road.catalog.versions), counts=dict(self._knowledge.counts),
            admission=self._admissions.view(), risk=risk, quotas=quotas,
        )  # fmt: skip

    def meters(self) -> Meters:
        """What can be measured beside it."""
        return meters(self._ledger, self._knowledge.refused, self._anywhere.accepted.counts)

    def mark(self, device: Device) -> str:
        """What a paired device should keep, to vouch for this box when it comes back; empty for one that shares its disk."""
        return self._witnesses.mark(device.device_id) if self.devices.is_witness(device.device_id) else ""

    def hear_witness(self, device: Device, mark: str) -> tuple[Heard, str]:
        """Judge the mark a paired device kept; with the verdict, the mark it should keep from now on, if that descends from it."""
        if not self.devices.is_witness(device.device_id):
            return Heard.nothing(), ""
        heard = self._admissions.hear(device, mark)
        return heard, self._witnesses.mark(device.device_id, heard.mark)

    # ------------------------------------------------------------ decisions

    def decide(self, unit: str, event_id: str, event: Stated) -> Awaitable[bytes]:
        """Take a driver's event, as over the link; the awaitable is done after COMMIT and gives the answer."""
        return self._drivers.decide(unit, event_id, event)

    def present(self, code: CodePresented, *, station: str, staff: str | None = None, asked: Asked = REDEEM) -> Awaitable[bytes]:
        """Decide on a presented code: redeem it, or hold it. The same presentation gets the same bytes, whatever has happened since.

        Raises:
            ConflictingKey: That presentation was another request.
        """
        return self.till.present(code, station, staff, self._binding.printed(asked))

    def post_sale(self, posting: Posting, *, key: str, actor: Actor) -> Awaitable[bytes]:
        """Take a sale that a till has finished.

        Raises:
            ConflictingKey: That key was another request.
        """
        return self._requests.once(key, self._receipts.print_(posting, actor), "", lambda: self._receipts.post(posting, actor))

    def stage(
        self, order_id: str, *, key: str, staff: str, station: str, bank: str | None = None, compartment: int | None = None
    ) -> Awaitable[bytes]:
        """Open a free compartment for an order's parcel, or the one that is named.

        Raises:
            ConflictingKey: That key was another request.
        """
        place = (bank or self.config.lockers[0].name, compartment) if compartment is not None and self.config.lockers else None
        asked = digest("stage", "" if is_cardlike(order_id) else order_id, staff, station, bank or "", str(place))
        return self._requests.once(key, asked, "", lambda: self._deeds.of_parcel(order_id, staff, station, bank, place))

    def _present_at(self, code: CodePresented, station: str) -> Awaitable[bytes]:
        """A scanner's code. If core died between the commit and the screen, and the scanner asks again, the screen says it now.

        A door is not announced: nothing is pulsed on the strength of an old intent, so the customer shows the code again.
        """
        answered = self.present(code, station=station)
        unshown = self._requests.unshown(code.presentation_id)
        if unshown is not None and unshown.decision in ("redeemed", "refused"):
            self._stations.show(station, unshown)
        return answered

    # ------------------------------------------------------------ the ledger

    def _remember(self, secret: bytes, signer: Signer | None) -> None:
        """Rebuild everything core knows from the chain, the stored answers and the documents in force, then judge this start."""
        reader = LedgerReader(self.config.ledger_path)
        try:
            epochs, seen = reader.epochs(), unacknowledged(reader, self._ledger)
        finally:
            reader.close()
        knowledge, gateway = self._knowledge, self.config.store.gateway
        self._witnesses = Witnesses(gateway, secret, self._ledger, epochs, self.clock, knowledge.commit, lambda: self._road.up)
        self._admissions = Admissions(
            self.clock, self._ledger, self.devices, self._witnesses, self._judge.used, self._lockers.wall, knowledge.commit, self._committed
        )
        self._road.listener = self._admissions
        self._admissions.adopt, self._claims.line = self._anywhere.adopt, frozenset(epoch.name for epoch in epochs)
        self._claims.address_of = Passes(gateway, signer, self.clock, self._ledger, epochs).address
        self._name_folds()
        self._road.remember()
        knowledge.remember(self._drivers.see, self._clock_watch.heed)
        self._requests.remember(self._ledger.answers())
        self._lockers.resume()
        self.till.resume()
        self.members.watch()
        self.devices.heed()
        self._admissions.begin(seen, anew=bool(were_set_aside(self.config.ledger_path)))
        self.devices.on_revoked = self._admissions.excuse

    def _name_folds(self) -> None:
        tell = self._knowledge.tell
        tell(self._judge.used.fold, VoucherRedeemed, RedemptionReversed, VoucherAuthorized, AuthorizationEnded)
        for part in (self._receipts, self.till.showing, self._claims, self._floor, self.members, self._admissions, self._lockers):
            part.live_on(tell)
        tell(self._balances.fold, AssignmentTaken)
        self._anywhere.listen()
        tell(self._road.fold, LineChanged)
        tell(self.devices.fold, DevicePaired, DeviceRevoked)
        tell(self._drivers.fold, DeviceChanged)

    def _committed(self) -> None:
        self._clock_watch.look()
        self._claims.look()
        self._road.tell_bridge()
        self._changes.tell()

    def _broke(self, error: LedgerError) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)
