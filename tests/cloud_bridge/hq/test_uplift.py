"""What a sale is joined to: by name, by member, at the same till or by the same person; else to nothing, and it is said."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.hq import uplift
from cloud_bridge.hq.effects import Effects
from cloud_bridge.hq.joining import AMBIGUOUS, WINDOW_US, Act, choose
from cloud_bridge.hq.registry import boxes
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.hq.store import Connection, Store, StoredRow
from gateway.events import (
    ClockFixed,
    CompartmentOpenIntended,
    Event,
    Instant,
    ParcelCollected,
    RedemptionReversed,
    SalePosted,
    SoldLine,
    TimeTrust,
    VoucherRedeemed,
)

from .rig import AT_US, Hq, wire

MIN_US = 60 * 1_000_000


def at(minutes: float, trust: TimeTrust = TimeTrust.HOLDOVER) -> Instant:
    return Instant(AT_US + int(minutes * MIN_US), int(minutes * MIN_US) * 1000, "0" * 8, trust)


def use(number: int, minutes: float, station: str = "till-1", staff: str | None = None, hold: str | None = None) -> VoucherRedeemed:
    return VoucherRedeemed(f"r{number}", f"v{number}", 7, 1, station, "pos", staff, 1, at(minutes), authorization_id=hold)


def sale(number: int, minutes: float, *redemption_ids: str, **more: Any) -> SalePosted:
    fields: dict[str, Any] = {
        "sale_id": f"s{number}", "receipt_id": f"R{number}", "station": "till-1", "device": "d-1", "staff": None, "currency": "TWD",
        "lines": [SoldLine("TEA", 2, 100 * number), SoldLine("CAKE", 1, 1)], "redemption_ids": list(redemption_ids),
        "authorization_id": None, "order_id": None, "event_time": at(minutes),
    }  # fmt: skip
    return SalePosted(**(fields | more))


def pickup(order_id: str, minutes: float, station: str = "till-1", actor: str = "shopper") -> list[Event]:
    opened = CompartmentOpenIntended(f"i-{order_id}", "A", 1, "pickup", order_id, actor, station, at(minutes - 0.5))
    return [opened, ParcelCollected(order_id, "A", 1, f"i-{order_id}", at(minutes))]


async def told(store: Store, *events: Event, currency: str = "TWD") -> tuple[uplift.Shop, list[dict[str, Any]]]:
    """One shop's sums and rows after its money lane told these."""

    def take(db: Connection) -> None:
        box = "INSERT INTO boxes VALUES ('gw', 'demo', '0', 's1', 1, '', '', 'Asia/Taipei', NULL, 0, NULL) ON CONFLICT (gateway) DO NOTHING"
        db.execute(box)
        effects = Effects(db, AT_US)
        for seq, event in enumerate(events, 1):
            effects.later(StoredRow(seq, "gw", "1-a", 0, seq, AT_US, AT_US, type(event).__name__, ""), event)  # type: ignore[arg-type]
        effects.write()

    await store.write(take)
    shops, rows = await store.read(lambda db: uplift.read(db, boxes(db), ("2026-11-18", "2026-11-20"), AT_US))
    nothing = uplift.Shop(store="s1", gateway="gw", currency=currency)
    return next((shop for shop in shops if shop.currency == currency), nothing), rows


async def test_a_sale_that_names_its_redemptions_is_joined_to_all_of_them_and_counts_once(store: Store) -> None:
    shop, rows = await told(store, use(1, 0), use(2, 1), sale(1, 5, "r1", "r2"), sale(2, 6))
    assert {(row["act_id"], row["sale_id"], row["how"], row["gap_s"]) for row in rows} == {
        ("r1", "s1", "named", 300), ("r2", "s1", "named", 240)
    }  # fmt: skip
    assert (shop.redemption.sales, shop.redemption.minor, shop.redemption.named, shop.redemption.anonymous) == (1, 101, 1, 1)
    assert (shop.all.sales, shop.all.minor, shop.other.sales, shop.other.minor) == (2, 101 + 201, 1, 201)
    assert rows[0]["lines"] == [["TEA", 2, 100], ["CAKE", 1, 1]]
    assert (rows[0]["voucher_id"], rows[0]["campaign"], rows[0]["member_ref"]) in (("v1", 7, None), ("v2", 7, None))


async def test_within_half_an_hour_at_the_same_till_it_needs_no_name(store: Store) -> None:
    shop, rows = await told(store, use(1, 0), use(2, 1, "till-2"), sale(1, 29.9), sale(2, 31.1, station="till-2"), sale(3, 20, station="x"))
    assert [(row["act_id"], row["sale_id"], row["how"]) for row in rows] == [("r1", "s1", "till")]
    assert (shop.redemption.till, shop.other.sales) == (1, 2)


async def test_a_redemption_leads_to_one_sale_only_and_a_named_one_wins(store: Store) -> None:
    shop, rows = await told(store, use(1, 0), sale(1, 1), sale(2, 2), sale(3, 3, "r1"), sale(4, 4, "r1"))
    assert [(row["act_id"], row["sale_id"], row["how"]) for row in rows] == [("r1", "s3", "named")]
    assert (shop.redemption.sales, shop.redemption.minor, shop.other.sales) == (1, 301, 3)


async def test_where_two_could_be_meant_none_is_joined_and_it_is_counted(store: Store) -> None:
    shop, rows = await told(store, use(1, 0), use(2, 1), sale(1, 2), *pickup("o1", 0), *pickup("o2", 1), sale(2, 3))
    assert rows == []
    assert (shop.redemption.ambiguous, shop.pickup.ambiguous, shop.other.sales) == (2, 1, 2)


async def test_the_same_person_elsewhere_in_the_shop_is_enough(store: Store) -> None:
    shop, rows = await told(store, use(1, 0, "phone", "staff-1"), use(2, 0, "phone", "staff-2"), sale(1, 2, staff="staff-2"))
    assert [(row["act_id"], row["how"]) for row in rows] == [("r2", "staff")]
    assert shop.redemption.staff == 1


async def test_a_pickup_then_a_sale_is_an_uplift_with_or_without_its_number(store: Store) -> None:
    shop, rows = await told(
        store, *pickup("o1", 0), *pickup("o2", 1, "till-2"), sale(1, 5), sale(2, 9, station="x", order_id="o2"),
        sale(3, 9, order_id="o9", receipt_id="Z"),
    )  # fmt: skip
    assert {(row["kind"], row["act_id"], row["sale_id"], row["how"]) for row in rows} == {
        ("pickup", "o1", "s1", "till"), ("pickup", "o2", "s2", "named")
    }  # fmt: skip
    assert (shop.pickup.sales, shop.pickup.minor, shop.pickup.anonymous, shop.pickup.unknown) == (2, 302, 2, 1)


async def test_a_door_that_was_asked_to_open_is_no_pickup(store: Store) -> None:
    shop, rows = await told(store, pickup("o1", 0)[0], sale(1, 5))
    assert rows == [] and shop.pickup.sales == 0


async def test_what_was_reversed_or_happened_otherwise_is_told_apart(store: Store) -> None:
    back = RedemptionReversed("r1", "v1", 7, 1, 0, "till-1", None, None, at(3))
    shop, rows = await told(store, use(1, 0), sale(1, 1), back, use(2, 10), sale(2, 50, "r2"), sale(3, 60, "r9"))
    side = shop.redemption
    assert (side.sales, side.reversed, side.outside, side.unknown, shop.other.sales) == (0, 1, 1, 1, 3)
    assert {(row["act_id"], row["counted"], row["reversed"]) for row in rows} == {("r1", False, True), ("r2", False, False)}


async def test_a_reversed_redemption_is_joined_to_no_later_sale(store: Store) -> None:
    back = RedemptionReversed("r1", "v1", 7, 1, 0, "till-1", None, None, at(1))
    shop, rows = await told(store, use(1, 0), back, sale(1, 2))
    assert rows == [] and shop.other.sales == 1


async def test_a_hold_captured_after_the_receipt_is_joined_then(store: Store) -> None:
    shop, rows = await told(store, sale(1, 1, authorization_id="a1"), use(1, 1.5, hold="a1"), use(2, 2, hold="a2"))
    assert [(row["act_id"], row["sale_id"], row["how"]) for row in rows] == [("r1", "s1", "named")]
    assert (shop.redemption.outside, shop.redemption.sales) == (1, 0)  # after the sale: it led to nothing


async def test_a_receipt_counts_once_whatever_an_old_disk_sends_again(store: Store) -> None:
    shop, _ = await told(store, use(1, 0), sale(1, 1, "r1"), sale(2, 1, "r1", receipt_id="R1"), sale(3, 1, receipt_id="R1", device="d-2"))
    assert (shop.all.sales, shop.redemption.sales, shop.redemption.minor) == (2, 1, 101)


async def test_a_box_that_did_not_know_the_time_joins_nothing_by_itself_and_its_sale_moves_to_its_day(store: Store) -> None:
    lost = at(5, TimeTrust.UNTRUSTED)
    shop, rows = await told(store, use(1, 0), sale(1, 5, event_time=lost), sale(2, 6, "r1", event_time=lost))
    assert (shop.redemption.clock, shop.redemption.named, [row["sale_id"] for row in rows]) == (1, 1, ["s2"])


async def test_currencies_stay_apart(store: Store) -> None:
    events = [sale(1, 1), sale(2, 2, currency="HKD")]
    assert [(await told(store, *events, currency=one))[0].all.minor for one in ("TWD", "HKD")] == [101, 201]


@given(
    acts=st.lists(
        st.builds(Act, st.uuids().map(str), st.sampled_from("ab"), st.none() | st.sampled_from("xy"), st.none() | st.sampled_from("mn")),
        max_size=6, unique_by=lambda act: act.act_id,
    ),
    member=st.none() | st.sampled_from("mn"), staff=st.none() | st.sampled_from("xy"), station=st.sampled_from("ab"),
)  # fmt: skip
def test_nothing_is_joined_to_another_members_act_nor_by_guessing(
    acts: list[Act], member: str | None, staff: str | None, station: str
) -> None:
    act_id, how = choose(acts, sale(1, 0, member_ref=member, staff=staff, station=station))
    chosen = [act for act in acts if act.act_id == act_id]
    if not chosen:
        assert how in (AMBIGUOUS, "")
        return
    (act,) = chosen
    assert member is None or act.member_ref in (None, member)
    same = {
        "member": lambda one: one.member_ref == member,
        "till": lambda one: one.station == station,
        "staff": lambda one: one.staff == staff,
    }
    alike = [one for one in acts if same[how](one) and (None in (one.member_ref, member) or one.member_ref == member)]
    assert alike == [act]


def test_the_window_is_the_statements() -> None:
    assert f"BETWEEN 0 AND {WINDOW_US} THEN {uplift.COUNTED} ELSE {uplift.OUTSIDE}" in uplift._CHOSEN


async def test_the_answer_says_what_is_still_on_its_way(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        day = "first=2026-11-18&last=2026-11-20"
        assert (await demo.get(f"/api/uplift?{day}"))["complete"] is False  # nobody has heard of that shop yet
        await box.send(box.batch([wire(1, use(1, 0)), wire(2, sale(1, 1, "r1"))], last={0: 4}))
        await box.beat(last={0: 4})
        found = await demo.get(f"/api/uplift?store=s1&{day}")
        assert (found["missing_rows"], found["complete"], found["shops"][0]["missing_rows"]) == (2, False, 2)
        await box.send(box.batch([wire(3, sale(2, 2)), wire(4, sale(3, 3))], last={0: 4}))
        found = await demo.get(f"/api/uplift?{day}")
        assert (found["missing_rows"], found["complete"], found["shops"][0]["all"]) == (0, True, {"sales": 3, "minor": 101 + 201 + 301})
        assert [(row["act_id"], row["sale_id"]) for row in found["rows"]] == [("r1", "s1")]
    for asked in ("first=2026-13-01", "first=2026-11-02&last=2026-11-01", "first=2026-01-01&last=2026-12-31", "store=nowhere"):
        assert (await demo.http.get(f"/api/uplift?{asked}")).status_code in (404, 422), asked


async def test_a_clock_set_right_later_moves_the_sale(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        lost = Instant(AT_US, 5_000_000_000, "beef", TimeTrust.UNTRUSTED)
        await box.send(box.batch([wire(1, sale(1, 0, event_time=lost))]))
        fixed = ClockFixed("beef", 5_000_000_000, AT_US + 10 * 86_400 * 1_000_000, at(0))
        await box.send(box.batch([wire(1, fixed)], lane=2, last={2: 1}))
        assert (await demo.get("/api/uplift?first=2026-11-18&last=2026-11-20"))["shops"] == []
        assert (await demo.get("/api/uplift?first=2026-11-28&last=2026-11-30"))["shops"][0]["all"]["sales"] == 1


@pytest.mark.parametrize("left_out", ["sales", "uplifts", "pickups"])
async def test_tables_of_the_release_before_get_what_is_new(tmp_path: Path, left_out: str) -> None:
    before, after = (SqliteStore(tmp_path / "hq.db") for _ in range(2))
    await before.open()
    await before.write(lambda db: db.execute(f"DROP TABLE {left_out}"))
    await before.close()
    await after.open()
    shop, _ = await told(after, use(1, 0), sale(1, 1))
    assert shop.redemption.sales == 1
    await after.close()
