"""What shops' screens tell headquarters: honoured unseen is exposure and no second use; a code a till took stands in the story."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.events import Event, ResultShown, TillCodeRung, UnseenHonoured, VoucherRedeemed

from .rig import Hq, TestBox, instant, wire
from .test_openings import of, voucher


@pytest.fixture
async def box(demo: Hq) -> AsyncIterator[TestBox]:
    async with demo.connected(await demo.new_box()) as connected:
        yield connected


def use(number: int, voucher_id: str, amount_minor: int = 0) -> VoucherRedeemed:
    return VoucherRedeemed(f"r{number}", voucher_id, 1, 1, "counter", "scanner@counter", None, 1, instant(), 1, amount_minor)


def honoured(number: int, voucher_id: str, amount_minor: int = 0) -> UnseenHonoured:
    return UnseenHonoured(f"r{number}", voucher_id, 1, 1, 1, amount_minor, "staff", "s-1", None, "power_cut", instant())


def rung(number: int, voucher_id: str) -> TillCodeRung:
    return TillCodeRung(f"r{number}", voucher_id, "291234567890", "counter", "typed@counter", None, None, instant())


async def sent(box: TestBox, *events: Event, epoch: str = "1-aa") -> None:
    await box.send(of(box, epoch, [wire(seq, event) for seq, event in enumerate(events, 1)]))


async def test_an_honoured_use_is_exposure_and_no_second_use(demo: Hq, box: TestBox) -> None:
    plain, money = await voucher(demo, value_minor=120), await voucher(demo, partial=True, value_minor=500)
    await sent(
        box, use(1, plain), use(2, money, 180), honoured(1, plain), honoured(2, money, 180), honoured(1, plain),
        ResultShown("r9", plain, "counter", None, None, instant()),
    )  # fmt: skip
    exposed = await demo.get("/api/exposure")
    told = {name: exposed[name] for name in ("honoured", "honoured_units", "honoured_minor", "honoured_boxes")}
    assert told == {"honoured": 2, "honoured_units": 2, "honoured_minor": 300, "honoured_boxes": {"gw-s1": 2}}
    shown = await demo.get(f"/api/vouchers/{plain}")
    assert (shown["used"], [step["kind"] for step in shown["story"]]) == (1, ["issued", "redeemed", "honoured"])
    (shop,) = await demo.get("/api/stores")
    assert shop["screened"] == {"honoured": 2, "rung": 0}
    assert shop["totals"]["net_redemptions"] == 2
    page = (await demo.http.get("/", headers={"cookie": "lang=en"})).text
    assert 'data-honoured="2"' in page


async def test_a_till_code_is_told_once_whatever_an_old_image_repeats(demo: Hq, box: TestBox) -> None:
    plain = await voucher(demo)
    await sent(box, use(1, plain), rung(1, plain))
    (shop,) = await demo.get("/api/stores")
    assert shop["screened"] == {"honoured": 0, "rung": 1}
    await sent(box, rung(1, plain), epoch="2-bb")
    story: Any = (await demo.get(f"/api/vouchers/{plain}"))["story"]
    assert [step["kind"] for step in story] == ["issued", "redeemed", "rung"]
    assert "data-rung" in (await demo.http.get("/")).text
