"""A chain of shops and its headquarters in memory, for `benchmarks.offline_day`: the product's rules, and nothing else of it.

A shop's ledger is a list of rows by start; a start reads its disk's line into a `Book`, as core does. Headquarters keeps `Stand`s. What
is sent is a call that the adversary may drop before or after it had its effect.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from gateway.anywhere import RiskTerms
from gateway.events import (
    AssignmentTaken,
    AuthorizationEnded,
    EpochAdmitted,
    Instant,
    RedemptionReversed,
    Released,
    RiskTaken,
    SettledThrough,
    TimeTrust,
    VoucherAuthorized,
    VoucherRedeemed,
)
from gateway.rules import risk
from gateway.rules.assigning import Asked, Assigner, Given, Refused, Stand, Wish
from gateway.rules.assignment import Book, Running
from gateway.rules.voucher import Terms, Used, refusal
from gateway.signed import AssignmentStand, Grant, UsedVoucher

AT: Final = Instant(0, 0, "", TimeTrust.HOLDOVER)
GRANT_S: Final = 3_600
Sale = AuthorizationEnded | RedemptionReversed | VoucherAuthorized
Line = AssignmentTaken | EpochAdmitted | Released | RiskTaken | Sale | SettledThrough | VoucherRedeemed
TERMS: Final = RiskTerms(
    campaign=-1, version=1, currency="TWD", per_code_minor=100, per_device_minor=1_000, per_shop_minor=2_000, worth_minor=100,
    list_age_s=86_400, bearer="retailer",
)  # fmt: skip


class Opened:
    """An opening on a shop's disk: the row, and what it told."""

    def __init__(
        self, number: int, epoch: str, stands: list[AssignmentStand], settled_s: int, marks: dict[int, int], used: list[UsedVoucher]
    ) -> None:
        self.number, self.epoch, self.stands, self.settled_s, self.marks, self.used = number, epoch, stands, settled_s, marks, used


class Start:
    """One start of a shop's box."""

    def __init__(self, number: int, name: str, parent: "Start | None", claimed: int, proven: bool) -> None:
        self.number, self.name, self.parent, self.claimed, self.proven = number, name, parent, claimed, proven
        self.rows: list[Line | Opened] = []

    def line(self) -> Iterator[tuple["Start", int]]:
        """This start and those it continues, newest first, each with how many of its rows are on the disk."""
        start, upto = self, len(self.rows)
        yield start, upto
        while start.parent is not None:
            start, upto = start.parent, start.claimed
            yield start, upto


class Headquarters:
    """Stands, marks and openings."""

    def __init__(self, rules: Assigner) -> None:
        self.rules = rules
        self.stands: dict[str, Stand] = {}
        self.marks: dict[str, int] = {}  # by start
        self.openings: dict[str, tuple[int, str]] = {}  # by shop: newest number, and its start
        self.settled: dict[str, int] = {}
        self.touched: dict[str, set[str]] = {}  # by shop: vouchers it ever held
        self.own_uses: dict[str, Counter[str]] = {}  # by shop: of what is its own
        self.replies: dict[str, Grant | str] = {}
        self.destroyed: set[str] = set()
        self.losses: Counter[str] = Counter()  # minor units, by shop, of what it took on trust
        self.lost_units: Counter[str] = Counter()  # by voucher

    def claim(self, claim_id: str, voucher_id: str, asked: Asked, now_s: int) -> Grant | str:
        """The stored answer, or a new one: a grant, or a reason."""
        if claim_id not in self.replies:
            self.replies[claim_id] = self.give(voucher_id, asked, now_s)
        return self.replies[claim_id]

    def give(self, voucher_id: str, asked: Asked, now_s: int) -> Grant | str:
        """Assign."""
        if asked.gateway in self.destroyed:
            return "box_retired"
        given: Given | Refused = self.rules.give(self.stands[voucher_id], asked, now_s, now_s + GRANT_S)
        if isinstance(given, Refused):
            return given.reason
        self.stands[voucher_id] = given.stand
        self.touched.setdefault(asked.gateway, set()).add(voucher_id)
        if asked.epoch is not None and self.openings.get(asked.gateway, (0, ""))[1] != asked.epoch:
            self.openings[asked.gateway] = (self.openings.get(asked.gateway, (0, ""))[0] + 1, asked.epoch)
        return given.grant

    def opening(self, shop: str, start: Start) -> Opened:
        """Press an opening for a start, or hand out the one that was pressed with a grant."""
        number, epoch = self.openings.get(shop, (0, ""))
        if epoch != start.name:
            number += 1
            self.openings[shop] = number, start.name
        settled_s = self.settled.get(shop, 0)
        told = [
            stand
            for voucher_id in sorted(self.touched.get(shop, ()))
            for stand in self.rules.told(self.stands[voucher_id], shop, settled_s)
        ]
        marks = {one.number: self.marks.get(one.name, 0) for one, _ in start.line()}
        used = [UsedVoucher(voucher_id, uses, 0, "", None) for voucher_id, uses in self.own_uses.get(shop, {}).items()]
        return Opened(number, start.name, told, settled_s, marks, used)

    def take(self, shop: str, start: Start) -> None:
        """Rows arrive in order along their line."""
        for one, upto in reversed(list(start.line())):
            for row in one.rows[self.marks.get(one.name, 0) : upto]:
                self._took(shop, one.name, row)
            self.marks[one.name] = max(upto, self.marks.get(one.name, 0))

    def _took(self, shop: str, epoch: str, row: Line | Opened) -> None:
        if isinstance(row, RiskTaken) and not row.number:
            settled = risk.settle(self.rules, self.stands[row.voucher_id], shop, epoch, row.units)
            self.stands[row.voucher_id] = settled.stand
            self.losses[shop] += row.exposure_minor * (row.units - settled.good) // row.units
            self.lost_units[row.voucher_id] += row.units - settled.good
        elif isinstance(row, VoucherRedeemed | RiskTaken) and row.number:
            self.stands[row.voucher_id] = self.rules.use(self.stands[row.voucher_id], shop, row.number, epoch, row.units)
        elif isinstance(row, VoucherRedeemed):
            self.own_uses.setdefault(shop, Counter())[row.voucher_id] += 1
        elif isinstance(row, Released):
            counts = self.rules.counts(row.opening, self.openings.get(shop, (0, ""))[0], False)
            self.stands[row.voucher_id] = self.rules.released(self.stands[row.voucher_id], shop, row.number, counts)
        elif isinstance(row, SettledThrough):
            self.settled[shop] = max(row.through_s, self.settled.get(shop, 0))
            counts = self.rules.counts(row.opening, self.openings.get(shop, (0, ""))[0], False)
            for voucher_id in self.touched.get(shop, set()) if counts else ():
                self.stands[voucher_id] = self.rules.settled(self.stands[voucher_id], shop, row.through_s, counts)

    def wish(self, voucher_id: str, wish: Wish) -> list[tuple[str, int]]:
        """Want a voucher back; whom to ask for which number."""
        self.stands[voucher_id] = self.rules.wished(self.stands[voucher_id], wish)
        return [(kept.gateway, kept.number) for kept in self.stands[voucher_id].kept]

    def destroy(self, shop: str) -> int:
        """Declare a box destroyed; units booked."""
        self.destroyed.add(shop)
        before = sum(stand.exposed for stand in self.stands.values())
        for voucher_id in self.touched.get(shop, ()):
            self.stands[voucher_id] = self.rules.destroyed(self.stands[voucher_id], shop)
        return sum(stand.exposed for stand in self.stands.values()) - before


class Shop:
    """One shop's box with its kiosks."""

    def __init__(self, name: str, make_book: Callable[[str], Book], chance: Random) -> None:
        self.name = name
        self.clock_is_lost = False
        self._make_book = make_book
        self._chance = chance
        self.starts: list[Start] = []
        self.answered: dict[int, int] = {}  # by start's number: rows headquarters has acknowledged, on the disk
        self.lost: list[VoucherRedeemed | RiskTaken] = []  # went with a disk before headquarters had them
        self.start: Start
        self._begin(None, 0, True)

    def running(self) -> Running:
        """The start that decides."""
        return Running(self.start.name, self.start.number, self.start.proven, frozenset(one.name for one, _ in self.start.line()))

    def restart(self) -> None:
        """Power comes back."""
        self._begin(self.start, len(self.start.rows), self.start.proven)

    def put_back(self, marks: dict[str, int], rows: int | None = None) -> None:
        """The disk is replaced by an old image of itself, with so many rows of this start; a witness says so: it is not proven."""
        line = list(self.start.line())
        at = self._chance.randrange(len(line)) if rows is None else 0
        start, upto = line[at]
        kept = self._chance.randint(upto // 2, upto) if rows is None else rows
        gone = [(one, row) for one, rows in line[:at] for row in enumerate(one.rows[:rows])]
        gone += [(start, row) for row in enumerate(start.rows[:upto]) if row[0] >= kept]
        self.lost += [row for one, (seq, row) in gone if isinstance(row, VoucherRedeemed | RiskTaken) and seq >= marks.get(one.name, 0)]
        self._begin(start, kept, False)

    def adopt(self, opened: Opened) -> None:
        """Headquarters' opening arrives."""
        if opened.epoch == self.start.name and opened.number > self.book.opening:
            self._write(opened)
            self.start.proven = True

    def honour(self, grant: Grant, units: int, now_s: int) -> str:
        """A grant is shown, or was claimed: "" or why not."""
        refused = self.book.refusal(grant, units, self.running(), self._earliest_us(now_s))
        if refused is None:
            taken = AssignmentTaken(grant.voucher_id, grant.number, grant.units, grant.not_after_s, grant.issued_s, grant.epoch, None, AT)
            self._write(taken)
            self._write(self._use(grant, units))
        return refused or ""

    def honour_held(self, voucher_id: str, units: int, now_s: int) -> str:
        """A code whose assignment the box holds already: "" or why not; "needs_grant" if it holds none."""
        grant, why = self.book.usable(voucher_id, units, self.running(), self._earliest_us(now_s))
        if grant is None:
            return why or "needs_grant"
        self._write(self._use(grant, units))
        return ""

    def honour_own(self, voucher_id: str, now_s: int) -> str:
        """Class `store_bound`: "" or why not."""
        if not self.start.proven:
            return "not_admitted"
        refused = refusal(Terms(voucher_id, 0, 1, 1, 0, 1 << 40, 1), self.used, {}, self._earliest_us(now_s), None)
        if refused is None:
            self._write(VoucherRedeemed("", voucher_id, 0, 1, "", "", None, 1, AT))
        return refused or ""

    def honour_on_trust(self, voucher_id: str, device: str, now_s: int) -> str:
        """Class `bounded_risk` without headquarters' word: "" or why not."""
        refused = self._refusal_of_any(voucher_id, now_s)
        wanted = risk.Wanted(voucher_id, device, TERMS.worth_minor)
        refused = refused or self.exposure.refusal(TERMS, wanted) or ""
        if not refused:
            self._write(RiskTaken(self._name(), voucher_id, TERMS.campaign, 1, 0, 1, TERMS.worth_minor, device, AT))
        return refused

    def honour_given(self, voucher_id: str, device: str, now_s: int) -> str:
        """Class `bounded_risk` under a number this box holds: "" or why not."""
        refused = self._refusal_of_any(voucher_id, now_s)
        grant, why = self.book.usable(voucher_id, 1, self.running(), self._earliest_us(now_s))
        if refused or grant is None or self.exposure.gross(voucher_id) + 1 > grant.units:
            return refused or why or "needs_online"
        self._write(RiskTaken(self._name(), voucher_id, TERMS.campaign, 1, grant.number, 1, 0, device, AT))
        return ""

    def hold(self, grant: Grant) -> None:
        """Headquarters' answer is written down."""
        self._write(AssignmentTaken(grant.voucher_id, grant.number, grant.units, grant.not_after_s, grant.issued_s, grant.epoch, None, AT))

    def hear(self, marks: dict[str, int]) -> None:
        """Headquarters' acknowledgement: what it covers is answered."""
        for one, upto in self.start.line():
            self.answered[one.number] = max(self.answered.get(one.number, 0), min(upto, marks.get(one.name, 0)))
        self._close()

    def _close(self) -> None:
        self.exposure.answer(lambda place: place[1] <= self.answered.get(place[0], 0))

    def _refusal_of_any(self, voucher_id: str, now_s: int) -> str:
        if not self.start.proven:
            return "not_admitted"
        return refusal(Terms(voucher_id, 0, 1, 1, 0, 1 << 40, 0), self.used, {}, self._earliest_us(now_s), None) or ""

    def release(self, voucher_id: str, number: int) -> None:
        """Headquarters wants a number back."""
        if self.book.may_release(voucher_id, number, self.running()):
            self._write(Released(voucher_id, number, self.book.opening, AT))

    def settle(self, through_s: int) -> None:
        """Promise never to honour again what ends by then."""
        if self.book.may_settle(through_s, self.running()):
            self._write(SettledThrough(through_s, self.book.opening, AT))

    def _name(self) -> str:
        return f"{self.start.name}/{len(self.start.rows)}"

    def _earliest_us(self, now_s: int) -> int:
        return 0 if self.clock_is_lost else now_s * 1_000_000

    def _use(self, grant: Grant, units: int) -> VoucherRedeemed:
        return VoucherRedeemed("", grant.voucher_id, 0, 1, "", "", None, 1, AT, number=grant.number, units=units)

    def _begin(self, parent: Start | None, claimed: int, proven: bool) -> None:
        number = parent.number + 1 if parent is not None else 1
        self.start = Start(number, f"{self.name}/{number}-{len(self.starts)}", parent, claimed, proven)
        self.starts.append(self.start)
        self.book, self.used, self.exposure = self._make_book(self.name), Used(), risk.Exposure()
        self.answered = {one: seq for one, seq in self.answered.items() if one < number}
        for one, upto in reversed(list(self.start.line())):
            for seq, row in enumerate(one.rows[:upto], 1):
                self._fold(row, one.number, seq)
        self._close()

    def _write(self, row: Line | Opened) -> None:
        self.start.rows.append(row)
        self._fold(row, self.start.number, len(self.start.rows))

    def _fold(self, row: Line | Opened, number: int, seq: int) -> None:
        if isinstance(row, Opened):
            self.book.fold(EpochAdmitted(row.epoch, "opening", row.number, AT))
            self.book.adopt(row.stands, row.settled_s, row.marks)
            self.used.adopt(row.used, row.marks)
            return
        if isinstance(row, Sale):
            self.used.fold(row, (number, seq))
            return
        if isinstance(row, RiskTaken):  # the use beside it is in the same commit
            self.exposure.fold(row, (number, seq))
            use = VoucherRedeemed(row.redemption_id, row.voucher_id, 0, 1, "", "", None, 1, AT, row.units, number=row.number)
            self.exposure.fold(use, (number, seq))
            self.used.fold(use, (number, seq))
            row = use
        elif isinstance(row, VoucherRedeemed) and not row.number:
            self.used.fold(row, (number, seq))
        self.book.fold(row, (number, seq))
