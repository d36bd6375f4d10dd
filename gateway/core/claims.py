"""Vouchers that headquarters assigns, at the desk: what this box holds is honoured, what it does not hold is asked for.

The intent is committed before headquarters is asked, and asked under that identifier until it has answered, over restarts too. Who
waits at the screen is answered after `WAIT_S` at the latest: pending is a state of the screen, never an answer, and what comes later is
kept for the next scan. What is decided, and from which rows, is `gateway.rules.assignment`'s.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from gateway import grant as grants
from gateway import token
from gateway.clock import Clock
from gateway.core.verdict import Verdict
from gateway.errors import MalformedFrame
from gateway.events import (
    AssignmentTaken,
    ClaimIntended,
    ClaimSettled,
    CodePresented,
    EpochAdmitted,
    RedemptionReversed,
    Released,
    Row,
    SettledThrough,
    TimeTrust,
    VoucherRedeemed,
)
from gateway.ledger import Ledger
from gateway.link import ClaimWanted
from gateway.rules import answers, voucher
from gateway.rules.assignment import Book, Running
from gateway.rules.marks import NOWHERE, RowPlace
from gateway.rules.reasons import NOTHING, REASONS, Text
from gateway.rules.voucher import Terms, Used
from gateway.signed import CLAIMED_TAG, LEND_TAG, RECALL_TAG, Claimed, Grant, Lend, Opening, Recall, unseal
from gateway.token import VoucherClass, voucher_ref

log = logging.getLogger(__name__)

WAIT_S: Final = 3.0
AHEAD: Final = "hq"  # the station of a claim that nobody at the counter waits for
SETTLE_LATER_S: Final = 120  # our clock and headquarters' may differ a little, and a shopper with a fresh end is served
LOOK_EVERY_NS: Final = 10 * 10**9
OFFLINE: Final = {VoucherClass.GRANTED: "needs_grant", VoucherClass.HQ_LIVE: "needs_online"}
BY_PHONE: Final = frozenset({"needs_grant", "grant_stale", "grant_expired"})  # what another grant from the shopper's phone mends
MOST_PENDING: Final = 500
MOST_TOLD: Final = 2_000
ANOTHER: Final = ""  # no box and no start is called that


class Refuse(Protocol):
    """How a refusal is made."""

    def __call__(self, reason: str, code: CodePresented, station: str, staff: str | None, clock: Clock, reference: str = "") -> Verdict: ...


class _Asked(Struct, frozen=True):
    """What is decided on."""

    terms: Terms
    kind: VoucherClass
    units: int
    code: CodePresented
    station: str
    staff: str | None


class _Pending(Struct):
    voucher_id: str
    units: int
    waiting: "list[asyncio.Future[str]]"
    is_written: bool = True  # headquarters is asked only after the commit


class Claims:
    """The counter.

    Args:
        commit: Appends rows; done after the fsync.
        admitted: Whether this start is proven.
        up: Whether headquarters answers now.
        tell_bridge: Names what is wanted to the bridge.
        refuse: Makes a refusal.
    """

    def __init__(
        self, gateway: str, hq: list[Ed25519PublicKey], clock: Clock, ledger: Ledger, commit: "Callable[[list[Row]], asyncio.Future[None]]",
        admitted: Callable[[], bool], up: Callable[[], bool], tell_bridge: Callable[[], None], refuse: Refuse,
    ) -> None:  # fmt: skip
        self.book = Book(gateway)
        self.line: frozenset[str] = frozenset()  # the starts this ledger holds
        self._gateway = gateway
        self._hq = hq
        self._clock = clock
        self._ledger = ledger
        self._commit = commit
        self._admitted = admitted
        self._up = up
        self._tell_bridge = tell_bridge
        self._refuse = refuse
        self.in_use: Callable[[str], bool] = lambda _: False  # whether a sale holds some of a voucher
        self.held_until: Callable[[], list[int]] = list  # when the shares end that sales hold some of, seconds
        self.address_of: Callable[[str], str] = lambda _: ""  # where a shopper's phone fetches a grant for a voucher
        self._pending: dict[str, _Pending] = {}
        self._told: dict[str, Claimed] = {}  # by voucher
        self._looked_ns = 0

    # ------------------------------------------------------------ what has happened

    def fold(self, row: ClaimIntended | ClaimSettled | AssignmentTaken, place: RowPlace = NOWHERE) -> None:
        """Take a row about claims."""
        if isinstance(row, ClaimIntended):
            self._pending[row.claim_id] = _Pending(row.voucher_id, row.units, [])
        else:
            ended = self._pending.pop(row.claim_id or "", None)
            for waiting in ended.waiting if ended is not None else ():
                _end(waiting, row.outcome if isinstance(row, ClaimSettled) else "")
        if isinstance(row, AssignmentTaken):
            self.book.fold(row, place)

    def live_on(self, tell: Callable[..., None]) -> None:
        """Name the rows that this lives on: `tell(fold, *kinds)`."""
        tell(self.fold, ClaimIntended, ClaimSettled, AssignmentTaken)
        tell(self.book.fold, Released, SettledThrough, VoucherRedeemed, RedemptionReversed, EpochAdmitted)

    def adopt(self, opening: Opening, marks: dict[int, int]) -> None:
        """Take headquarters' opening."""
        self.book.adopt(opening.assigned, opening.settled_s, marks)

    def wanted(self) -> list[ClaimWanted]:
        """What headquarters has not answered yet, for the bridge."""
        return [ClaimWanted(claim_id, one.voucher_id, one.units) for claim_id, one in self._pending.items() if one.is_written]

    # ------------------------------------------------------------ deciding

    def present(self, claims: token.Claims, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        """Decide on a verified token of an assigned class: one use."""
        del clock
        return self._judge(_Asked(voucher.terms_of(claims), claims.voucher_class, 1, code, station, staff), None)

    def bring(self, code_of: grants.Grant, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        """Decide on a grant's verified code, which calls its box and start by digests."""
        starts = {grants.epoch_digest(name): name for name in (*self.line, self._ledger.epoch.name)}
        named = starts.get(code_of.epoch, ANOTHER)
        grant = Grant(
            voucher_id=voucher_ref(code_of.issuer, code_of.identifier), number=code_of.assignment,
            gateway=self._gateway if code_of.box == grants.box_digest(self._gateway) else ANOTHER, units=code_of.left,
            not_after_s=code_of.not_after_s, issued_s=code_of.issued_s, epoch=named if code_of.epoch else None, issuer=code_of.issuer,
        )  # fmt: skip
        return self.show(grant, code, station, staff, clock)

    def show(self, grant: Grant, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        """Decide on a verified grant from a shopper's phone: it stands for itself."""
        clock.raise_floor(grant.issued_s * 1_000_000)
        refused = self.book.refusal(grant, 1, self.running(), clock.bounds_us()[0])
        if refused == "already_redeemed":  # the box may hold more than this grant tells of
            held, _ = self.book.usable(grant.voucher_id, 1, self.running(), clock.bounds_us()[0])
            refused = refused if held is None else None
        if refused is not None:
            return self._refused(refused, code, station, staff, grant.voucher_id)
        terms = Terms(grant.voucher_id, 0, grant.issuer, grant.units, 0, grant.not_after_s, 0)
        return self._use(_Asked(terms, VoucherClass.GRANTED, 1, code, station, staff), grant, [self._taken(grant, None)])

    def _judge(self, asked: _Asked, said: str | None) -> Verdict:
        """Decide; `said` is what headquarters answered, "" for a grant or for nothing in time, None: it was not asked."""
        voucher_id, (earliest_us, latest_us) = asked.terms.voucher_id, self._clock.bounds_us()
        refused = voucher.refusal(asked.terms, Used(), {}, earliest_us, latest_us)
        if refused is None:
            grant, why = self.book.usable(voucher_id, asked.units, self.running(), earliest_us)
            if grant is not None:
                return self._use(asked, grant, [])
            is_spent = why == "already_redeemed"
            if said is None and not is_spent and (waiting := self.ask(voucher_id, asked.units, asked.station)) is not None:
                return self.pending(voucher_id, asked.station, waiting, partial(self._judge, asked))
            refused = said or (why if is_spent else OFFLINE[asked.kind])
        return self._refused(refused, asked.code, asked.station, asked.staff, voucher_id)

    def pending(
        self, voucher_id: str, station: str, waiting: "asyncio.Future[str]", again: "Callable[[str], Verdict]"
    ) -> Verdict:  # fmt: skip
        """What is decided by `again` when headquarters has answered, or has not in time."""
        answer = answers.decision("pending", self._clock.now().wall_us, reference=voucher_id)
        return Verdict(answer=answer, station=station, wait=waiting, again=again)

    def _refused(self, reason: str, code: CodePresented, station: str, staff: str | None, voucher_id: str) -> Verdict:
        verdict = self.named(self._refuse(reason, code, station, staff, self._clock, voucher_id))
        if reason in BY_PHONE:
            verdict.answer = answers.with_address(verdict.answer, self.address_of(voucher_id))
        return verdict

    def named(self, verdict: Verdict) -> Verdict:
        """With what headquarters said of the voucher in this life: what it is for, and which shop holds it."""
        said = self._told.get(verdict.answer.reference)
        if said is not None:
            holder = Text(said.holder_zh, said.holder_en) if verdict.answer.reason == "assigned_elsewhere" else NOTHING
            verdict.answer = msgspec.structs.replace(verdict.answer, title=Text(said.title_zh, said.title_en), holder=holder)
        return verdict

    def _use(self, asked: _Asked, grant: Grant, rows: list[Row]) -> Verdict:
        now, voucher_id = self._clock.now(), asked.terms.voucher_id
        use = VoucherRedeemed(
            secrets.token_hex(8), voucher_id, asked.terms.campaign, asked.terms.issuer, asked.station, asked.code.read_point, asked.staff,
            self.book.spent(voucher_id, grant.number) + 1, now, number=grant.number, units=asked.units,
        )  # fmt: skip
        answer = answers.decision("redeemed", now.wall_us, reference=voucher_id, redemption_id=use.redemption_id)
        return self.named(Verdict(answer=answer, station=asked.station, rows=[*rows, use]))

    # ------------------------------------------------------------ asking

    def asked_for(self, voucher_id: str) -> bool:
        """Whether headquarters has been asked for a voucher and has not answered."""
        return any(one.voucher_id == voucher_id for one in self._pending.values())

    def said(self, voucher_id: str) -> Claimed | None:
        """What headquarters last said of a voucher in this life."""
        return self._told.get(voucher_id)

    def ask(self, voucher_id: str, units: int, station: str, wait_s: float | None = None) -> "asyncio.Future[str] | None":
        """Wait for headquarters' word on a voucher; None: it cannot be asked now. The result is a reason, or "" for a grant."""
        if not self._up() or len(self._pending) >= MOST_PENDING:
            return None
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asked = [one for one in self._pending.values() if one.voucher_id == voucher_id]
        (asked[0] if asked else self._intend(voucher_id, units, station)).waiting.append(waiting)
        asyncio.get_running_loop().call_later(WAIT_S if wait_s is None else wait_s, _end, waiting)
        return waiting

    def _intend(self, voucher_id: str, units: int, station: str) -> _Pending:
        """Write down that headquarters is asked, and have it asked after the commit."""
        claim_id = secrets.token_hex(16)
        committed = self._commit([ClaimIntended(claim_id, voucher_id, units, station, self._clock.now())])
        pending = self._pending[claim_id]
        pending.is_written = False

        def ask(_: "asyncio.Future[None]") -> None:
            pending.is_written = True
            self._tell_bridge()

        committed.add_done_callback(ask)
        return pending

    def take(self, payload: bytes) -> None:
        """Take what came on the downward leaf."""
        try:
            if payload.startswith(RECALL_TAG):
                self._give_back(unseal(RECALL_TAG, payload, self._hq, Recall))
            elif payload.startswith(LEND_TAG):
                self._borrow(unseal(LEND_TAG, payload, self._hq, Lend))
            else:
                self._hear(unseal(CLAIMED_TAG, payload, self._hq, Claimed))
        except MalformedFrame as error:
            log.warning("a message from headquarters was not believed: %s", error)

    def _hear(self, said: Claimed) -> None:
        if said.gateway != self._gateway:
            raise MalformedFrame("an answer for another box")
        self._clock.raise_floor(said.hq_time_us)
        if said.claim_id not in self._pending:
            return  # answered before
        self._told[self._pending[said.claim_id].voucher_id] = said
        if len(self._told) > MOST_TOLD:
            self._told.pop(next(iter(self._told)))
        if said.grant is None:
            reason = said.reason if said.reason in REASONS else "needs_online"  # of a later release
            self._commit([ClaimSettled(said.claim_id, reason, self._clock.now())])
        elif said.grant.voucher_id != self._pending[said.claim_id].voucher_id or said.grant.gateway != self._gateway:
            raise MalformedFrame("an assignment that was not asked for")
        else:
            self._commit([self._taken(said.grant, said.claim_id, said.balance)])
        self._tell_bridge()

    def _borrow(self, lend: Lend) -> None:
        if lend.gateway != self._gateway:
            raise MalformedFrame("a share for another box")
        if self._up() and not self.asked_for(lend.voucher_id) and len(self._pending) < MOST_PENDING:
            self._intend(lend.voucher_id, lend.units, AHEAD)

    def _give_back(self, recall: Recall) -> None:
        if recall.gateway != self._gateway:
            raise MalformedFrame("a recall for another box")
        if self.asked_for(recall.voucher_id) or self.in_use(recall.voucher_id):
            return  # somebody stands at the counter
        if self.book.may_release(recall.voucher_id, recall.number, self.running()):
            self._commit([Released(recall.voucher_id, recall.number, self.book.opening, self._clock.now())])

    # ------------------------------------------------------------ settling

    def look(self) -> None:
        """Promise never again to honour what has ended, once headquarters' time says it has; now and then is enough.

        A sale that holds some of a share began before its end, so its end is not promised while the sale goes on.
        """
        now = self._clock.now()
        if now.mono_ns - self._looked_ns < LOOK_EVERY_NS or now.trust is not TimeTrust.SYNCED:
            return
        self._looked_ns = now.mono_ns
        first_held_s = min(self.held_until(), default=1 << 62)
        past = [end_s for end_s in self.book.ends_s() if end_s + SETTLE_LATER_S <= now.wall_us // 1_000_000 and end_s < first_held_s]
        through_s = past[-1] if past else self.book.settled_s
        if through_s and self.book.may_settle(through_s, self.running()):
            self._commit([SettledThrough(through_s, self.book.opening, now)])

    # ------------------------------------------------------------ for others who decide by assignments

    def usable(self, voucher_id: str, units: int) -> Grant | None:
        """The assignment that allows so many units now."""
        return self.book.usable(voucher_id, units, self.running(), self._clock.bounds_us()[0])[0]

    def held(self, voucher_id: str) -> Grant | None:
        """The assignment in force, however much of it is left."""
        earliest_us = self._clock.bounds_us()[0]
        return next((one for one in self.book.held(voucher_id) if self.book.refusal(one, 0, self.running(), earliest_us) is None), None)

    def give_back(self, voucher_id: str) -> None:
        """Give a number back that nobody came for, if it is unused and nobody waits."""
        number = self.book.number(voucher_id)
        if number and not self.asked_for(voucher_id) and self.book.may_release(voucher_id, number, self.running()):
            self._commit([Released(voucher_id, number, self.book.opening, self._clock.now())])

    # ------------------------------------------------------------ inside

    def running(self) -> Running:
        """The start that decides."""
        return Running(self._ledger.epoch.name, self._ledger.epoch.number, self._admitted(), self.line)

    def _taken(self, grant: Grant, claim_id: str | None, balance: int | None = None) -> AssignmentTaken:
        return AssignmentTaken(
            grant.voucher_id, grant.number, grant.units, grant.not_after_s, grant.issued_s, grant.epoch, claim_id, self._clock.now(),
            balance,
        )  # fmt: skip


def _end(waiting: "asyncio.Future[str]", said: str = "") -> None:
    if not waiting.done():
        waiting.set_result(said)
