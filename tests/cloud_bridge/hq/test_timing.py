"""Rows dated anew, on both engines: what a box wrote before it knew the time moves to its day, whole and once."""

import datetime
import itertools
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_bridge.hq import timing
from cloud_bridge.hq.ready import local_day, make_ready
from cloud_bridge.hq.registry import BoxRow, expect_box
from cloud_bridge.hq.store import Store
from cloud_bridge.hq.take import Verdict, take
from cloud_bridge.hq.timing import Fix
from gateway.events import (
    ClockFixed,
    Event,
    Instant,
    Lane,
    LineChanged,
    ParcelStaged,
    SubjectKind,
    TimeTrust,
    VisitEnded,
    VisitStarted,
    VoucherRedeemed,
)

from .rig import Draft, opened, wire

NUMBERS = itertools.count(10)
ZONE = "Asia/Taipei"
MIDNIGHT_US = int(datetime.datetime(2026, 11, 22, tzinfo=ZoneInfo(ZONE)).timestamp()) * 1_000_000
BOOT = "b0070001"
LOST_US = 120_000_000  # what a clock without a battery says two minutes after it began: 1970
FIXED_AT_NS = 3_600 * 10**9  # of the boot; then it truly was a quarter of an hour past midnight
TRUE_US = MIDNIGHT_US + 900_000_000


def lost(mono_s: float, boot: str = BOOT) -> Instant:
    """What a box without the time says so many seconds after it booted."""
    return Instant(LOST_US + round(mono_s * 1e6), round(mono_s * 1e9), boot, TimeTrust.UNTRUSTED)


def true_us(mono_s: float) -> int:
    return TRUE_US + round((mono_s * 1e9 - FIXED_AT_NS) / 1000)


def redeemed(at: Instant, voucher_id: str = "v") -> VoucherRedeemed:
    return VoucherRedeemed("r", voucher_id, 1, 1, "counter", "scanner", None, 1, at)


def fix(boot: str = BOOT, wall_us: int = TRUE_US) -> ClockFixed:
    return ClockFixed(boot, FIXED_AT_NS, wall_us, Instant(wall_us, FIXED_AT_NS, boot, TimeTrust.SYNCED))


class Shop:
    """A box whose rows arrive."""

    def __init__(self, store: Store, gateway: str = "gw-time") -> None:
        self.store = store
        self.gateway = gateway
        self._last = {lane: 0 for lane in Lane}

    async def register(self, number: int = 1) -> None:
        row = BoxRow(self.gateway, "t", "0", f"s{number}", number, "店", "Shop", ZONE, None)
        await self.store.write(lambda db: expect_box(db, row, 1))

    async def tell(self, lane: Lane, *events: Event, received_us: int = TRUE_US) -> None:
        first = self._last[lane] + 1
        rows = [wire(first + n, event, event.event_time.wall_us) for n, event in enumerate(events)]  # type: ignore[attr-defined]
        self._last[lane] += len(rows)
        one = Draft(self.gateway, "1-a", None, {}, lane, rows, "00", "1-a", {}, {}, 1)
        batch = make_ready(opened(one), ZONE)
        (taken,) = await self.store.write(lambda db: take(db, [batch], received_us))
        assert taken.verdict is Verdict.TAKEN and not taken.quarantined

    async def asked(self, sql: str) -> list[Any]:
        return [tuple(row) for row in await self.store.read(lambda db: db.execute(sql, (self.gateway,)).fetchall())]

    async def counts(self) -> dict[tuple[str, str], int]:
        return {(day, kind): n for day, kind, n in await self.asked("SELECT day, type, n FROM counts WHERE gateway = ?")}

    async def undated(self) -> int:
        return await self.store.read(lambda db: timing.undated_rows(db, self.gateway))


@pytest.fixture
async def shop(store: Store) -> Shop:
    made = Shop(store)
    await made.register()
    return made


async def test_rows_without_the_time_are_counted_at_once_and_move_when_it_is_known(shop: Shop) -> None:
    await shop.tell(Lane.MONEY, redeemed(lost(60)), redeemed(lost(2_600)), redeemed(lost(2_800)))
    assert await shop.counts() == {("1970-01-01", "VoucherRedeemed"): 3}
    assert await shop.undated() == 3
    await shop.tell(Lane.HEALTH, fix())
    # 2,700 s before the fix it was midnight: one second of each side of it is told apart
    assert await shop.counts() == {
        ("2026-11-21", "VoucherRedeemed"): 2,
        ("2026-11-22", "VoucherRedeemed"): 1,
        ("2026-11-22", "ClockFixed"): 1,
    }
    assert await shop.undated() == 0


async def test_rows_that_come_after_their_fix_are_dated_at_once(shop: Shop) -> None:
    await shop.tell(Lane.HEALTH, fix())
    await shop.tell(Lane.MONEY, redeemed(lost(2_699)), redeemed(lost(2_701)))
    counts = await shop.counts()
    assert (counts["2026-11-21", "VoucherRedeemed"], counts["2026-11-22", "VoucherRedeemed"]) == (1, 1)
    assert await shop.undated() == 0


async def test_a_fix_and_its_rows_in_one_batch_agree(shop: Shop) -> None:
    await shop.tell(Lane.HEALTH, LineChanged(False, lost(10)), fix(), LineChanged(True, lost(20)))
    assert await shop.counts() == {("2026-11-21", "LineChanged"): 2, ("2026-11-22", "ClockFixed"): 1}


async def test_another_boot_and_another_box_are_left_alone(shop: Shop) -> None:
    other = Shop(shop.store, "gw-other")
    await other.register(2)
    for one in (shop, other):
        await one.tell(Lane.MONEY, redeemed(lost(60)), redeemed(lost(60, "b0070002")))
    await shop.tell(Lane.HEALTH, fix())
    assert (await shop.counts())["1970-01-01", "VoucherRedeemed"] == 1
    assert (await other.counts()) == {("1970-01-01", "VoucherRedeemed"): 2}
    assert (await shop.undated(), await other.undated()) == (1, 2)


async def test_the_first_fix_of_a_boot_stands(shop: Shop) -> None:
    await shop.tell(Lane.MONEY, redeemed(lost(60)))
    await shop.tell(Lane.HEALTH, fix())
    once = await shop.counts()
    await shop.tell(Lane.HEALTH, fix(wall_us=TRUE_US + 10 * 86_400_000_000))
    assert {place: n for place, n in (await shop.counts()).items() if place[1] != "ClockFixed"} == {
        place: n for place, n in once.items() if place[1] != "ClockFixed"
    }
    await shop.tell(Lane.MONEY, redeemed(lost(61)))
    assert (await shop.counts())["2026-11-21", "VoucherRedeemed"] == 2


@pytest.mark.parametrize("wall_us", [-1, 1 << 61])
async def test_a_fix_no_calendar_has_is_not_believed(shop: Shop, wall_us: int) -> None:
    await shop.tell(Lane.MONEY, redeemed(lost(60)))
    event = msgspec.structs.replace(fix(), wall_us=wall_us)
    await shop.tell(Lane.HEALTH, event)
    assert (await shop.counts())["1970-01-01", "VoucherRedeemed"] == 1


async def test_zones_and_dwell_move_with_their_visits(shop: Shop) -> None:
    visit = ("ble", "v1", "trolley", SubjectKind.TAG, "door")
    await shop.tell(Lane.TRAFFIC, VisitStarted(*visit, lost(60)), VisitEnded(*visit, 92.5, lost(152.5)))
    await shop.tell(Lane.TRAFFIC, VisitStarted("ble", "v2", "trolley", SubjectKind.TAG, "door", lost(3_000)))
    await shop.tell(Lane.HEALTH, fix())
    zones = await shop.asked("SELECT day, zone, type, n, dwell_s FROM zones WHERE gateway = ? ORDER BY day, type")
    assert zones == [
        ("2026-11-21", "door", "VisitEnded", 1, 92.5), ("2026-11-21", "door", "VisitStarted", 1, 0.0),
        ("2026-11-22", "door", "VisitStarted", 1, 0.0),
    ]  # fmt: skip


async def test_who_is_inside_has_been_there_since_the_true_moment(shop: Shop) -> None:
    an_hour_off = msgspec.structs.replace(lost(3_000), wall_us=TRUE_US - 5_000_000_000)
    await shop.tell(Lane.TRAFFIC, VisitStarted("ble", "v2", "trolley", SubjectKind.TAG, "door", an_hour_off))
    await shop.tell(Lane.HEALTH, fix())
    assert await shop.asked("SELECT visit_id, started_us FROM visits WHERE gateway = ?") == [("v2", true_us(3_000))]


async def test_stories_tell_the_true_moment(shop: Shop) -> None:
    await shop.tell(Lane.MONEY, redeemed(lost(60), "known"), ParcelStaged("order", "wall", 1, "staff", lost(90)), received_us=7)
    believed = Instant(LOST_US + 60_000_000, 1, "b0070009", TimeTrust.HOLDOVER)  # the same moment, and it is true
    await shop.tell(Lane.MONEY, redeemed(believed, "other"), received_us=8)
    await shop.tell(Lane.HEALTH, fix())
    assert dict(await shop.asked("SELECT voucher_id, at_us FROM uses WHERE gateway = ?")) == {
        "known": true_us(60), "other": believed.wall_us,
    }  # fmt: skip
    assert await shop.asked("SELECT at_us FROM order_events WHERE gateway = ?") == [(true_us(90),)]


async def test_believed_rows_leave_no_trace_and_the_rows_themselves_never_change(shop: Shop) -> None:
    await shop.tell(Lane.HEALTH, LineChanged(True, Instant(TRUE_US, 1, BOOT, TimeTrust.HOLDOVER)))
    assert await shop.undated() == 0
    await shop.tell(Lane.HEALTH, LineChanged(True, lost(1)))
    before = await shop.asked("SELECT seq, record_us, event FROM rows WHERE gateway = ? AND type = 'LineChanged' ORDER BY id")
    await shop.tell(Lane.HEALTH, fix())
    assert await shop.asked("SELECT seq, record_us, event FROM rows WHERE gateway = ? AND type = 'LineChanged' ORDER BY id") == before


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moments=st.lists(st.tuples(st.floats(0, 400_000), st.booleans()), max_size=12),
    fixed_after=st.integers(0, 12),
)
async def test_wherever_the_fix_comes_between_every_row_ends_on_its_day(
    store: Store, moments: list[tuple[float, bool]], fixed_after: int
) -> None:
    number = next(NUMBERS)
    shop = Shop(store, f"gw-{number}")
    await shop.register(number)
    wanted: dict[tuple[str, str], int] = {("2026-11-22", "ClockFixed"): 1}
    for at, (mono_s, is_known) in enumerate([*moments, (0.0, True)]):
        if at == min(fixed_after, len(moments)):
            await shop.tell(Lane.HEALTH, fix())
        if at == len(moments):
            break
        instant = Instant(true_us(mono_s), round(mono_s * 1e9), BOOT, TimeTrust.SYNCED) if is_known else lost(mono_s)
        moment_us = instant.wall_us if is_known else Fix(FIXED_AT_NS, TRUE_US).true_us(instant)
        await shop.tell(Lane.MONEY, redeemed(instant))
        place = local_day(moment_us, ZONE), "VoucherRedeemed"
        wanted[place] = wanted.get(place, 0) + 1
    assert await shop.counts() == wanted
    assert await shop.undated() == 0
