"""The ground the model's shops stand on: the morning, the line, headquarters, boxes and clocks. What vouchers do is told elsewhere."""

from collections import Counter as Tally
from functools import partial
from random import Random
from typing import Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.events import RiskTaken, VoucherRedeemed
from gateway.rules.assigning import Asked, Stand, Wish
from gateway.rules.voucher import Terms
from gateway.signed import Grant
from tests.conftest import VirtualClock

from .careless import assigner_without, book_without
from .classes import Office
from .open_code_till import OPEN, QUOTA, OpenTill

SHOPS: Final = 2
END_S: Final = 1 << 32
AT: Final = st.integers(0, 1 << 16)
OWN: Final = {"once": (1, 0), "thrice": (3, 0), "face": (1, 500)}  # class `store_bound`: uses, face value
ASSIGNED: Final = {"granted": 1, "granted-2": 2, "hq_live": 1, "leased": 300}  # of what headquarters assigns: units
TRUSTED: Final = {f"bounded_risk/{number}": 1 for number in range(30)}  # worth more than one shop may take on trust
MOVES: Final = [Wish.MOVE] * 20 + [Wish.REFUND, Wish.CANCEL]


def own_terms(voucher_id: str, uses: int, value_minor: int, store: int) -> Terms:
    return Terms(voucher_id, 0, 1, uses, 0, END_S, store, value_minor, value_minor > 0)


class Ground(RuleBasedStateMachine):
    """Two shops and a headquarters."""

    without: ClassVar[frozenset[str]] = frozenset()  # clauses that are left out, to see that it is noticed
    steps: ClassVar[int] = 0
    did: ClassVar[Tally[str]] = Tally()

    @initialize(chance=st.integers(0, 1 << 32))
    def begin(self, chance: int) -> None:
        """A morning: every class has vouchers, each shop its own."""
        own = {f"{kind}-{shop}": own_terms(f"{kind}-{shop}", *shape, shop) for shop in range(SHOPS) for kind, shape in OWN.items()}
        self.own = own
        self.hq = Office(assigner_without(self.without))
        for voucher_id, units in ASSIGNED.items():
            self.hq.stands[voucher_id] = Stand(voucher_id, units)
        self.hq.stands |= {voucher_id: Stand(voucher_id, units) for voucher_id, units in TRUSTED.items()}
        self.hq.stands[OPEN.voucher_id] = Stand(OPEN.voucher_id, QUOTA)
        self.hq.back_up()
        self.answered: Tally[str] = Tally()  # by start: rows whose answer the box has heard
        clocks = [VirtualClock() for _ in range(SHOPS)]
        self.now_s = clocks[0].wall_us // 1_000_000
        self.shops = [
            OpenTill(f"s{number}", own, clock, partial(book_without, self.without), Random(chance + number))
            for number, clock in enumerate(clocks)
        ]
        self.answers: list[Grant] = []  # given, and on their way or on somebody's phone
        self.openings: list[tuple[OpenTill, Any]] = []
        self.recalls: list[tuple[OpenTill, str, int]] = []
        self.claims: list[tuple[str, str, Asked]] = []
        self.allotments: list[Grant] = []  # of the open code: given, and on their way
        self.allotted = 0  # claims of it
        self.trusted = 0  # claims of what may be taken on trust

    def _did(self, what: str, happened: bool = True) -> None:
        Ground.steps += 1
        if happened:
            Ground.did[what] += 1

    def _one(self, at: int, of: list[Any]) -> Any:
        return of[at % len(of)]

    # ------------------------------------------------------------ the line

    @rule(shop=AT, most=st.sampled_from([1, 2, 5, 1_000]))
    def rows_arrive(self, shop: int, most: int) -> None:
        till = self._one(shop, self.shops)
        if till.name not in self.hq.destroyed:
            self.hq.take_some(till.name, till.start, most)
            self._did("rows sent")

    @rule(shop=AT)
    def press_an_opening(self, shop: int) -> None:
        till = self._one(shop, self.shops)
        newest = self.hq.openings.get(till.name, (0, ""))[0]
        if till.name not in self.hq.destroyed and (not till.start.proven or till.book.opening < newest):
            self.openings.append((till, self.hq.opening(till.name, till.start)))
            self._did("openings pressed")

    def _open(self, shop: int) -> None:
        self.press_an_opening(shop)
        if self.openings:
            till, opened = self.openings[-1]
            till.adopt(opened)

    @precondition(lambda self: self.openings)
    @rule(at=AT)
    def an_opening_arrives(self, at: int) -> None:
        till, opened = self._one(at, self.openings)
        till.adopt(opened)
        self._did("openings arrived")

    @precondition(lambda self: self.recalls)
    @rule(at=AT)
    def a_recall_arrives(self, at: int) -> None:
        till, voucher_id, number = self._one(at, self.recalls)
        till.release(voucher_id, number)
        self._did("recalls arrived")

    # ------------------------------------------------------------ headquarters

    @rule(voucher_id=st.sampled_from(sorted([*ASSIGNED, OPEN.voucher_id])), wish=st.sampled_from(MOVES))
    def want_back(self, voucher_id: str, wish: Wish) -> None:
        named = {till.name: till for till in self.shops}
        self.recalls += [(named[name], voucher_id, number) for name, number in self.hq.wish(voucher_id, wish)]
        self._did(f"wishes: {wish}")

    @rule()
    def back_up(self) -> None:
        self.hq.back_up()
        self._did("backups")

    @rule(really=st.integers(0, 3))
    def restore_headquarters(self, really: int) -> None:
        if really:
            return
        before = dict(self.hq.marks)
        self.hq.restore()
        for till in self.shops:
            on_line = dict((one.name, upto) for one, upto in till.start.line())
            for start in till.starts:  # rows of dead branches do not come again: as if lost with the disk
                had = max(self.hq.marks.get(start.name, 0), on_line.get(start.name, 0))
                till.lost += [row for row in start.rows[had : before.get(start.name, 0)] if isinstance(row, VoucherRedeemed | RiskTaken)]
        self._did("restores of headquarters")

    @rule(shop=AT, really=st.integers(0, 9))
    def destroy(self, shop: int, really: int) -> None:
        if not really:
            self.hq.destroy(self._one(shop, self.shops).name)
            self._did("boxes destroyed")

    # ------------------------------------------------------------ boxes and clocks

    @rule(shop=AT)
    def restart(self, shop: int) -> None:
        """Power comes back: the time of every hold begins anew."""
        self._one(shop, self.shops).restart()
        self._did("restarts")

    @rule(shop=AT)
    def put_back_a_disk(self, shop: int) -> None:
        self._one(shop, self.shops).put_back(self.hq.marks)
        self._did("disks put back")

    @rule(shop=AT)
    def settle(self, shop: int) -> None:
        till = self._one(shop, self.shops)
        if not till.clock_is_lost:
            till.settle(self.now_s - 120)
            self._did("settled marks")

    @rule(seconds=st.sampled_from([1, 60, 130, 700, 3_500, 7_200]))
    def time_passes(self, seconds: int) -> None:
        self.now_s += seconds
        for till in self.shops:
            till.clock.advance(seconds)
            till.run_out()
        self._did("time passes")

    @rule(shop=AT)
    def lose_a_clock(self, shop: int) -> None:
        till = self._one(shop, self.shops)
        till.clock_is_lost = not till.clock_is_lost
        till.clock.bounds = (0, None) if till.clock_is_lost else None
        self._did("clocks lost or found")
