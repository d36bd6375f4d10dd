"""What more than one shop may honour, at the desk: one door for vouchers taken on trust and for open codes."""

from collections import Counter as Counts
from collections.abc import Callable
from typing import Final

from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.core.claims import Claims
from gateway.core.counter import Counter
from gateway.core.knowledge import Knowledge
from gateway.core.quotas import Quotas
from gateway.core.risk import Line, Risk
from gateway.core.verdict import Asked, Shown, Verdict
from gateway.core.views import QuotaView, RiskView
from gateway.events import (
    AuthorizationEnded,
    MemberBound,
    OpenCodeHeld,
    OpenCodeUsed,
    RedemptionReversed,
    RiskHeld,
    RiskTaken,
    VoucherRedeemed,
)
from gateway.link import ClaimWanted
from gateway.rules.marks import NOWHERE, RowPlace
from gateway.rules.uses import Hold
from gateway.signed import MemberUses, Opening
from gateway.token import VoucherClass
from gateway.verifiers import Presented

AS_USED: Final = ("store_bound", "assigned")
AS_SHARED: Final[dict[type[RiskTaken | OpenCodeUsed], str]] = {RiskTaken: "bounded_risk", OpenCodeUsed: "open_code"}


class Accepted:
    """Redemptions by class, of all that the ledger holds; `assigned` are those of headquarters' numbers."""

    def __init__(self) -> None:
        self.counts: Counts[str] = Counts()

    def fold(self, row: VoucherRedeemed | RiskTaken | OpenCodeUsed, place: RowPlace = NOWHERE) -> None:
        """Take a row; the one behind a use says more of it."""
        as_used = AS_USED[bool(row.number)]
        if isinstance(row, VoucherRedeemed):
            self.counts[as_used] += 1
        else:
            self.counts[as_used] -= 1
            self.counts[AS_SHARED[type(row)]] += 1


class Anywhere:
    """The door."""

    def __init__(
        self, catalog: Catalog, clock: Clock, counter: Counter, claims: Claims, line: Line, knowledge: Knowledge, store: int
    ) -> None:  # fmt: skip
        self.risk = Risk(catalog, clock, counter, claims, line, knowledge.is_acked)
        self.quotas = Quotas(catalog, clock, counter, claims, line, self.risk)
        self.accepted = Accepted()
        self._catalog = catalog
        self._claims = claims
        self._knowledge = knowledge
        self._store = store  # this shop's number
        # Who else counts members: `gateway.core.binding`.
        self.adopt_members: Callable[[list[MemberUses] | None, dict[int, int]], None] = lambda members, marks: None
        counter.finish = self._finish

    def listen(self) -> None:
        """Name the rows this lives on."""
        tell = self._knowledge.tell
        tell(self.risk.book.fold, RiskTaken, RiskHeld, AuthorizationEnded, RedemptionReversed, VoucherRedeemed)
        tell(self.risk.velocity.fold, RiskTaken, RiskHeld, MemberBound, AuthorizationEnded, RedemptionReversed)
        tell(self.accepted.fold, VoucherRedeemed, RiskTaken, OpenCodeUsed)
        tell(self.quotas.book.fold, OpenCodeUsed, OpenCodeHeld, RedemptionReversed)

    def adopt(self, opening: Opening, marks: dict[int, int]) -> None:
        """Take headquarters' opening."""
        self.quotas.book.adopt(opening.assigned, marks, opening.members)
        self.adopt_members(opening.members, marks)
        self.risk.velocity.adopt(opening.trusted)
        self._claims.adopt(opening, marks)

    def shared(self, presented: Presented | str, shown: Shown, asked: Asked) -> Verdict | None:
        """Decide on a verified code, or on the voucher a listed text stands for; None: it is of no class that is decided here."""
        if isinstance(presented, Presented):
            terms, kind = presented.terms, presented.voucher_class
            if presented.claims is not None and self._is_on_trust(kind, terms.campaign):
                is_ours = terms.store in (0, self._store)
                return self.risk.present(terms, shown, asked) if is_ours else self.risk.refuse("other_store", terms.voucher_id, shown)
            reference = terms.voucher_id if kind is VoucherClass.OPEN_CODE else ""
        else:
            reference = presented
        code = self._catalog.anywhere.codes.get(reference)
        return None if code is None else self.quotas.present(code, shown, asked)

    def _is_on_trust(self, kind: VoucherClass, campaign: int) -> bool:
        found = self._catalog.anywhere.terms_for(campaign) if kind is VoucherClass.HQ_LIVE else None
        return kind is VoucherClass.BOUNDED_RISK or (found is not None and found.hq_live)

    def wanted(self) -> list[ClaimWanted]:
        """What headquarters is to be asked for; first it is looked whether there is more."""
        self.risk.look()
        self.quotas.look()
        return self._claims.wanted()

    def views(self) -> tuple[list[RiskView], list[QuotaView]]:
        """For screens."""
        return self.risk.views(), self.quotas.views()

    def _finish(self, verdict: Verdict, hold: Hold, shown: Shown) -> Verdict:
        authorization_id = hold.asked.authorization_id
        if (held := self.risk.book.held(authorization_id)) is not None:
            return self.risk.finish(verdict, held, hold, shown)
        if (code := self.quotas.book.held(authorization_id)) is not None:
            return self.quotas.finish(verdict, code, hold, shown)
        return verdict
