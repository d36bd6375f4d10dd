"""Open codes at the desk: the shop decides out of its allotment, and asks headquarters for more while there is a line.

An allotment is an assignment of uses under a number (`gateway.rules.assignment`), topped up when half of it is gone and renewed before
it ends. What is left of it, and how often a member has used the code here, is `gateway.rules.quota`'s.
"""

import asyncio
from functools import partial
from typing import Final

import msgspec

from gateway.anywhere import OpenCode
from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.core.claims import Claims
from gateway.core.counter import Counter
from gateway.core.risk import Line, Risk
from gateway.core.verdict import Asked, Doing, Shown, Verdict
from gateway.core.views import QuotaView
from gateway.events import OpenCodeHeld, OpenCodeUsed, VoucherAuthorized, VoucherRedeemed
from gateway.rules import answers
from gateway.rules.bound import UNKNOWN
from gateway.rules.limits import elsewhere_of
from gateway.rules.quota import Allotments
from gateway.rules.reasons import Text
from gateway.rules.uses import Hold
from gateway.rules.voucher import Terms
from gateway.signed import Grant

MICROS: Final = 1_000_000
WITHOUT_END: Final = 1 << 31  # what a hold of an open code is good for; the allotment says how much there is
RENEW_S: Final = 1_800  # before an allotment ends, it is asked for anew
ASK_AGAIN_NS: Final = 10 * 10**9
GONE_NS: Final = 300 * 10**9  # headquarters has no more: it is not asked all the time
ALL_GONE: Final = frozenset({"already_redeemed", "assigned_elsewhere"})  # other shops hold or have used what there was
BOX: Final = "quota"  # the station that asks by itself


class Quotas:
    """Decides on open codes."""

    def __init__(self, catalog: Catalog, clock: Clock, counter: Counter, claims: Claims, line: Line, risk: Risk) -> None:
        self.book = Allotments()
        self._catalog = catalog
        self._clock = clock
        self._counter = counter
        self._claims = claims
        self._line = line
        self._risk = risk  # refuses in its way
        self._next_ns: dict[str, int] = {}  # when more may be asked for, CLOCK_BOOTTIME

    # ------------------------------------------------------------ deciding

    def present(self, code: OpenCode, shown: Shown, asked: Asked, said: str | None = None) -> Verdict:
        """What becomes of an open code; `said` as `Risk.present` has it."""
        units, grant = asked.want.units, self._claims.held(code.voucher_id)
        refused = self._refusal(code, asked)
        if refused is not None:
            return self._refuse(refused, code, shown)
        room = self._room(code.voucher_id, grant)
        if units > room:
            return self._short(code, shown, asked, said)
        spent = self._counter.used.spent(code.voucher_id).units
        held = self._counter.used.held(code.voucher_id).units
        terms = Terms(
            code.voucher_id, code.campaign, code.issuer, spent + held + room, code.not_before_s, code.not_after_s, 0, code.value_minor
        )
        verdict = self._counter.decide(terms, shown, asked)
        if verdict.answer.decision != "refused" and grant is not None:
            verdict = self._noted(verdict, grant.number, asked.member_ref or "")
        return self._named(verdict, code)

    def _noted(self, verdict: Verdict, number: int, member_ref: str) -> Verdict:
        row = verdict.rows[0] if verdict.rows else None
        if isinstance(row, VoucherRedeemed):
            verdict.rows[0] = msgspec.structs.replace(row, number=number)
            verdict.rows.append(OpenCodeUsed(row.redemption_id, row.voucher_id, number, row.units, member_ref, row.event_time))
        elif isinstance(row, VoucherAuthorized):
            verdict.rows[0] = msgspec.structs.replace(row, allows_uses=WITHOUT_END)
            verdict.rows.append(OpenCodeHeld(row.authorization_id, row.voucher_id, row.units, member_ref, row.event_time))
        return verdict

    def _refusal(self, code: OpenCode, asked: Asked) -> str | None:
        earliest_us, latest_us = self._clock.bounds_us()
        if code.revoked or not self._counter.admitted():
            return "revoked" if code.revoked else "not_admitted"
        if earliest_us > code.not_after_s * MICROS or (latest_us is not None and latest_us < code.not_before_s * MICROS):
            return "expired" if earliest_us > code.not_after_s * MICROS else "not_yet"
        if asked.want.amount_minor is not None:
            return "no_face_value"
        return self._refusal_of_member(code, asked) if code.per_member else None

    def _refusal_of_member(self, code: OpenCode, asked: Asked) -> str | None:
        if not asked.member_ref:
            return "member_missing"
        live = (hold.asked.authorization_id for hold in self._counter.used.live_holds())
        known = self._catalog.roll.by_ref(asked.member_ref)
        elsewhere = elsewhere_of(() if known is None else known.elsewhere, 0, code.voucher_id).uses
        used = self.book.of_member(code.voucher_id, asked.member_ref, live) + elsewhere
        if used + asked.want.units > code.per_member:
            return "limit_member"
        return UNKNOWN if self.book.is_unknown else None

    def _short(self, code: OpenCode, shown: Shown, asked: Asked, said: str | None) -> Verdict:
        """Nothing is left of the allotment: headquarters may have more."""
        waits = said is None and asked.doing is not Doing.VALIDATE
        if waits and (waiting := self._claims.ask(code.voucher_id, max(code.allotment, asked.want.units), shown.station)) is not None:
            pending = answers.decision("pending", self._clock.now().wall_us, reference=code.voucher_id)
            again = partial(self.present, code, shown, asked)
            return Verdict(answer=pending, station=shown.station, wait=waiting, again=again)
        all_gone = said in ALL_GONE
        return self._refuse("campaign_quota_used" if all_gone else said or "store_quota_used", code, shown)

    def finish(self, verdict: Verdict, held: OpenCodeHeld, hold: Hold, shown: Shown) -> Verdict:
        """A hold of an open code was captured or voided."""
        code, use = self._catalog.anywhere.codes.get(held.voucher_id), verdict.rows[0] if verdict.rows else None
        if isinstance(use, VoucherRedeemed):
            grant = self._claims.held(held.voucher_id)
            room = self._room(held.voucher_id, grant) + (held.units if hold.state == "live" else 0)
            if grant is None or use.units > room:
                return self._risk.refuse("hold_expired", held.voucher_id, shown, hold.asked.authorization_id)
            verdict = self._noted(verdict, grant.number, held.member_ref)
        verdict.answer = answers.with_left(verdict.answer, None, None)
        return verdict if code is None else self._named(verdict, code)

    # ------------------------------------------------------------ now and then

    def look(self) -> None:
        """Ask for more, or for longer, before it is needed."""
        if not self._line.up:
            return
        now_ns, earliest_s = self._clock.boottime_ns(), self._clock.bounds_us()[0] // 1_000_000
        for code in self._catalog.anywhere.codes.values():
            is_due = now_ns >= self._next_ns.get(code.voucher_id, 0) and earliest_s <= code.not_after_s and not code.revoked
            if is_due and self._needs_more(code, earliest_s):
                self._next_ns[code.voucher_id] = now_ns + ASK_AGAIN_NS
                waiting = self._claims.ask(code.voucher_id, code.allotment, BOX)
                if waiting is not None:
                    waiting.add_done_callback(partial(self._heard, code))

    def _needs_more(self, code: OpenCode, earliest_s: int) -> bool:
        grant = self._claims.held(code.voucher_id)
        is_low = 2 * self._room(code.voucher_id, grant) < code.allotment
        return is_low or (grant is not None and grant.not_after_s < min(earliest_s + RENEW_S, code.not_after_s))

    def _heard(self, code: OpenCode, waiting: "asyncio.Future[str]") -> None:
        if waiting.result() or self._needs_more(code, self._clock.bounds_us()[0] // 1_000_000):
            self._next_ns[code.voucher_id] = self._clock.boottime_ns() + GONE_NS

    def views(self) -> list[QuotaView]:
        """What this shop holds of each code."""
        return [self._view(code) for code in self._catalog.anywhere.codes.values() if not code.revoked]

    def _view(self, code: OpenCode) -> QuotaView:
        grant = self._claims.held(code.voucher_id)
        return QuotaView(
            voucher_id=code.voucher_id, title_zh=code.title_zh, title_en=code.title_en, allotted=0 if grant is None else grant.units,
            left=max(0, self._room(code.voucher_id, grant)), ends_s=0 if grant is None else grant.not_after_s,
        )  # fmt: skip

    # ------------------------------------------------------------ inside

    def _room(self, voucher_id: str, grant: Grant | None) -> int:
        if grant is None:
            return 0
        return self.book.room(voucher_id, grant.number, grant.units, self._counter.used.held(voucher_id).units)

    def _refuse(self, reason: str, code: OpenCode, shown: Shown) -> Verdict:
        return self._named(self._risk.refuse(reason, code.voucher_id, shown), code)

    def _named(self, verdict: Verdict, code: OpenCode) -> Verdict:
        verdict.answer = msgspec.structs.replace(verdict.answer, title=Text(code.title_zh, code.title_en), uses_left=None)
        return verdict
