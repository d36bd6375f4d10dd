"""Headquarters counts what stands: gross less reversed, in numbers, stories, openings and what is at risk."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.events import AuthorizationEnded, Event, RedemptionReversed, VoucherAuthorized, VoucherRedeemed
from gateway.token import Flag, unpack

from .rig import Hq, TestBox, WireRow, instant, wire
from .test_openings import content, of, start_of, voucher


@pytest.fixture
async def box(demo: Hq) -> AsyncIterator[TestBox]:
    async with demo.connected(await demo.new_box()) as connected:
        yield connected


def use(number: int, voucher_id: str, campaign: int = 1, amount_minor: int = 0) -> VoucherRedeemed:
    return VoucherRedeemed(
        f"r{number}", voucher_id, campaign, 1, "kiosk-1", "pos@kiosk-1", None, 1, instant(), 1, amount_minor, None, "d-1"
    )


def back(number: int, voucher_id: str, campaign: int = 1, amount_minor: int = 0) -> RedemptionReversed:
    return RedemptionReversed(f"r{number}", voucher_id, campaign, 1, amount_minor, "kiosk-1", "s-1", None, instant())


def rows(*events: Event) -> list[WireRow]:
    return [wire(seq, event) for seq, event in enumerate(events, 1)]


async def told(hq: Hq, box: TestBox, *events: Event) -> Any:
    """An unproven start after these rows: its opening."""
    await box.send(of(box, "1-aa", rows(*events)))
    await box.beat(epoch="2-bb", proven=False, parent="1-aa", parent_heads={0: (len(events), "aa")})
    return content(await box.document("opening"))


async def test_a_day_is_counted_net_of_what_was_reversed(demo: Hq, box: TestBox) -> None:
    first, second = await voucher(demo), await voucher(demo)
    await box.send(of(box, "1-aa", rows(use(1, first), use(2, second), back(1, first))))
    counts = (await demo.get("/api/stores"))[0]["totals"]
    assert (counts["redemptions"], counts["reversals"], counts["net_redemptions"]) == (2, 1, 1)
    shown = await demo.get(f"/api/vouchers/{first}")
    assert (shown["used"], shown["state"]) == (0, "issued")
    assert [step["kind"] for step in shown["story"]] == ["issued", "redeemed", "reversed"]
    assert (await demo.get(f"/api/vouchers/{second}"))["state"] == "used"


async def test_an_opening_counts_net_uses_spent_amounts_and_what_campaigns_gave_out(demo: Hq, box: TestBox) -> None:
    await demo.post("/api/stores/s1/limits", {"campaign": 8, "stock": 10})
    ordinary = await voucher(demo, uses=2)
    money = await voucher(demo, partial=True, value_minor=500)
    prize = await voucher(demo, campaign=8)
    opening = await told(
        demo, box, use(1, ordinary), use(2, ordinary), back(1, ordinary), use(3, money, 1, 180), use(4, money, 1, 20),
        back(4, money, 1, 20), use(5, prize, 8), use(6, "gone", 8), back(6, "gone", 8),
    )  # fmt: skip
    used = {one.voucher_id: (one.uses, one.spent_minor) for one in opening.used}
    assert used == {ordinary: (1, 0), money: (1, 180), prize: (1, 0), "gone": (0, 0)}
    assert [(one.campaign, one.uses) for one in opening.given] == [(8, 1)]


async def test_what_a_box_reverses_twice_counts_once(demo: Hq, box: TestBox) -> None:
    twice = await voucher(demo)
    await box.send(of(box, "1-aa", rows(use(1, twice), back(1, twice), back(1, twice), use(2, twice))))
    assert (await demo.get(f"/api/vouchers/{twice}"))["used"] == 1


async def test_what_is_at_risk_is_what_is_left(demo: Hq, box: TestBox) -> None:
    ordinary = await voucher(demo, uses=3)  # worth 500 a use
    money = await voucher(demo, partial=True, value_minor=1_000)
    await voucher(demo, practice=True)
    await told(demo, box, use(1, ordinary), back(1, ordinary), use(2, ordinary), use(3, money, 1, 300))
    assert (await start_of(demo))["exposure"] == {"vouchers": 2, "uses": 3, "value_minor": 2 * 500 + 700}


async def test_spending_beyond_a_face_value_is_shown_as_a_loss(demo: Hq, box: TestBox) -> None:
    money = await voucher(demo, partial=True, value_minor=1_000)
    await box.send(of(box, "1-aa", rows(use(1, money, 1, 600), use(2, money, 1, 600))))
    assert (await start_of(demo))["overused"] == {"vouchers": 1, "uses": 1, "value_minor": 200}


async def test_holds_are_part_of_a_vouchers_story_and_no_use_of_it(demo: Hq, box: TestBox) -> None:
    held = await voucher(demo)
    hold = VoucherAuthorized("a1", held, 1, 1, "kiosk-1", "pos@kiosk-1", None, "d-1", 1, 0, 1, 0, 120, instant())
    await box.send(of(box, "1-aa", rows(hold, AuthorizationEnded("a1", held, "expired", "kiosk-1", None, "d-1", instant()))))
    shown = await demo.get(f"/api/vouchers/{held}")
    assert (shown["used"], [step["kind"] for step in shown["story"]]) == (0, ["issued", "authorized", "expired"])


async def test_shapes_and_limits_reach_the_shop_and_its_tokens(demo: Hq, box: TestBox) -> None:
    money = await voucher(demo, partial=True, value_minor=500)
    slot = await voucher(demo, windows=[[1_800_000_000, 1_800_003_600]], practice=True)
    await demo.post("/api/stores/s1/limits", {"campaign": 8, "stock": 10, "daily": 3, "reverse_s": 60})
    await demo.post("/api/stores/s1/limits", {"campaign": 8, "stock": 12})
    document = await box.document("vouchers", 5)
    shaped = {one.voucher_id: (one.partial, one.practice, one.windows) for one in document.vouchers}
    assert shaped == {money: (True, False, []), slot: (False, True, [(1_800_000_000, 1_800_003_600)])}
    assert [(one.campaign, one.stock, one.daily, one.reverse_s) for one in document.limits] == [(8, 12, None, None)]
    flags = {name: unpack((await demo.get(f"/api/vouchers/{name}"))["token"])[0].flags for name in (money, slot)}
    assert flags == {money: Flag.PARTIAL, slot: Flag.PRACTICE}


@pytest.mark.parametrize("asked", [{"partial": True, "value_minor": 0}, {"windows": [[5, 5]]}, {"windows": [[1, 2]] * 21}])
async def test_a_shape_that_makes_no_sense_is_refused(demo: Hq, asked: dict[str, Any]) -> None:
    await demo.new_box()
    body = {"store": "s1", "title_zh": "券", **asked}
    assert (await demo.http.post("/api/vouchers", json=body)).status_code == 422
