"""Scenarios of members before a kiosk and at a till: asked and joined, shown what is theirs, goods brought back, points by a new rate.

The shop is a real core with real doors; headquarters takes its rows from the disk into its own database.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_bridge.hq import accounts, members, returns, uplift
from cloud_bridge.hq.effects import Effects
from cloud_bridge.hq.registry import boxes
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.config import GatewayConfig
from gateway.events import LANE_OF, Lane, MemberBound, MemberConsented, PointsAccrued, SaleReturned
from gateway.signed import DOCUMENT_TAG, Document, seal
from tests.conftest import HQ_KEY, VirtualClock, until
from tests.gateway.core.lending import MONEY, Lender
from tests.gateway.core.roll_of import GOLD, PLAIN, REF, SIGNER, key_of, member_token, whole
from tests.gateway.core.shop import GATEWAY, voucher_token
from tests.gateway.kiosk.real_shop import Caller, Doors, open_doors

LINES = [{"sku": "LATTE", "quantity": 2, "price_minor": 300}, {"sku": "CAKE", "quantity": 1, "price_minor": 60}]


@pytest.fixture
async def doors(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Doors]:
    async with open_doors(shop_config, clock, signer=SIGNER) as opened:
        assert await opened.shop.bring(whole(GOLD, PLAIN, issued_us=clock.now().wall_us)) == b"applied"
        yield opened


def key() -> str:
    return secrets.token_hex(16)


async def scan(kiosk: Caller, code: bytes) -> dict[str, Any]:
    return await kiosk.redeem(code, source="camera")


@pytest.mark.scenario("R60")
async def test_an_anonymous_coupon_is_joined_at_the_kiosk_by_one_touch_and_a_code_and_by_nothing_else(doors: Doors) -> None:
    kiosk = await doors.kiosk()
    declined = await scan(kiosk, voucher_token(1))
    asked = {"offer_id": declined["consent"]["offer_id"], "yes": False, "key": key()}
    assert (declined["decision"], (await kiosk.said("consent", **asked))["decision"]) == ("redeemed", "not_joined")
    used = await scan(kiosk, voucher_token(2))
    await kiosk.said("consent", offer_id=used["consent"]["offer_id"], yes=True, key=key())
    assert (await scan(kiosk, member_token()))["decision"] == "joined"
    (bound,), (said,) = doors.shop.rows(MemberBound), doors.shop.rows(MemberConsented)
    assert (bound.redemption_id, bound.member_ref, said.text_version) == (used["redemption_id"], REF, "bind-1")


@pytest.mark.scenario("R33")
@pytest.mark.scenario("R70")
async def test_a_kiosk_offline_says_what_is_left_what_is_here_and_takes_nothing(doors: Doors) -> None:
    kiosk, till = await doors.kiosk(), await doors.till()
    lender = Lender(doors.shop, 500)
    await lender.line(True)
    serving = asyncio.ensure_future(lender.serve())
    await lender.lend(400)
    lender.elsewhere(100)
    await until(lambda: not doors.shop.desk._claims.wanted())
    serving.cancel()
    await lender.line(False)
    paid = await till.redeem(MONEY, amount_minor=180)
    assert (paid["decision"], paid["balance"]["here"]) == ("redeemed", 220)
    shown = await scan(kiosk, MONEY)
    assert (shown["reason"], shown["balance"]["here"], shown["balance"]["known"], shown["balance"]["is_stale"]) == (
        "amount_needed", 220, 500, False,
    )  # fmt: skip
    assert (await till.redeem(MONEY, amount_minor=300))["reason"] == "needs_online"


@pytest.mark.scenario("R71")
async def test_points_on_the_kiosk_have_their_time_and_are_said_to_be_old(doors: Doors, clock: VirtualClock) -> None:
    kiosk, nobody = await doors.kiosk(), doors.nobody()
    fresh = await scan(kiosk, member_token())
    assert (fresh["member"]["points"], fresh["member"]["is_stale"], fresh["balance"]["here"]) == (300, False, 0)
    assert "300" not in (await nobody.http.get("/v1/stations/counter")).text
    clock.advance(25 * 3600)
    assert (await scan(kiosk, member_token()))["member"]["is_stale"]


class Headquarters:
    """Its database, and what it makes of a shop's rows."""

    def __init__(self, store: SqliteStore, doors: Doors) -> None:
        self.store = store
        self.doors = doors

    async def hear(self) -> None:
        """All rows of the shop arrive, as often as it is called."""
        rows = [row for row in self.doors.shop.rows() if LANE_OF[type(row)] is Lane.MONEY]

        def take(db: Connection) -> None:
            effects = Effects(db, 1)
            for seq, row in enumerate(rows, 1):
                if isinstance(row, PointsAccrued | SaleReturned) or type(row).__name__ == "SalePosted":
                    effects.later(StoredRow(seq, GATEWAY, "1-a", 0, seq, 1, 1, type(row).__name__, ""), row)
            effects.write()
            through = accounts.newest(db)
            accounts.credit(db, *accounts.resolve(db, accounts.waiting(db, through)), through, 1)
            returns.settle(db, 1)

        await self.store.write(take)

    async def points(self) -> int:
        return (await self.store.read(lambda db: members.one(db, REF))).points

    async def net_minor(self, clock: VirtualClock) -> int:
        shops, _ = await self.store.read(lambda db: uplift.read(db, boxes(db), ("", ""), clock.now().wall_us))
        return sum(shop.all.minor for shop in shops)


@pytest.fixture
async def hq(doors: Doors, tmp_path: Path) -> AsyncIterator[Headquarters]:
    store = SqliteStore(tmp_path / "hq.db")
    await store.open()

    def begin(db: Connection) -> None:
        db.execute("INSERT INTO boxes VALUES (?, 'demo', '0', 's1', 7, '', '', 'Asia/Taipei', NULL, 0, NULL)", (GATEWAY,))
        values = (REF, "TW", key_of("+886912345678"), GOLD.code, "T", "gold", '["bind"]', 0, 1, 1)
        db.execute("INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    await store.write(begin)
    yield Headquarters(store, doors)
    await store.close()


async def test_points_are_earned_by_the_signed_rate_and_go_back_with_the_goods(doors: Doors, hq: Headquarters, clock: VirtualClock) -> None:
    till, day = await doors.till(), "2001-01-01"
    member = {"consent": True, "code": member_token().decode()}

    async def sell() -> str:
        body = {"receipt_id": f"R{secrets.token_hex(4)}", "lines": LINES, "member": member, "key": key()}
        return str((await till.said("sales", **body))["reference"])

    plain = await sell()
    rates = [
        {"version": 1, "currency": "TWD", "points": 5, "per_minor": 100, "first_day": day, "rounding": "half_up"},
        {"version": 2, "currency": "TWD", "points": 99, "per_minor": 1, "first_day": "2199-01-01"},
        {"version": 3, "currency": "TWD", "points": 1, "per_minor": 1, "first_day": day, "surprise": True},
    ]
    told = Document(GATEWAY, "campaigns", 1, 0, rates=[msgspec.Raw(msgspec.json.encode(one)) for one in rates])
    assert await doors.shop.bring(seal(DOCUMENT_TAG, told, HQ_KEY)) == b"applied"
    richer = await sell()
    earned = {row.sale_id: (row.points, row.rate.version, row.rate.rounding) for row in doors.shop.rows(PointsAccrued)}
    assert earned == {plain: (3, 0, "down"), richer: (18, 1, "half_up")}
    await hq.hear()
    assert (await hq.points(), await hq.net_minor(clock)) == (21, 720)
    lines = [{"line": 1, "sku": "LATTE", "quantity": 1, "price_minor": 150}]
    for number in range(2):  # posted twice, and every row arrives again
        refund = {"refund_id": "B1", "sale_id": richer, "lines": lines, "key": f"{number:032x}"}
        assert (await till.said("returns", **refund))["reason"] == ("", "return_known")[number]
    for _ in range(2):
        await hq.hear()
    assert (await hq.points(), await hq.net_minor(clock)) == (3 + 11, 570)  # 210 at 5 for each 100 is 10.5
