"""From a presented code to a verdict: recognises, verifies, asks the rules. Reads everything, changes nothing."""

from collections.abc import Callable
from typing import Final

import msgspec

from gateway import codes, phones, verifiers
from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.codes import CodeKind, Recognised
from gateway.core.accounts import Account, account_of
from gateway.core.counter import Counter
from gateway.core.verdict import REDEEM, Asked, Doing, Shown
from gateway.core.verdict import Verdict as Verdict
from gateway.core.views import OrderView
from gateway.errors import MalformedFrame
from gateway.events import CodePresented, RedemptionRefused
from gateway.grant import Grant
from gateway.rules import answers, pickup, voucher
from gateway.rules.answers import Before
from gateway.rules.voucher import Terms
from gateway.signed import Order
from gateway.token import Claims, Flag, TokenKind, VoucherClass
from gateway.verifiers import Presented

ENQUIRY: Final = Asked(Doing.VALIDATE)
ORDER_STATES: Final = {
    pickup.State.DEPOSIT_OPENING: "staging",
    pickup.State.DEPOSIT_OPEN: "staging",
    pickup.State.LOADED: "staged",
    pickup.State.PICKUP_OPENING: "collecting",
    pickup.State.PICKUP_OPEN: "collecting",
}


class Judge:
    """Decides by the catalog, the used-set and the wall, once this start is admitted.

    What was used stays used, whatever an old disk says; so a start that is not admitted refuses for that reason where it can.
    """

    def __init__(self, store_number: int, catalog: Catalog, wall: pickup.Wall, admitted: Callable[[], bool], counter: Counter) -> None:
        self._admitted = admitted
        self._counter = counter
        self._asked = REDEEM  # one decision at a time: what a code is presented for stands here, not in every signature
        self._store = store_number
        self._catalog = catalog
        self._wall = wall
        self.used = counter.used
        self.assigned: Callable[[Claims, CodePresented, str, str | None, Clock], Verdict]  # decides on what headquarters assigns
        self.shared: Callable[[Presented | str, Shown, Asked], Verdict | None] = lambda presented, shown, asked: None  # any shop's
        self.points_of: Callable[[Presented], Account | None]  # the points of the member whose code it is
        self.lent: Callable[[Account, CodePresented, str, str | None, Asked], Verdict]  # decides on a balance
        self.granted: Callable[[Grant, CodePresented, str, str | None, Clock], Verdict]  # decides on a grant that a phone brings
        self.member: Callable[[Presented | Recognised, CodePresented, str, str | None], Verdict | None]  # whose code or card it is

    def code(self, code: CodePresented, station: str, staff: str | None, clock: Clock, asked: Asked = REDEEM) -> Verdict:
        """Decide on a presented code: a voucher is redeemed, a pickup opens its door, everything else is refused with a reason."""
        self._asked = asked
        if self._catalog.retired:
            return self.refuse("box_retired", code, station, staff, clock)
        found = codes.recognise(code.payload, code.symbology_id)
        if found.kind is CodeKind.CARD:
            return self.refuse("card_dropped", code, station, staff, clock)
        if found.kind in verifiers.VERIFIERS:
            return self._token(found, code, station, staff, clock)
        return self._short(found, code, station, staff, clock)

    def stage(self, order_id: str, bank: str | None, place: pickup.Place | None, station: str, now_us: int) -> Verdict:
        """Decide where an order's parcel goes: into the named compartment if it is free, else into the first free one."""
        order = self._catalog.orders.get(order_id)
        refused = self._refusal_of_stage(order, order_id)
        chosen = place if place is not None and self._is_free(place) else None if place is not None else self._wall.free(bank)
        if refused is None and chosen is None:
            refused = "no_free_compartment"
        if refused is not None or order is None or chosen is None:
            known = order_id if order is not None else ""  # what nobody knows is kept nowhere: it may be a card's number
            return Verdict(answer=answers.refusal(refused or "unknown_order", now_us, reference=known), station=station)
        answer = answers.decision("staging", now_us, reference=order_id, order_number=order.number, compartment=chosen[1])
        return Verdict(answer=answer, station=station, place=chosen)

    def order_state(self, order: Order) -> tuple[str, int | None]:
        """Where an order stands, and in which compartment."""
        if order.order_id in self._wall.collected:
            return "collected", None
        place = self._wall.by_order(order.order_id)
        if place is None:
            return "cancelled" if order.cancelled else "paid", None
        return ORDER_STATES.get(self._wall.compartments[place].state, "staged"), place[1]

    def orders(self) -> list[OrderView]:
        """Every order, and where it stands."""
        return [
            OrderView(
                order_id=order.order_id, number=order.number, customer=order.customer, lines=order.lines, state=state, compartment=number
            )
            for order in self._catalog.orders.values()
            for state, number in [self.order_state(order)]
        ]

    def order_number(self, order_id: str) -> str:
        """The number people say aloud."""
        order = self._catalog.orders.get(order_id)
        return order.number if order else ""

    def _token(self, found: Recognised, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        try:
            shown = verifiers.verify(found.text, self._catalog.keys, found.kind)
        except MalformedFrame as error:
            return self.refuse(verifiers.reason_of(error), code, station, staff, clock)
        reference = shown.terms.voucher_id
        if shown.kind is TokenKind.MEMBER:
            return self._member(shown, code, station, staff, clock)
        if shown.kind is TokenKind.PICKUP:
            if shown.terms.store != self._store:
                return self.refuse("other_store", code, station, staff, clock, reference)
            return self._pickup(reference, code, station, staff, clock)
        if (verdict := self.shared(shown, Shown(code.presentation_id, station, code.read_point, staff), self._asked)) is not None:
            return verdict
        if shown.grant is not None and not shown.grant.is_amount and self._asked.is_plain:
            return self.granted(shown.grant, code, station, staff, clock)
        if shown.voucher_class is VoucherClass.LEASED and shown.claims is not None and not shown.terms.practice:
            account = account_of(shown.terms, points=bool(shown.claims.flags & Flag.POINTS))
            return self.lent(account, code, station, staff, self._asked)
        if shown.voucher_class in voucher.ASSIGNED and shown.claims is not None and self._asked.is_plain:
            return self.assigned(shown.claims, code, station, staff, clock)
        refused = voucher.refusal_of_token(shown.voucher_class, shown.terms, self._store)
        if refused is not None:
            return self.refuse(refused, code, station, staff, clock, reference)
        return self._redeem(shown.terms, code, station, staff, clock)

    def _member(self, shown: Presented, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        """A member's code says who it is; asked for points, it spends them."""
        if self._asked.want.points and (account := self.points_of(shown)) is not None:
            return self.lent(account, code, station, staff, self._asked)
        member = self.member(shown, code, station, staff) if self._asked.doing is not Doing.AUTHORIZE else None
        if member is not None and member.answer.ok and (account := self.points_of(shown)) is not None:
            lent = self.lent(account, code, station, staff, ENQUIRY)  # nothing is asked, written or taken: what may be spent here
            member.answer = msgspec.structs.replace(member.answer, balance=lent.answer.balance)
        return member or self.refuse("not_a_voucher", code, station, staff, clock)

    def _short(self, found: Recognised, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        """A code that carries no signature: only what headquarters has listed for this shop says what it stands for."""
        references = self._catalog.resolve(found)
        if len(references) > 1:
            return self.refuse("ambiguous_code", code, station, staff, clock)
        if not references:
            if self._asked.doing is not Doing.AUTHORIZE and (member := self.member(found, code, station, staff)) is not None:
                return member
            unknown = {CodeKind.SHORT: "unknown_code", CodeKind.MISTYPED: "mistyped"}.get(found.kind, "unreadable")
            if unknown == "unreadable" and phones.is_number(found.typed, self._catalog.roll.region):
                unknown = "phone_cannot_spend"
            return self.refuse(unknown, code, station, staff, clock)
        if (verdict := self.shared(references[0], Shown(code.presentation_id, station, code.read_point, staff), self._asked)) is not None:
            return verdict
        listed = self._catalog.vouchers.get(references[0])
        if listed is not None:
            return self._redeem(voucher.listed_terms(listed, self._store), code, station, staff, clock)
        return self._pickup(references[0], code, station, staff, clock)

    def _redeem(self, terms: Terms, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        return self._counter.decide(terms, Shown(code.presentation_id, station, code.read_point, staff), self._asked)

    def _pickup(self, order_id: str, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        if self._asked.doing is not Doing.REDEEM or self._asked.want != voucher.ONE:
            return self.refuse("not_a_voucher", code, station, staff, clock, order_id)
        order = self._catalog.orders.get(order_id)
        cancelled = order is not None and order.cancelled
        known = self._not_admitted() if order_id not in self._wall.collected else None
        refused = "order_cancelled" if cancelled else known or pickup.refusal_of_pickup(self._wall, order_id)
        if refused is not None:
            return self.refuse(refused, code, station, staff, clock, order_id)
        place = self._wall.by_order(order_id)
        number = place[1] if place else None
        now_us = clock.now().wall_us
        answer = answers.decision("collecting", now_us, reference=order_id, order_number=self.order_number(order_id), compartment=number)
        return Verdict(answer=answer, station=station, place=place)

    def refuse(self, reason: str, code: CodePresented, station: str, staff: str | None, clock: Clock, reference: str = "") -> Verdict:
        """A refusal: an answer with its reason, and an event."""
        now = clock.now()
        row = RedemptionRefused(code.presentation_id, reference or None, reason, station, code.read_point, staff, now)
        answer = answers.refusal(
            reason, now.wall_us, reference=reference, title=self._counter.title(reference), before=self._before(reason, reference)
        )
        return Verdict(answer=answer, station=station, rows=[row])

    def _before(self, reason: str, reference: str) -> Before | None:
        if reason == "already_collected":
            at = self._wall.collected[reference]
            return Before(at.wall_us, "", "", None)
        return None

    def _refusal_of_stage(self, order: Order | None, order_id: str) -> str | None:
        if self._catalog.retired:
            return "box_retired"
        if order is None:
            return "unknown_order"
        if order.cancelled:
            return "order_cancelled"
        if order_id in self._wall.collected:
            return "already_collected"
        return self._not_admitted() or ("already_staged" if self._wall.by_order(order_id) is not None else None)

    def _not_admitted(self) -> str | None:
        return None if self._admitted() else "not_admitted"

    def _is_free(self, place: pickup.Place) -> bool:
        held = self._wall.compartments.get(place)
        return held is not None and held.state is pickup.State.FREE
