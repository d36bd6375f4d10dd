"""Returned goods, as tills post them: tied to the sale they came from, once for each refund slip.

Vouchers are not divided: only when the last piece of a sale comes back are the vouchers used in it taken back too, each by the rules of
`reverse` (device or manager, minutes, not rung up), in the same transaction; one that those rules keep stays used, and the answer says
why. Points are headquarters' to take back, since it gave them.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from gateway.clock import Clock
from gateway.core.requests import digest, own_id
from gateway.core.verdict import Actor, Verdict
from gateway.events import PointsAccrued, RedemptionReversed, ReturnedLine, Row, SalePosted, SaleReturned
from gateway.rules import answers
from gateway.rules.answers import GivenBack, Pending, Returned
from gateway.rules.reasons import POINTS_BACK
from gateway.rules.returned import Goods, SaleLeft, after, refusal, till_of
from gateway.rules.uses import Used

MOST_VOUCHERS: Final = 40  # of one sale


class Returning(Struct, frozen=True, kw_only=True):
    """What a till takes back."""

    refund_id: str
    station: str
    lines: list[ReturnedLine]
    sale_id: str | None = None
    receipt_id: str | None = None

    def print_(self, actor: Actor) -> bytes:
        """What makes it this request and no other."""
        lines = msgspec.json.encode(self.lines).decode()
        named = (self.refund_id, self.station, lines, self.sale_id or "", self.receipt_id or "")
        return digest("returns", *named, actor.device or "", actor.staff or "")


class Returns:
    """Decides on goods that come back.

    Args:
        used: What is known of redemptions and holds.
    """

    def __init__(self, clock: Clock, used: Used) -> None:
        self._clock = clock
        self._used = used
        self._goods = Goods()

    def live_on(self, tell: Callable[..., None]) -> None:
        """Name the rows this lives on: `tell(fold, *kinds)`."""
        tell(self._goods.fold, SalePosted, SaleReturned, PointsAccrued)

    def take(self, asked: Returning, actor: Actor, reverse: Callable[[str], Verdict]) -> Verdict:
        """Take goods back; `reverse` decides on a voucher of the sale by the rules of reversing."""
        now, till = self._clock.now(), till_of(actor.device, actor.staff)
        sale, before = self._goods.find(asked.sale_id, asked.receipt_id, till), self._goods.refunded(till, asked.refund_id)
        refused = "return_known" if before is not None else "unknown_sale" if sale is None else refusal(sale, asked.lines)
        if refused is not None or sale is None:
            answer = answers.refusal(refused or "unknown_sale", now.wall_us, reference=before or (sale.sale_id if sale else ""))
            return Verdict(answer=answer, station=asked.station, silent=True)
        is_whole = after(sale, asked.lines).is_empty
        rows, vouchers = self._vouchers(sale, reverse) if is_whole else ([], [])
        row = SaleReturned(
            own_id(), sale.sale_id, sale.receipt_id, asked.refund_id, asked.station, actor.device, actor.staff, sale.currency,
            asked.lines, is_whole, [one.redemption_id for one in vouchers if one.outcome == "reversed"],
            [one.redemption_id for one in vouchers if one.outcome not in ("reversed", "already_reversed")], now,
        )  # fmt: skip
        back = Returned(sale.sale_id, row.total_minor, is_whole, tuple(vouchers))
        pending = (Pending("points_back", POINTS_BACK),) if sale.earns else ()
        answer = answers.decision("returned", now.wall_us, reference=row.return_id, returned=back, pending=pending)
        return Verdict(answer=answer, station=asked.station, rows=[row, *rows], silent=True)

    def _vouchers(self, sale: SaleLeft, reverse: Callable[[str], Verdict]) -> tuple[list[Row], list[GivenBack]]:
        """The vouchers of a sale nothing is left of: rows that give back what may be given back, and what became of each."""
        hold = self._used.hold(sale.authorization_id) if sale.authorization_id else None
        named = [*sale.redemption_ids, *([hold.redemption_id] if hold is not None and hold.redemption_id else [])]
        rows, outcomes = list[Row](), list[GivenBack]()
        for redemption_id in list(dict.fromkeys(named))[:MOST_VOUCHERS]:
            said = reverse(redemption_id)
            given = [row for row in said.rows if isinstance(row, RedemptionReversed)]
            rows += given
            outcomes.append(GivenBack(redemption_id, "reversed" if given else said.answer.reason))
        return rows, outcomes
