"""Members' points and first visits at headquarters, in both databases: each row credited once, nobody told too early."""

import asyncio
from functools import partial
from typing import Any

import pytest

from cloud_bridge.hq import accounts, members
from cloud_bridge.hq.effects import Effects
from cloud_bridge.hq.members import MemberAsk, Signing
from cloud_bridge.hq.store import Connection, Store, StoredRow
from gateway.events import Event, MemberBound, PointsAccrued, RedemptionReversed, RevisitAsked
from gateway.phones import e164, phone_key, region_secret, sale_ref

from .rig import AT_US, Hq, wire
from .test_uplift import at, sale, told, use

SECRET = region_secret(b"a chain's own key", "TW")
PHONE = "0912345678"
DAY_MIN = 24 * 60
NUMBERS = iter(range(1, 10_000))


async def member(store: Store, phone: str = PHONE) -> str:
    signing = Signing(lambda region: SECRET, lambda claims: "TOKEN", 1, lambda: next(NUMBERS))
    return (await store.write(lambda db: members.make(db, MemberAsk(phone=phone), signing, AT_US)))[0].member_ref


def by_number(sale_id: str, phone: str = PHONE, spent: int = 350, **more: Any) -> PointsAccrued:
    ref = sale_ref(phone_key(SECRET, e164(phone, "TW")), sale_id)
    fields: dict[str, Any] = {"member_ref": None, "member_code": None, "phone_ref": ref, "currency": "TWD", "station": "till-1"}
    fields |= {"sale_id": sale_id, "spent_minor": spent, "event_time": at(0)}
    return PointsAccrued(**(fields | more))


def asked(number: int, minutes: float, ref: str, days: int = 30) -> RevisitAsked:
    return RevisitAsked(f"v{number}", 40, 1, days, 50, ref, "till-1", at(minutes))


def bound(number: int, ref: str, minutes: float = 0) -> MemberBound:
    return MemberBound(f"r{number}", None, f"v{number}", 7, 1, ref, "code", "till-1", None, None, at(minutes))


async def take(store: Store, *events: Event, gateway: str = "gw") -> None:
    """Another box's money lane, as it arrives."""

    def write(db: Connection) -> None:
        effects = Effects(db, AT_US)
        for seq, event in enumerate(events, 1):
            effects.later(StoredRow(seq, gateway, "1-a", 0, seq, AT_US, AT_US, type(event).__name__, ""), event)  # type: ignore[arg-type]
        effects.write()

    await store.write(write)


async def look(store: Store, through_us: int = 0) -> set[str]:
    """What the loop does once a second."""

    def write(db: Connection) -> set[str]:
        through = accounts.newest(db)
        looked, found = accounts.resolve(db, accounts.waiting(db, through))
        return accounts.credit(db, looked, found, through, AT_US) | accounts.settle(db, through_us, AT_US)

    return await store.write(write)


async def account(store: Store, ref: str) -> tuple[int, int, int]:
    """Points as shops show them, points by entries, sales that wait."""
    shown = await store.read(partial(members.one, member_ref=ref))
    kept = await store.read(partial(accounts.account, member_ref=ref))
    return shown.points, kept["earned"], kept["waiting_sales"]


async def test_a_sale_typed_with_a_number_is_credited_once_to_whoever_has_it(store: Store) -> None:
    ref, other = await member(store), await member(store, "0987654321")
    await told(store, sale(1, 0), by_number("s1"))
    assert await look(store) == {"TW"}
    for _ in range(3):  # whatever is tried again
        await told(store, sale(1, 0), by_number("s1"))
        await look(store)
    assert (await account(store, ref), await account(store, other)) == ((3, 3, 0), (0, 0, 0))
    assert (await store.read(lambda db: db.execute("SELECT phone_ref, member_ref FROM accruals").fetchall())) == [(None, ref)]
    assert (await told(store))[0].all.sales == 1
    assert (await store.read(lambda db: db.execute("SELECT member_ref FROM sales").fetchall())) == [(ref,)]


async def test_an_unknown_number_waits_until_somebody_with_it_is_made(store: Store) -> None:
    await member(store, "0987654321")
    await told(store, sale(1, 0), by_number("s1"), sale(2, 0), by_number("s2", "0933333333"))
    assert await look(store) == set()
    ref = await member(store)
    assert await look(store) == {"TW"}
    assert await account(store, ref) == (3, 3, 0)
    assert (await store.read(lambda db: accounts.waiting(db, accounts.newest(db) + 1)))[0].sale_id == "s2"


async def test_by_reference_and_by_code_it_is_credited_too_and_each_currency_has_its_rate(store: Store) -> None:
    ref = await member(store)
    code = (await store.read(partial(members.one, member_ref=ref))).code
    by_ref = by_number("s1", member_ref=ref, phone_ref=None)
    by_code = by_number("s2", member_code=code, phone_ref=None, currency="HKD", spent=25_999)
    small = by_number("s3", member_ref=ref, phone_ref=None, spent=99)
    await told(store, sale(1, 0), by_ref, sale(2, 0), by_code, sale(3, 0), small)
    await look(store)
    assert await account(store, ref) == (3 + 25, 28, 0)


async def test_a_receipt_that_an_old_disk_took_twice_earns_once(store: Store) -> None:
    ref = await member(store)
    again = sale(2, 0, receipt_id="R1")
    await told(store, sale(1, 0), by_number("s1"), again, by_number("s2"))
    await look(store)
    assert await account(store, ref) == (3, 3, 0)


async def test_whoever_was_erased_is_credited_nothing_and_nothing_breaks(store: Store) -> None:
    ref = await member(store)
    await told(store, sale(1, 0), by_number("s1", member_ref=ref, phone_ref=None), asked(1, 0, ref))
    await store.write(partial(members.erase, member_ref=ref))
    assert await look(store, AT_US + 1) == set()
    assert [one["state"] for one in await store.read(partial(accounts.revisits, state=""))] == ["no_member"]


async def test_a_first_visit_is_granted_once_all_shops_have_told_and_not_before(store: Store) -> None:
    ref = await member(store)
    await told(store, asked(1, 0, ref))
    assert await look(store, AT_US - 1) == set()
    assert [one["state"] for one in await store.read(partial(accounts.revisits, state="pending"))] == ["pending"]
    assert await look(store, AT_US) == {"TW"}
    await told(store, asked(1, 0, ref))
    await look(store, AT_US)
    assert await account(store, ref) == (50, 50, 0)
    assert [one["state"] for one in await store.read(partial(accounts.revisits, state=""))] == ["granted"]


@pytest.mark.parametrize(
    ("gateway", "minutes", "state"),
    [
        ("gw-2", -29 * DAY_MIN, "not_first"), ("gw-2", -31 * DAY_MIN, "granted"), ("gw-2", -1, "not_first"), ("gw", -60, "granted"),
        ("gw", -5 * 60, "not_first"), ("gw-2", 1, "granted"),
    ],
)  # fmt: skip
async def test_what_another_shop_tells_late_counts_and_one_visit_is_one(store: Store, gateway: str, minutes: float, state: str) -> None:
    ref = await member(store)
    await told(store, bound(1, ref), asked(1, 0, ref))
    await take(store, bound(9, ref, minutes), gateway=gateway)
    await look(store, AT_US)
    assert [one["state"] for one in await store.read(partial(accounts.revisits, state=""))] == [state]


async def test_two_shops_that_ask_in_one_moment_get_one_gift(store: Store) -> None:
    ref = await member(store)
    await told(store, bound(1, ref), asked(1, 0, ref))
    await take(store, bound(2, ref), asked(2, 0, ref), gateway="gw-2")
    await store.write(lambda db: db.execute("INSERT INTO boxes VALUES ('gw-2', 'd', '0', 's2', 2, '', '', 'Asia/Taipei', NULL, 0, NULL)"))
    await look(store, AT_US)
    assert sorted(one["state"] for one in await store.read(partial(accounts.revisits, state=""))) == ["granted", "not_first"]
    assert await account(store, ref) == (50, 50, 0)


async def test_a_coupon_makes_its_basket_the_members_and_another_members_stays_out(store: Store) -> None:
    ref, other = await member(store), await member(store, "0987654321")
    events = [use(1, 0), bound(1, ref), use(2, 0), bound(2, other), use(3, 0)]
    shop, rows = await told(store, *events, sale(1, 1, "r1"), sale(2, 1, "r1", "r2"), sale(3, 1, "r3"))
    assert {(row["sale_id"], row["member_ref"]) for row in rows} == {("s1", ref), ("s2", None), ("s3", None)}
    assert (shop.redemption.members, shop.redemption.anonymous) == (1, 2)


async def test_the_same_member_is_enough_to_join_a_sale_elsewhere_in_the_shop(store: Store) -> None:
    ref, other = await member(store), await member(store, "0987654321")
    events = [use(1, 0, "kiosk"), bound(1, ref), use(2, 0), bound(2, other), sale(1, 1, member_ref=ref)]
    _, rows = await told(store, *events)
    assert [(row["act_id"], row["how"]) for row in rows] == [("r1", "member")]


async def test_uses_are_told_shop_by_shop_less_what_was_reversed(store: Store) -> None:
    ref = await member(store)
    back = RedemptionReversed("r1", "v1", 7, 1, 0, "till-1", None, None, at(3))
    await told(store, use(1, 0), bound(1, ref), use(2, 0), bound(2, ref), back)
    assert await store.read(partial(accounts.uses, member_ref=ref)) == [{"campaign": 7, "store": "s1", "units": 1}]


async def test_headquarters_credits_by_itself_tells_the_shop_and_waits_for_silent_ones(demo: Hq) -> None:
    made = await demo.post("/api/members", {"phone": PHONE})
    ref = made["member_ref"]
    async with demo.connected(await demo.new_box()) as box, demo.connected(await demo.new_box("s2", 2)) as other:
        before = await box.document("members")
        posted = sale(1, 0, member_ref=ref)
        rows = [posted, by_number("s1", member_ref=ref, phone_ref=None), asked(1, 0, ref)]
        await box.send(box.batch([wire(seq, event) for seq, event in enumerate(rows, 1)], last={0: 3}))
        await box.beat(last={0: 3})
        recent = await box.document("members_recent")
        while recent.members is not None and not recent.members.entries:
            recent = await box.document("members_recent", recent.version + 1)
        assert before.members is not None and recent.members is not None
        assert [(one.member_ref, one.points) for one in recent.members.entries] == [(ref, 3)]
        (pending,) = await demo.get("/api/revisits?state=pending")
        assert pending["waiting_for"] == ["s2"]
        await other.beat(1)
        await _until(demo, "/api/revisits?state=granted", lambda found: len(found) == 1, box, other)
        kept = await demo.get(f"/api/members/{ref}/points")
        assert (kept["points"], kept["earned"], kept["waiting_sales"], kept["pending_revisits"]) == (53, 53, 0, 0)
        assert {(one["source"], one["source_id"], one["points"]) for one in kept["entries"]} == {("sale", "s1", 3), ("revisit", "v1", 50)}
        (shown,) = await demo.get(f"/api/sales?member={ref}")
        assert (shown["receipt_id"], shown["lines"]) == ("R1", [["TEA", 2, 100], ["CAKE", 1, 1]])
        assert await demo.get("/api/points") == {"credited": 1, "waiting": 0, "sales": []}


async def test_a_voucher_for_a_member_needs_their_consent_and_the_shop_is_told_whose_it_is(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        refs = [(await demo.post("/api/members", {"phone": PHONE, "consents": given}))["member_ref"] for given in ([], ["bind"])]
        assert refs[0] == refs[1]  # the same number is the same member, and what was agreed before stands
        asked = {"store": "s1", "title_zh": "試用包", "member_ref": refs[0]}
        refused = await demo.http.post("/api/vouchers", json=asked)
        assert (refused.status_code, "agreed" in refused.json()["detail"]) == (409, True)
        assert (await demo.http.patch(f"/api/members/{refs[0]}", json={"consents": ["bind"]})).status_code == 200
        made = await demo.post("/api/vouchers", asked)
        (listed,) = (await box.document("vouchers", 2)).vouchers
        assert (listed.voucher_id, listed.member_ref) == (made["voucher_id"], refs[0])
        nobody = await demo.http.post("/api/vouchers", json=asked | {"member_ref": "a" * 26})
        assert nobody.status_code == 404
        assert len(await demo.get("/api/vouchers")) == 1


async def _until(hq: Hq, path: str, wanted: Any, *boxes: Any) -> None:
    """Ask until it is so; the boxes go on beating."""
    async with asyncio.timeout(40):
        while not wanted(await hq.get(path)):
            for box in boxes:
                await box.beat(2, last={0: 3 if box is boxes[0] else 0})
            await asyncio.sleep(0.2)
