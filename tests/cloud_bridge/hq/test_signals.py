"""Signals of misuse: what stands out is told with its threshold, and honest customers and diligent staff are not."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.hq.signals import COPIED_PLACES, STAFF_LEAST, VELOCITY_US, Shown, _velocity, signals
from cloud_bridge.hq.sqlite import connect_writer
from cloud_bridge.hq.store import Connection, Store

MINUTE_US = 60_000_000


def note(
    db: Connection, voucher: str, gateway: str, kind: str, at_us: int, station: str = "k", staff: str | None = None, why: str = ""
) -> None:
    db.execute(
        "INSERT INTO uses (voucher_id, gateway, kind, reason, station, staff, at_us, received_us) VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
        (voucher, gateway, kind, why or ("already_redeemed" if kind == "refused" else ""), station, staff, at_us),
    )


async def told(store: Store, *notes: dict[str, Any]) -> dict[str, Any]:
    def write(db: Connection) -> None:
        for one in notes:
            note(db, **one)

    await store.write(write)
    return await store.read(lambda db: signals(db, 1_000))


def shown(voucher: str, gateway: str, kind: str, at_us: int, **more: Any) -> dict[str, Any]:
    return {"voucher": voucher, "gateway": gateway, "kind": kind, "at_us": at_us} | more


async def test_one_voucher_refused_in_three_shops_within_minutes_is_told(store: Store) -> None:
    at = [10 * MINUTE_US, 13 * MINUTE_US, 20 * MINUTE_US]
    found = await told(store, *(shown("v", f"gw-{n}", "refused", at_us) for n, at_us in enumerate(at)))
    (one,) = found["velocity"]
    assert (one["voucher_id"], one["stores"], one["refusals"]) == ("v", ["gw-0", "gw-1", "gw-2"], 3)
    assert found["thresholds"]["velocity"] == {"shops": 3, "within_s": 600}


async def test_three_shops_in_a_day_or_three_tries_in_one_shop_are_not(store: Store) -> None:
    slow = [shown("slow", f"gw-{n}", "refused", n * (VELOCITY_US // 2 + 1) + MINUTE_US) for n in range(3)]
    same = [shown("same", "gw-1", "refused", n * MINUTE_US + 2_000) for n in range(9)]
    used = [shown("used", f"gw-{n}", "redeemed", n + 5_000) for n in range(9)]
    found = await told(store, *slow, *same, *used)
    assert found["velocity"] == []
    assert [one["voucher_id"] for one in found["copied"]] == ["slow"], "shown used at three shops, however slowly"


async def test_a_copied_code_is_told_and_a_voucher_for_many_uses_is_not(store: Store) -> None:
    copied = [
        shown("c", "gw-1", "redeemed", 2_000),
        shown("c", "gw-2", "refused", 3_000),
        shown("c", "gw-2", "refused", 9_000, station="till"),
    ]
    many = [shown("m", f"gw-{n}", "redeemed", 2_000 + n) for n in range(5)] + [shown("m", "gw-9", "refused", 3_000)]
    early = [shown("e", f"gw-{n}", "refused", 2_000 + n * VELOCITY_US, why="not_yet_valid") for n in range(5)]
    old = [shown("o", f"gw-{n}", "refused", 999) for n in range(5)]
    found = await told(store, *copied, *many, *early, *old)
    assert [(one["voucher_id"], len(one["places"]), one["refused_places"]) for one in found["copied"]] == [("c", COPIED_PLACES, 2)]


async def test_a_clerk_far_above_the_others_of_the_shop_is_told(store: Store) -> None:
    def by(staff: str, count: int, gateway: str = "gw-1") -> list[dict[str, Any]]:
        return [shown(f"{staff}{n}", gateway, "redeemed", 2_000 + n, staff=staff) for n in range(count)]

    busy = by("a", 50) + by("b", 8) + by("c", 10) + by("d", 9)
    level = by("e", 30, "gw-2") + by("f", 28, "gw-2") + by("g", 31, "gw-2")
    few = by("h", STAFF_LEAST - 1, "gw-3") + by("i", 1, "gw-3") + by("j", 1, "gw-3")
    alone = by("k", 90, "gw-4") + by("l", 1, "gw-4")
    found = await told(store, *busy, *level, *few, *alone)
    assert found["staff"] == [{"store": "gw-1", "staff": "a", "redemptions": 50, "middle_of_others": 9}]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=30))
def test_velocity_finds_the_most_shops_in_any_ten_minutes(refused: list[tuple[int, int]]) -> None:
    rows = [Shown(minute * MINUTE_US, f"g{shop}", "k", "refused", "x") for minute, shop in sorted(refused)]
    best = max((len({b.gateway for b in rows if 0 <= b.at_us - a.at_us <= VELOCITY_US}) for a in rows), default=0)
    found = _velocity(rows, {})
    assert (len(found["stores"]) if found else 0) == (best if best >= 3 else 0)


def test_the_tables_of_a_new_headquarters_tell_nothing() -> None:
    found = signals(connect_writer(":memory:"), 0)
    assert (found["velocity"], found["copied"], found["staff"]) == ([], [], [])
