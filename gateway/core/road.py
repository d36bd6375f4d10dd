"""Core's side of the road to HQ: believes acknowledgements and documents only under HQ's seal, tells the bridge how far to read."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.core.views import LineView
from gateway.errors import MalformedFrame
from gateway.events import AckArrived, CatalogApplied, DocumentArrived, LineChanged
from gateway.ledger import Ledger, StoredDocument
from gateway.link import LedgerReaches
from gateway.signed import ACK_TAG, DOCUMENT_TAG, Ack, Document, unseal

log = logging.getLogger(__name__)


class Road:
    """The ledger's cursor, the catalog's documents and the state of the line.

    Args:
        commit: Appends the row of an applied document with the document itself; done after the fsync.
        tell: Gives the bridge its notice.
    """

    def __init__(
        self,
        gateway: str,
        clock: Clock,
        hq: list[Ed25519PublicKey],
        ledger: Ledger,
        commit: Callable[[CatalogApplied, StoredDocument], "asyncio.Future[None]"],
        tell: Callable[[LedgerReaches], None],
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._hq = hq
        self._ledger = ledger
        self._commit = commit
        self._tell = tell
        self.catalog = Catalog(gateway, hq)
        self._up, self._since_us, self._acked_us = False, clock.now().wall_us, 0

    def remember(self) -> None:
        """Put the documents of the last life in force."""
        for held in self._ledger.documents():
            self.catalog.apply(unseal(DOCUMENT_TAG, held.sealed, self._hq, Document))

    def line(self) -> LineView:
        """The line to HQ, as the bridge last said, and how much waits."""
        return LineView(up=self._up, since_us=self._since_us, waiting=self._ledger.waiting, acked_us=self._acked_us)

    def fold(self, event: LineChanged) -> None:
        """The line came or went."""
        self._up, self._since_us = event.up, event.event_time.wall_us

    def bridge_left(self) -> None:
        """Nobody can say how the line is, so nobody counts on it; no row, since nothing was stated."""
        self._up, self._since_us = False, self._clock.now().wall_us

    def tell_bridge(self) -> None:
        """Name the rows an fsync has covered, and how far HQ has them, for every epoch that still has some to send."""
        reach, cursors, number = self._ledger.reach, self._ledger.cursors, self._ledger.epoch.number
        open_ = [epoch for epoch, lanes in reach.items() if epoch == number or _waits(lanes, cursors.get(epoch, {}))]
        self._tell(LedgerReaches(number, {epoch: reach[epoch] for epoch in open_}, {epoch: cursors.get(epoch, {}) for epoch in open_}))

    def take_ack(self, event: AckArrived) -> None:
        """Move the cursor, if HQ signed this and the head it names is ours."""
        try:
            ack = unseal(ACK_TAG, event.payload, self._hq, Ack)
        except MalformedFrame as error:
            log.warning("an acknowledgement was not believed: %s", error)
            return
        number = self._ledger.epoch_number(ack.epoch)
        if ack.gateway != self._gateway or number is None or self._ledger.head_at(number, ack.lane, ack.seq) != ack.head:
            log.warning("an acknowledgement of %s/%d/%d does not fit this ledger", ack.epoch, ack.lane, ack.seq)
            return
        self._clock.hear_signed_time(ack.hq_time_us)
        self._acked_us = max(self._acked_us, ack.hq_time_us)
        self._ledger.move_cursor(number, ack.lane, ack.seq)
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
            self.catalog.versions[document.name] = document.version  # a second copy on its way is not applied twice
            applied = CatalogApplied(document.name, document.version, event.sha256, self._clock.now())
            commit = self._commit(applied, StoredDocument(document.name, document.version, sealed))
            # On the commit, not behind an await: the bridge may leave meanwhile, and a document on the disk is in force.
            commit.add_done_callback(lambda _: self.catalog.apply(document))
            await asyncio.shield(commit)
        return True


def _waits(lanes: dict[int, int], cursors: dict[int, int]) -> bool:
    return any(seq > cursors.get(lane, 0) for lane, seq in lanes.items())
