"""Two shops and a headquarters, and everything that may happen to them in any order: the machine that hypothesis walks."""

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from benchmarks.chain import TERMS
from gateway.core.verdict import Doing
from gateway.events import RedemptionReversed, RiskTaken, VoucherRedeemed
from gateway.rules.assigning import Asked
from gateway.rules.voucher import Want
from gateway.signed import Grant

from .chain_ground import ASSIGNED, AT, OWN, SHOPS, TRUSTED
from .chain_open_codes import OpenCodes
from .classes import Till


class Chain(OpenCodes):
    """Two shops and a headquarters."""

    # ------------------------------------------------------------ a voucher of the shop's own

    @rule(shop=AT, kind=st.sampled_from(sorted(OWN)), minor=st.integers(1, 500), doing=st.sampled_from([Doing.REDEEM, Doing.AUTHORIZE]))
    def show_own(self, shop: int, kind: str, minor: int, doing: Doing) -> None:
        shop %= SHOPS
        want = Want(1, minor) if kind == "face" else Want()
        self._did(f"store_bound: {doing}", self.shops[shop].redeem(f"{kind}-{shop}", want, doing))

    @rule(shop=AT, at=AT, lasts=st.booleans())
    def end_a_hold(self, shop: int, at: int, lasts: bool) -> None:
        till = self._one(shop, self.shops)
        if holds := till.holds():
            name = self._one(at, holds)
            self._did("store_bound: capture" if lasts else "store_bound: void", till.capture(name, None) if lasts else till.void(name))

    @rule(shop=AT, kind=st.sampled_from(sorted(OWN)), late=st.booleans(), meanwhile=st.booleans(), again=st.booleans())
    def sell_in_two_steps(self, shop: int, kind: str, late: bool, meanwhile: bool, again: bool) -> None:
        """Held and captured, perhaps too late, perhaps after somebody else wanted it, perhaps once more from an old disk."""
        till = self._one(shop, self.shops)
        before = till.holds()
        self.show_own(shop, kind, 300, Doing.AUTHORIZE)
        if len(holds := till.holds()) == len(before):
            return
        if late:
            self.time_passes(130)
        if meanwhile:
            self.show_own(shop, kind, 300, Doing.REDEEM)
        if again:
            kept = len(till.start.rows)
            till.capture(holds[-1], None)
            self.rows_arrive(shop, 1_000)
            till.put_back(self.hq.marks, kept)
            self._open(shop)
        self._did("store_bound: capture", till.capture(holds[-1], None))

    @rule(shop=AT, at=AT)
    def take_back(self, shop: int, at: int) -> None:
        till = self._one(shop, self.shops)
        if used := till.redemptions():
            self._did("store_bound: reverse", till.reverse(self._one(at, used)))

    # ------------------------------------------------------------ a voucher that headquarters assigns

    @rule(shop=AT, voucher_id=st.sampled_from(sorted(ASSIGNED)), units=st.integers(1, 200))
    def show_held(self, shop: int, voucher_id: str, units: int) -> None:
        till = self._one(shop, self.shops)
        self._did(f"{voucher_id}: held", not till.honour_held(voucher_id, units if voucher_id == "leased" else 1, self.now_s))

    @rule(shop=AT, voucher_id=st.sampled_from(sorted(ASSIGNED)), units=st.integers(1, 200), is_told=st.booleans())
    def ask(self, shop: int, voucher_id: str, units: int, is_told: bool) -> None:
        """By the line, or by a phone: the box, or what its screen shows, says whether the start is proven. The answer may be lost."""
        till = self._one(shop, self.shops)
        asked = Asked(till.name, None if till.start.proven else till.start.name, units if voucher_id == "leased" else 0)
        self.claims.append((f"c{len(self.claims)}", voucher_id, asked))
        self._claim(self.claims[-1], is_told)

    @rule(shop=AT, voucher_id=st.sampled_from(sorted(ASSIGNED)), units=st.integers(1, 200))
    def visit(self, shop: int, voucher_id: str, units: int) -> None:
        """Somebody with a voucher, and all goes well: shown, asked for if need be, used."""
        till = self._one(shop, self.shops)
        units = units if voucher_id == "leased" else 1
        if till.honour_held(voucher_id, units, self.now_s):
            before = len(self.answers)
            self.ask(shop, voucher_id, units, True)
            if len(self.answers) > before:
                self.show_a_grant(shop, len(self.answers) - 1, units)

    @precondition(lambda self: self.claims)
    @rule(at=AT)
    def ask_again(self, at: int) -> None:
        """The same question, perhaps long after."""
        self._claim(self._one(at, self.claims), True)

    def _claim(self, claim: tuple[str, str, Asked], is_told: bool) -> None:
        said = self.hq.claim(*claim, self.now_s)
        self._did("claims answered", isinstance(said, Grant))
        if is_told and isinstance(said, Grant):
            self.answers.append(said)

    @precondition(lambda self: self.answers)
    @rule(shop=AT, at=AT, units=st.integers(1, 200))
    def show_a_grant(self, shop: int, at: int, units: int) -> None:
        """Any grant that was ever given, anywhere, as often as somebody likes."""
        grant, till = self._one(at, self.answers), self._one(shop, self.shops)
        refused = till.honour(grant, units if grant.voucher_id == "leased" else 1, self.now_s)
        self._did(f"{grant.voucher_id}: grant", not refused)

    @precondition(lambda self: self.answers)
    @rule(at=AT, units=st.integers(1, 200))
    def show_a_grant_where_it_belongs(self, at: int, units: int) -> None:
        """The same, at the box it names."""
        grant = self._one(at, self.answers)
        self.show_a_grant(int(grant.gateway[1:]), at, units)

    # ------------------------------------------------------------ a voucher that may be taken on trust

    @rule(shop=AT, at=AT, many=st.integers(1, 25), device=st.sampled_from("ab"))
    def take_on_trust(self, shop: int, at: int, many: int, device: str) -> None:
        """Without a line: some customers in a row, some with copies of what others showed."""
        till = self._one(shop, self.shops)
        for number in range(many):
            self._did("bounded_risk: trusted", not till.honour_on_trust(self._one(at + number, list(TRUSTED)), device, self.now_s))

    @rule(shop=AT, at=AT, device=st.sampled_from("ab"), is_told=st.booleans())
    def take_when_told(self, shop: int, at: int, device: str, is_told: bool) -> None:
        till, voucher_id = self._one(shop, self.shops), self._one(at, list(TRUSTED))
        self.trusted += 1
        said = self.hq.claim(f"t{self.trusted}", voucher_id, Asked(till.name, None, 1), self.now_s)
        if isinstance(said, Grant) and is_told:
            till.hold(said)
        self._did("bounded_risk: given", not till.honour_given(voucher_id, device, self.now_s))

    @rule(shop=AT)
    def hear_an_answer(self, shop: int) -> None:
        till = self._one(shop, self.shops)
        till.hear(self.hq.marks)
        for start, upto in till.start.line():
            self.answered[start.name] = max(self.answered[start.name], min(upto, self.hq.marks.get(start.name, 0)))
        self._did("answers heard")

    @invariant()
    def no_shop_is_trusted_with_more_than_its_cap(self) -> None:
        for till in getattr(self, "shops", ()):
            line = [(start, row) for start, upto in till.start.line() for row in start.rows[self.answered[start.name] : upto]]
            taken = [row for _, row in line if isinstance(row, RiskTaken) and not row.number]
            assert sum(row.exposure_minor for row in taken) <= TERMS.per_shop_minor, till.name

    def teardown(self) -> None:
        """In the evening: what was used too often is booked as somebody's loss, to the last use."""
        if not hasattr(self, "shops"):
            return
        silent = [till for till in self.shops if till.name in self.hq.destroyed]
        for till in self.shops:
            if till not in silent:
                self.hq.take(till.name, till.start)
        untold = [
            row for till in silent for start in till.starts for row in start.rows[self.hq.marks.get(start.name, 0) :]
            if isinstance(row, RiskTaken)
        ]  # fmt: skip
        for voucher_id, units in TRUSTED.items():
            told = [row for till in self.shops for start in till.starts for row in start.rows if isinstance(row, RiskTaken)]
            gone = [row for till in self.shops for row in till.lost if isinstance(row, RiskTaken)] + untold
            spent = sum(row.units for row in told if row.voucher_id == voucher_id)
            lost = sum(row.units for row in gone if row.voucher_id == voucher_id)
            booked = self.hq.lost_units[voucher_id] + self.hq.stands[voucher_id].exposed
            assert spent - lost - units <= booked, (voucher_id, spent, lost, booked)

    @rule(shop=AT, most=st.sampled_from([1, 3, 1_000]), kind=st.sampled_from(sorted(OWN)))
    def put_back_a_disk_and_open(self, shop: int, most: int, kind: str) -> None:
        """The whole of it in one step: something is sold, some of it arrives, an old disk comes back, headquarters opens it."""
        self.show_own(shop, kind, 300, Doing.REDEEM)
        self.rows_arrive(shop, most)
        self.put_back_a_disk(shop)
        self._open(shop)

    # ------------------------------------------------------------ the promises

    @invariant()
    def nothing_is_spent_twice(self) -> None:
        if not hasattr(self, "shops"):
            return
        for till in self.shops:
            self._own_holds(till)
        for voucher_id, units in ASSIGNED.items():
            stand = self.hq.stands[voucher_id]
            spent = sum(self._spent(till, voucher_id) for till in self.shops)
            refunded = stand.left if stand.ended else 0
            assert spent + refunded <= units + stand.exposed, (voucher_id, spent, refunded, stand)

    def _own_holds(self, till: Till) -> None:
        uses = [row for row in self._redeemed(till) if not row.number]
        back = {row.redemption_id for start in till.starts for row in start.rows if isinstance(row, RedemptionReversed)}
        lost = {row.redemption_id for row in till.lost}
        for voucher_id, terms in self.own.items():
            counted = {row.redemption_id: row for row in uses if row.voucher_id == voucher_id}
            left = [row for name, row in counted.items() if name not in back | lost]
            if terms.partial:
                assert sum(row.amount_minor for row in left) <= terms.value_minor, (voucher_id, left)
            else:
                assert sum(row.units for row in left) <= terms.uses, (voucher_id, left)

    def _spent(self, till: Till, voucher_id: str) -> int:
        rows = [row for row in self._redeemed(till) if row.voucher_id == voucher_id]
        lost = [row for row in till.lost if row.voucher_id == voucher_id]
        return sum(row.units for row in rows) - sum(row.units for row in lost)

    def _redeemed(self, till: Till) -> list[VoucherRedeemed]:
        return [row for start in till.starts for row in start.rows if isinstance(row, VoucherRedeemed)]
