"""Finished sales, as tills post them. A sale is a fact: it is taken whatever this box thinks of it, once for each receipt of a till.

A till names what led to the sale where it can: redemptions, a hold, a pickup. What it names is not judged here either, since
headquarters may know what this disk has forgotten; only what looks like a card's number and is nothing of ours stops the sale.
"""

from collections import OrderedDict
from collections.abc import Callable, Container
from typing import Final

import msgspec
from msgspec import Struct

from gateway.clock import Clock
from gateway.codes import is_cardlike
from gateway.core.binding import Binding
from gateway.core.counter import PRACTICE_ID
from gateway.core.requests import digest, own_id
from gateway.core.returns import Returns
from gateway.core.verdict import Actor, Verdict
from gateway.core.whose import NOBODY, Whose
from gateway.events import SalePosted, SoldLine
from gateway.rules import answers
from gateway.rules.marks import NOWHERE, RowPlace
from gateway.rules.reasons import practised
from gateway.rules.returned import till_of
from gateway.rules.uses import Used

MOST_KNOWN: Final = 50_000  # receipts; headquarters knows older ones


class Posting(Struct, frozen=True, kw_only=True):
    """What a till posts."""

    receipt_id: str
    station: str
    currency: str
    lines: list[SoldLine]
    redemption_ids: list[str] = []
    authorization_id: str | None = None
    order_id: str | None = None
    whose: Whose = NOBODY

    def print_(self, actor: Actor, member: str) -> bytes:
        """What makes it this request and no other. A hash of a card's number is still the number, so none goes in."""
        named = [*self.redemption_ids, self.authorization_id or "", self.order_id or ""]
        lines = msgspec.json.encode(self.lines).decode()
        shown = ["" if is_cardlike(one) else one for one in named]
        return digest("sale", self.receipt_id, self.station, self.currency, lines, actor.device or "", actor.staff or "", *shown, member)


class Receipts:
    """Decides on sales that are posted.

    Args:
        used: What is known of redemptions and holds.
        orders: The orders of this shop.
        binding: Who buys.
    """

    def __init__(self, clock: Clock, used: Used, orders: Callable[[], Container[str]], binding: Binding) -> None:
        self._binding = binding
        self._clock = clock
        self._used = used
        self._orders = orders
        self.returns = Returns(clock, used)
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()  # till and receipt to sale

    def fold(self, row: SalePosted, place: RowPlace = NOWHERE) -> None:
        """Take a row, from the past or just decided."""
        self._known[till_of(row.device, row.staff), row.receipt_id] = row.sale_id
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def live_on(self, tell: Callable[..., None]) -> None:
        """Name the rows that this and whoever buys lives on: `tell(fold, *kinds)`."""
        tell(self.fold, SalePosted)
        self.returns.live_on(tell)
        self._binding.live_on(tell)

    def print_(self, asked: Posting, actor: Actor) -> bytes:
        """What makes a request another one."""
        return asked.print_(actor, self._binding.print_(asked.whose))

    def post(self, asked: Posting, actor: Actor) -> Verdict:
        """Take a finished sale."""
        now = self._clock.now()
        refused, reference = self._refusal(asked, actor)
        who = self._binding.resolve_for_sale(asked.whose)
        refused = refused or ("not_a_number" if who.state == "not_a_number" else None)
        if refused is not None:
            answer = answers.refusal(refused, now.wall_us, reference=reference)
            return Verdict(answer=answer, station=asked.station, silent=True)
        captured, waiting = self._captured(asked.authorization_id)
        named = list(dict.fromkeys([*asked.redemption_ids, *captured]))
        row = SalePosted(
            own_id(), asked.receipt_id, asked.station, actor.device, actor.staff, asked.currency, asked.lines,
            named, waiting, asked.order_id, now, who.member_ref,
        )  # fmt: skip
        earned, pending = self._binding.earn(row, who)
        answer = answers.decision("sale_posted", now.wall_us, reference=row.sale_id, binding=who.state, pending=pending)
        if any(one.startswith(PRACTICE_ID) for one in [*named, asked.authorization_id or ""]):
            practice = answers.as_practice(answer, practised(answer.message))
            return Verdict(answer=practice, station=asked.station, silent=True)
        return Verdict(answer=answer, station=asked.station, rows=[row, *earned], silent=True)

    def _refusal(self, asked: Posting, actor: Actor) -> tuple[str | None, str]:
        """Why a sale is not taken, and the sale it was already."""
        before = self._known.get((till_of(actor.device, actor.staff), asked.receipt_id))
        if before is not None:
            return "receipt_known", before
        strange = [one for one in asked.redemption_ids if self._used.redemption(one) is None]
        if asked.authorization_id and self._used.hold(asked.authorization_id) is None:
            strange.append(asked.authorization_id)
        if asked.order_id and asked.order_id not in self._orders():
            strange.append(asked.order_id)
        return ("card_dropped", "") if any(map(is_cardlike, strange)) else (None, "")

    def _captured(self, authorization_id: str | None) -> tuple[list[str], str | None]:
        """The redemption that came of a hold, or the hold, if nothing came of it yet."""
        hold = self._used.hold(authorization_id) if authorization_id else None
        return ([hold.redemption_id], None) if hold is not None and hold.redemption_id else ([], authorization_id)
