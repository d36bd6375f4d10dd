"""An open code at one desk: out of the shop's allotment, line or no line; more is asked for while there is one."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.anywhere import ANYWHERE_NAME, Anywhere, OpenCode
from gateway.core import claims
from gateway.core.verdict import Actor, Asked, Doing
from gateway.core.views import QuotaView
from gateway.events import AckArrived, ClaimIntended, OpenCodeUsed, RedemptionReversed, VoucherRedeemed
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.signed import ACK_TAG, DOCUMENT_TAG, Ack, AssignmentStand, Document, Opening, seal
from gateway.token import VoucherClass
from gateway.verifiers import opaque
from tests.conftest import HQ_KEY, VirtualClock, until
from tests.gateway.core.shop import END_S, GATEWAY, Shop, presented, voucher_token
from tests.gateway.core.test_claims import Hq, V

TILL = Actor("till-1", None, frozenset({"pos"}))
CODE = OpenCode(
    voucher_id=V, campaign=16, title_zh="限時券", title_en="Flash sale", not_before_s=0, not_after_s=END_S,
    digests=[opaque.digest_of("WELCOME10")], allotment=20,
)  # fmt: skip


class Quotas(Hq):
    """Headquarters, which gives out an allotment."""

    async def allot(self, units: int, number: int = 1) -> None:
        await self.give((await self.asked()).claim_id, number, units=units)
        await until(lambda: not self.wanted)


async def declare(shop: Shop, version: int = 1, **changes: Any) -> None:
    said = Anywhere(codes=[msgspec.structs.replace(CODE, **changes)])
    document = Document(GATEWAY, ANYWHERE_NAME, version, shop.clock.now().wall_us, anywhere=said)
    assert await shop.bring(seal(DOCUMENT_TAG, document, HQ_KEY)) == b"applied"


@pytest.fixture
async def hq(shop: Shop) -> AsyncIterator[Quotas]:
    found = Quotas(shop)
    await until(lambda: found.link.connected)
    await found.line(True)
    yield found
    await found.end()


async def present(shop: Shop, text: bytes = b"WELCOME10", doing: Doing = Doing.REDEEM, **more: Any) -> Answer:
    asked = Asked(doing, device="till-1", **more)
    if doing is Doing.VALIDATE:
        return answers.decode(shop.desk.till.validate(presented(text), "counter", None, asked.want, member_ref=asked.member_ref))
    return answers.decode(await shop.desk.present(presented(text), station="counter", asked=asked))


def quota(shop: Shop) -> QuotaView:
    (found,) = shop.desk.store_view().quotas
    return found


async def test_an_allotment_of_twenty_serves_twenty_of_twenty_five_in_the_dark(shop: Shop, hq: Quotas) -> None:
    await declare(shop)
    await hq.allot(20)
    await hq.line(False)
    found = [await present(shop, text) for text in [b"WELCOME10", b"welcome 10", b"Welcome-10"] * 9][:25]
    assert [one.decision for one in found] == ["redeemed"] * 20 + ["refused"] * 5
    assert {one.reason for one in found[20:]} == {"store_quota_used"} and found[20].next_step.zh
    assert {(one.title.en, one.uses_left) for one in found} == {("Flash sale", None)}
    assert [row.number for row in shop.rows(VoucherRedeemed)] == [1] * 20
    assert len(shop.rows(OpenCodeUsed)) == 20
    assert (quota(shop).allotted, quota(shop).left) == (20, 0)
    await shop.reopen()
    assert (quota(shop).left, (await present(shop)).reason) == (0, "store_quota_used")


async def test_two_tills_at_once_never_share_the_last_one(shop: Shop, hq: Quotas) -> None:
    await declare(shop, allotment=3)
    await hq.allot(3)
    await hq.line(False)
    found = await asyncio.gather(*(present(shop) for _ in range(8)))
    assert sorted(one.decision for one in found) == ["redeemed"] * 3 + ["refused"] * 5


async def test_more_is_asked_for_when_half_is_gone_and_not_all_the_time(shop: Shop, hq: Quotas, clock: VirtualClock) -> None:
    await declare(shop, allotment=4)
    await hq.allot(4)
    for _ in range(2):
        await present(shop)
    assert not hq.wanted and len(shop.rows(ClaimIntended)) == 1, "half is enough"
    clock.advance(11)
    await present(shop)
    assert (await hq.asked()).units == 4
    await hq.give(hq.wanted[0].claim_id, units=7)
    await until(lambda: quota(shop).left == 4)
    assert not hq.wanted
    for _ in range(3):
        await present(shop)
    clock.advance(11)
    await present(shop)
    await hq.refuse((await hq.asked()).claim_id, "already_redeemed")
    await until(lambda: not hq.wanted)
    clock.advance(60)
    await shop.present(voucher_token(5))  # anything that makes core look
    assert len(shop.rows(ClaimIntended)) == 3, "headquarters said that there is no more"


async def test_with_a_line_the_shopper_waits_for_more_and_hears_when_the_whole_quota_is_gone(shop: Shop, hq: Quotas) -> None:
    await declare(shop, allotment=1)
    await hq.allot(1)
    assert (await present(shop)).decision == "redeemed"
    waits = asyncio.create_task(present(shop))
    await hq.give((await hq.asked()).claim_id, units=2)
    assert (await waits).decision == "redeemed"
    await until(lambda: not hq.wanted)
    waits = asyncio.create_task(present(shop))
    await hq.refuse((await hq.asked()).claim_id, "assigned_elsewhere")
    assert (await waits).reason == "campaign_quota_used"


async def test_a_reversal_returns_to_the_allotment_once(shop: Shop, hq: Quotas) -> None:
    await declare(shop, allotment=2)
    await hq.allot(2)
    await hq.line(False)
    used = [await present(shop) for _ in range(2)]
    back = await shop.desk.till.reverse(used[0].redemption_id, key=secrets.token_hex(16), station="counter", actor=TILL)
    assert (answers.decode(back).decision, quota(shop).left) == ("reversed", 1)
    await shop.reopen()
    assert [(await present(shop)).decision for _ in range(2)] == ["redeemed", "refused"]
    assert len(shop.rows(RedemptionReversed)) == 1


async def test_a_hold_keeps_one_and_its_capture_uses_it(shop: Shop, hq: Quotas, clock: VirtualClock) -> None:
    await declare(shop, allotment=2)
    await hq.allot(2)
    await hq.line(False)
    held, other = [await present(shop, doing=Doing.AUTHORIZE, hold_s=60) for _ in range(2)]
    assert (held.decision, held.uses_left, (await present(shop)).reason) == ("authorized", None, "store_quota_used")
    till = shop.desk.till
    captured = answers.decode(await till.capture(held.authorization_id, key=secrets.token_hex(16), station="counter", actor=TILL))
    assert (captured.decision, captured.uses_left) == ("redeemed", None)
    voided = answers.decode(await till.void(other.authorization_id, key=secrets.token_hex(16), station="counter", actor=TILL))
    assert (voided.decision, voided.uses_left, quota(shop).left) == ("voided", None, 1)
    assert (await present(shop)).decision == "redeemed"
    assert [row.number for row in shop.rows(VoucherRedeemed)] == [1, 1]


async def test_a_late_capture_finds_the_allotment_gone(shop: Shop, hq: Quotas, clock: VirtualClock) -> None:
    await declare(shop, allotment=1)
    await hq.allot(1)
    await hq.line(False)
    held = await present(shop, doing=Doing.AUTHORIZE, hold_s=1)
    clock.advance(2)
    assert (await present(shop)).decision == "redeemed"
    late = await shop.desk.till.capture(held.authorization_id, key=secrets.token_hex(16), station="counter", actor=TILL)
    assert answers.decode(late).reason == "hold_expired"


async def test_a_member_uses_it_as_often_as_the_code_allows_in_this_shop(shop: Shop, hq: Quotas) -> None:
    await declare(shop, per_member=1)
    await hq.allot(20)
    await hq.line(False)
    assert (await present(shop)).reason == "member_missing"
    first = await present(shop, member_ref="m-1")
    assert first.decision == "redeemed"
    assert (await present(shop, member_ref="m-1")).reason == "limit_member"
    assert (await present(shop, doing=Doing.AUTHORIZE, member_ref="m-2")).decision == "authorized"
    assert (await present(shop, member_ref="m-2")).reason == "limit_member", "a hold counts"
    await shop.reopen()
    assert (await present(shop, member_ref="m-1")).reason == "limit_member"
    await shop.desk.till.reverse(first.redemption_id, key=secrets.token_hex(16), station="counter", actor=TILL)
    assert (await present(shop, member_ref="m-1")).decision == "redeemed"


async def test_its_signed_form_is_the_same_code_and_a_cancelled_one_is_refused(shop: Shop, hq: Quotas) -> None:
    signed = voucher_token(42, voucher_class=VoucherClass.OPEN_CODE, store=0)
    assert (await present(shop, signed)).reason == "class_unsupported", "nobody has told this shop of it"
    await declare(shop)
    await hq.allot(20)
    assert (await present(shop, signed)).decision == "redeemed"
    assert (await present(shop, doing=Doing.VALIDATE)).decision == "valid"
    assert quota(shop).left == 19
    await declare(shop, 2, revoked=True)
    assert (await present(shop)).reason == "revoked"


async def test_nothing_is_left_after_the_allotments_end_or_the_codes(shop: Shop, hq: Quotas, clock: VirtualClock) -> None:
    end_s = clock.wall_us // 1_000_000 + 100
    await declare(shop)
    await hq.give((await hq.asked()).claim_id, units=20, not_after_s=end_s)
    await until(lambda: quota(shop).left == 20)
    await hq.line(False)
    clock.advance(101)
    assert (await present(shop)).reason == "store_quota_used"
    await declare(shop, 2, not_after_s=end_s)
    asked = len(shop.rows(ClaimIntended))
    await hq.line(True)
    assert (await present(shop)).reason == "expired"
    assert len(shop.rows(ClaimIntended)) == asked, "nobody asks for more of what has ended"


async def test_an_old_image_is_told_what_it_has_forgotten(shop: Shop, hq: Quotas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "WAIT_S", 0.05)
    await declare(shop, allotment=10)
    await hq.line(False)
    desk, epoch = shop.desk, shop.desk._ledger.epoch.name
    await desk.decide("bridge", "ack", AckArrived(seal(ACK_TAG, Ack(GATEWAY, epoch, 0, 0, "", 0, 0, opening=5), HQ_KEY)))
    assert (await present(shop)).reason == "not_admitted"
    stands = [AssignmentStand(V, 1, 10, 8, END_S, True)]
    opening = Document(GATEWAY, "opening", 5, 0, opening=Opening(epoch, {epoch: 1 << 40}, assigned=stands))
    assert await shop.bring(seal(DOCUMENT_TAG, opening, HQ_KEY)) == b"applied"
    assert (quota(shop).allotted, quota(shop).left) == (10, 2), "eight were used on the disk that is gone"
