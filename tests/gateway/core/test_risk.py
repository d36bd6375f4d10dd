"""A voucher any shop may decide on, at one desk: asked of headquarters first, taken on trust in the dark, never above the caps."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from gateway.anywhere import ANYWHERE_NAME, Anywhere, Conflict, RiskTerms
from gateway.config import GatewayConfig
from gateway.core import claims
from gateway.core.verdict import Actor, Asked, Doing
from gateway.core.views import RiskView
from gateway.core.whose import Whose
from gateway.events import AckArrived, RedemptionRefused, Released, RiskHeld, RiskTaken, TimeTrust, VoucherRedeemed
from gateway.kiosk.metrics import expose
from gateway.ledger import LedgerReader
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.signed import ACK_TAG, DOCUMENT_TAG, Ack, Document, MemberTrust, seal
from gateway.token import VoucherClass, voucher_ref
from tests.conftest import HQ_KEY, VirtualClock, until
from tests.gateway.core.old_images import acked, epoch, opening
from tests.gateway.core.roll_of import GOLD, OTHER_CODE, PLAIN, REF, SIGNER, member_token, whole
from tests.gateway.core.shop import GATEWAY, Shop, headquarters_hears, presented, voucher_token
from tests.gateway.core.test_claims import Hq
from tests.gateway.kiosk.test_metrics import series

TILL = Actor("till-1", None, frozenset({"pos"}))
TERMS = RiskTerms(
    campaign=5, version=1, currency="TWD", per_code_minor=300, per_device_minor=500, per_shop_minor=800, worth_minor=100,
    list_age_s=3_600, bearer="retailer",
)  # fmt: skip


def code(number: int, value_minor: int = 200, **changes: Any) -> bytes:
    plain = {"voucher_class": VoucherClass.BOUNDED_RISK, "store": 0, "value_minor": value_minor}
    return voucher_token(1_000 + number, **(plain | changes))


def name_of(number: int) -> str:
    return voucher_ref(1, 1_000 + number)


async def declare(shop: Shop, version: int = 1, terms: RiskTerms | None = TERMS, **more: Any) -> None:
    said = Anywhere(terms=[terms] if terms is not None else [], **more)
    document = Document(GATEWAY, ANYWHERE_NAME, version, shop.clock.now().wall_us, anywhere=said)
    assert await shop.bring(seal(DOCUMENT_TAG, document, HQ_KEY)) == b"applied"


@pytest.fixture
async def dark(shop: Shop) -> Shop:
    """A shop with terms and without a line."""
    await declare(shop)
    return shop


@pytest.fixture
async def hq(shop: Shop) -> AsyncIterator[Hq]:
    await declare(shop)
    found = Hq(shop)
    await until(lambda: found.link.connected)
    await found.line(True)
    yield found
    await found.end()


async def present(shop: Shop, payload: bytes, doing: Doing = Doing.REDEEM, device: str | None = None, **more: Any) -> Answer:
    asked = Asked(doing, device=device, **more)
    if doing is Doing.VALIDATE:
        return answers.decode(shop.desk.till.validate(presented(payload), "counter", None, asked.want))
    return answers.decode(await shop.desk.present(presented(payload), station="counter", asked=asked))


def meter(shop: Shop) -> RiskView:
    (found,) = shop.desk.store_view().risk
    return found


async def acknowledge_all(shop: Shop) -> None:
    """HQ has taken, and so settled, every row of every start."""
    ledger, reader = shop.desk._ledger, LedgerReader(shop.config.ledger_path)
    names = {epoch.number: epoch.name for epoch in reader.epochs()}
    reader.close()
    for number, lanes in sorted(ledger.reach.items()):
        seq = lanes[0]
        ack = Ack(GATEWAY, names[number], 0, seq, ledger.head_at(number, 0, seq) or "", seq, 1)
        await shop.desk.decide("bridge", secrets.token_hex(4), AckArrived(seal(ACK_TAG, ack, HQ_KEY)))


async def test_in_the_dark_it_is_taken_on_trust_until_a_cap_would_be_passed(dark: Shop) -> None:
    taken = [await present(dark, code(number), device="till-1") for number in range(2)]
    assert [one.decision for one in taken] == ["redeemed", "redeemed"]
    third = await present(dark, code(2), device="till-1")
    assert (third.decision, third.reason) == ("refused", "risk_cap"), "400 of 500 on this till"
    assert third.message.zh and third.next_step.en
    assert [(await present(dark, code(number), device="till-2")).reason for number in (2, 3, 4)] == ["", "", "risk_cap"]
    assert (meter(dark).open_minor, meter(dark).open_rows, meter(dark).cap_minor) == (800, 4, 800)
    assert meter(dark).oldest_us == dark.clock.now().wall_us
    rows = dark.rows(RiskTaken)
    assert {(row.exposure_minor, row.number, row.terms, row.campaign) for row in rows} == {(200, 0, 1, 5)}
    assert [row.redemption_id for row in dark.rows(VoucherRedeemed)] == [row.redemption_id for row in rows]
    assert [row.reason for row in dark.rows(RedemptionRefused)] == ["risk_cap", "risk_cap"]


async def test_two_devices_in_the_same_moment_never_pass_the_cap(dark: Shop) -> None:
    found = await asyncio.gather(*(present(dark, code(number), device=f"till-{number % 3}") for number in range(12)))
    assert sorted(one.reason for one in found) == [""] * 4 + ["risk_cap"] * 8
    assert meter(dark).open_minor == 800 == sum(row.exposure_minor for row in dark.rows(RiskTaken))


async def test_a_second_scan_is_told_when_it_was_used_and_a_dear_one_waits_for_headquarters(dark: Shop) -> None:
    assert (await present(dark, code(1))).decision == "redeemed"
    again = await present(dark, code(1))
    assert again.reason == "already_redeemed" and again.before is not None
    assert (await present(dark, code(2, 301))).reason == "risk_floor"
    assert (await present(dark, code(3, 0))).decision == "redeemed"
    assert [row.exposure_minor for row in dark.rows(RiskTaken)] == [200, 100], "one that names no value counts what the terms say"


async def test_caps_hold_over_restarts_and_end_with_headquarters_answer(dark: Shop) -> None:
    for number in range(4):
        await present(dark, code(number), device=f"till-{number}")
    await dark.reopen()
    assert meter(dark).open_minor == 800
    assert (await present(dark, code(9))).reason == "risk_cap"
    await acknowledge_all(dark)
    assert meter(dark).open_minor == 0
    assert (await present(dark, code(9))).decision == "redeemed"


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_long_outage_with_restarts_never_passes_a_cap_and_forgets_nothing(dark: Shop, seed: int) -> None:
    """A real ledger; what is open is the same before and after a restart, and what was taken since the last answer is below the cap."""
    chance, holds, uses = Random(seed), list[tuple[str, str]](), list[tuple[str, str]]()
    for number in range(90):
        what, device = chance.choice(["take"] * 4 + ["hold"] * 2 + ["end", "reverse", "restart", "answer"]), f"till-{chance.randrange(3)}"
        key, till = secrets.token_hex(16), dark.desk.till
        if what == "take" and (found := await present(dark, code(number, chance.choice([50, 120, 300])), device=device)).ok:
            uses.append((found.redemption_id, device))
        elif what == "hold" and (found := await present(dark, code(number, 100), Doing.AUTHORIZE, device)).ok:
            holds.append((found.authorization_id, device))
        elif what == "end" and holds:
            name, owner = holds.pop(chance.randrange(len(holds)))
            end = till.capture if chance.random() < 0.5 else till.void
            assert answers.decode(await end(name, key=key, station="counter", actor=by(owner))).ok
        elif what == "reverse" and uses:
            name, owner = uses.pop(chance.randrange(len(uses)))
            assert answers.decode(await till.reverse(name, key=key, station="counter", actor=by(owner))).ok
        elif what == "restart":
            before = meter(dark).open_minor
            await dark.reopen()
            await headquarters_hears(dark.desk)
            assert meter(dark).open_minor == before
        elif what == "answer":
            await acknowledge_all(dark)
        assert 0 <= meter(dark).open_minor <= TERMS.per_shop_minor
        for owner in ("till-0", "till-1", "till-2"):
            assert dark.desk._anywhere.risk.book.open_minor(5, owner) <= TERMS.per_device_minor
    assert len(dark.rows(RiskTaken)) > 10


def by(device: str) -> Actor:
    return Actor(device, None, frozenset({"pos"}))


async def test_a_reversal_gives_its_exposure_back(dark: Shop) -> None:
    first = await present(dark, code(1), device="till-1")
    reversed_ = await dark.desk.till.reverse(first.redemption_id, key=secrets.token_hex(16), station="counter", actor=TILL)
    assert answers.decode(reversed_).decision == "reversed"
    assert meter(dark).open_minor == 0
    assert (await present(dark, code(1))).decision == "redeemed"


async def test_a_hold_is_exposure_its_capture_too_and_a_void_is_none(dark: Shop) -> None:
    held = await present(dark, code(1), Doing.AUTHORIZE, "till-1")
    other = await present(dark, code(2), Doing.AUTHORIZE, "till-1")
    assert (held.decision, meter(dark).open_minor) == ("authorized", 400)
    assert (await present(dark, code(3), device="till-1")).reason == "risk_cap"
    till, key = dark.desk.till, secrets.token_hex(16)
    await till.void(other.authorization_id, key=key, station="counter", actor=TILL)
    assert meter(dark).open_minor == 200
    captured = answers.decode(await till.capture(held.authorization_id, key=secrets.token_hex(16), station="counter", actor=TILL))
    assert (captured.decision, meter(dark).open_minor, meter(dark).open_rows) == ("redeemed", 200, 1)
    assert [row.redemption_id for row in dark.rows(RiskTaken)] == [captured.redemption_id]
    assert len(dark.rows(RiskHeld)) == 2
    await dark.reopen()
    assert meter(dark).open_minor == 200


async def test_a_late_capture_needs_room_of_its_own(dark: Shop, clock: VirtualClock) -> None:
    held = await present(dark, code(1, 300), Doing.AUTHORIZE, "till-1", hold_s=1)
    clock.advance(2)
    dark.desk.till.sweep()
    assert meter(dark).open_minor == 0
    for number in range(2, 5):
        assert (await present(dark, code(number), device=f"till-{number}")).decision == "redeemed"
    late = await dark.desk.till.capture(held.authorization_id, key=secrets.token_hex(16), station="counter", actor=TILL)
    assert answers.decode(late).reason == "hold_expired"
    assert meter(dark).open_minor == 600


async def test_validate_says_what_would_happen_and_writes_nothing(dark: Shop) -> None:
    assert (await present(dark, code(1), Doing.VALIDATE)).decision == "valid"
    assert (await present(dark, code(1, 301), Doing.VALIDATE)).reason == "risk_floor"
    assert not dark.rows(RiskTaken, VoucherRedeemed)


async def test_without_terms_a_list_or_a_clock_nothing_is_taken_on_trust(shop: Shop, clock: VirtualClock) -> None:
    assert (await present(shop, code(1))).reason == "needs_online"
    await declare(shop, 1, msgspec.structs.replace(TERMS, campaign=6))
    assert (await present(shop, code(1))).reason == "needs_online", "another campaign's terms"
    await declare(shop, 2, msgspec.structs.replace(TERMS, campaign=-1), revoked=[name_of(2)])
    assert (await present(shop, code(1))).decision == "redeemed", "the class's terms"
    assert (await present(shop, code(2))).reason == "revoked"
    clock.advance(3_601)
    assert (await present(shop, code(3))).reason == "risk_list_old"
    assert meter(shop).list_age_s == 3_601
    clock.bounds = (clock.wall_us, None)
    assert (await present(shop, code(3))).reason == "risk_list_old"
    assert meter(shop).list_age_s is None


async def test_the_list_is_as_young_as_the_line_was_up_in_this_life(shop: Shop, hq: Hq, clock: VirtualClock) -> None:
    clock.advance(10_000)
    await hq.line(False)
    clock.advance(3_000)
    assert (await present(shop, code(1))).decision == "redeemed"
    await shop.reopen()
    assert (await present(shop, code(2))).reason == "risk_list_old", "a restart does not make it younger"


async def test_with_a_line_headquarters_is_asked_and_nothing_is_exposed(shop: Shop, hq: Hq) -> None:
    showing = asyncio.create_task(present(shop, code(1)))
    asked = await hq.asked()
    assert (asked.voucher_id, asked.units) == (name_of(1), 1)
    await hq.give(asked.claim_id, voucher_id=name_of(1))
    assert (await showing).decision == "redeemed"
    (use,), (taken,) = shop.rows(VoucherRedeemed), shop.rows(RiskTaken)
    assert (use.number, taken.number, taken.exposure_minor, meter(shop).open_minor) == (1, 1, 0, 0)
    assert (await present(shop, code(1))).reason == "already_redeemed"
    await until(lambda: not hq.wanted)
    refused = asyncio.create_task(present(shop, code(2)))
    await hq.refuse((await hq.asked()).claim_id, "already_redeemed")
    assert (await refused).reason == "already_redeemed"
    assert len(shop.rows(RiskTaken)) == 1


async def test_an_answer_that_does_not_come_is_trust_and_coming_late_allows_no_second_use(
    shop: Shop, hq: Hq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "WAIT_S", 0.05)
    assert (await present(shop, code(1, uses=2))).decision == "redeemed"
    (taken,) = shop.rows(RiskTaken)
    assert (taken.number, taken.exposure_minor) == (0, 200)
    asked = await hq.asked()
    await hq.give(asked.claim_id, voucher_id=name_of(1))
    await until(lambda: not hq.wanted)
    await hq.line(False)
    assert (await present(shop, code(1, uses=2))).reason == "risk_floor", "what was given is for the use that did not wait"
    assert (await present(shop, code(1, uses=2), Doing.VALIDATE)).reason == "risk_floor"


async def test_a_number_nobody_came_for_is_given_back(shop: Shop, hq: Hq, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    held = asyncio.create_task(present(shop, code(1), Doing.AUTHORIZE, "till-1"))
    await hq.give((await hq.asked()).claim_id, voucher_id=name_of(1))
    authorized = await held
    assert (authorized.decision, meter(shop).open_minor) == ("authorized", 0)
    clock.advance(121)
    shop.desk.till.sweep()
    await until(lambda: bool(shop.rows(Released)))
    assert [(row.voucher_id, row.number) for row in shop.rows(Released)] == [(name_of(1), 1)]


async def test_what_is_held_by_a_number_is_captured_under_it_without_exposure(shop: Shop, hq: Hq) -> None:
    held = asyncio.create_task(present(shop, code(1), Doing.AUTHORIZE, "till-1"))
    await hq.give((await hq.asked()).claim_id, voucher_id=name_of(1))
    authorization = (await held).authorization_id
    await hq.line(False)
    captured = await shop.desk.till.capture(authorization, key=secrets.token_hex(16), station="counter", actor=TILL)
    assert answers.decode(captured).decision == "redeemed"
    assert [(row.number, row.exposure_minor) for row in shop.rows(RiskTaken)] == [(1, 0)]
    assert [row.number for row in shop.rows(VoucherRedeemed)] == [1]


async def test_a_live_voucher_is_refused_in_the_dark_unless_its_terms_say_otherwise(shop: Shop) -> None:
    live = voucher_token(77, voucher_class=VoucherClass.HQ_LIVE, store=0, value_minor=200)
    await declare(shop)
    assert (await present(shop, live)).reason == "needs_online"
    await declare(shop, 2, msgspec.structs.replace(TERMS, hq_live=True))
    assert (await present(shop, live)).decision == "redeemed"
    assert meter(shop).open_minor == 200


async def test_a_start_that_is_not_proven_takes_nothing_on_trust(dark: Shop) -> None:
    epoch = dark.desk._ledger.epoch.name
    doubted = Ack(GATEWAY, epoch, 0, 0, "", 0, 0, opening=5)
    await dark.desk.decide("bridge", "ack", AckArrived(seal(ACK_TAG, doubted, HQ_KEY)))
    assert (await present(dark, code(1))).reason == "not_admitted"
    assert not dark.rows(RiskTaken)


async def test_what_headquarters_settled_as_loss_is_on_the_meter(dark: Shop) -> None:
    taken = await present(dark, code(1))
    loss = Conflict(
        redemption_id=taken.redemption_id, voucher_id=name_of(1), campaign=5, outcome="loss", loss_minor=200, bearer="retailer",
        other_zh="二店", other_en="Shop 2", at_us=1,
    )  # fmt: skip
    await declare(dark, 2, TERMS, conflicts=[loss, msgspec.structs.replace(loss, outcome="good", loss_minor=0)])
    assert (meter(dark).realised_minor, meter(dark).bearer) == (200, "retailer")


@pytest.mark.parametrize(("changes", "reason"), [({"store": 8}, "other_store"), ({"flags": 1}, "class_unsupported")])
async def test_a_voucher_of_another_shop_or_shape_is_not_taken(dark: Shop, changes: dict[str, Any], reason: str) -> None:
    assert (await present(dark, code(1, **changes))).reason == reason


async def test_an_untrusted_clock_with_bounds_still_serves(dark: Shop, clock: VirtualClock) -> None:
    clock.trust, clock.bounds = TimeTrust.UNTRUSTED, (clock.wall_us, clock.wall_us + 60_000_000)
    assert (await present(dark, code(1))).decision == "redeemed"


async def test_the_metrics_tell_what_is_open_and_what_was_taken_by_class(dark: Shop) -> None:
    await present(dark, code(1))
    await dark.present(voucher_token(7))
    found = series(expose(dark.desk.store_view(), dark.desk.meters()))
    of = (("campaign", "5"), ("currency", "TWD"))
    assert (found["store_risk_open_minor", of], found["store_risk_cap_minor", of], found["store_risk_list_seconds", of]) == (200, 800, 0)
    assert found["store_accepted_total", (("class", "bounded_risk"),)] == found["store_accepted_total", (("class", "store_bound"),)] == 1


# ---------------------------------------------------------------- of members

CAPPED = msgspec.structs.replace(TERMS, per_device_minor=10**6, per_shop_minor=10**6, per_member_count=2, per_member_window_s=600)
SHOWN = Whose(consent=True, code=member_token().decode())


@pytest.fixture
async def capped(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Shop]:
    """A dark shop that knows members, whose terms cap what each takes."""
    shop = Shop(shop_config, clock, SIGNER)
    await shop.open()
    await shop.papers()
    assert await shop.bring(whole(GOLD, PLAIN, issued_us=clock.now().wall_us)) == b"applied"
    await declare(shop, terms=CAPPED)
    yield shop
    await shop.end()


async def test_a_member_takes_no_more_on_trust_within_the_window_than_the_terms_say(capped: Shop, clock: VirtualClock) -> None:
    said = [await present(capped, code(number), whose=SHOWN, device=f"till-{number}") for number in range(3)]
    assert [one.reason for one in said] == ["", "", "risk_member"], "at whatever till"
    assert said[2].message.zh and said[2].next_step.en
    assert (await present(capped, code(2))).decision == "redeemed", "unknown, it is under the code's floor"
    other = Whose(consent=True, code=member_token(OTHER_CODE).decode())
    assert (await present(capped, code(3), whose=other)).decision == "redeemed"
    await capped.reopen()
    assert (await present(capped, code(4), whose=SHOWN)).reason == "risk_member", "a restart forgets nothing"
    clock.advance(601)
    assert (await present(capped, code(4), whose=SHOWN)).decision == "redeemed"


async def test_a_members_hold_counts_and_eight_at_once_get_no_more_than_two(capped: Shop) -> None:
    held = await present(capped, code(1), Doing.AUTHORIZE, whose=SHOWN, device="till-1")
    assert held.decision == "authorized"
    said = await asyncio.gather(*(present(capped, code(10 + number), whose=SHOWN) for number in range(8)))
    assert sorted(one.reason for one in said) == [""] + ["risk_member"] * 7
    voided = capped.desk.till.void(held.authorization_id, key=secrets.token_hex(16), station="counter", actor=TILL)
    assert answers.decode(await voided).decision == "voided"
    assert (await present(capped, code(30), whose=SHOWN)).decision == "redeemed"


async def test_what_an_old_disk_forgot_of_a_members_speed_comes_with_the_opening(capped: Shop) -> None:
    await acked(capped, opening=1)
    now_us = capped.clock.now().wall_us
    lost = [MemberTrust(f"lost-{number}", REF, 5, 200, now_us - 1_000_000) for number in range(2)]
    assert await capped.bring(opening(capped, 1, {epoch(capped): 1}, members=[], trusted=lost)) == b"applied"
    assert (await present(capped, code(1), whose=SHOWN)).reason == "risk_member"
    assert (await present(capped, code(1))).decision == "redeemed"
