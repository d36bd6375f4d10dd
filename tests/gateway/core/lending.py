"""Headquarters as one box with a balance sees it: the product's own rules of giving, and rows that arrive when the test says so."""

import asyncio
import secrets
from typing import Any

import msgspec

from gateway.core.verdict import Actor, Asked, Doing
from gateway.events import LANE_OF, ClaimedArrived, Lane, LineChanged, RedemptionReversed, Released, SettledThrough, VoucherRedeemed
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.rules.assigning import Asked as Wanted
from gateway.rules.assigning import Assigner, Given, Refused, Stand
from gateway.rules.voucher import Want
from gateway.signed import CLAIMED_TAG, LEND_TAG, RECALL_TAG, Claimed, Lend, Recall, seal
from gateway.token import Flag, VoucherClass, voucher_ref
from tests.conftest import HQ_KEY, until
from tests.gateway.core.shop import GATEWAY, Shop, presented, voucher_token

V = voucher_ref(1, 42)
MONEY = voucher_token(voucher_class=VoucherClass.LEASED, store=0, value_minor=500, flags=Flag.PARTIAL)
POINTS = voucher_token(voucher_class=VoucherClass.LEASED, store=0, flags=Flag.POINTS)
TILL = Actor("d-1", None, frozenset({"pos"}))
OTHER = Actor("d-2", None, frozenset({"pos"}))
MANAGER = Actor(None, "s-2", frozenset({"clerk", "manager"}))
RULES = Assigner()


class Lender:
    """Of one balance. What is given to `elsewhere` is gone for this shop."""

    def __init__(self, shop: Shop, balance: int, share: int = 0, lease_s: int = 3_600) -> None:
        self.shop = shop
        self.stand = Stand(V, balance)
        self.share = share
        self.lease_s = lease_s
        self.claims = 0
        self._heard = 0
        self._changes: list[asyncio.Future[bytes]] = []

    async def say(self, *stated: Any) -> None:
        for event in stated:
            await self.shop.desk.decide("bridge", secrets.token_hex(8), event)

    async def line(self, up: bool) -> None:
        """The row of it is committed with the next one of money, so nobody waits for that."""
        change = LineChanged(up, self.shop.clock.now())
        self._changes.append(asyncio.ensure_future(self.shop.desk.decide("bridge", secrets.token_hex(8), change)))
        await until(lambda: self.shop.desk.store_view().line.up == up)

    def hear(self) -> None:
        """Every row that was written since arrives."""
        rows = [row for row in self.shop.rows() if LANE_OF[type(row)] is Lane.MONEY]
        for row in rows[self._heard :]:
            match row:
                case VoucherRedeemed(number=number) if number:
                    self.stand = RULES.use(self.stand, GATEWAY, number, "1", row.spent)
                case RedemptionReversed(number=number) if number:
                    self.stand = RULES.taken_back(self.stand, GATEWAY, number, "1", row.spent)
                case Released():
                    self.stand = RULES.released(self.stand, GATEWAY, row.number, True)
                case SettledThrough():
                    self.stand = RULES.settled(self.stand, GATEWAY, row.through_s, True)
        self._heard = len(rows)

    def answer(self, claim_id: str, units: int) -> ClaimedArrived:
        """What headquarters says to a claim."""
        now_s, self.claims = self.shop.clock.now().wall_us // 1_000_000, self.claims + 1
        given = RULES.give(self.stand, Wanted(GATEWAY, None, max(units, self.share)), now_s, now_s + self.lease_s)
        grant, reason = (given.grant, "") if isinstance(given, Given) else (None, given.reason)
        if isinstance(given, Given):
            self.stand = given.stand
        left = self.stand.left + sum(kept.units - kept.total_spent for kept in self.stand.kept)
        said = Claimed(GATEWAY, claim_id, now_s * 1_000_000, grant, reason, title_zh="禮物卡", title_en="Gift card", balance=left)
        return ClaimedArrived(seal(CLAIMED_TAG, said, HQ_KEY))

    async def serve(self) -> None:
        """Answer claims until cancelled."""
        while True:
            for want in self.shop.desk._claims.wanted():
                await self.say(self.answer(want.claim_id, want.units))
            await asyncio.sleep(0.002)

    async def lend(self, units: int) -> None:
        """Have a share lie here, and see it come."""
        await self.say(ClaimedArrived(seal(LEND_TAG, Lend(GATEWAY, V, units, 0), HQ_KEY)))
        await until(lambda: bool(self.shop.desk._claims.wanted()) or bool(self.stand.kept_by(GATEWAY)))
        await until(lambda: not self.shop.desk._claims.wanted())

    async def recall(self) -> None:
        await self.say(ClaimedArrived(seal(RECALL_TAG, Recall(GATEWAY, V, self.stand.number, 0), HQ_KEY)))

    def elsewhere(self, units: int) -> int:
        """Another shop is lent so much, or what there is."""
        given = RULES.give(self.stand, Wanted("box-8", None, units), 0, 1 << 31)
        if isinstance(given, Refused):
            return 0
        before = self.stand.left
        self.stand = given.stand
        return before - self.stand.left


class At:
    """A till in front of a balance; amounts are minor units or points, as the code says."""

    def __init__(self, shop: Shop, code: bytes = MONEY, actor: Actor = TILL) -> None:
        self.shop = shop
        self.code = code
        self.actor = actor

    def want(self, amount: int | None) -> Want:
        if amount is None:
            return Want()
        return Want(amount, None, True) if self.code == POINTS else Want(1, amount)

    async def raw(self, doing: Doing, amount: int | None, key: str = "", **more: Any) -> bytes:
        asked = msgspec.structs.replace(Asked(doing, self.want(amount), device=self.actor.device), **more)
        event = presented(self.code, key or None, read_point="pos@counter")
        return await self.shop.desk.present(event, station="counter", staff=self.actor.staff, asked=asked)

    async def spend(self, amount: int | None, **more: Any) -> Answer:
        return answers.decode(await self.raw(Doing.REDEEM, amount, **more))

    async def hold(self, amount: int | None, **more: Any) -> Answer:
        return answers.decode(await self.raw(Doing.AUTHORIZE, amount, **more))

    def look(self, amount: int | None = None, **more: Any) -> Answer:
        return answers.decode(self.shop.desk.till.validate(presented(self.code), "counter", None, self.want(amount), **more))

    async def capture(self, authorization_id: str, amount: int | None = None) -> Answer:
        want, key = None if amount is None else self.want(amount), secrets.token_hex(16)
        return answers.decode(await self.shop.desk.till.capture(authorization_id, key=key, station="counter", actor=self.actor, want=want))

    async def void(self, authorization_id: str) -> Answer:
        key = secrets.token_hex(16)
        return answers.decode(await self.shop.desk.till.void(authorization_id, key=key, station="counter", actor=self.actor))

    async def reverse(self, redemption_id: str) -> Answer:
        key = secrets.token_hex(16)
        return answers.decode(await self.shop.desk.till.reverse(redemption_id, key=key, station="counter", actor=self.actor))
