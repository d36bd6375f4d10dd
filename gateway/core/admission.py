"""Admission at work: what this ledger tells of earlier starts, who is expected to speak for this one, and what HQ's opening adds.

The judgement is `gateway.rules.admission`'s. Nothing is kept beside the chain: which starts were admitted, doubted or damaged is
folded from their rows, and HQ's opening is a document like any other. An opening takes effect in the moment it is decided and is
committed before anything that is decided after it, so nobody is answered on the strength of an opening that is not on the disk.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.clock import Clock
from gateway.core.devices import Device, Devices
from gateway.core.views import AdmissionView
from gateway.core.witnesses import Heard, Witnesses, Word
from gateway.events import EpochAdmitted, EpochDoubted, Lane, Row, RowsDamaged
from gateway.ledger import Ledger
from gateway.rules.admission import IN_TOUCH_ROWS, SETTLE_S, Admission, Doubt, How, Start
from gateway.rules.marks import RowPlace
from gateway.rules.pickup import Wall
from gateway.rules.voucher import Used
from gateway.signed import Ack, Document, Opening

log = logging.getLogger(__name__)

WHOLE: Final = 1 << 62  # an epoch that HQ closed is closed to its end, wherever that was
OPENINGS: Final = (How.OPENING, "manager")  # ways of admission that settle what was doubted before


class Admissions:
    """Whether this start may decide.

    Args:
        tell: Something shown has changed, and HQ should hear of it.
    """

    def __init__(
        self, clock: Clock, ledger: Ledger, devices: Devices, witnesses: Witnesses, used: Used, wall: Wall,
        commit: Callable[[list[Row]], object], tell: Callable[[], None],
    ) -> None:  # fmt: skip
        self._clock = clock
        self._ledger = ledger
        self._devices = devices
        self._witnesses = witnesses
        self._used = used
        self._wall = wall
        self._commit = commit
        self._tell = tell
        self.adopt: Callable[[Opening, dict[int, int]], None] = lambda opening, marks: None  # who else lives on openings
        self._standing: bool | None = None  # what was last decided on a start, as the rows tell; None: nothing yet
        self._opened = 0  # the highest opening the rows tell of
        self._damaged: dict[str, int] = {}  # not covered by an opening yet
        self._beyond: list[tuple[str, int]] = []  # what witnesses knew and this ledger did not; not settled by an opening yet
        self._held: Document | None = None  # HQ's opening in force
        self._judged: Admission | None = None
        self._since_us = clock.now().wall_us

    # ------------------------------------------------------------ at the start

    def hold(self, document: Document) -> None:
        """HQ's last opening, before the history is folded: it counts from the row that tells of it."""
        self._held = document

    def fold(self, row: EpochAdmitted | EpochDoubted | RowsDamaged, place: RowPlace) -> None:
        """Take a row of the ledger."""
        if isinstance(row, RowsDamaged):
            if row.lane == Lane.MONEY:
                self._damaged[row.epoch] = max(row.last, self._damaged.get(row.epoch, 0))
        elif isinstance(row, EpochDoubted):
            self._standing = False
            self._beyond += [row.beyond] if row.beyond is not None else []
        else:
            self._standing, self._opened = True, max(self._opened, row.opening or 0)
            if row.how in OPENINGS:
                self._settle_doubts()
            if self._judged is None and self._held is not None and row.opening == self._held.version:
                self._adopt(self._held.opening)

    def live_on(self, tell: Callable[..., None]) -> None:
        """Name the rows that this lives on: `tell(fold, *kinds)`."""
        tell(self.fold, EpochAdmitted, EpochDoubted, RowsDamaged)

    def begin(self, seen: frozenset[str], anew: bool) -> None:
        """Judge this start.

        Args:
            seen: Devices whose sight of the box HQ has not acknowledged.
            anew: This ledger stands in the place of one that was lost.
        """
        standing, opened = self._standing, self._opened
        if self._held is not None:
            self._count(self._held.opening)  # its row may be trimmed
        self._note_damage()
        witnesses = frozenset(device_id for device_id in seen if self._devices.is_witness(device_id))
        self._witnesses.expect(witnesses)
        epoch = self._ledger.epoch
        start = Start(
            epoch=epoch.name, parent=epoch.parent, known=standing is not None or any(self._acked().values()),
            parent_admitted=standing is not False, damaged=dict(self._damaged),
            lost=(anew and standing is None) or opened > (self._held.version if self._held is not None else 0),
            expected=witnesses, in_touch=self._in_touch(),
        )  # fmt: skip
        self._judged = Admission(start)
        if self.admitted:
            self._admit()
        elif self._judged.doubt not in (None, Doubt.PARENT):  # that one is written down already
            self._commit([EpochDoubted(epoch.name, self._judged.doubt or "", None, None, self._clock.now())])
        elif start.in_touch:
            asyncio.get_running_loop().call_later(SETTLE_S, lambda: self._heed(self._of_now.settle()))
        log.info("this start is %s", self._judged.how or self._judged.doubt or self._judged.state)

    def _note_damage(self) -> None:
        found = [RowsDamaged(one.epoch.name, one.lane, one.first, one.last, self._clock.now()) for one in self._ledger.damage]
        if found:
            log.error("%d ranges of rows were not what was written; they are set aside", len(found))
            self._commit(list(found))

    def _in_touch(self) -> bool:
        """Whether HQ had acknowledged nearly all of lane 0 when the start before this one ended."""
        acked = self._acked()
        own = self._ledger.epoch.number
        waits = sum(lanes.get(Lane.MONEY, 0) - acked.get(epoch, 0) for epoch, lanes in self._ledger.reach.items() if epoch != own)
        return any(acked.values()) and waits <= IN_TOUCH_ROWS

    def _acked(self) -> dict[int, int]:
        return {epoch: lanes.get(Lane.MONEY, 0) for epoch, lanes in self._ledger.cursors.items()}

    # ------------------------------------------------------------ looking

    @property
    def admitted(self) -> bool:
        """Whether the store may decide."""
        return self._judged is not None and self._judged.admitted

    @property
    def proven(self) -> bool:
        """What HQ is told: admitted, or of a ledger that HQ has yet to hear of. Of that one HQ alone knows whether it is the first."""
        return self.admitted or (self._judged is not None and self._judged.awaits_hq)

    def view(self) -> AdmissionView:
        """For screens."""
        now = self._of_now
        return AdmissionView(
            admitted=now.admitted, state=now.state, how=now.how or "" if now.admitted else "", doubt=now.doubt or "",
            since_us=self._since_us, awaited=sorted(self._devices.called(device_id) for device_id in now.awaited),
        )  # fmt: skip

    # ------------------------------------------------------------ what is said

    def hear(self, device: Device, text: str) -> Heard:
        """A device presents its mark."""
        heard = self._witnesses.hear(device.device_id, text)
        if heard.word is Word.VOUCHES:
            self._heed(self._of_now.vouch(device.device_id))
        elif heard.mark is not None:
            self._doubt(Doubt.WITNESS, device.device_id, (heard.mark.epoch, heard.mark.seq))
        return heard

    def excuse(self, device_id: str) -> None:
        """A device was revoked."""
        if self._judged is not None:
            self._heed(self._judged.excuse(device_id))

    def take_ack(self, ack: Ack) -> None:
        """HQ's signed acknowledgement, whether or not it moves a cursor: what it says of our rows, and of this start."""
        opening = self._held.opening if self._held is not None else None
        counted = opening.marks.get(ack.epoch, -1) if opening is not None else -1
        last = self._witnesses.last_of(ack.epoch)
        if ack.lane == Lane.MONEY and ack.mark > max(counted, -1 if last is None else last):
            self._doubt(Doubt.MARK, None, (ack.epoch, ack.mark))
        elif ack.epoch == self._ledger.epoch.name and ack.opening > (self._of_now.opening or 0):
            self._doubt(Doubt.HQ)
        elif ack.epoch == self._ledger.epoch.name:
            self._heed(self._of_now.agree())

    def acknowledged(self, lane: int) -> None:
        """HQ has rows of a lane: of the one that tells of witnesses, it knows now what they know."""
        if lane == Lane.HEALTH:
            self._witnesses.acked()

    def applied(self, document: Document) -> None:
        """A document is in force."""
        self._devices.heed()

    def open(self, document: Document) -> list[Row] | None:
        """HQ's opening: the rows to commit with it; None: it is not for this start, or does not cover what is damaged."""
        opening = document.opening
        if opening is None or not self._of_now.open(document.version, opening.epoch, opening.marks):
            return None
        self._held = document
        self._adopt(opening)
        self._since_us = self._clock.now().wall_us
        log.warning("headquarters has opened this start (opening %d)", document.version)
        return [EpochAdmitted(opening.epoch, How.OPENING, document.version, self._clock.now())]

    # ------------------------------------------------------------ inside

    @property
    def _of_now(self) -> Admission:
        assert self._judged is not None  # noqa: S101 - nobody is heard before `begin`
        return self._judged

    def _heed(self, changed: bool) -> None:
        if not changed:
            return
        self._since_us = self._clock.now().wall_us
        if self.admitted:
            self._admit()
        self._tell()

    def _doubt(self, doubt: Doubt, witness: str | None = None, beyond: tuple[str, int] | None = None) -> None:
        """Write a contradiction down, also if it is not the first: the opening settles what is written."""
        changed = self._of_now.contradict(doubt)
        if changed or (beyond is not None and beyond not in self._beyond):
            log.error("this start is doubted: %s", doubt)
            self._commit([EpochDoubted(self._of_now.start.epoch, doubt, witness, beyond, self._clock.now())])
        self._heed(changed)

    def _admit(self) -> None:
        now = self._of_now
        self._commit([EpochAdmitted(now.start.epoch, now.how or "", now.opening, self._clock.now())])

    def _adopt(self, opening: Opening | None) -> None:
        if opening is not None:
            self._count(opening)
            self._wall.adopt(opening.orders, self._numbered(opening), self._clock.now())

    def _count(self, opening: Opening | None) -> None:
        if opening is None:
            return
        self._used.adopt(opening.used, self._numbered(opening), opening.given)
        self.adopt(opening, self._numbered(opening))
        for epoch, mark in opening.marks.items():
            last = self._witnesses.last_of(epoch)
            if last is None or mark > last:
                self._witnesses.close_epoch(epoch, WHOLE)

    def _numbered(self, opening: Opening) -> dict[int, int]:
        numbers = {name: self._ledger.epoch_number(name) for name in opening.marks}
        return {number: opening.marks[name] for name, number in numbers.items() if number is not None}

    def _settle_doubts(self) -> None:
        self._damaged.clear()
        for epoch, seq in self._beyond:
            self._witnesses.close_epoch(epoch, seq)
        self._beyond.clear()
