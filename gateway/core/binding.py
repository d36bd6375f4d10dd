"""Members joined to what they do: to a redemption or a hold in its own transaction, to a sale, to what a first visit earns.

Whoever declines is served all the same. Who is not known is served too, unless the campaign limits how often a member may use it. A
member's limits are looked at after the voucher was decided on and before anything is committed, so they hold for every kind of voucher,
and for two kiosks in the same millisecond. A typed number lives in the request only; prints of requests hold its keyed hash at most.
"""

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from gateway import phones, verifiers
from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.codes import CodeKind, recognise
from gateway.config import StoreTable
from gateway.core.consenting import Consenting
from gateway.core.members import Asker, Found, Members, NotFound
from gateway.core.requests import OURS
from gateway.core.verdict import Asked, Verdict
from gateway.core.whose import NOBODY, Whose
from gateway.errors import MalformedFrame
from gateway.events import (
    AuthorizationEnded,
    CodePresented,
    MemberBound,
    MemberRecognised,
    PointsAccrued,
    RedemptionRefused,
    RedemptionReversed,
    RevisitAsked,
    Row,
    SalePosted,
    VoucherAuthorized,
    VoucherRedeemed,
)
from gateway.rules import answers, points, windows
from gateway.rules.answers import Pending
from gateway.rules.basket import Count
from gateway.rules.bound import UNKNOWN, BoundUses
from gateway.rules.definitions import Campaign, Campaigns, Limits
from gateway.rules.limits import NOWHERE_ELSE, elsewhere_of, limited, of_members
from gateway.rules.reasons import POINTS_PENDING, REVISIT_PENDING
from gateway.rules.revisit import Visits, is_open
from gateway.signed import Elsewhere
from gateway.token import TokenKind

NO_LIMITS: Final = Limits()
BOUND: Final = "bound"
DECLINED: Final = "declined"
OF_MEMBER: Final = ("limit_member", "limit_member_day")
BY_NUMBER: Final = "by_number"  # earns points, whoever it is


Judging = Callable[[CodePresented, str, str | None, Clock, Asked], Verdict]


class Resolved(Struct, frozen=True):
    """Who it is, as far as this shop knows. `state` is what the answer says: `BOUND`, `DECLINED`, or why nobody is known."""

    member_ref: str | None = None
    how: str = ""
    state: str = ""
    rows: Sequence[Row] = ()  # that somebody was looked for
    code_ref: str | None = None  # a genuine code of a member this shop was not told of
    phone_key: str | None = None  # of a number this shop was not told of


class Binding:
    """Joins members to rows that are about to be committed; knows from the rows of before who used what, and who was here when."""

    def __init__(self, members: Members, catalog: Catalog, clock: Clock, store: StoreTable) -> None:
        self._members = members
        self._catalog = catalog
        self._clock = clock
        self._store = store
        self._zone = _zone_of(store.timezone)
        self._campaigns: tuple[Campaigns, dict[int, Campaign]] = (Campaigns(), {})
        self.book = BoundUses(self._zone)
        self.visits = Visits()
        self.consents = Consenting(catalog.roll, clock, self._join_late)

    def print_(self, whose: Whose) -> str:
        """What of it makes a request another one. Of what could be guessed only a keyed hash or nothing."""
        if whose is NOBODY or not whose.consent:
            return DECLINED if whose is not NOBODY else ""
        if whose.phone is not None:
            return f"phone {self._members.key_of(whose.phone) or ''}"
        found = recognise(whose.payload, whose.symbology_id)
        return f"code {found.kind} {found.text if found.kind in OURS else ''}"

    def printed(self, asked: Asked) -> Asked:
        """The same with its member's print."""
        return asked if asked.whose is NOBODY else msgspec.structs.replace(asked, member_print=self.print_(asked.whose))

    def live_on(self, tell: Callable[..., None]) -> None:
        """Name the rows this lives on: `tell(fold, *kinds)`."""
        tell(self.book.fold, MemberBound, RedemptionReversed, VoucherAuthorized, AuthorizationEnded)
        tell(self.visits.fold, MemberRecognised, MemberBound, SalePosted, RevisitAsked)
        self.consents.live_on(tell)

    # ------------------------------------------------------------ who

    def resolve(self, whose: Whose, asker: Asker) -> Resolved:
        """Who is meant. By number it counts as a look-up: commit its rows."""
        if whose is NOBODY:
            return Resolved()
        if not whose.consent:
            return Resolved(state=DECLINED)
        if whose.phone is None:
            return self._unless_withdrawn(self._by_code(whose))
        found = self._members.by_phone(whose.phone, asker)
        if isinstance(found, Found):
            return self._unless_withdrawn(Resolved(found.member.member_ref, "phone", BOUND, found.rows))
        return Resolved(state=found.reason, rows=found.rows)

    def _unless_withdrawn(self, who: Resolved) -> Resolved:
        """A till's word that somebody agreed does not undo that they withdrew it themselves."""
        return Resolved(state="consent_withdrawn", rows=who.rows) if self.consents.is_withdrawn(who.member_ref) else who

    def resolve_for_sale(self, whose: Whose) -> Resolved:
        """Who earns. A number is not looked up for anybody to see: known or not, points are pending."""
        if whose is NOBODY or not whose.consent or whose.phone is None:
            return self.resolve(whose, Asker(""))
        key = self._members.key_of(whose.phone)
        if key is None:
            return Resolved(state="not_a_number" if self._members.is_told else "no_members")
        known = self._catalog.roll.by_phone(key)
        if known is not None and self.consents.is_withdrawn(known.member_ref):
            known = None  # the answer must not tell: headquarters, which knows, credits nothing
        return Resolved(None if known is None else known.member_ref, "phone", BY_NUMBER, phone_key=key if known is None else None)

    def _by_code(self, whose: Whose) -> Resolved:
        code = recognise(whose.payload, whose.symbology_id)
        if code.kind is CodeKind.CARD:
            return Resolved(state="card_dropped")
        if code.kind not in verifiers.VERIFIERS:
            typed = self._members.by_typed(code)
            return Resolved(state="unknown_member_code") if typed is None else Resolved(typed[0].member_ref, typed[1], BOUND)
        try:
            shown = verifiers.verify(code.text, self._catalog.keys, code.kind)
        except MalformedFrame as error:
            return Resolved(state=verifiers.reason_of(error))
        if shown.kind is not TokenKind.MEMBER:
            return Resolved(state="unknown_member_code")
        found = self._members.by_code(shown)
        if isinstance(found, NotFound):
            return Resolved(state=found.reason, code_ref=shown.terms.voucher_id if found.reason == "unknown_member_code" else None)
        return Resolved(found.member.member_ref, "code", BOUND)

    # ------------------------------------------------------------ to a redemption

    def count(self, campaign: int, member_ref: str | None, today: int) -> Count:
        """How often a member used a campaign, here and as far as it is told elsewhere, for the engine."""
        return self.book.count(member_ref, campaign, self._clock.now(), today, self._elsewhere(member_ref, campaign))

    def _elsewhere(self, member_ref: str | None, campaign: int) -> Elsewhere:
        known = self._catalog.roll.by_ref(member_ref or "")
        return NOWHERE_ELSE if known is None else elsewhere_of(known.elsewhere, campaign)

    def judged(self, code: CodePresented, station: str, staff: str | None, asked: Asked, judge: Judging) -> Verdict:
        """Decide on a code for whoever it is for."""
        who = self.resolve(asked.whose, Asker(station, staff, asked.device))
        waiting = self.consents.waiting(code, station) if asked.whose is NOBODY and staff is None else None
        if waiting is not None:
            who = self._unless_withdrawn(Resolved(*waiting, BOUND))
        if who.member_ref is not None:
            asked = msgspec.structs.replace(asked, member_ref=who.member_ref)
        verdict = self.bind(judge(code, station, staff, self._clock, asked), who, code.presentation_id)
        return self._followed(verdict, code) if asked.whose is NOBODY and staff is None else verdict

    def _followed(self, verdict: Verdict, code: CodePresented) -> Verdict:
        """The verdict, once it is one, with what the screen asks after it."""
        again = verdict.again
        if verdict.wait is not None and again is not None:
            verdict.again = lambda result: self._followed(again(result), code)
            return verdict
        return self.consents.follow(verdict, code)

    def _join_late(self, taken: VoucherRedeemed, member_ref: str, how: str) -> tuple[list[Row], str]:
        """Rows that join a redemption to a member who said so after it; or why it is not joined."""
        if (refused := self._refusal(taken, member_ref)) is not None:
            return [], refused
        rows: list[Row] = [self._bound(taken, member_ref, how)]
        self._revisit(rows, member_ref, taken.station)
        return rows, ""

    def bind(self, verdict: Verdict, who: Resolved, presentation_id: str) -> Verdict:
        """The verdict with the member in its rows; or refused, if the campaign's limits say so."""
        again = verdict.again
        if verdict.wait is not None and again is not None:
            verdict.again = lambda result: self.bind(again(result), who, presentation_id)
            return verdict
        if verdict.answer.practice:
            return verdict
        verdict.rows = [*who.rows, *verdict.rows] if who.rows else verdict.rows
        taken = next((row for row in verdict.rows if isinstance(row, VoucherRedeemed | VoucherAuthorized)), None)
        if taken is None:
            return self._dated(verdict)
        owner = None if who.state == DECLINED else self._owner(taken.voucher_id)
        if owner is not None and who.member_ref not in (None, owner):
            return self._refused(verdict, taken, "other_member", presentation_id)
        if owner is not None:
            who = self._unless_withdrawn(Resolved(owner, "voucher", BOUND))
        refused = self._refusal(taken, who.member_ref)
        if refused is not None:
            return self._refused(verdict, taken, refused, presentation_id)
        if who.member_ref is not None:
            verdict.rows.append(self._bound(taken, who.member_ref, who.how))
            pending = self._revisit(verdict.rows, who.member_ref, taken.station) if isinstance(taken, VoucherRedeemed) else ()
            verdict.answer = msgspec.structs.replace(verdict.answer, pending=tuple(pending))
        counted_s = self._counted_s(taken, who.member_ref)
        if who.state or counted_s is not None:
            verdict.answer = msgspec.structs.replace(verdict.answer, binding=who.state, elsewhere_as_of_s=counted_s)
        return verdict

    def captured(self, verdict: Verdict, key: str) -> Verdict:
        """The same for a hold that was captured: whose it was it stays. One that had ended is weighed anew."""
        taken = next((row for row in verdict.rows if isinstance(row, VoucherRedeemed)), None)
        held = self.book.of_hold(taken.authorization_id or "") if taken is not None and not verdict.answer.practice else None
        if taken is None or held is None:
            return verdict
        if not self.book.is_live(taken.authorization_id or "") and self._refusal(taken, held.member_ref) is not None:
            return self._refused(verdict, taken, "hold_expired", key)
        verdict.rows.append(self._bound(taken, held.member_ref, held.how))
        verdict.answer = msgspec.structs.replace(verdict.answer, binding=BOUND)
        return verdict

    def _refusal(self, taken: VoucherRedeemed | VoucherAuthorized, member_ref: str | None) -> str | None:
        campaign = self._campaign(taken.campaign)
        if campaign is None or campaign.limits == NO_LIMITS:
            return None
        limits = msgspec.structs.replace(campaign.limits, per_day=None)  # of everybody: the engine's, with a basket
        elsewhere = self._elsewhere(member_ref, taken.campaign)
        count = self.book.count(member_ref, taken.campaign, taken.event_time, elsewhere=elsewhere)
        refused = limited(limits, count, member_ref is not None, partial(self._day_unknown, campaign), taken.units)
        return refused or (UNKNOWN if self.book.is_unknown and of_members(limits) else None)

    def _counted_s(self, taken: VoucherRedeemed | VoucherAuthorized, member_ref: str | None) -> int | None:
        """Up to when the other shops' uses are counted, of a campaign or code that limits its members; None: it limits nobody."""
        campaign, code = self._campaign(taken.campaign), self._catalog.anywhere.codes.get(taken.voucher_id)
        is_limited = (campaign is not None and of_members(campaign.limits)) or (code is not None and code.per_member > 0)
        return self._catalog.roll.as_of_s if member_ref is not None and is_limited else None

    def _day_unknown(self, campaign: Campaign) -> bool:
        earliest_us, latest_us = self._clock.bounds_us()
        return windows.local_day(self._zone, earliest_us, windows.latest_of(campaign.grace, earliest_us, latest_us)) is None

    def _refused(self, verdict: Verdict, taken: VoucherRedeemed | VoucherAuthorized, reason: str, presentation_id: str) -> Verdict:
        """Not used after all: what was decided about the voucher is not committed, what was learnt of it is."""
        kept: list[Row] = [row for row in verdict.rows if not isinstance(row, VoucherRedeemed | VoucherAuthorized)]
        now = self._clock.now()
        kept.append(RedemptionRefused(presentation_id, taken.voucher_id, reason, taken.station, taken.read_point, taken.staff, now))
        before = verdict.answer
        answer = answers.refusal(reason, now.wall_us, reference=before.reference, title=before.title, priced=before.priced)
        return self._dated(Verdict(answer=answer, station=verdict.station, rows=kept, silent=verdict.silent))

    def _dated(self, verdict: Verdict) -> Verdict:
        """A member's limit that was reached says up to when the other shops' uses are counted."""
        if verdict.answer.reason in OF_MEMBER:
            verdict.answer = msgspec.structs.replace(verdict.answer, elsewhere_as_of_s=self._catalog.roll.as_of_s)
        return verdict

    def _bound(self, taken: VoucherRedeemed | VoucherAuthorized, member_ref: str, how: str) -> MemberBound:
        redemption, hold = (taken.redemption_id, None) if isinstance(taken, VoucherRedeemed) else (None, taken.authorization_id)
        return MemberBound(
            redemption, hold, taken.voucher_id, taken.campaign, taken.units, member_ref, how, taken.station, taken.staff, taken.device,
            taken.event_time,
        )  # fmt: skip

    def _owner(self, voucher_id: str) -> str | None:
        """The member a voucher was issued for."""
        listed = self._catalog.vouchers.get(voucher_id)
        return (listed.member_ref or None) if listed is not None else None

    def _campaign(self, number: int) -> Campaign | None:
        if self._campaigns[0] is not self._catalog.campaigns:
            self._campaigns = self._catalog.campaigns, {one.campaign: one for one in self._catalog.campaigns.good}
        return self._campaigns[1].get(number)

    # ------------------------------------------------------------ to a sale

    def earn(self, sale: SalePosted, who: Resolved) -> tuple[list[Row], tuple[Pending, ...]]:
        """What a sale earns whoever made it: rows to commit with it, and what the slip says."""
        if who.member_ref is None and who.code_ref is None and who.phone_key is None:
            return [], ()
        phone_ref = None if who.phone_key is None else phones.sale_ref(who.phone_key, sale.sale_id)
        earliest_us = self._clock.bounds_us()[0]
        rate = points.rate_on(self._catalog.rates, sale.currency, windows.local_day(self._zone, earliest_us, earliest_us))
        rows: list[Row] = [
            PointsAccrued(sale.sale_id, who.member_ref, who.code_ref, phone_ref, sale.total_minor, sale.currency, sale.station,
                          sale.event_time, rate.earned(sale.total_minor), points.used(rate))
        ]  # fmt: skip
        pending = [Pending("points", POINTS_PENDING)]
        if who.member_ref is not None and who.how != "phone":  # by number nobody is told whether somebody is known
            pending += self._revisit(rows, who.member_ref, sale.station)
        return rows, tuple(pending)

    def _revisit(self, rows: list[Row], member_ref: str, station: str) -> list[Pending]:
        """Ask headquarters what a first visit earns: rows are added, and said what is pending."""
        now, bounds = self._clock.now(), self._clock.bounds_us()
        pending = []
        for campaign, rule in self.visits.due(self._catalog.campaigns.good, member_ref, now.wall_us):
            if is_open(campaign, self._store.number, self._zone, *bounds):
                asked = RevisitAsked(
                    secrets.token_hex(8), campaign.campaign, campaign.version, rule.days, rule.points, member_ref, station, now
                )
                rows.append(asked)
                pending.append(Pending("revisit", REVISIT_PENDING, campaign.campaign, asked.revisit_id))
        return pending


def _zone_of(name: str) -> ZoneInfo:
    try:
        return windows.zone_of(name)
    except MalformedFrame:
        return ZoneInfo("UTC")
