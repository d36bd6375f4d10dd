"""Goods that came back, at headquarters, in both databases: what counts, the points that go with it, and what a member owes then."""

from typing import Any

import msgspec

from cloud_bridge.hq import accounts, assignments, members, owing, returns
from cloud_bridge.hq.store import Connection, Store
from gateway.events import Instant, PointsAccrued, RateUsed, ReturnedLine, SaleReturned, VoucherRedeemed
from gateway.rules.assigning import Asked, Given
from gateway.token import points_ref

from .rig import AT_US
from .test_accounts import account, by_number, member
from .test_uplift import at, sale, told

BOX = "gw"


def back(number: int, sale_id: str, *lines: tuple[int, str, int, int], **more: Any) -> SaleReturned:
    fields: dict[str, Any] = {
        "return_id": f"b{number}", "sale_id": sale_id, "receipt_id": "R", "refund_id": f"S{number}", "station": "till-1", "device": "d-1",
        "staff": None, "currency": "TWD", "lines": [ReturnedLine(*line) for line in lines], "is_whole": False, "redemption_ids": [],
        "kept_ids": [], "event_time": at(5),
    }  # fmt: skip
    return SaleReturned(**(fields | more))


def sold(ref: str, number: int = 4, spent: int | None = None, **more: Any) -> list[Any]:
    """A sale of 100 NT$ a number, and the points it earns."""
    total = 100 * number + 1
    accrued = PointsAccrued(f"s{number}", ref, None, None, spent or total, "TWD", "till-1", at(0), **more)
    return [sale(number, 0), accrued]


async def look(store: Store) -> set[str]:
    """What the loop does once a second."""

    def write(db: Connection) -> set[str]:
        through = accounts.newest(db)
        looked, found = accounts.resolve(db, accounts.waiting(db, through))
        return accounts.credit(db, looked, found, through, AT_US) | returns.settle(db, AT_US) | accounts.tell(db)

    return await store.write(write)


async def shop_spends(store: Store, ref: str, units: int) -> None:
    """A shop is lent points and spends them; the row arrives."""

    def lend(db: Connection) -> int:
        given = assignments.give(db, points_ref(ref), Asked(BOX, None, units), AT_US // 1_000_000)
        assert isinstance(given, Given)
        return given.grant.number

    number = await store.write(lend)
    used = VoucherRedeemed(
        f"u{number}", points_ref(ref), 0, 1, "till-1", "pos", None, 1, Instant(AT_US, 1, "b", at(0).trust), units, 0, None, None, number
    )
    await told(store, used)


async def free(store: Store, ref: str) -> tuple[int, int]:
    """What is free of an account, and what is owed."""

    def read(db: Connection) -> tuple[int, int]:
        row = assignments.find(db, points_ref(ref))
        return (row.stand.left if row is not None else 0), owing.owed(db, ref)

    return await store.read(read)


async def test_uplift_and_points_are_net_of_what_came_back_and_a_row_that_comes_again_changes_nothing(store: Store) -> None:
    ref = await member(store)
    await told(store, *sold(ref))
    await look(store)
    assert await account(store, ref) == (4, 4, 0)
    returned = back(1, "s4", (1, "TEA", 1, 200))
    for _ in range(3):
        await told(store, returned)
        await look(store)
    shop, _rows = await told(store)
    assert (shop.all.sales, shop.all.minor, shop.returned_minor, shop.other.minor) == (1, 201, 200, 201)
    assert (await account(store, ref), await free(store, ref)) == ((2, 2, 0), (2, 0))
    await told(store, back(2, "s4", (1, "TEA", 1, 200), (2, "CAKE", 1, 1), is_whole=True))
    assert await look(store) == {"TW"}
    shop, _rows = await told(store)
    assert (shop.all.minor, shop.returned_minor, await account(store, ref)) == (0, 401, (0, 0, 0))
    (whole, part) = sorted(await store.read(lambda db: returns.listed(db, "")), key=lambda one: -int(one["minor"]))
    assert (whole["minor"], whole["points"], part["points"], whole["state"], whole["over_minor"]) == (201, 2, 2, "settled", 0)


async def test_what_comes_back_before_the_points_are_credited_is_never_credited(store: Store) -> None:
    ref = await member(store)
    await told(store, sale(4, 0), by_number("s4", spent=401), back(1, "s4", (1, "TEA", 1, 200)))
    await look(store)
    assert (await account(store, ref))[:2] == (2, 2)
    late = back(2, "s5", (1, "TEA", 1, 250))
    await told(store, sale(5, 0), by_number("s5", "0966111222", spent=501), late)
    await look(store)
    other = await member(store, "0966111222")
    await look(store)
    assert (await account(store, other))[:2] == (2, 2)


async def test_points_that_were_spent_stay_spent_and_the_rest_is_owed_and_paid_by_what_is_earned_next(store: Store) -> None:
    ref = await member(store)
    await told(store, *sold(ref))
    await look(store)
    await shop_spends(store, ref, 3)
    assert ((await account(store, ref))[0], await free(store, ref)) == (1, (1, 0))
    await told(store, back(1, "s4", (1, "TEA", 2, 400), (2, "CAKE", 1, 1)))
    await look(store)
    assert ((await account(store, ref))[:2], await free(store, ref)) == ((0, 0), (0, 3))
    kept = await store.read(lambda db: accounts.account(db, ref))
    assert (kept["owed"], {one["source"]: one["points"] for one in kept["entries"]}) == (3, {"sale": 4, "return": -4})
    await told(store, *sold(ref, 2))
    await look(store)
    assert ((await account(store, ref))[:2], await free(store, ref)) == ((0, 2), (0, 1))
    await told(store, *sold(ref, 5))
    await look(store)
    assert ((await account(store, ref))[:2], await free(store, ref)) == ((4, 7), (4, 0))


async def test_points_that_lie_with_a_shop_are_owed_until_the_share_comes_back(store: Store) -> None:
    ref = await member(store)
    await told(store, *sold(ref))
    await look(store)

    def lend(db: Connection) -> None:
        assert isinstance(assignments.give(db, points_ref(ref), Asked("other", None, 3), AT_US // 1_000_000), Given)

    await store.write(lend)
    await told(store, back(1, "s4", (1, "TEA", 1, 200)))
    await look(store)
    assert ((await account(store, ref))[:2], await free(store, ref)) == ((2, 2), (0, 1))

    def give_back(db: Connection) -> None:
        row = assignments.find(db, points_ref(ref))
        assert row is not None
        assignments.keep(db, assignments.RULES.settled(row.stand, "other", 1 << 40, True))

    await store.write(give_back)
    assert await store.read(returns.is_due)
    await look(store)
    assert ((await account(store, ref))[:2], await free(store, ref)) == ((2, 2), (2, 0))
    assert not await store.read(returns.is_due)


async def test_points_come_back_by_the_rate_they_were_earned_by(store: Store) -> None:
    ref = await member(store)
    rate = RateUsed(9, 5, 100, "half_up", None)
    await told(store, *sold(ref, points=20, rate=rate))
    await look(store)
    assert (await account(store, ref))[0] == 20
    await told(store, back(1, "s4", (1, "TEA", 1, 150)))
    await look(store)
    assert (await account(store, ref))[0] == 13  # 251 at 5 for each 100 is 12.55


async def test_an_old_disk_that_takes_goods_back_twice_is_believed_once_and_the_rest_is_told(store: Store) -> None:
    ref = await member(store)
    await told(store, *sold(ref))
    twice = [back(1, "s4", (1, "TEA", 2, 400)), back(2, "s4", (1, "TEA", 2, 400)), back(3, "s4", (2, "CAKE", 1, 1), refund_id="S1")]
    strange = [back(4, "nowhere", (1, "TEA", 1, 100)), back(5, "s4", (9, "TEA", 1, 100))]
    shop, _rows = await told(store, *twice, *strange)
    await look(store)
    assert (shop.all.minor, shop.returned_minor, (await account(store, ref))[0]) == (1, 400, 0)
    listed = {
        one["return_id"]: (one["minor"], one["over_minor"], one["state"]) for one in await store.read(lambda db: returns.listed(db, "s1"))
    }
    assert listed == {
        "b1": (400, 0, "settled"), "b2": (0, 400, "settled"), "b3": (0, 1, "settled"), "b4": (0, 100, "unknown_sale"),
        "b5": (0, 100, "settled"),
    }  # fmt: skip


async def test_whoever_was_erased_owes_nothing_and_nothing_breaks(store: Store) -> None:
    ref = await member(store)
    await told(store, *sold(ref))
    await look(store)
    await shop_spends(store, ref, 4)
    await told(store, back(1, "s4", (1, "TEA", 2, 400)))
    await look(store)
    assert (await free(store, ref))[1] == 4
    await store.write(lambda db: members.erase(db, ref))
    await told(store, back(2, "s4", (2, "CAKE", 1, 1)))
    await look(store)
    assert (await free(store, ref))[1] == 0
    assert msgspec.json.encode(await store.read(lambda db: returns.listed(db, "")))
