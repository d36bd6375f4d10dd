"""Core's side of the road to HQ: believes what comes down only under HQ's seal, tells the bridge how far to read."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.core import kept
from gateway.core.views import LineView
from gateway.errors import MalformedFrame
from gateway.events import AckArrived, AskArrived, CatalogApplied, DocumentArrived, Lane, LineChanged, Row
from gateway.ledger import Ledger, StoredDocument
from gateway.link import ClaimWanted, LedgerReaches
from gateway.rules.marks import NOWHERE, RowPlace
from gateway.signed import ACK_TAG, ASK_TAG, DOCUMENT_TAG, OPENING_NAME, Ack, Ask, Document, unseal

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who minds what HQ says beside the road itself."""

    @property
    def proven(self) -> bool:
        """Whether anything but HQ's own word is missing to this start: HQ is told."""

    def hold(self, document: Document) -> None:
        """The opening of the last life."""

    def take_ack(self, ack: Ack) -> None:
        """Every acknowledgement under HQ's seal for this box."""

    def acknowledged(self, lane: int) -> None:
        """A cursor was moved."""

    def open(self, document: Document) -> list[Row] | None:
        """A new opening: the rows to commit with it; None: not for this start."""

    def applied(self, document: Document) -> None:
        """A document is in force."""


class Road:
    """The ledger's cursor, the catalog's documents and the state of the line.

    Args:
        commit: Appends rows with the document they put in force; done after the fsync.
        tell: Gives the bridge its notice.
        own: Key of the documents this box has cut down.
    """

    def __init__(
        self,
        gateway: str,
        clock: Clock,
        hq: list[Ed25519PublicKey],
        ledger: Ledger,
        commit: "Callable[[list[Row], StoredDocument], asyncio.Future[None]]",
        tell: Callable[[LedgerReaches], None],
        own: bytes = b"",
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._hq = hq
        self._ledger = ledger
        self._commit = commit
        self._tell = tell
        self._own = own
        self.catalog = Catalog(gateway, hq)
        self.listener: Listener
        self.wanted: Callable[[], list[ClaimWanted]] = list  # what headquarters is to be asked for
        self._up, self._since_us, self._acked_us = False, clock.now().wall_us, 0
        self._was_up_ns: int | None = None  # CLOCK_BOOTTIME: until when it was up, in this life

    def remember(self) -> None:
        """Put the documents of the last life in force."""
        for held in self._ledger.documents():
            own = kept.is_kept(held.sealed)
            document = kept.kept(held.sealed, self._own) if own else unseal(DOCUMENT_TAG, held.sealed, self._hq, Document)
            self.catalog.apply(document)
            if document.name == OPENING_NAME:
                self.listener.hold(document)

    @property
    def up(self) -> bool:
        """Whether HQ answers now, end to end."""
        return self._up

    @property
    def down_s(self) -> float | None:
        """How long HQ has not answered; None: it never has in this life."""
        if self._up:
            return 0.0
        return None if self._was_up_ns is None else (self._clock.boottime_ns() - self._was_up_ns) / 1e9

    def line(self) -> LineView:
        """The line to HQ, as the bridge last said, and how much waits."""
        return LineView(up=self._up, since_us=self._since_us, waiting=self._ledger.waiting, acked_us=self._acked_us)

    def fold(self, event: LineChanged, place: RowPlace = NOWHERE) -> None:
        """The line came or went."""
        self._note_down(event.up)
        self._up, self._since_us = event.up, event.event_time.wall_us

    def bridge_left(self) -> None:
        """Nobody can say how the line is, so nobody counts on it; no row, since nothing was stated."""
        self._note_down(up=False)
        self._up, self._since_us = False, self._clock.now().wall_us

    def _note_down(self, up: bool) -> None:
        if self._up and not up:
            self._was_up_ns = self._clock.boottime_ns()

    def tell_bridge(self) -> None:
        """Name the rows an fsync has covered, and how far HQ has them, for every epoch that still has some to send."""
        reach, cursors, number = self._ledger.reach, self._ledger.cursors, self._ledger.epoch.number
        open_ = [epoch for epoch, lanes in reach.items() if epoch == number or _waits(lanes, cursors.get(epoch, {}))]
        named = {epoch: reach[epoch] for epoch in open_}, {epoch: cursors.get(epoch, {}) for epoch in open_}
        self._tell(LedgerReaches(number, *named, proven=self.listener.proven, claims=self.wanted()))

    # ------------------------------------------------------------ what comes down

    def take(self, event: AckArrived | AskArrived) -> None:
        """Take HQ's word on rows."""
        try:
            if isinstance(event, AckArrived):
                self._take_ack(unseal(ACK_TAG, event.payload, self._hq, Ack))
            else:
                self._take_ask(unseal(ASK_TAG, event.payload, self._hq, Ask))
        except MalformedFrame as error:
            log.warning("a message from headquarters was not believed: %s", error)

    def _take_ack(self, ack: Ack) -> None:
        """Move the cursor, if the head HQ names is ours."""
        if ack.gateway != self._gateway:
            raise MalformedFrame("an acknowledgement for another box")
        number = self._ledger.epoch_number(ack.epoch)
        fits = number is not None and ack.seq > 0 and self._ledger.head_at(number, ack.lane, ack.seq) == ack.head
        if number is not None and fits:
            self._clock.hear_signed_time(ack.hq_time_us)
            self._acked_us = max(self._acked_us, ack.hq_time_us)
            self._ledger.move_cursor(number, ack.lane, ack.seq)
            if ack.lane == Lane.MONEY:
                self._ledger.backed_up(ack.epoch, ack.lane, ack.backed_up)
            self.listener.acknowledged(ack.lane)
        else:
            log.warning("an acknowledgement of %s/%d/%d does not fit this ledger", ack.epoch, ack.lane, ack.seq)
        self.listener.take_ack(ack)
        self.tell_bridge()

    def _take_ask(self, ask: Ask) -> None:
        """Move a cursor back: HQ has lost what it had acknowledged. Asked twice, it is done once."""
        if ask.gateway != self._gateway or ask.from_seq < 0:
            raise MalformedFrame("a request that is not for this box")
        self._clock.hear_signed_time(ask.hq_time_us)
        if self._ledger.ask_back(ask.epoch, ask.lane, ask.from_seq):
            log.warning("headquarters asks for rows of %s/%d again, from %d on", ask.epoch, ask.lane, ask.from_seq)
            self.tell_bridge()

    async def take_document(self, event: DocumentArrived) -> bool:
        """Verify a spooled file and put it in force after its commit; False: it was not believed."""
        try:
            sealed = await asyncio.to_thread(Path(event.path).read_bytes)
            document = await asyncio.to_thread(self.catalog.verify, sealed, event.sha256)
        except (OSError, MalformedFrame) as error:
            log.warning("document %s was not believed: %s", event.name, error)
            return False
        if self.catalog.is_newer(document):
            more = self.listener.open(document) if document.name == OPENING_NAME else []
            if more is None:
                log.warning("opening %d is not for this start, or does not cover its damage", document.version)
                return False
            self.catalog.versions[document.name] = document.version  # a second copy on its way is not applied twice
            applied = CatalogApplied(document.name, document.version, event.sha256, self._clock.now())
            commit = self._commit([*more, applied], StoredDocument(document.name, document.version, sealed))
            # On the commit, not behind an await: the bridge may leave meanwhile, and a document on the disk is in force.
            commit.add_done_callback(lambda _: self._apply(document))
            await asyncio.shield(commit)
        return True

    def _apply(self, document: Document) -> None:
        self.catalog.apply(document)
        if document.name == "keys" and self.catalog.keys.unknown:
            log.warning("codes of format %s are refused: this release does not know it", ", ".join(self.catalog.keys.unknown))
        self.listener.applied(document)
        self.tell_bridge()


def _waits(lanes: dict[int, int], cursors: dict[int, int]) -> bool:
    return any(seq > cursors.get(lane, 0) for lane, seq in lanes.items())
