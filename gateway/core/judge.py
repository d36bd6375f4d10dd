"""From a presented code to a verdict: recognises, verifies, asks the rules. Reads everything, changes nothing."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from msgspec import Struct, field

from gateway import codes
from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.codes import CodeKind
from gateway.errors import MalformedFrame
from gateway.events import CodePresented, CompartmentOpenIntended, RedemptionRefused, Row, VoucherRedeemed
from gateway.rules import answers, pickup, voucher
from gateway.rules.answers import Answer, Before
from gateway.rules.reasons import NOTHING, Text
from gateway.rules.voucher import Terms, Used
from gateway.signed import Order
from gateway.token import BadSignature, Claims, TokenKind, UnknownKey, verify, voucher_ref

ORDER_STATES: Final = {
    pickup.State.DEPOSIT_OPENING: "staging",
    pickup.State.DEPOSIT_OPEN: "staging",
    pickup.State.LOADED: "staged",
    pickup.State.PICKUP_OPENING: "collecting",
    pickup.State.PICKUP_OPEN: "collecting",
}


class Verdict(Struct, kw_only=True):
    """What was decided, and what is to be committed with it. With a `place`, a door is to be opened there."""

    answer: Answer
    station: str
    rows: list[Row] = field(default_factory=list)
    place: pickup.Place | None = None
    intent: CompartmentOpenIntended | None = None
    wait: "asyncio.Future[str] | None" = None  # decided only when this is done, and then by `again` with its result
    again: "Callable[[str], Verdict] | None" = None


class Judge:
    """Decides by the catalog, the used-set and the wall, once this start is admitted.

    What was used stays used, whatever an old disk says; so a start that is not admitted refuses for that reason where it can.
    """

    def __init__(self, store_number: int, catalog: Catalog, wall: pickup.Wall, admitted: Callable[[], bool]) -> None:
        self._admitted = admitted
        self._store = store_number
        self._catalog = catalog
        self._wall = wall
        self.used = Used()
        self.assigned: Callable[[Claims, CodePresented, str, str | None, Clock], Verdict]  # decides on what headquarters assigns

    def code(self, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        """Decide on a presented code: a voucher is redeemed, a pickup opens its door, everything else is refused with a reason."""
        if self._catalog.retired:
            return self.refuse("box_retired", code, station, staff, clock)
        found = codes.recognise(code.payload, code.symbology_id)
        refused = {CodeKind.CARD: "card_dropped", CodeKind.MISTYPED: "mistyped", CodeKind.OTHER: "unreadable"}.get(found.kind)
        if refused is not None:
            return self.refuse(refused, code, station, staff, clock)
        if found.kind is CodeKind.SHORT:
            return self._short(found.text, code, station, staff, clock)
        return self._token(found.text, code, station, staff, clock)

    def stage(self, order_id: str, bank: str | None, place: pickup.Place | None, station: str, now_us: int) -> Verdict:
        """Decide where an order's parcel goes: into the named compartment if it is free, else into the first free one."""
        order = self._catalog.orders.get(order_id)
        refused = self._refusal_of_stage(order, order_id)
        chosen = place if place is not None and self._is_free(place) else None if place is not None else self._wall.free(bank)
        if refused is None and chosen is None:
            refused = "no_free_compartment"
        if refused is not None or order is None or chosen is None:
            return Verdict(answer=answers.refusal(refused or "unknown_order", now_us, reference=order_id), station=station)
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

    def order_number(self, order_id: str) -> str:
        """The number people say aloud."""
        order = self._catalog.orders.get(order_id)
        return order.number if order else ""

    def _token(self, text: str, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        try:
            claims = verify(text, self._catalog.keys)
        except UnknownKey:
            return self.refuse("unknown_issuer", code, station, staff, clock)
        except BadSignature:
            return self.refuse("forged", code, station, staff, clock)
        except MalformedFrame:
            return self.refuse("unreadable", code, station, staff, clock)
        if claims.issuer != self._catalog.issuers[claims.key_id].issuer:  # a key signs for its own issuer only
            return self.refuse("unknown_issuer", code, station, staff, clock)
        reference = voucher_ref(claims.identifier)
        if claims.kind is TokenKind.PICKUP:
            if claims.store != self._store:
                return self.refuse("other_store", code, station, staff, clock, reference)
            return self._pickup(reference, code, station, staff, clock)
        if claims.voucher_class in voucher.ASSIGNED:
            return self.assigned(claims, code, station, staff, clock)
        refused = voucher.refusal_of_token(claims, self._store)
        if refused is not None:
            return self.refuse(refused, code, station, staff, clock, reference)
        return self._redeem(voucher.terms_of(claims), code, station, staff, clock)

    def _short(self, letters: str, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        reference = voucher_ref(codes.short_identifier(letters))
        listed = self._catalog.vouchers.get(reference)
        if listed is not None:
            return self._redeem(voucher.listed_terms(listed, self._store), code, station, staff, clock)
        if reference in self._catalog.orders:
            return self._pickup(reference, code, station, staff, clock)
        return self.refuse("unknown_code", code, station, staff, clock)

    def _redeem(self, terms: Terms, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
        refused = voucher.refusal(terms, self.used, self._catalog.vouchers, *clock.bounds_us()) or self._not_admitted()
        if refused is not None:
            return self.refuse(refused, code, station, staff, clock, terms.voucher_id)
        now = clock.now()
        use = VoucherRedeemed(
            secrets.token_hex(8), terms.voucher_id, terms.campaign, terms.issuer, station, code.read_point, staff,
            self.used.uses(terms.voucher_id) + 1, now,
        )  # fmt: skip
        answer = answers.decision(
            "redeemed", now.wall_us, reference=terms.voucher_id, redemption_id=use.redemption_id, title=self._title(terms.voucher_id)
        )
        return Verdict(answer=answer, station=station, rows=[use])

    def _pickup(self, order_id: str, code: CodePresented, station: str, staff: str | None, clock: Clock) -> Verdict:
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
            reason, now.wall_us, reference=reference, title=self._title(reference), before=self._before(reason, reference)
        )
        return Verdict(answer=answer, station=station, rows=[row])

    def _before(self, reason: str, reference: str) -> Before | None:
        if reason == "already_collected":
            at = self._wall.collected[reference]
            return Before(at.wall_us, "", "", None)
        return self.used.last(reference) if reason == "already_redeemed" else None

    def _title(self, voucher_id: str) -> Text:
        listed = self._catalog.vouchers.get(voucher_id)
        return Text(listed.title_zh, listed.title_en) if listed else NOTHING

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
