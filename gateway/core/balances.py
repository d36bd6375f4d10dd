"""Balances at the desk: face value and points that headquarters lends out to shops in shares (class `leased`).

What lies here is spent here, line or no line; what is missing is asked for while the line is up, for `WAIT_S` at most, as any other
assignment is. Who asks for more than there is gets nothing and hears how much there is, or, with `or_less`, gets that: a till has
to say that it can take less than it asked for. A plain scan spends nothing: how much of a balance is a cashier's question.

Holds stand under the number of their share (`VoucherAuthorized.number`) and count against it while they live. A live hold is
captured though its share has ended meanwhile, and no end is promised to headquarters while a sale holds some of it.
"""

import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from msgspec import Struct

from gateway.clock import Clock
from gateway.core import accounts, claims
from gateway.core.accounts import Account
from gateway.core.claims import Claims, Refuse
from gateway.core.offers import Offer, Offering
from gateway.core.verdict import Actor, Asked, Doing, Shown, Verdict
from gateway.events import AssignmentTaken, AuthorizationEnded, CodePresented, RedemptionRefused, Row, VoucherAuthorized, VoucherRedeemed
from gateway.rules import answers, balance, voucher
from gateway.rules.answers import Answer
from gateway.rules.balance import Balance, Share
from gateway.rules.marks import NOWHERE, RowPlace
from gateway.rules.uses import NOTHING, Hold, Used
from gateway.rules.voucher import Terms, Want

MOST_ASKS: Final = 20  # one's own is the last; those before it were other tills', and brought only what they needed
ELSEWHERE: Final = frozenset({"", "already_redeemed", "assigned_elsewhere"})  # headquarters has no more of it to lend
MICROS: Final = 1_000_000


class _Wish(Struct, frozen=True):
    """What is decided on, and how often headquarters was asked for it."""

    account: Account
    code: CodePresented
    station: str
    staff: str | None
    asked: Asked
    asks: int = 0
    is_own: bool = False  # the last one was this one's
    until_ns: int = 0  # CLOCK_BOOTTIME; nobody waits for headquarters any longer


class _Part(Struct, frozen=True):
    """How much is taken of a share, of how much that was asked for."""

    share: Share
    taken: int
    wanted: int
    why: str = ""  # there is not more
    offer: Offer = Offer(voucher.ONE)


class Balances:
    """The counter for balances.

    Args:
        ledger_has: Whether headquarters has a row of lane 0.
        up: Whether headquarters answers now.
        hold_s: How long a sale holds unless it says.
    """

    def __init__(
        self, claims_: Claims, used: Used, clock: Clock, refuse: Refuse, offer: Offering, up: Callable[[], bool],
        admitted: Callable[[], bool], ledger_has: Callable[[RowPlace], bool], hold_s: int,
    ) -> None:  # fmt: skip
        self._claims = claims_
        self._used = used
        self._clock = clock
        self._refuse = refuse
        self._offer = offer
        self._up = up
        self._admitted = admitted
        self._has = ledger_has
        self._hold_s = hold_s
        self._known: dict[str, tuple[int, int]] = {}  # voucher to what was left in the whole chain, and when (s)
        claims_.in_use = lambda voucher_id: used.held(voucher_id) != NOTHING
        claims_.held_until = self._held_until

    def fold(self, row: AssignmentTaken, place: RowPlace = NOWHERE) -> None:
        """Take what headquarters said of a balance with a share of it."""
        del place
        if row.balance is not None:
            self._known[row.voucher_id] = row.balance, row.issued_s

    # ------------------------------------------------------------ a code was shown

    def decide(self, account: Account, code: CodePresented, station: str, staff: str | None, asked: Asked) -> Verdict:
        """What becomes of a balance that a verified code names."""
        return self._judge(_Wish(account, code, station, staff, asked), None)

    def _judge(self, wish: _Wish, said: str | None) -> Verdict:
        """Decide; `said` is what headquarters answered, "" for a share or for nothing in time, None: it was not asked."""
        share, asked = self._share(wish.account.voucher_id), wish.asked
        refused = self._refusal(wish.account) or accounts.refusal_of_unit(wish.account, asked.want)
        if refused is not None:
            return self._refused(wish, refused, _Part(share, 0, 0))
        wanted = accounts.amount_of(wish.account, asked.want)
        if wanted is None and asked.basket is None:
            return self._looked_at(wish, share)
        need = wanted if wanted is not None else _total(wish)
        if need > share.free and asked.doing is not Doing.VALIDATE and (waits := self._ask(wish, need, said)) is not None:
            return waits
        return self._with_basket(wish, share, need, said) if wanted is None else self._of(wish, _Part(share, wanted, wanted), said)

    def _of(self, wish: _Wish, part: _Part, said: str | None) -> Verdict:
        """Decide on an amount."""
        if part.wanted <= part.share.free:
            return self._done(wish, part)
        why = self._why(wish, part, said)
        part = msgspec.structs.replace(part, taken=part.share.free, why=why)
        may_come = why == "" and wish.asked.doing is Doing.VALIDATE
        if may_come or (wish.asked.or_less and part.taken):
            return self._done(wish, part)
        return self._refused(wish, why, part)

    def _with_basket(self, wish: _Wish, share: Share, need: int, said: str | None) -> Verdict:
        """Decide on what the basket takes of what is here; how much of the basket that leaves to pay is in `priced`."""
        account, book = wish.account, self._used
        spent, held = book.spent(account.voucher_id), book.held(account.voucher_id)
        face = Terms(
            account.voucher_id, account.campaign, account.issuer, 1, account.not_before_s, account.not_after_s, 0,
            share.free + spent.minor + held.minor, partial=True,
        )  # fmt: skip
        offer = self._offer(face, wish.asked.basket, wish.asked.want, book, wish.asked.member_ref)
        part = _Part(share, offer.want.amount_minor or 0, offer.want.amount_minor or 0, offer=offer)
        if offer.refused is not None and share.free:
            return self._refused(wish, offer.refused.reason, part)
        if not share.free and (why := self._why(wish, msgspec.structs.replace(part, wanted=need), said)):
            return self._refused(wish, why, part)
        return self._done(wish, part) if part.taken or not share.free else self._refused(wish, "amount_needed", part)

    def _looked_at(self, wish: _Wish, share: Share) -> Verdict:
        """No amount was named: how much there is."""
        part, reason = _Part(share, 0, 0), "points_needed" if wish.account.points else "amount_needed"
        if wish.asked.doing is not Doing.VALIDATE:
            return self._refused(wish, reason, part)
        return self._done(wish, part) if share.free or self._up() else self._refused(wish, "needs_online", part)

    def _done(self, wish: _Wish, part: _Part) -> Verdict:
        account, now = wish.account, self._clock.now()
        rows, more = list[Row](), dict[str, object]()
        units, minor = (part.taken, 0) if account.points else (1, part.taken)
        about = (account.voucher_id, account.campaign, account.issuer, wish.station, wish.code.read_point, wish.staff)
        if wish.asked.doing is Doing.REDEEM:
            use = VoucherRedeemed(
                secrets.token_hex(8), *about, self._used.times(account.voucher_id) + 1, now, units, minor, None, wish.asked.device,
                part.share.number,
            )  # fmt: skip
            rows, more = [use], {"redemption_id": use.redemption_id}
        elif wish.asked.doing is Doing.AUTHORIZE:
            hold_s = wish.asked.hold_s or self._hold_s
            hold = VoucherAuthorized(
                secrets.token_hex(8), *about, wish.asked.device, units, minor, units, minor, hold_s, now, part.share.number
            )
            rows, more = [hold], {"authorization_id": hold.authorization_id, "hold_s": hold_s}
        decision = {Doing.REDEEM: "redeemed", Doing.AUTHORIZE: "authorized"}.get(wish.asked.doing, "valid")
        taken = part.taken if rows else 0
        answer = answers.decision(decision, now.wall_us, reference=account.voucher_id, priced=part.offer.priced, **more)
        verdict = Verdict(answer=self._told(answer, account, part, taken), station=wish.station, rows=rows)
        verdict.silent = wish.asked.doing is Doing.AUTHORIZE
        return self._claims.named(verdict)

    def _refused(self, wish: _Wish, reason: str, part: _Part) -> Verdict:
        made = self._refuse(reason, wish.code, wish.station, wish.staff, self._clock, wish.account.voucher_id)
        no = part.offer.refused
        made.answer = msgspec.structs.replace(
            self._told(made.answer, wish.account, part, 0), priced=part.offer.priced,
            gap_minor=no.gap_minor or None if no is not None and no.reason == reason else None,
            gap_quantity=no.gap_quantity or None if no is not None and no.reason == reason else None,
        )  # fmt: skip
        return self._claims.named(made)

    # ------------------------------------------------------------ asking headquarters

    def _ask(self, wish: _Wish, need: int, said: str | None) -> Verdict | None:
        """Wait for a share that is large enough; None: it cannot be asked for, or was.

        What headquarters has not heard yet of what was spent here it takes for unspent, so that much more is asked for.
        """
        now_ns, voucher_id = self._clock.boottime_ns(), wish.account.voucher_id
        until_ns = wish.until_ns or now_ns + int(claims.WAIT_S * 1e9)
        others = self._claims.asked_for(voucher_id)
        if said or wish.is_own or wish.asks >= MOST_ASKS or now_ns >= until_ns:
            return None
        number = self._claims.book.number(voucher_id)
        lacking = need + self._claims.book.uncounted(voucher_id, number, self._has) + self._used.held_under(voucher_id, number)
        waiting = self._claims.ask(voucher_id, lacking, wish.station, (until_ns - now_ns) / 1e9)
        if waiting is None:
            return None
        again = msgspec.structs.replace(wish, asks=wish.asks + 1, is_own=not others, until_ns=until_ns)
        return self._claims.pending(voucher_id, wish.station, waiting, partial(self._judge, again))

    def _why(self, wish: _Wish, part: _Part, said: str | None) -> str:
        """Why there is not as much; "" if headquarters would be asked first."""
        if said and said not in ELSEWHERE:
            return said
        held = self._used.held_under(wish.account.voucher_id, part.share.number) if part.share.number else 0
        if said is None and self._up() and wish.asked.doing is Doing.VALIDATE:
            return ""
        if held and part.wanted <= part.share.free + held:
            return "held"
        if said is None or (said == "" and self._claims.asked_for(wish.account.voucher_id)):
            return "needs_online"
        if said == "already_redeemed" and not part.share.free:
            return "balance_empty"
        return "assigned_elsewhere" if said == "assigned_elsewhere" else "lease_spent"

    # ------------------------------------------------------------ what came of it

    def capture(self, hold: Hold, actor: Actor, shown: Shown, want: Want | None, refused: str | None) -> Verdict:
        """End a hold by spending what it holds, or less. Late, it succeeds if as much is free here."""
        asked, account = hold.asked, accounts.account_of_hold(hold)
        wanted = _held(hold) if want is None else accounts.amount_of(account, want)
        refused = refused or (None if want is None else accounts.refusal_of_unit(account, want))
        if refused is None and wanted is None:
            refused = "points_needed" if account.points else "amount_needed"
        if refused is not None or wanted is None:
            return self._refused_hold(refused or "amount_needed", hold, shown)
        if wanted > _held(hold):
            return self._refused_hold("not_enough_left", hold, shown)
        live, share = hold.state == "live", self._share(asked.voucher_id, hold)
        if live and balance.may_capture(self._claims.book, asked.voucher_id, asked.number, wanted, self._claims.running()):
            return self._captured(hold, actor, shown, wanted, asked.number)
        if wanted <= share.free:
            return self._captured(hold, actor, shown, wanted, share.number)
        return self._refused_hold("hold_expired" if self._admitted() else "not_admitted", hold, shown)

    def _captured(self, hold: Hold, actor: Actor, shown: Shown, wanted: int, number: int) -> Verdict:
        asked, account, now = hold.asked, accounts.account_of_hold(hold), self._clock.now()
        units, minor = (wanted, 0) if account.points else (1, wanted)
        use = VoucherRedeemed(
            secrets.token_hex(8), asked.voucher_id, asked.campaign, asked.issuer, shown.station, asked.read_point,
            shown.staff or asked.staff, self._used.times(asked.voucher_id) + 1, now, units, minor, asked.authorization_id, actor.device,
            number,
        )  # fmt: skip
        rows: list[Row] = [use]
        if hold.state == "live":
            ended = (asked.authorization_id, asked.voucher_id, "captured", shown.station, shown.staff, actor.device, now)
            rows.append(AuthorizationEnded(*ended))
        answer = answers.decision(
            "redeemed", now.wall_us, reference=asked.voucher_id, redemption_id=use.redemption_id, authorization_id=asked.authorization_id
        )
        share = self._share(asked.voucher_id, hold)
        told = self._told(answer, account, _Part(share, wanted, wanted), wanted, wanted if number == share.number else 0)
        return self._claims.named(Verdict(answer=told, station=shown.station, rows=rows))

    def void(self, answer: Answer, hold: Hold) -> Answer:
        """The answer to a hold that was ended, with what is free now; `hold` is not folded as over yet."""
        return self._told(answer, accounts.account_of_hold(hold), _Part(self._share(hold.asked.voucher_id, hold), 0, 0), 0)

    def _refused_hold(self, reason: str, hold: Hold, shown: Shown) -> Verdict:
        now, asked = self._clock.now(), hold.asked
        answer = answers.refusal(
            reason, now.wall_us, reference=asked.voucher_id, authorization_id=asked.authorization_id, redemption_id=hold.redemption_id
        )
        row = RedemptionRefused(shown.presentation_id, asked.voucher_id, reason, shown.station, shown.read_point, shown.staff, now)
        answer = self._told(answer, accounts.account_of_hold(hold), _Part(self._share(asked.voucher_id), 0, 0), 0)
        return self._claims.named(Verdict(answer=answer, station=shown.station, rows=[row], silent=True))

    # ------------------------------------------------------------ inside

    def _share(self, voucher_id: str, without: Hold | None = None) -> Share:
        """What may be spent now; `without`: as if that hold held nothing."""

        def held(number: int) -> int:
            own = without is not None and without.state == "live" and without.asked.number == number
            return self._used.held_under(voucher_id, number) - (_held(without) if own and without is not None else 0)

        return balance.share_of(self._claims.book, voucher_id, self._claims.running(), self._clock.bounds_us()[0], held)

    def _refusal(self, account: Account) -> str | None:
        """Whether it is its time."""
        terms = Terms(account.voucher_id, account.campaign, account.issuer, 1, account.not_before_s, account.not_after_s, 0)
        return voucher.refusal(terms, Used(), {}, *self._clock.bounds_us())

    def _told(self, answer: Answer, account: Account, part: _Part, taken: int, here: int | None = None) -> Answer:
        """The answer with what is known of the balance, after `taken` was taken; `here` of it from the share that is told of."""
        left = part.share.free - (taken if here is None else here)
        known, age_s = self._last_known(account.voucher_id)
        told = Balance(
            unit=account.unit, taken=taken, offered=min(part.wanted, part.share.free), short=max(0, part.wanted - part.share.free),
            short_reason=part.why, here=left, ends_s=part.share.ends_s or None, known=known, known_age_s=age_s,
            is_stale=age_s is not None and age_s > balance.STALE_S,
        )  # fmt: skip
        return msgspec.structs.replace(answer, balance=told, uses_left=None, balance_minor=None if account.points else left)

    def _last_known(self, voucher_id: str) -> tuple[int | None, int | None]:
        known, said = self._known.get(voucher_id), self._claims.said(voucher_id)
        if said is not None and said.balance is not None and (known is None or said.hq_time_us // MICROS >= known[1]):
            known = said.balance, said.hq_time_us // MICROS
        return (None, None) if known is None else (known[0], max(0, self._clock.now().wall_us // MICROS - known[1]))

    def _held_until(self) -> list[int]:
        holds = [hold.asked for hold in self._used.live_holds() if hold.asked.number]
        return [end_s for one in holds if (end_s := balance.ends_with(self._claims.book, one.voucher_id, one.number))]


def _held(hold: Hold) -> int:
    return hold.asked.amount_minor or hold.asked.units


def _total(wish: _Wish) -> int:
    basket = wish.asked.basket
    return sum(line.quantity * line.unit_minor for line in basket.lines) if basket is not None else 0
