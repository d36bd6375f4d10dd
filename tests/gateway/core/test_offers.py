"""A voucher shown with what is bought: its campaign decides on the basket, and nothing is used up where it says no."""

from typing import Any

import msgspec
import pytest

from gateway.core.requests import ConflictingKey
from gateway.core.verdict import Asked, Doing
from gateway.events import VoucherRedeemed
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.rules.basket import Basket, Line
from gateway.rules.voucher import Want
from gateway.signed import DOCUMENT_TAG, Document, seal
from gateway.token import Flag
from tests.conftest import HQ_KEY
from tests.gateway.core.shop import GATEWAY, Shop, presented, voucher_token

HEAD = {"version": 1, "title_zh": "活動", "title_en": "Offer", "currency": "TWD", "rounding": "half_up"}
COUPON = voucher_token(61, campaign=61)
PURSE = voucher_token(62, campaign=62, value_minor=500, flags=int(Flag.PARTIAL))
SPEND = voucher_token(63, campaign=63)


def basket(*lines: tuple[str, int]) -> Basket:
    return Basket("TWD", tuple(Line(f"L{at}", sku, 1, minor) for at, (sku, minor) in enumerate(lines)))


@pytest.fixture
async def market(shop: Shop) -> Shop:
    """A shop with an item voucher, a face value and a minimum spend in force."""
    rules: dict[int, Any] = {
        61: {"kind": "item_voucher", "items": {"skus": ["CAKE"]}},
        62: {"kind": "face_value"},
        63: {"kind": "minimum_spend", "minimum_minor": 1_000, "off_minor": 100},
    }
    told = [msgspec.Raw(msgspec.json.encode(HEAD | {"campaign": one, "rule": rule, "trigger": "voucher"})) for one, rule in rules.items()]
    await shop.bring(seal(DOCUMENT_TAG, Document(GATEWAY, "campaigns", 1, 0, campaigns=told), HQ_KEY))
    return shop


async def shown(shop: Shop, code: bytes, bought: Basket | None, doing: Doing = Doing.REDEEM, identity: str | None = None) -> Answer:
    asked = Asked(doing, basket=bought, device="d-1")
    return answers.decode(await shop.desk.present(presented(code, identity), station="counter", asked=asked))


async def test_a_voucher_for_an_item_is_not_consumed_by_a_basket_without_it(market: Shop) -> None:
    no = await shown(market, COUPON, basket(("TEA", 80)))
    assert (no.decision, no.reason, no.priced is not None) == ("refused", "item_missing", True)
    assert market.rows(VoucherRedeemed) == []
    done = await shown(market, COUPON, basket(("TEA", 80), ("CAKE", 120)))
    assert done.priced is not None
    assert (done.decision, done.priced.to_pay_minor, [one.minor for one in done.priced.adjustments]) == ("redeemed", 80, [120])
    assert (await shown(market, COUPON, basket(("CAKE", 120)))).reason == "already_redeemed"


async def test_of_a_face_value_as_much_is_spent_as_the_basket_takes(market: Shop) -> None:
    seen = answers.decode(market.desk.till.validate(presented(PURSE), "counter", None, Want(), basket(("TEA", 180))))
    assert (seen.decision, seen.balance_minor) == ("valid", 500)
    done = await shown(market, PURSE, basket(("TEA", 180)))
    assert done.priced is not None
    assert (done.balance_minor, done.priced.to_pay_minor, done.priced.voucher_minor) == (320, 0, 180)
    hold = await shown(market, PURSE, basket(("COAT", 900)), Doing.AUTHORIZE)
    assert hold.priced is not None
    assert (hold.decision, hold.balance_minor, hold.priced.to_pay_minor) == ("authorized", 0, 580)
    assert [row.amount_minor for row in market.rows(VoucherRedeemed)] == [180]


async def test_below_the_minimum_the_gap_is_told_and_the_voucher_stays(market: Shop) -> None:
    no = await shown(market, SPEND, basket(("TEA", 999)))
    assert (no.decision, no.gap_minor) == ("refused", 1)
    assert (await shown(market, SPEND, basket(("TEA", 1_000)))).decision == "redeemed"


async def test_a_voucher_of_no_published_campaign_is_an_ordinary_one(market: Shop) -> None:
    done = await shown(market, voucher_token(64, campaign=999), basket(("TEA", 80)))
    assert done.priced is not None
    assert (done.decision, done.priced.to_pay_minor, done.priced.adjustments) == ("redeemed", 80, ())


async def test_the_basket_belongs_to_the_request(market: Shop) -> None:
    identity, bought = "ab" * 16, basket(("CAKE", 120))
    first = await shown(market, COUPON, bought, identity=identity)
    assert await shown(market, COUPON, bought, identity=identity) == first
    with pytest.raises(ConflictingKey):
        await shown(market, COUPON, basket(("CAKE", 130)), identity=identity)
