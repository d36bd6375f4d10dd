"""Two steps, taking back, and holds that run out: once each, whatever is asked again and whatever goes out in between."""

import asyncio
import secrets
from typing import Any

import msgspec
import pytest

from gateway.core.requests import ConflictingKey
from gateway.core.verdict import Actor, Asked, Doing
from gateway.events import AuthorizationEnded, RedemptionRefused, RedemptionReversed, Row, VoucherAuthorized, VoucherRedeemed
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.rules.voucher import ONE, Want
from gateway.signed import DOCUMENT_TAG, CampaignLimit, Document, GivenOut, Voucher, seal
from gateway.token import Flag, voucher_ref
from tests.conftest import HQ_KEY, VirtualClock, until
from tests.gateway.core.old_images import acked, epoch, image, opening, used
from tests.gateway.core.shop import END_S, GATEWAY, Shop, pickup_token, presented, voucher_token

TILL = Actor("d-1", None, frozenset({"pos"}))
OTHER = Actor("d-2", None, frozenset({"pos"}))
CLERK = Actor(None, "s-1", frozenset({"clerk"}))
MANAGER = Actor(None, "s-2", frozenset({"clerk", "manager"}))
TOKEN = voucher_token()


class At:
    """A till at the counter."""

    def __init__(self, shop: Shop, actor: Actor = TILL) -> None:
        self.shop = shop
        self.actor = actor

    async def shown(self, code: bytes, doing: Doing, want: Want = ONE, hold_s: int | None = None) -> Answer:
        asked = Asked(doing, want, hold_s, self.actor.device)
        event = presented(code, read_point="pos@counter")
        return answers.decode(await self.shop.desk.present(event, station="counter", staff=self.actor.staff, asked=asked))

    async def redeem(self, code: bytes = TOKEN, **want: Any) -> Answer:
        return await self.shown(code, Doing.REDEEM, Want(**want))

    async def authorize(self, code: bytes = TOKEN, hold_s: int | None = None, **want: Any) -> Answer:
        return await self.shown(code, Doing.AUTHORIZE, Want(**want), hold_s)

    def validate(self, code: bytes = TOKEN, **want: Any) -> Answer:
        return answers.decode(self.shop.desk.till.validate(presented(code), "counter", None, Want(**want)))

    async def capture(self, authorization_id: str, want: Want | None = None, key: str = "") -> Answer:
        key = key or secrets.token_hex(16)
        return answers.decode(await self.shop.desk.till.capture(authorization_id, key=key, station="counter", actor=self.actor, want=want))

    async def void(self, authorization_id: str) -> Answer:
        key = secrets.token_hex(16)
        return answers.decode(await self.shop.desk.till.void(authorization_id, key=key, station="counter", actor=self.actor))

    async def reverse(self, redemption_id: str) -> Answer:
        key = secrets.token_hex(16)
        return answers.decode(await self.shop.desk.till.reverse(redemption_id, key=key, station="counter", actor=self.actor))


@pytest.fixture
def till(shop: Shop) -> At:
    return At(shop)


def kinds(shop: Shop) -> list[type[Row]]:
    return [type(row) for row in shop.rows(VoucherAuthorized, AuthorizationEnded, VoucherRedeemed, RedemptionReversed)]


async def list_vouchers(shop: Shop, *vouchers: Voucher, limits: list[CampaignLimit] | None = None, version: int = 2) -> None:
    document = Document(GATEWAY, "vouchers", version, 0, vouchers=list(vouchers), limits=limits or [])
    assert await shop.bring(seal(DOCUMENT_TAG, document, HQ_KEY)) == b"applied"


# ---------------------------------------------------------------- two steps


async def test_what_is_held_is_captured_once_and_is_nobody_elses_meanwhile(shop: Shop, till: At) -> None:
    hold = await till.authorize()
    assert (hold.decision, hold.uses_left, hold.hold_s) == ("authorized", 0, 120)
    assert (await At(shop, OTHER).redeem()).reason == "held"
    assert (await shop.present(TOKEN)).reason == "held"
    done = await till.capture(hold.authorization_id)
    assert (done.decision, done.uses_left, done.reference) == ("redeemed", 0, voucher_ref(1, 42))
    assert (await till.capture(hold.authorization_id)).reason == "already_captured"
    assert (await till.void(hold.authorization_id)).reason == "already_captured"
    assert (await till.redeem()).reason == "already_redeemed"
    assert kinds(shop) == [VoucherAuthorized, VoucherRedeemed, AuthorizationEnded]
    (use,) = shop.rows(VoucherRedeemed)
    assert (use.redemption_id, use.authorization_id, use.device) == (done.redemption_id, hold.authorization_id, "d-1")


async def test_a_voided_hold_frees_the_voucher_and_cannot_be_captured(shop: Shop, till: At) -> None:
    hold = await till.authorize()
    assert (await till.void(hold.authorization_id)).decision == "voided"
    assert (await till.void(hold.authorization_id)).decision == "voided"  # there is nothing left to do: no second row
    assert (await till.capture(hold.authorization_id)).reason == "hold_voided"
    assert (await till.redeem()).decision == "redeemed"
    assert [row.outcome for row in shop.rows(AuthorizationEnded)] == ["voided"]


async def test_a_hold_runs_out_with_one_row_and_a_late_capture_takes_what_is_free(shop: Shop, till: At, clock: VirtualClock) -> None:
    hold = await till.authorize(hold_s=30)
    clock.advance(29.9)
    assert (await At(shop, OTHER).redeem()).reason == "held"
    clock.advance(0.2)
    assert till.validate().decision == "valid"
    late = await till.capture(hold.authorization_id)
    assert late.decision == "redeemed"
    assert [row.outcome for row in shop.rows(AuthorizationEnded)] == ["expired"]
    assert (await till.capture(hold.authorization_id)).reason == "already_captured"
    assert len(shop.rows(VoucherRedeemed)) == 1


async def test_a_late_capture_of_what_was_used_meanwhile_says_that_the_till_must_reverse(shop: Shop, till: At, clock: VirtualClock) -> None:
    hold = await till.authorize()
    clock.advance(121)
    assert (await At(shop, OTHER).redeem()).decision == "redeemed"
    late = await till.capture(hold.authorization_id)
    assert (late.decision, late.reason) == ("refused", "hold_expired")
    assert len(shop.rows(VoucherRedeemed)) == 1


async def test_a_hold_begins_anew_when_core_starts_and_then_runs_out_by_itself(shop: Shop, till: At, clock: VirtualClock) -> None:
    hold = await till.authorize(hold_s=10)
    clock.advance(8)
    await shop.reopen()
    clock.advance(9)  # 17 s since it was given, 9 since the start
    assert (await till.redeem()).reason == "held"
    assert (await till.capture(hold.authorization_id)).decision == "redeemed"


async def test_nobody_has_to_ask_for_a_hold_to_run_out(shop: Shop, till: At, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.core.till.LOOK_AGAIN_S", -9.8)
    await till.authorize(hold_s=10)
    clock.advance(10)
    await until(lambda: len(shop.rows(AuthorizationEnded)) == 1)
    assert [row.outcome for row in shop.rows(AuthorizationEnded)] == ["expired"]


async def test_only_its_own_device_or_staff_ends_a_hold(shop: Shop, till: At) -> None:
    first, second = await till.authorize(), await till.authorize(voucher_token(43))
    assert (await At(shop, OTHER).capture(first.authorization_id)).reason == "other_device"
    assert (await At(shop, OTHER).void(first.authorization_id)).reason == "other_device"
    assert (await At(shop, CLERK).capture(first.authorization_id)).decision == "redeemed"
    assert (await At(shop, CLERK).void(second.authorization_id)).decision == "voided"
    assert (await till.capture("nothing")).reason == "unknown_authorization"


async def test_validating_leaves_no_trace(shop: Shop, till: At) -> None:
    before = len(shop.rows())
    screen = shop.desk.screen("counter").number
    assert [till.validate().decision, till.validate(voucher_token(store=8)).reason] == ["valid", "other_store"]
    assert till.validate(pickup_token()).reason == "not_a_voucher"
    await shop.desk.prove()
    assert (len(shop.rows()), shop.desk.screen("counter").number) == (before, screen)
    assert (await till.redeem()).decision == "redeemed"


async def test_the_same_key_gets_the_same_bytes_for_every_verb_also_after_a_restart(shop: Shop, till: At) -> None:
    hold, keys = await till.authorize(), [secrets.token_hex(16) for _ in range(3)]
    redeemed = await till.redeem(voucher_token(43))

    async def ask(again: int) -> list[bytes]:
        desk = shop.desk.till
        return [
            await desk.capture(hold.authorization_id, key=keys[0], station="counter", actor=TILL),
            await desk.void(hold.authorization_id, key=keys[1], station="counter", actor=TILL),
            await desk.reverse(redeemed.redemption_id, key=keys[2], station="counter", actor=TILL),
        ]

    first = await ask(1)
    assert await ask(2) == first
    await shop.reopen()
    assert await ask(3) == first
    assert len(shop.rows(RedemptionReversed)) == 1


@pytest.mark.parametrize("change", ["verb", "subject", "device", "station", "want"])
async def test_a_key_of_another_request_is_refused_by_every_verb(shop: Shop, till: At, change: str) -> None:
    hold, key, desk = await till.authorize(), secrets.token_hex(16), shop.desk.till
    await desk.capture(hold.authorization_id, key=key, station="counter", actor=TILL)
    subject = "x" if change == "subject" else hold.authorization_id
    actor = OTHER if change == "device" else TILL
    station = "door" if change == "station" else "counter"
    with pytest.raises(ConflictingKey):
        if change == "verb":
            desk.void(subject, key=key, station=station, actor=actor)
        desk.capture(subject, key=key, station=station, actor=actor, want=ONE if change == "want" else None)


async def test_a_hold_and_a_redemption_under_one_presentation_are_two_requests(shop: Shop) -> None:
    code = presented(TOKEN)
    await shop.desk.present(code, station="counter")
    with pytest.raises(ConflictingKey):
        shop.desk.present(code, station="counter", asked=Asked(Doing.AUTHORIZE))
    with pytest.raises(ConflictingKey):
        shop.desk.present(code, station="counter", asked=Asked(want=Want(2)))


# ---------------------------------------------------------------- taking back


async def test_a_reversal_gives_exactly_one_use_back(shop: Shop, till: At) -> None:
    token = voucher_token(uses=2)
    first, _ = await till.redeem(token), await till.redeem(token)
    assert (await till.redeem(token)).reason == "exhausted"
    assert (await till.reverse(first.redemption_id)).decision == "reversed"
    assert (await till.reverse(first.redemption_id)).reason == "already_reversed"
    assert (await till.redeem(token)).decision == "redeemed"
    assert (await till.redeem(token)).reason == "exhausted"
    await shop.reopen()
    assert (await till.redeem(token)).reason == "exhausted"
    counts = shop.desk.store_view().counts
    assert (counts["redemptions"], counts["reversals"]) == (3, 1)


async def test_a_reversal_is_for_the_same_device_or_a_manager_and_not_too_late(shop: Shop, till: At, clock: VirtualClock) -> None:
    done = await till.redeem()
    for nobody in (OTHER, CLERK):
        assert (await At(shop, nobody).reverse(done.redemption_id)).reason == "manager_needed"
    clock.advance(600)
    assert (await At(shop, MANAGER).reverse(done.redemption_id)).decision == "reversed"
    done = await till.redeem()
    clock.advance(601)
    assert (await till.reverse(done.redemption_id)).reason == "too_late_to_reverse"
    assert (await At(shop, MANAGER).reverse(done.redemption_id)).reason == "too_late_to_reverse"
    assert (await till.reverse("nothing")).reason == "unknown_redemption"


async def test_what_a_scanner_redeemed_only_a_manager_reverses(shop: Shop, till: At) -> None:
    done = await shop.present(TOKEN)
    assert (await till.reverse(done.redemption_id)).reason == "manager_needed"
    assert (await At(shop, MANAGER).reverse(done.redemption_id)).decision == "reversed"


async def test_a_campaign_says_how_long_it_may_be_reversed(shop: Shop, till: At, clock: VirtualClock) -> None:
    await list_vouchers(shop, limits=[CampaignLimit(5, reverse_s=5)])
    done = await till.redeem()
    clock.advance(6)
    assert (await till.reverse(done.redemption_id)).reason == "too_late_to_reverse"


# ---------------------------------------------------------------- shapes


async def test_a_face_value_is_spent_in_parts_and_never_beyond(shop: Shop, till: At) -> None:
    token = voucher_token(value_minor=50_000, flags=Flag.PARTIAL)
    assert (await shop.present(token)).reason == "amount_needed"
    assert (await till.redeem(token, amount_minor=18_000)).balance_minor == 32_000
    hold = await till.authorize(token, amount_minor=30_000)
    assert hold.balance_minor == 2_000
    assert (await till.redeem(token, amount_minor=2_001)).reason == "held"
    assert (await till.redeem(token, amount_minor=32_001)).reason == "not_enough_left"
    assert (await till.capture(hold.authorization_id, Want(1, 30_001))).reason == "not_enough_left"
    assert (await till.capture(hold.authorization_id, Want(1, 25_000))).balance_minor == 7_000
    last = await till.redeem(token, amount_minor=7_000)
    assert last.balance_minor == 0
    await shop.reopen()
    assert (await till.redeem(token, amount_minor=1)).reason == "exhausted"
    assert sum(row.amount_minor for row in shop.rows(VoucherRedeemed)) == 50_000
    assert (await till.reverse(last.redemption_id)).decision == "reversed"
    assert till.validate(token, amount_minor=7_000).decision == "valid"
    assert (await till.redeem(voucher_token(43), amount_minor=5)).reason == "no_face_value"


async def test_a_party_of_two_may_come_one_by_one_and_no_third_guest(shop: Shop, till: At) -> None:
    token = voucher_token(uses=2)
    assert (await till.redeem(token)).uses_left == 1
    refused = await till.redeem(token, units=2)
    assert (refused.reason, refused.uses_left) == ("not_enough_left", 1)
    assert (await till.redeem(token)).uses_left == 0


@pytest.mark.parametrize(("limit", "reason"), [
    (CampaignLimit(5, stock=10), "stock_out"),
    (CampaignLimit(5, daily=10), "daily_stock_out"),
    (CampaignLimit(5, stock=10, session=True), "session_full"),
])  # fmt: skip
async def test_a_stock_is_given_out_exactly(shop: Shop, till: At, limit: CampaignLimit, reason: str) -> None:
    await list_vouchers(shop, limits=[limit])
    asked = [(till if number % 2 else At(shop, OTHER)).redeem(voucher_token(number)) for number in range(100, 130)]
    found = await asyncio.gather(*asked)
    assert [answer.decision for answer in found].count("redeemed") == 10
    assert {answer.reason for answer in found} == {"", reason}
    await shop.reopen()
    assert (await till.redeem(voucher_token(200))).reason == reason
    given = next(answer for answer in found if answer.ok)
    by = till if given.reference in {voucher_ref(1, number) for number in range(101, 130, 2)} else At(shop, OTHER)
    assert (await by.reverse(given.redemption_id)).decision == "reversed"
    assert (await till.redeem(voucher_token(201))).decision == "redeemed"
    assert (await till.redeem(voucher_token(202))).reason == reason


async def test_a_daily_stock_is_new_on_the_shops_next_day(shop: Shop, till: At, clock: VirtualClock) -> None:
    await list_vouchers(shop, limits=[CampaignLimit(5, daily=1)])
    clock.wall_us = 1_795_276_740_000_000  # 2026-11-21 23:59 in Taipei
    assert (await till.redeem(voucher_token(1))).decision == "redeemed"
    assert (await till.redeem(voucher_token(2))).reason == "daily_stock_out"
    clock.advance(59)
    assert (await till.redeem(voucher_token(2))).reason == "daily_stock_out"
    clock.advance(2)
    assert (await till.redeem(voucher_token(2))).decision == "redeemed"


async def test_a_hold_counts_against_the_stock_while_it_lives(shop: Shop, till: At) -> None:
    await list_vouchers(shop, limits=[CampaignLimit(5, stock=1)])
    hold = await till.authorize(voucher_token(1))
    assert (await till.redeem(voucher_token(2))).reason == "stock_out"
    assert (await till.void(hold.authorization_id)).decision == "voided"
    assert (await till.redeem(voucher_token(2))).decision == "redeemed"
    assert (await till.redeem(voucher_token(3))).reason == "stock_out"


async def test_a_booked_slot_is_the_only_time(shop: Shop, till: At, clock: VirtualClock) -> None:
    now_s = clock.wall_us // 1_000_000
    await list_vouchers(shop, Voucher(voucher_ref(1, 42), 5, "按摩", "Massage", 0, END_S, windows=[(now_s + 600, now_s + 1_200)]))
    refused = await till.redeem()
    assert (refused.reason, refused.window) == ("outside_window", (now_s + 600, now_s + 1_200))
    assert refused.next_step.zh
    clock.advance(601)
    assert till.validate().decision == "valid"
    clock.advance(600)
    assert (await till.redeem()).reason == "outside_window"
    clock.bounds = (clock.wall_us - 700_000_000, None)  # nobody is sure of the time: the shop goes on serving
    assert (await till.redeem()).decision == "redeemed"


async def test_practice_leaves_nothing_but_a_screen_that_says_so(shop: Shop, till: At, clock: VirtualClock) -> None:
    before, token = len(shop.rows()), voucher_token(flags=Flag.PRACTICE)
    counts = dict(shop.desk.store_view().counts)
    done = await till.redeem(token)
    assert (done.decision, done.practice, done.message.zh[:4]) == ("redeemed", True, "【練習】")
    screen = shop.desk.screen("counter")
    assert screen.answer is not None and screen.answer.practice
    again = await till.redeem(token)
    assert (again.reason, again.practice) == ("already_redeemed", True)
    assert (await till.reverse(done.redemption_id)).practice
    hold = await till.authorize(token)
    assert (await till.redeem(token)).reason == "held"
    assert (await till.capture(hold.authorization_id)).decision == "redeemed"
    assert (await till.void((await till.authorize(voucher_token(7, flags=Flag.PRACTICE))).authorization_id)).practice
    await shop.desk.prove()
    assert (len(shop.rows()), shop.desk.store_view().counts) == (before, counts)
    clock.advance(601)  # the next lesson begins anew
    assert (await till.redeem(token)).decision == "redeemed"
    await shop.reopen()
    assert len(shop.rows(VoucherRedeemed)) == 0


async def test_refusals_of_every_verb_are_rows(shop: Shop, till: At) -> None:
    await till.capture("nothing")
    await till.reverse("nothing")
    assert [(row.reason, row.read_point) for row in shop.rows(RedemptionRefused)] == [
        ("unknown_authorization", "capture@counter"),
        ("unknown_redemption", "reverse@counter"),
    ]


# ---------------------------------------------------------------- an old image of the disk


async def test_a_hold_that_an_old_disk_brought_back_is_not_captured_twice(shop: Shop, till: At) -> None:
    hold, free = await till.authorize(), await till.authorize(voucher_token(43))
    restore = await image(shop)
    assert (await till.capture(hold.authorization_id)).decision == "redeemed"
    lost = epoch(shop)
    await restore()
    await acked(shop, opening=1)
    assert (await till.capture(hold.authorization_id)).reason == "not_admitted"
    assert await shop.bring(opening(shop, 1, {lost: 4}, used=[used()])) == b"applied"
    assert (await till.capture(hold.authorization_id)).reason == "hold_expired"
    assert (await till.capture(free.authorization_id)).decision == "redeemed"
    assert len(shop.rows(VoucherRedeemed)) == 1


async def test_hqs_opening_tells_what_was_spent_and_given_out(shop: Shop, till: At, clock: VirtualClock) -> None:
    token = voucher_token(value_minor=1_000, flags=Flag.PARTIAL)
    await list_vouchers(shop, limits=[CampaignLimit(6, stock=3)])
    await acked(shop, opening=1)
    spent = msgspec.structs.replace(used(), uses=2, spent_minor=900)
    given = [GivenOut(6, "2026-11-20", 1), GivenOut(6, "2026-11-21", 1)]
    assert await shop.bring(opening(shop, 1, {}, used=[spent], given=given)) == b"applied"
    assert till.validate(token, amount_minor=1_000).balance_minor == 100
    assert (await till.redeem(token, amount_minor=101)).reason == "not_enough_left"
    assert (await till.redeem(token, amount_minor=100)).balance_minor == 0
    assert (await till.redeem(voucher_token(1, campaign=6))).decision == "redeemed"
    assert (await till.redeem(voucher_token(2, campaign=6))).reason == "stock_out"
    await shop.reopen()
    assert (await till.redeem(voucher_token(3, campaign=6))).reason == "stock_out"
