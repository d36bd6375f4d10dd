"""Rates of points at headquarters: each version once, told to every shop under its seal, and each sale by the rate its row states."""

import datetime
from typing import Any

import msgspec
import pytest

from cloud_bridge.hq import rates
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Store
from gateway.events import RateUsed
from gateway.rules.points import PointsRate, read_rates

from .rig import AT_US, Hq
from .test_accounts import account, by_number, look, member
from .test_uplift import sale, told

DOUBLE: dict[str, Any] = {"version": 1, "currency": "TWD", "points": 2, "per_minor": 100, "first_day": "2026-12-01", "rounding": "half_up"}


async def test_a_version_is_published_once_and_only_upwards(store: Store) -> None:
    rate = msgspec.convert(DOUBLE, PointsRate)
    assert await store.write(lambda db: rates.publish(db, rate, AT_US))
    assert not await store.write(lambda db: rates.publish(db, rate, AT_US))
    for other in (msgspec.structs.replace(rate, points=3), msgspec.structs.replace(rate, version=0)):
        with pytest.raises(RefusedAsk, match="version 1 is the newest"):
            await store.write(lambda db, other=other: rates.publish(db, other, AT_US))  # type: ignore[misc]
    assert [one["definition"]["points"] for one in await store.read(rates.listed)] == [2]


async def test_a_sale_is_credited_by_the_version_its_row_states_also_one_that_was_forgotten(store: Store) -> None:
    ref = await member(store)
    published = msgspec.convert(DOUBLE | {"version": 4, "points": 10}, PointsRate)
    await store.write(lambda db: rates.publish(db, published, AT_US))
    of_4, of_9 = RateUsed(4, 10, 100, "half_up", None), RateUsed(9, 1, 10, "down", 7)
    await told(store, sale(1, 0), by_number("s1", rate=of_4, points=35))
    await told(store, sale(2, 0), by_number("s2", rate=of_9, points=7), sale(3, 0), by_number("s3"))
    await look(store)
    assert await account(store, ref) == (35 + 7 + 3, 45, 0)
    false = RateUsed(4, 1000, 1, "down", None)  # what is published under that number counts, not what a row makes of it
    await told(store, sale(5, 0), by_number("s5", rate=false, points=350_000))
    await look(store)
    assert (await account(store, ref))[0] == 45 + 35


async def test_shops_are_told_under_the_seal_of_their_campaigns_and_what_is_unknown_is_refused(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        before = await box.document("campaigns")
        assert before.rates == []
        for wrong in ({"bonus": 1}, {"points": 5000}, {"rounding": "up"}, {"first_day": "tomorrow"}, {"currency": "USD"}):
            refused = await demo.http.post("/api/points/rates", json=DOUBLE | wrong)
            assert refused.status_code == 422 and refused.json()["detail"], wrong
        assert (await demo.post("/api/points/rates", DOUBLE))["shops"] == ["s1"]
        assert (await demo.post("/api/points/rates", DOUBLE))["shops"] == []
        told_ = await box.document("campaigns", before.version + 1)
        (rate,), problems = read_rates(bytes(one) for one in told_.rates)
        assert (rate.points, rate.first_day, problems) == (2, datetime.date(2026, 12, 1), ())
    async with demo.connected(await demo.new_box("s2", 2)) as late:
        assert len((await late.document("campaigns")).rates) == 1
    assert [one["definition"]["version"] for one in await demo.get("/api/points/rates")] == [1]
