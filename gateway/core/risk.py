"""Vouchers that any shop may decide on, at the desk: headquarters is asked first; what is taken without its word is exposure.

The counter decides as though the voucher were this shop's own; then it needs leave: an assignment that is held, headquarters' answer,
or, while it cannot be asked, room below the caps of the terms. How much is open and who came first is `gateway.rules.risk`'s.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from gateway.anywhere import RiskTerms
from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.core.claims import Claims
from gateway.core.counter import Counter
from gateway.core.verdict import Asked, Doing, Shown, Verdict
from gateway.core.views import RiskView
from gateway.events import Instant, RedemptionRefused, RiskHeld, RiskTaken, VoucherAuthorized, VoucherRedeemed
from gateway.rules import answers
from gateway.rules.marks import RowPlace
from gateway.rules.risk import Exposure, Wanted, exposure_of, list_age_s
from gateway.rules.uses import Hold
from gateway.rules.velocity import Velocity
from gateway.rules.voucher import Terms

IDLE_NS: Final = 120 * 10**9  # a number nobody came for is given back
NO_TERMS: Final = -1


class Line(Protocol):
    """The line to headquarters."""

    @property
    def up(self) -> bool:
        """Whether headquarters answers now."""

    @property
    def down_s(self) -> float | None:
        """How long it has not, by the monotonic clock; None: never yet in this life."""


class _Leave(Struct, frozen=True):
    """On what strength something is taken: a number, or an exposure under terms; or why it is not."""

    number: int = 0
    exposure_minor: int = 0
    terms: RiskTerms | None = None
    refused: str = ""


class Risk:
    """Decides on vouchers of class `bounded_risk`, and of `hq_live` where the terms say so."""

    def __init__(
        self, catalog: Catalog, clock: Clock, counter: Counter, claims: Claims, line: Line, is_answered: Callable[[RowPlace], bool]
    ) -> None:  # fmt: skip
        self._is_answered = is_answered
        self.book = Exposure()
        self.velocity = Velocity()
        self._catalog = catalog
        self._clock = clock
        self._counter = counter
        self._claims = claims
        self._line = line
        self._fetched: dict[str, int] = {}  # voucher to when headquarters was asked for it, CLOCK_BOOTTIME

    # ------------------------------------------------------------ deciding

    def present(self, terms: Terms, shown: Shown, asked: Asked, said: str | None = None) -> Verdict:
        """What becomes of a verified voucher; `said` is what headquarters answered, "": a grant or nothing in time, None: not asked."""
        if terms.partial:
            return self.refuse("class_unsupported", terms.voucher_id, shown)
        verdict = self._counter.decide(terms, shown, asked)
        if verdict.answer.decision == "refused" or verdict.answer.practice:
            return verdict
        device = asked.device or shown.station
        if asked.doing is Doing.VALIDATE:
            leave = _Leave() if self._line.up else self._on_trust(terms, asked.want.units, device, self._member(terms, asked))
            return self.refuse(leave.refused, terms.voucher_id, shown) if leave.refused else verdict
        row = verdict.rows[0]
        assert isinstance(row, VoucherRedeemed | VoucherAuthorized)  # noqa: S101 - what the counter decides, it writes
        number = self._number(terms.voucher_id, row.units)
        if number == 0 and said is None and (waiting := self._claims.ask(terms.voucher_id, row.units, shown.station)) is not None:
            self._fetched[terms.voucher_id] = self._clock.boottime_ns()
            pending = answers.decision("pending", self._clock.now().wall_us, reference=terms.voucher_id)
            again = partial(self.present, terms, shown, asked)
            return Verdict(answer=pending, station=shown.station, wait=waiting, again=again)
        leave = _Leave(number=number, terms=self._terms(terms.campaign)) if number else self._without(terms, row.units, device, asked, said)
        if leave.refused:
            return self._claims.named(self.refuse(leave.refused, terms.voucher_id, shown))
        return self._claims.named(_with_leave(verdict, row, leave, device, self._worth(terms, row.units)))

    def _number(self, voucher_id: str, units: int) -> int:
        """The assignment this may be taken under; all this shop ever took of the voucher has to fit into it."""
        grant = self._claims.usable(voucher_id, units)
        return grant.number if grant is not None and self.book.gross(voucher_id) + units <= grant.units else 0

    def _without(self, terms: Terms, units: int, device: str, asked: Asked, said: str | None) -> _Leave:
        return _Leave(refused=said) if said else self._on_trust(terms, units, device, self._member(terms, asked))

    def _member(self, terms: Terms, asked: Asked) -> str:
        """Who takes it; empty: nobody knows."""
        return self._counter.owner(terms.voucher_id, asked.whose) or asked.member_ref or ""

    def _on_trust(self, terms: Terms, units: int, device: str, member_ref: str) -> _Leave:
        found = self._terms(terms.campaign)
        if found is None:
            return _Leave(refused="needs_online")
        return self._trusted(found, Wanted(terms.voucher_id, device, exposure_of(found, units, terms.value_minor)), member_ref)

    def _trusted(self, terms: RiskTerms, wanted: Wanted, member_ref: str) -> _Leave:
        age_s = self._list_age_s()
        if wanted.voucher_id in self._catalog.anywhere.revoked:
            return _Leave(refused="revoked")
        if age_s is None or age_s > terms.list_age_s:
            return _Leave(refused="risk_list_old")
        self.answer()
        refused = self.book.refusal(terms, wanted)
        refused = refused or self.velocity.refusal(terms, member_ref, wanted.exposure_minor, self._age_s, self._is_live)
        return _Leave(refused=refused) if refused else _Leave(exposure_minor=wanted.exposure_minor, terms=terms)

    def finish(self, verdict: Verdict, held: RiskHeld, hold: Hold, shown: Shown) -> Verdict:
        """A hold of such a voucher was captured or voided."""
        use = verdict.rows[0] if verdict.rows else None
        if not isinstance(use, VoucherRedeemed):
            return verdict
        worth = -(-held.worth_minor * use.units // held.units)
        number = self._number(use.voucher_id, use.units)
        if number:
            leave = _Leave(number=number)
        elif hold.state == "live" and held.exposure_minor:  # reserved when it was held
            leave = _Leave(exposure_minor=worth)
        else:
            found = self._terms(use.campaign)
            wanted = Wanted(use.voucher_id, held.device, worth)
            leave = _Leave() if found is None else self._trusted(found, wanted, self.velocity.whose(held.authorization_id))
            if leave.terms is None:
                return self.refuse("hold_expired", use.voucher_id, shown, hold.asked.authorization_id)
        if leave.terms is None:
            taken = _taken(use, number, leave.exposure_minor, held.device, (held.campaign, held.terms))
        else:
            taken = _taken(use, number, leave.exposure_minor, held.device, (leave.terms.campaign, leave.terms.version))
        verdict.rows[0] = msgspec.structs.replace(use, number=number)
        verdict.rows.append(taken)
        return verdict

    def refuse(self, reason: str, voucher_id: str, shown: Shown, authorization_id: str = "") -> Verdict:
        """A refusal: an answer with its reason, and an event."""
        now = self._clock.now()
        answer = answers.refusal(
            reason, now.wall_us, reference=voucher_id, title=self._counter.title(voucher_id), authorization_id=authorization_id
        )
        row = RedemptionRefused(shown.presentation_id, voucher_id, reason, shown.station, shown.read_point, shown.staff, now)
        return Verdict(answer=answer, station=shown.station, rows=[row])

    # ------------------------------------------------------------ now and then

    def answer(self) -> None:
        """Close what headquarters has answered."""
        self.book.answer(self._is_answered, self._is_live)

    def look(self) -> None:
        """Give back what headquarters assigned for somebody who did not wait."""
        now_ns = self._clock.boottime_ns()
        for voucher_id in [one for one, at_ns in self._fetched.items() if now_ns - at_ns > IDLE_NS]:
            if not self._counter.used.held(voucher_id).units:
                del self._fetched[voucher_id]
                self._claims.give_back(voucher_id)

    def views(self) -> list[RiskView]:
        """The exposure meter, one line for each terms."""
        self.answer()
        known = self._catalog.anywhere
        age_s = self._list_age_s()
        return [
            RiskView(
                campaign=one.campaign, currency=one.currency, cap_minor=one.per_shop_minor, per_device_minor=one.per_device_minor,
                open_minor=self.book.open_minor(one.campaign), open_rows=self.book.open_rows(one.campaign),
                realised_minor=sum(met.loss_minor for met in known.conflicts if met.campaign == one.campaign), bearer=one.bearer,
                oldest_us=self.book.oldest_us(one.campaign), list_age_s=None if age_s is None else round(age_s),
                list_limit_s=one.list_age_s,
            )
            for one in sorted(known.terms.values(), key=lambda terms: terms.campaign)
        ]  # fmt: skip

    # ------------------------------------------------------------ inside

    def _is_live(self, authorization_id: str) -> bool:
        hold = self._counter.used.hold(authorization_id)
        return hold is not None and hold.state == "live"

    def _age_s(self, at: Instant) -> float:
        return self._counter.age_s(at, 0.0)  # what nobody can date is new

    def _terms(self, campaign: int) -> RiskTerms | None:
        return self._catalog.anywhere.terms_for(campaign)

    def _worth(self, terms: Terms, units: int) -> int:
        found = self._terms(terms.campaign)
        return units * max(1, terms.value_minor) if found is None else exposure_of(found, units, terms.value_minor)

    def _list_age_s(self) -> float | None:
        return list_age_s(self._catalog.anywhere.issued_us, self._clock.bounds_us()[1], self._line.down_s)


def _with_leave(verdict: Verdict, row: VoucherRedeemed | VoucherAuthorized, leave: _Leave, device: str, worth_minor: int) -> Verdict:
    at = (NO_TERMS, 0) if leave.terms is None else (leave.terms.campaign, leave.terms.version)
    if isinstance(row, VoucherRedeemed):
        verdict.rows[0] = msgspec.structs.replace(row, number=leave.number)
        verdict.rows.append(_taken(row, leave.number, leave.exposure_minor, device, at))
    else:
        held = RiskHeld(
            row.authorization_id, row.voucher_id, *at, leave.number, row.units, leave.exposure_minor, worth_minor, device, row.event_time
        )
        verdict.rows.append(held)
    return verdict


def _taken(use: VoucherRedeemed, number: int, exposure_minor: int, device: str, at: tuple[int, int]) -> RiskTaken:
    exposed = 0 if number else exposure_minor
    moment: Instant = use.event_time
    return RiskTaken(use.redemption_id, use.voucher_id, *at, number, use.units, exposed, device, moment)
