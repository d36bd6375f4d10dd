"""Open codes in the model's chain: what is left of a quota lies with shops in allotments, and never more is used than there was."""

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from gateway.core.verdict import Doing
from gateway.events import OpenCodeUsed, RedemptionReversed, VoucherRedeemed
from gateway.rules.assigning import Asked
from gateway.signed import Grant

from .chain_ground import AT, Ground
from .open_code_till import ALLOTMENT, OPEN, PER_MEMBER, QUOTA, OpenTill

MEMBERS = st.sampled_from(["ann", "bo", "cy", "di", "ed"])


class OpenCodes(Ground):
    """Shops use, hold and take back; headquarters gives allotments, and gets them back."""

    @rule(shop=AT, member=MEMBERS, many=st.integers(1, 5))
    def say_the_code(self, shop: int, member: str, many: int) -> None:
        till = self._one(shop, self.shops)
        for _ in range(many):
            self._did("open_code: redeem", till.use_open(Doing.REDEEM, member))

    @rule(shop=AT, member=MEMBERS, late=st.booleans(), meanwhile=st.integers(0, 4), again=st.booleans())
    def say_the_code_in_two_steps(self, shop: int, member: str, late: bool, meanwhile: int, again: bool) -> None:
        """Held and captured, perhaps too late, perhaps after others had the rest, perhaps once more from an old disk."""
        till = self._one(shop, self.shops)
        if not till.use_open(Doing.AUTHORIZE, member):
            return
        name = till.open_holds()[-1]
        if late:
            self.time_passes(130)
        for number in range(meanwhile):
            till.use_open(Doing.REDEEM, f"other-{number}")
        if again:
            kept = len(till.start.rows)
            till.capture_open(name)
            self.rows_arrive(shop, 1_000)
            till.put_back(self.hq.marks, kept)
            self._open(shop)
        self._did("open_code: capture", till.capture_open(name))

    @rule(shop=AT, at=AT, lasts=st.booleans())
    def end_a_hold_of_the_code(self, shop: int, at: int, lasts: bool) -> None:
        till = self._one(shop, self.shops)
        if holds := till.open_holds():
            name = self._one(at, holds)
            self._did("open_code: capture" if lasts else "open_code: void", till.capture_open(name) if lasts else till.void(name))

    @rule(shop=AT, at=AT)
    def take_the_code_back(self, shop: int, at: int) -> None:
        till = self._one(shop, self.shops)
        if used := till.open_uses():
            self._did("open_code: reverse", till.reverse_open(self._one(at, used)))

    @rule(shop=AT, at=AT, arrives=st.booleans(), uses=st.integers(0, 3), upto=st.sampled_from([1, 2, 4, 1_000]))
    def take_the_code_back_twice(self, shop: int, at: int, arrives: bool, uses: int, upto: int) -> None:
        """Taken back, used by somebody else, an old disk comes back, headquarters opens it, and it is taken back once more."""
        till = self._one(shop, self.shops)
        if not (used := till.open_uses()):
            return
        kept, name = len(till.start.rows), self._one(at, used)
        if not till.reverse_open(name):
            return
        for number in range(uses):
            till.use_open(Doing.REDEEM, f"other-{number}")
        self.rows_arrive(shop, upto)
        till.put_back(self.hq.marks, kept)
        self._open(shop)
        till.reverse_open(name)
        if arrives:
            self.rows_arrive(shop, 1_000)
        for number in range(ALLOTMENT):
            self._did("open_code: redeem", till.use_open(Doing.REDEEM, f"more-{number}"))

    # ------------------------------------------------------------ allotments

    @rule(shop=AT, units=st.sampled_from([1, ALLOTMENT, QUOTA]), is_told=st.booleans())
    def ask_for_an_allotment(self, shop: int, units: int, is_told: bool) -> None:
        """As the box does by itself when half is gone, or the end is near. The answer may be lost, or come late."""
        till = self._one(shop, self.shops)
        self.allotted += 1
        asked = Asked(till.name, None if till.start.proven else till.start.name, units)
        said = self.hq.claim(f"o{self.allotted}", OPEN.voucher_id, asked, self.now_s)
        self._did("allotments given", isinstance(said, Grant))
        if isinstance(said, Grant):
            self.allotments.append(said)
            if is_told:
                till.hold(said)

    @precondition(lambda self: self.allotments)
    @rule(at=AT)
    def an_allotment_arrives(self, at: int) -> None:
        """Any that was ever given, at the box that asked for it."""
        grant = self._one(at, self.allotments)
        self.shops[int(grant.gateway[1:])].hold(grant)
        self._did("allotments arrived")

    @rule(shop=AT, members=st.integers(1, 9))
    def a_flash_sale(self, shop: int, members: int) -> None:
        """Everybody at once, line up."""
        self.ask_for_an_allotment(shop, ALLOTMENT, True)
        till = self._one(shop, self.shops)
        for number in range(members):
            self._did("open_code: redeem", till.use_open(Doing.REDEEM, f"flash-{number}"))

    @rule(shop=AT, other=AT, uses=st.integers(0, 4))
    def an_allotment_comes_back(self, shop: int, other: int, uses: int) -> None:
        """It ends, the shop says so, and another shop asks for what was not used; the first goes on trying."""
        till = self._one(shop, self.shops)
        for number in range(uses):
            till.use_open(Doing.REDEEM, f"before-{number}")
        self.time_passes(7_200)
        self.settle(shop)
        self.rows_arrive(shop, 1_000)
        self.a_flash_sale(other, ALLOTMENT)
        for number in range(ALLOTMENT):
            self._did("open_code: redeem", till.use_open(Doing.REDEEM, f"after-{number}"))

    # ------------------------------------------------------------ the promises

    @invariant()
    def never_more_is_used_than_the_quota(self) -> None:
        """Of the whole chain, but for what is booked: what destroyed boxes may have used, and what went with a disk unheard of."""
        if not hasattr(self, "shops"):
            return
        stand = self.hq.stands[OPEN.voucher_id]
        spent = sum(len(self._stands(till)) for till in self.shops)
        assert spent <= QUOTA + stand.exposed, (spent, stand)

    @invariant()
    def no_member_uses_it_more_often_in_one_shop_than_they_may(self) -> None:
        """Holds included; of a shop whose disk stays its own, since headquarters does not tell whose uses it has counted."""
        for till in getattr(self, "shops", ()):
            if till.was_put_back:
                continue
            stands = self._stands(till)
            rows = [row for start in till.starts for row in start.rows if isinstance(row, OpenCodeUsed)]
            whose = [row.member_ref for row in rows if row.redemption_id in stands]
            assert all(whose.count(member) <= PER_MEMBER for member in set(whose)), (till.name, whose)

    def _stands(self, till: OpenTill) -> set[str]:
        """Uses, on whatever branch, that were not taken back, and are not booked as gone."""
        rows = [row for start in till.starts for row in start.rows]
        uses = {row.redemption_id for row in rows if isinstance(row, VoucherRedeemed) and row.voucher_id == OPEN.voucher_id}
        back = {row.redemption_id for row in rows if isinstance(row, RedemptionReversed)}
        return uses - back - {row.redemption_id for row in till.lost}
