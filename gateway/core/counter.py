"""The counter: what is done with a voucher once its code was verified, and later with what came of it.

In one step (`redeem`) or in two (`authorize`, then `capture` or `void`); `validate` only says what would happen; `reverse` takes a
redemption back in time. Reads everything, changes nothing: it makes verdicts, whose rows the desk commits and folds.

A hold's time runs on the monotonic clock and begins anew when core starts, so a till that was asking during a power cut still finds
it. A late capture succeeds if the voucher is still free. Practice vouchers have a book of their own that lies in memory only.
"""

import secrets
from collections.abc import Callable
from datetime import UTC, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.config import TillTable
from gateway.core.accounts import Lent
from gateway.core.offers import Offering, with_offer
from gateway.core.verdict import MANAGER, Actor, Asked, Doing, Shown, Verdict
from gateway.core.whose import NOBODY, Whose
from gateway.events import (
    AuthorizationEnded,
    Instant,
    RedemptionRefused,
    RedemptionReversed,
    Row,
    TimeTrust,
    VoucherAuthorized,
    VoucherRedeemed,
)
from gateway.rules import answers, voucher
from gateway.rules.answers import Answer
from gateway.rules.reasons import NOTHING, Text, practised
from gateway.rules.uses import Hold, Use, Used
from gateway.rules.voucher import Terms, Want

PRACTICE_NS: Final = 600 * 10**9  # a lesson that nobody went on with is over
PRACTICE_ID: Final = "practice-"


def zone_of(name: str) -> tzinfo:
    """The shop's time zone; UTC where the machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


class Counter:
    """Decides on vouchers by the catalog and the books.

    Args:
        admitted: Whether this start may decide.
        offer: What campaigns come to on the basket that is shown beside a voucher.
    """

    def __init__(
        self, table: TillTable, catalog: Catalog, clock: Clock, admitted: Callable[[], bool], offer: Offering, zone: tzinfo = UTC
    ) -> None:
        self._offer = offer
        self._table = table
        self._catalog = catalog
        self._clock = clock
        self.admitted = admitted
        self.zone = self._zone = zone
        self.used = Used(zone)
        self._practice = Used(zone)
        self._practised_ns = 0
        # What was held by others' rules is ended by them: `gateway.core.anywhere`.
        self.finish: Callable[[Verdict, Hold, Shown], Verdict] = lambda verdict, hold, shown: verdict
        self.lent: Lent

    # ------------------------------------------------------------ a code was shown

    def decide(self, terms: Terms, shown: Shown, asked: Asked) -> Verdict:
        """What becomes of a voucher that was verified."""
        book, limit = self._book(terms.practice), None if terms.practice else self._catalog.limits.get(terms.campaign)
        offer = self._offer(terms, asked.basket, asked.want, book, asked.member_ref or self.owner(terms.voucher_id, asked.whose))
        asked = asked if offer.want is asked.want else msgspec.structs.replace(asked, want=offer.want)
        refused = voucher.refusal(terms, book, self._catalog.vouchers, *self._clock.bounds_us(), asked.want, limit)
        refused = refused or (offer.refused.reason if offer.refused is not None else None)
        refused = refused or (None if terms.practice else self._not_admitted())
        if refused is not None:
            return with_offer(self._refused_voucher(refused, terms, shown), offer)
        if asked.doing is Doing.VALIDATE:
            return with_offer(self._said("valid", terms, shown.station), offer)
        if asked.doing is Doing.AUTHORIZE:
            return with_offer(self._authorized(terms, shown, asked), offer)
        use = self._use(terms, shown, asked, book)
        return with_offer(self._said("redeemed", terms, shown.station, [use], redemption_id=use.redemption_id), offer)

    def _use(self, terms: Terms, shown: Shown, asked: Asked, book: Used) -> VoucherRedeemed:
        return VoucherRedeemed(
            self._name(terms.practice), terms.voucher_id, terms.campaign, terms.issuer, shown.station, shown.read_point, shown.staff,
            book.uses(terms.voucher_id) + 1, self._clock.now(), asked.want.units, asked.want.amount_minor or 0, None, asked.device,
        )  # fmt: skip

    def _authorized(self, terms: Terms, shown: Shown, asked: Asked) -> Verdict:
        hold_s = asked.hold_s or self._table.hold_s
        hold = VoucherAuthorized(
            self._name(terms.practice), terms.voucher_id, terms.campaign, terms.issuer, shown.station, shown.read_point, shown.staff,
            asked.device, asked.want.units, asked.want.amount_minor or 0, terms.uses, terms.value_minor if terms.partial else 0, hold_s,
            self._clock.now(),
        )  # fmt: skip
        verdict = self._said("authorized", terms, shown.station, [hold], authorization_id=hold.authorization_id, hold_s=hold_s)
        verdict.silent = True
        return verdict

    def _said(self, decision: str, terms: Terms, station: str, rows: list[Row] | None = None, **more: object) -> Verdict:
        now, rows = self._clock.now(), rows or []
        left = voucher.left_of(terms, self._book(terms.practice))
        took = [row for row in rows if isinstance(row, VoucherRedeemed | VoucherAuthorized)]
        uses, minor = sum([row.units for row in took]), sum([row.amount_minor for row in took])
        answer = answers.decision(
            decision, now.wall_us, reference=terms.voucher_id, title=self.title(terms.voucher_id),
            uses_left=None if left.uses is None else left.uses - uses, balance_minor=None if left.minor is None else left.minor - minor,
            **more,
        )  # fmt: skip
        return self._practised(Verdict(answer=answer, station=station, rows=rows), terms.practice)

    def _refused_voucher(self, reason: str, terms: Terms, shown: Shown) -> Verdict:
        book, now = self._book(terms.practice), self._clock.now()
        left = voucher.left_of(terms, book)
        before = book.last(terms.voucher_id) if reason in ("already_redeemed", "exhausted") else None
        window = voucher.window_of(self._catalog.vouchers.get(terms.voucher_id), self._clock.bounds_us()[0])
        answer = answers.refusal(
            reason, now.wall_us, reference=terms.voucher_id, title=self.title(terms.voucher_id), before=before, uses_left=left.uses,
            balance_minor=left.minor, window=window,
        )  # fmt: skip
        row = RedemptionRefused(shown.presentation_id, terms.voucher_id, reason, shown.station, shown.read_point, shown.staff, now)
        return self._practised(Verdict(answer=answer, station=shown.station, rows=[row]), terms.practice)

    # ------------------------------------------------------------ what came of it

    def capture(self, authorization_id: str, actor: Actor, shown: Shown, want: Want | None) -> Verdict:
        """End a hold by redeeming what it holds, or less of it. Late, it succeeds if the voucher is still free."""
        practice = authorization_id.startswith(PRACTICE_ID)
        hold = self._book(practice).hold(authorization_id)
        if hold is None:
            return self._refused("unknown_authorization", "", shown, practice)
        asked, terms = hold.asked, _terms(hold, practice)
        if asked.number:
            return self.lent.capture(hold, actor, shown, want, self._refusal_of_hold(hold, actor))
        wanted = want or Want(asked.units, asked.amount_minor if terms.partial else None)
        refused = self._refusal_of_hold(hold, actor) or _refusal_of_more(hold, wanted) or (None if practice else self._not_admitted())
        if refused is None and hold.state != "live":
            refused = self._refusal_of_late(terms, wanted, practice)
        elif refused is None and not voucher.is_left(terms, self._book(practice), wanted):
            refused = "hold_expired"  # an old disk brought the hold back; HQ's opening knows that it was captured
        if refused is not None:
            return self._refused(
                refused, asked.voucher_id, shown, practice, authorization_id=authorization_id, redemption=hold.redemption_id
            )
        now, book = self._clock.now(), self._book(practice)
        use = VoucherRedeemed(
            self._name(practice), asked.voucher_id, asked.campaign, asked.issuer, shown.station, asked.read_point,
            shown.staff or asked.staff, book.uses(asked.voucher_id) + 1, now, wanted.units, wanted.amount_minor or 0, authorization_id,
            actor.device,
        )  # fmt: skip
        rows: list[Row] = [use]
        if hold.state == "live":
            rows.append(AuthorizationEnded(authorization_id, asked.voucher_id, "captured", shown.station, shown.staff, actor.device, now))
        verdict = self._said("redeemed", terms, shown.station, rows, redemption_id=use.redemption_id, authorization_id=authorization_id)
        if hold.state == "live":  # what it held is not left for others, and was counted as held above
            verdict.answer = _give_back(verdict.answer, asked)
        return self.finish(verdict, hold, shown)

    def void(self, authorization_id: str, actor: Actor, shown: Shown) -> Verdict:
        """End a hold: the voucher is free again. One that ran out by itself is void already."""
        practice = authorization_id.startswith(PRACTICE_ID)
        hold = self._book(practice).hold(authorization_id)
        if hold is None:
            return self._refused("unknown_authorization", "", shown, practice)
        refused = self._refusal_of_hold(hold, actor, void=True)
        if refused is not None:
            reference = hold.asked.voucher_id
            return self._refused(refused, reference, shown, practice, authorization_id=authorization_id, redemption=hold.redemption_id)
        now, rows = self._clock.now(), list[Row]()
        if hold.state == "live":
            rows = [AuthorizationEnded(authorization_id, hold.asked.voucher_id, "voided", shown.station, shown.staff, actor.device, now)]
        verdict = self._said("voided", _terms(hold, practice), shown.station, rows, authorization_id=authorization_id)
        verdict.answer = _give_back(verdict.answer, hold.asked) if rows else verdict.answer
        verdict.answer = self.lent.void(verdict.answer, hold) if hold.asked.number else verdict.answer
        verdict.silent = True
        return self.finish(verdict, hold, shown)

    def reverse(self, redemption_id: str, actor: Actor, shown: Shown) -> Verdict:
        """Take a redemption back: by the device it was asked from, or a manager, and not later than the campaign allows."""
        practice = redemption_id.startswith(PRACTICE_ID)
        use = self._book(practice).redemption(redemption_id)
        if use is None:
            return self._refused("unknown_redemption", "", shown, practice)
        refused = self._refusal_of_reversal(use, actor) or (None if practice else self._not_admitted())
        if refused is not None:
            return self._refused(refused, use.voucher_id, shown, practice, redemption=redemption_id)
        now = self._clock.now()
        row = RedemptionReversed(
            redemption_id, use.voucher_id, use.campaign, use.units, use.minor, shown.station, shown.staff, actor.device, now, use.number
        )
        answer = answers.decision(
            "reversed", now.wall_us, reference=use.voucher_id, title=self.title(use.voucher_id), redemption_id=redemption_id
        )
        verdict = Verdict(answer=answer, station=shown.station, rows=[row], silent=True)
        return self._practised(verdict, practice)

    def run_out(self) -> list[Row]:
        """Rows for the holds whose time is over. Practice ones end without."""
        now_ns = self._clock.boottime_ns()
        practised, over = self._practice.run_out(now_ns), self.used.run_out(now_ns)
        if not practised and not over:
            return []
        now = self._clock.now()
        for hold in practised:
            self._practice.fold(_expired(hold, now))
        return [_expired(hold, now) for hold in over]

    def practise(self, rows: list[Row]) -> None:
        """Take the rows of a practice decision: nobody commits them."""
        self._practised_ns = self._clock.boottime_ns()
        for row in rows:
            if isinstance(row, VoucherRedeemed | RedemptionReversed | VoucherAuthorized | AuthorizationEnded):
                self._practice.fold(row)

    def title(self, voucher_id: str) -> Text:
        """What a voucher is for, as far as HQ has told."""
        listed = self._catalog.vouchers.get(voucher_id)
        return Text(listed.title_zh, listed.title_en) if listed else NOTHING

    def owner(self, voucher_id: str, whose: Whose) -> str | None:
        """The member a voucher was issued for, unless they declined to be joined to it."""
        listed = self._catalog.vouchers.get(voucher_id)
        return (listed.member_ref or None) if listed is not None and (whose.consent or whose is NOBODY) else None

    # ------------------------------------------------------------ inside

    def _refusal_of_hold(self, hold: Hold, actor: Actor, *, void: bool = False) -> str | None:
        if actor.staff is None and actor.device != hold.asked.device:
            return "other_device"
        if hold.state == "captured":
            return "already_captured"
        return "hold_voided" if hold.state == "voided" and not void else None

    def _refusal_of_late(self, terms: Terms, want: Want, practice: bool) -> str | None:
        book, limit = self._book(practice), None if practice else self._catalog.limits.get(terms.campaign)
        taken = voucher.refusal_of_amount(terms, book, want)
        given = voucher.refusal_of_limit(terms.campaign, book, limit, want.units, self._clock.bounds_us()[0])
        entry = self._catalog.vouchers.get(terms.voucher_id)
        revoked = entry is not None and entry.revoked
        return "hold_expired" if taken or given or revoked else None

    def _refusal_of_reversal(self, use: Use, actor: Actor) -> str | None:
        if use.is_reversed:
            return "already_reversed"
        if MANAGER not in actor.roles and (actor.device is None or actor.device != use.device):
            return "manager_needed"
        limit = self._catalog.limits.get(use.campaign)
        within_s = self._table.reverse_minutes * 60 if limit is None or limit.reverse_s is None else limit.reverse_s
        return "too_late_to_reverse" if self.age_s(use.at) > within_s else None

    def age_s(self, at: Instant, unknown_s: float = float("inf")) -> float:
        """How long ago something was at least; of another boot the wall clocks say it, if both could be believed."""
        now = self._clock.now()
        if now.boot_id == at.boot_id:
            return (now.mono_ns - at.mono_ns) / 1e9
        if TimeTrust.UNTRUSTED in (now.trust, at.trust):
            return unknown_s
        return abs(now.wall_us - at.wall_us) / 1e6

    def _refused(
        self, reason: str, reference: str, shown: Shown, practice: bool, *, authorization_id: str = "", redemption: str = ""
    ) -> Verdict:
        now = self._clock.now()
        answer = answers.refusal(
            reason, now.wall_us, reference=reference, title=self.title(reference), authorization_id=authorization_id,
            redemption_id=redemption,
        )  # fmt: skip
        row = RedemptionRefused(shown.presentation_id, reference or None, reason, shown.station, shown.read_point, shown.staff, now)
        return self._practised(Verdict(answer=answer, station=shown.station, rows=[row], silent=True), practice)

    def _practised(self, verdict: Verdict, practice: bool) -> Verdict:
        if practice:
            verdict.answer = answers.as_practice(verdict.answer, practised(verdict.answer.message))
        return verdict

    def _book(self, practice: bool) -> Used:
        if practice and self._clock.boottime_ns() - self._practised_ns > PRACTICE_NS:
            self._practice = Used(self._zone)
        return self._practice if practice else self.used

    def _not_admitted(self) -> str | None:
        return None if self.admitted() else "not_admitted"

    def _name(self, practice: bool) -> str:
        return (PRACTICE_ID if practice else "") + secrets.token_hex(8)


def _terms(hold: Hold, practice: bool) -> Terms:
    asked = hold.asked
    partial = asked.allows_minor > 0
    return Terms(asked.voucher_id, asked.campaign, asked.issuer, asked.allows_uses, 0, 0, 0, asked.allows_minor, partial, practice)


def _refusal_of_more(hold: Hold, want: Want) -> str | None:
    asked = hold.asked
    if (want.amount_minor is None) is (asked.allows_minor > 0):
        return "amount_needed" if want.amount_minor is None else "no_face_value"
    return "not_enough_left" if want.units > asked.units or (want.amount_minor or 0) > asked.amount_minor else None


def _give_back(answer: Answer, asked: VoucherAuthorized) -> Answer:
    uses = None if answer.uses_left is None else answer.uses_left + asked.units
    return answers.with_left(answer, uses, None if answer.balance_minor is None else answer.balance_minor + asked.amount_minor)


def _expired(hold: Hold, now: Instant) -> AuthorizationEnded:
    return AuthorizationEnded(
        hold.asked.authorization_id, hold.asked.voucher_id, "expired", hold.asked.station, None, hold.asked.device, now
    )
