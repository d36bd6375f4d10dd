"""Balances that headquarters lends out in shares, at one desk: what lies here is spent here, once, line or no line, and nothing more."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.core import claims
from gateway.core.requests import ConflictingKey
from gateway.core.verdict import Doing
from gateway.events import (
    AckArrived,
    AssignmentTaken,
    AuthorizationEnded,
    ClaimIntended,
    RedemptionReversed,
    Released,
    SettledThrough,
    TimeTrust,
    VoucherAuthorized,
    VoucherRedeemed,
)
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.rules.balance import Balance
from gateway.rules.basket import Basket, Line
from gateway.signed import ACK_TAG, DOCUMENT_TAG, Ack, AssignmentStand, Document, Opening, seal
from tests.conftest import HQ_KEY, VirtualClock, until
from tests.gateway.core.lending import MANAGER, MONEY, OTHER, POINTS, At, Lender, V
from tests.gateway.core.shop import GATEWAY, Shop

Lent = Callable[..., Any]


def of(answer: Answer) -> Balance:
    assert answer.balance is not None, answer
    return answer.balance


@pytest.fixture
async def lent(shop: Shop) -> AsyncIterator[Lent]:
    """A balance at headquarters, the line up; with `here`, so much of it lies in this shop, and the line is cut."""
    serving: list[asyncio.Task[None]] = []

    async def make(balance: int, here: int = 0, share: int = 0, lease_s: int = 3_600) -> Lender:
        lender = Lender(shop, balance, share, lease_s)
        await lender.line(True)
        serving.append(asyncio.create_task(lender.serve()))
        if here:
            await lender.lend(here)
            await lender.line(False)
        return lender

    yield make
    for task in serving:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# ---------------------------------------------------------------- spending


async def test_of_a_face_value_what_is_spent_offline_leaves_the_rest_of_the_share(shop: Shop, lent: Lent) -> None:
    await lent(500, here=500)
    till = At(shop)
    done = await till.spend(180)
    assert (done.decision, done.balance_minor, done.reference, done.title.en) == ("redeemed", 320, V, "Gift card")
    assert (of(done).unit, of(done).taken, of(done).here, of(done).short) == ("minor", 180, 320, 0)
    assert [(await till.spend(amount)).decision for amount in (300, 20)] == ["redeemed"] * 2
    gone = await till.spend(1)
    assert (gone.reason, of(gone).offered, of(gone).here) == ("needs_online", 0, 0)
    assert [(row.amount_minor, row.units, row.number, row.use_number) for row in shop.rows(VoucherRedeemed)] == [
        (180, 1, 1, 1), (300, 1, 1, 2), (20, 1, 1, 3),
    ]  # fmt: skip


async def test_points_beyond_the_share_are_offered_in_part_and_the_rest_needs_the_line(shop: Shop, lent: Lent) -> None:
    await lent(300, here=100)
    till = At(shop, POINTS)
    refused = await till.spend(150)
    assert (refused.decision, refused.reason) == ("refused", "needs_online")
    assert (of(refused).offered, of(refused).short, of(refused).here, of(refused).known) == (100, 50, 100, 300)
    assert not shop.rows(VoucherRedeemed), "a till that did not say it can take less gets nothing"
    done = await till.spend(150, or_less=True)
    assert (done.decision, of(done).taken, of(done).short, of(done).short_reason) == ("redeemed", 100, 50, "needs_online")
    assert (done.balance_minor, done.uses_left) == (None, None)
    assert (await till.spend(1, or_less=True)).reason == "needs_online"
    assert [(row.units, row.amount_minor) for row in shop.rows(VoucherRedeemed)] == [(100, 0)]


async def test_what_a_share_lacks_is_asked_for_exactly_though_rows_are_still_on_the_way(shop: Shop, lent: Lent) -> None:
    lender = await lent(500)
    till = At(shop)
    assert (await till.spend(80)).decision == "redeemed"
    assert (await till.spend(50)).decision == "redeemed"
    held = await till.hold(30)
    assert (await till.spend(40)).decision == "redeemed"
    kept = lender.stand.kept_by(GATEWAY)
    assert kept is not None and (kept.units, lender.stand.left) == (200, 300), "no more than was needed"
    assert (await till.capture(held.authorization_id)).decision == "redeemed"
    lender.hear()
    assert (await till.spend(300)).decision == "redeemed"
    last = await till.spend(1)
    assert (last.reason, lender.stand.left) == ("lease_spent", 0)


async def test_what_headquarters_cannot_lend_is_said_with_its_reason(shop: Shop, lent: Lent) -> None:
    lender = await lent(100)
    assert lender.elsewhere(70) == 70
    till = At(shop)
    short = await till.spend(50)
    assert (short.reason, of(short).offered, of(short).short) == ("lease_spent", 30, 20)
    assert (of(await till.spend(50, or_less=True)).taken, lender.stand.left) == (30, 0)
    assert (await till.spend(1)).reason == "lease_spent"


async def test_a_shop_that_holds_nothing_of_an_empty_balance_says_so(shop: Shop, lent: Lent) -> None:
    await lent(0)
    assert (await At(shop).spend(5)).reason == "balance_empty"


async def test_an_answer_that_comes_too_late_is_there_for_the_next_try(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "WAIT_S", 0.05)
    lender, till = Lender(shop, 500), At(shop)
    await lender.line(True)
    assert (await till.spend(50)).reason == "needs_online"
    (want,) = shop.desk._claims.wanted()
    await lender.say(lender.answer(want.claim_id, want.units))
    assert (await till.spend(50)).decision == "redeemed"
    assert len(shop.rows(ClaimIntended)) == 1


@pytest.mark.parametrize("up", [True, False])
async def test_tills_that_spend_at_the_same_moment_never_spend_more_than_there_is(shop: Shop, lent: Lent, up: bool) -> None:
    lender = await lent(100, here=0 if up else 100)
    tills = [At(shop), At(shop, MONEY, OTHER)] * 4
    found = await asyncio.gather(*(till.spend(30) if number % 3 else till.hold(30) for number, till in enumerate(tills)))
    assert [answer.ok for answer in found].count(True) == 3
    assert {answer.reason for answer in found} <= {"", "needs_online", "lease_spent", "held"}
    assert sum(row.amount_minor for row in shop.rows(VoucherRedeemed, VoucherAuthorized)) == 90
    assert lender.stand.left + sum(kept.units for kept in lender.stand.kept) == 100


async def test_a_share_that_has_ended_is_not_spent_and_is_had_anew_with_the_line(shop: Shop, lent: Lent, clock: VirtualClock) -> None:
    lender = await lent(500, here=200, lease_s=600)
    clock.advance(601)
    till = At(shop)
    assert (await till.spend(10)).reason == "needs_online"
    await lender.line(True)
    done = await till.spend(10)
    assert (done.decision, of(done).here) == ("redeemed", 190)
    assert lender.stand.number == 1, "the same share, for longer"


# ---------------------------------------------------------------- looking


async def test_validate_tells_what_is_here_until_when_and_how_old_headquarters_word_is_and_writes_nothing(
    shop: Shop, lent: Lent, clock: VirtualClock
) -> None:
    lender = await lent(500, here=200)
    end_s = lender.stand.kept[0].latest_s
    clock.advance(90)
    before = len(shop.rows())
    found = At(shop).look()
    assert (found.decision, found.balance_minor) == ("valid", 200)
    assert found.balance == Balance(unit="minor", here=200, ends_s=end_s, known=500, known_age_s=90)
    assert At(shop).look(200).decision == "valid"
    short = At(shop).look(201)
    assert (short.reason, of(short).offered, of(short).short) == ("needs_online", 200, 1)
    assert At(shop).look(201, or_less=True).decision == "valid"
    await shop.reopen()
    assert of(At(shop).look()).known == 500, "as its row says"
    await lender.line(True)
    maybe = At(shop).look(201)
    assert (maybe.decision, of(maybe).short, of(maybe).short_reason) == ("valid", 1, ""), "headquarters will be asked"
    assert len(shop.rows(ClaimIntended, VoucherRedeemed)) == 1
    assert before


async def test_a_plain_scan_spends_nothing_of_a_balance_and_shows_how_much_there_is(shop: Shop, lent: Lent) -> None:
    await lent(300, here=100)
    scanned = await shop.present(MONEY)
    assert (scanned.reason, scanned.balance_minor) == ("amount_needed", 100)
    assert (await shop.present(POINTS)).reason == "points_needed"
    assert (await At(shop, POINTS).spend(None)).reason == "points_needed"
    assert not shop.rows(VoucherRedeemed)


async def test_money_is_asked_of_money_and_points_of_points(shop: Shop, lent: Lent) -> None:
    await lent(300, here=100)
    money, points = At(shop), At(shop, POINTS)
    money.want, points.want = points.want.__func__.__get__(points), money.want.__func__.__get__(money)  # type: ignore[method-assign,attr-defined]
    assert (await money.spend(5)).reason == "no_points"
    assert (await points.spend(5)).reason == "points_needed"


async def test_a_basket_takes_of_the_share_what_it_needs(shop: Shop, lent: Lent) -> None:
    await lent(500, here=100)
    basket = Basket("TWD", (Line("1", "tea", 2, 30),))
    found = await At(shop).spend(None, basket=basket)
    assert found.decision in ("redeemed", "refused") and found.priced is not None
    exact = await At(shop).spend(60, basket=basket)
    assert (exact.decision, of(exact).here) == ("redeemed", 40)


# ---------------------------------------------------------------- two steps


async def test_a_hold_keeps_its_part_from_others_and_is_captured_in_part(shop: Shop, lent: Lent) -> None:
    await lent(500, here=100)
    till, other = At(shop), At(shop, MONEY, OTHER)
    hold = await till.hold(70)
    assert (hold.decision, of(hold).taken, of(hold).here, hold.hold_s) == ("authorized", 70, 30, 120)
    refused = await other.spend(50)
    assert (refused.reason, of(refused).offered) == ("held", 30)
    assert (await till.capture(hold.authorization_id, 71)).reason == "not_enough_left"
    assert (await other.capture(hold.authorization_id)).reason == "other_device"
    done = await till.capture(hold.authorization_id, 45)
    assert (done.decision, of(done).taken, done.balance_minor) == ("redeemed", 45, 55)
    assert (await till.capture(hold.authorization_id)).reason == "already_captured"
    assert (await other.spend(55)).decision == "redeemed"
    assert [row.number for row in shop.rows(VoucherAuthorized)] == [1]


async def test_a_voided_hold_gives_its_part_back(shop: Shop, lent: Lent) -> None:
    await lent(300, here=100)
    till = At(shop, POINTS)
    hold = await till.hold(100)
    ended = await till.void(hold.authorization_id)
    assert (ended.decision, of(ended).here, ended.uses_left) == ("voided", 100, None)
    assert (await till.capture(hold.authorization_id)).reason == "hold_voided"
    assert (await till.spend(100)).decision == "redeemed"


async def test_a_late_capture_takes_what_is_free_and_else_the_till_must_take_its_discount_back(
    shop: Shop, lent: Lent, clock: VirtualClock
) -> None:
    await lent(500, here=100)
    till = At(shop)
    first, second = await till.hold(60, hold_s=30), await till.hold(40, hold_s=30)
    clock.advance(31)
    assert (await till.capture(first.authorization_id)).decision == "redeemed"
    assert (await At(shop, MONEY, OTHER).spend(20)).decision == "redeemed"
    late = await till.capture(second.authorization_id)
    assert (late.reason, of(late).here) == ("hold_expired", 20)
    assert (await till.capture(second.authorization_id, 20)).decision == "redeemed"
    assert sum(row.amount_minor for row in shop.rows(VoucherRedeemed)) == 100
    assert [row.outcome for row in shop.rows(AuthorizationEnded)] == ["expired"] * 2


async def test_holds_and_spends_are_there_again_after_a_restart_and_a_hold_begins_anew(shop: Shop, lent: Lent, clock: VirtualClock) -> None:
    await lent(500, here=100)
    till = At(shop)
    hold = await till.hold(30, hold_s=60)
    await till.spend(25)
    clock.advance(50)
    await shop.reopen()
    clock.advance(50)
    assert of(till.look()).here == 45
    assert (await till.spend(46)).reason == "held"
    assert (await till.capture(hold.authorization_id)).decision == "redeemed"
    await shop.reopen()
    assert of(till.look()).here == 45


async def test_a_share_that_ends_during_a_sale_is_captured_and_settled_only_afterwards(shop: Shop, lent: Lent, clock: VirtualClock) -> None:
    lender = await lent(500, here=100, lease_s=60)
    till = At(shop)
    hold = await till.hold(40, hold_s=900)
    clock.trust = TimeTrust.SYNCED
    clock.advance(300)
    assert (await till.spend(10)).reason == "needs_online", "the share has ended"
    assert not shop.rows(SettledThrough)
    done = await till.capture(hold.authorization_id)
    assert (done.decision, of(done).here) == ("redeemed", 0)
    clock.advance(20)
    await till.spend(10)
    await until(lambda: bool(shop.rows(SettledThrough)))
    lender.hear()
    assert (lender.stand.left, lender.stand.late) == (460, 0)


async def test_a_share_is_not_given_back_while_a_sale_holds_some_of_it(shop: Shop, lent: Lent) -> None:
    lender = await lent(500, here=100)
    till = At(shop)
    hold = await till.hold(40)
    await lender.recall()
    assert not shop.rows(Released)
    await till.void(hold.authorization_id)
    await lender.recall()
    await until(lambda: bool(shop.rows(Released)))
    assert [(row.voucher_id, row.number) for row in shop.rows(Released)] == [(V, 1)]
    assert (await till.spend(1)).reason == "needs_online"
    lender.hear()
    assert lender.stand.left == 500


# ---------------------------------------------------------------- taken back


async def test_what_was_reversed_is_spent_again_from_the_same_share_after_a_restart_too(shop: Shop, lent: Lent) -> None:
    lender = await lent(500, here=100)
    till = At(shop)
    done = await till.spend(80)
    assert (await till.spend(30)).reason == "needs_online"
    await shop.reopen()
    assert (await till.reverse(done.redemption_id)).decision == "reversed"
    assert (await till.reverse(done.redemption_id)).reason == "already_reversed"
    await shop.reopen()
    assert of(till.look()).here == 100
    assert (await till.spend(100)).decision == "redeemed"
    lender.hear()
    assert [(kept.units, kept.total_spent) for kept in lender.stand.kept] == [(100, 100)]
    assert [(row.number, row.spent) for row in shop.rows(RedemptionReversed)] == [(1, 80)]


async def test_what_is_reversed_after_its_share_was_settled_goes_back_to_headquarters(shop: Shop, lent: Lent, clock: VirtualClock) -> None:
    lender = await lent(500, here=100, lease_s=60)
    done = await At(shop).spend(80)
    clock.trust = TimeTrust.SYNCED
    clock.advance(300)
    await At(shop).spend(1)
    await until(lambda: bool(shop.rows(SettledThrough)))
    lender.hear()
    assert lender.stand.left == 420
    assert (await At(shop, MONEY, MANAGER).reverse(done.redemption_id)).decision == "reversed"
    assert (await At(shop).spend(1)).reason == "needs_online", "not here any more"
    lender.hear()
    assert (lender.stand.left, lender.stand.late) == (500, 0)
    await lender.line(True)
    assert (await At(shop).spend(500)).decision == "redeemed"


# ---------------------------------------------------------------- keys, and starts that are doubted


async def test_the_same_request_gets_the_same_bytes_and_another_one_under_its_key_is_refused(shop: Shop, lent: Lent) -> None:
    await lent(500, here=100)
    till, key = At(shop), secrets.token_hex(16)
    first = await till.raw(Doing.REDEEM, 60, key)
    assert await till.raw(Doing.REDEEM, 60, key) == first
    await shop.reopen()
    assert await till.raw(Doing.REDEEM, 60, key) == first
    for amount, more in ((61, {}), (60, {"or_less": True})):
        with pytest.raises(ConflictingKey):
            await till.raw(Doing.REDEEM, amount, key, **more)
    points = At(shop, MONEY)
    points.want = At(shop, POINTS).want  # type: ignore[method-assign]
    with pytest.raises(ConflictingKey):
        await points.raw(Doing.REDEEM, 60, key)
    assert len(shop.rows(VoucherRedeemed)) == 1


async def test_a_claim_that_core_died_over_is_asked_on_and_the_same_request_decided_once(shop: Shop) -> None:
    lender, till, key = Lender(shop, 500), At(shop), secrets.token_hex(16)
    await lender.line(True)
    waiting = asyncio.ensure_future(till.raw(Doing.REDEEM, 60, key))
    await until(lambda: bool(shop.desk._claims.wanted()))
    (before,) = shop.desk._claims.wanted()
    waiting.cancel()
    await shop.reopen()
    await lender.line(True)
    assert shop.desk._claims.wanted() == [before]
    await lender.say(lender.answer(before.claim_id, before.units))
    assert answers.decode(await till.raw(Doing.REDEEM, 60, key)).decision == "redeemed"
    assert (len(shop.rows(AssignmentTaken)), len(shop.rows(VoucherRedeemed))) == (1, 1)


async def test_of_what_a_hold_holds_no_more_is_captured_than_headquarters_knows_to_be_left(shop: Shop, lent: Lent) -> None:
    lender = await lent(500, here=100)
    till, epoch = At(shop), shop.desk.store_view().epoch
    hold, other = await till.hold(60), await till.hold(20)
    await shop.desk.decide("bridge", "ack", AckArrived(seal(ACK_TAG, Ack(GATEWAY, epoch, 0, 0, "", 0, 0, opening=5), HQ_KEY)))
    stand = AssignmentStand(V, 1, 100, 55, lender.stand.kept[0].latest_s, True)
    opening = Document(GATEWAY, "opening", 5, 0, opening=Opening(epoch, {}, assigned=[stand]))
    assert await shop.bring(seal(DOCUMENT_TAG, opening, HQ_KEY)) == b"applied"
    assert (await till.capture(hold.authorization_id)).reason == "hold_expired"
    assert (await till.capture(hold.authorization_id, 45)).decision == "redeemed"
    assert (await till.capture(other.authorization_id)).reason == "hold_expired"


async def test_a_doubted_start_spends_nothing_of_what_it_holds(shop: Shop, lent: Lent) -> None:
    await lent(500, here=100)
    till = At(shop)
    hold = await till.hold(10)
    doubted = Ack(GATEWAY, shop.desk.store_view().epoch, 0, 0, "", 0, 0, opening=5)
    await shop.desk.decide("bridge", "ack", AckArrived(seal(ACK_TAG, doubted, HQ_KEY)))
    assert not shop.desk.store_view().admission.admitted
    assert (await till.spend(10)).reason == "needs_online"
    assert (await till.capture(hold.authorization_id)).reason == "not_admitted"
    assert not shop.rows(VoucherRedeemed)
