"""Committed but never seen (DESIGN section 3, rule 9), and codes that come back from tills without an API, at the desk."""

import secrets
from pathlib import Path

import msgspec
import pytest

from gateway.config import GatewayConfig, parse
from gateway.core.verdict import Actor, Asked
from gateway.events import RedemptionRefused, ResultShown, TillCodeRung, TimeTrust, UnseenHonoured, VoucherRedeemed
from gateway.rules import answers
from gateway.rules.answers import Answer
from gateway.token import Flag
from tests.conftest import VirtualClock
from tests.gateway.core.shop import Shop, presented, voucher_token

CLERK = Actor("d-phone", "s-1", frozenset({"clerk"}))
SCREEN = Actor("d-screen", None, frozenset({"kiosk"}))
ACCEPTED = "此券已於"


@pytest.fixture
def shop_config(shop_text: str) -> GatewayConfig:
    return parse(shop_text + "[till]\ncodes = true\n")


async def rescan(shop: Shop, station: str = "counter", staff: str | None = None) -> Answer:
    return answers.decode(
        await shop.desk.present(presented(voucher_token(), read_point=f"scanner@{station}"), station=station, staff=staff)
    )


async def honour(shop: Shop, redemption_id: str, actor: Actor = CLERK, key: str = "") -> Answer:
    asked = shop.desk.till.honour(redemption_id, "power_cut", key=key or secrets.token_hex(16), station="staff", actor=actor)
    return answers.decode(await asked)


async def test_a_rescan_of_what_no_screen_showed_says_when_it_was_accepted(shop: Shop, clock: VirtualClock) -> None:
    first = await rescan(shop)
    clock.advance(120)
    again = await rescan(shop)
    assert (again.decision, again.reason, again.unseen) == ("refused", "already_redeemed", first.redemption_id)
    assert again.message.zh.startswith(ACCEPTED)
    assert "may have failed to show it" in again.message.en
    assert again.before is not None
    assert again.before.at_us == first.decided_us
    local = f"{(first.decided_us // 60_000_000 + 480) // 60 % 24:02d}:{first.decided_us // 60_000_000 % 60:02d}"
    assert local in again.message.zh, "in the shop's time"


async def test_once_a_page_has_painted_it_a_rescan_is_an_ordinary_one(shop: Shop) -> None:
    first = await rescan(shop)
    assert await shop.desk.till.showing.shown(first.redemption_id, SCREEN, "counter")
    assert not await shop.desk.till.showing.shown(first.redemption_id, SCREEN, "counter"), "told once is told"
    (row,) = shop.rows(ResultShown)
    assert (row.redemption_id, row.device) == (first.redemption_id, "d-screen")
    for _ in range(2):
        again = await rescan(shop)
        assert (again.reason, again.unseen, again.message.zh) == ("already_redeemed", "", "此券已使用過")
        await shop.reopen()


async def test_a_page_of_another_station_cannot_vouch_for_a_screen(shop: Shop) -> None:
    first = await rescan(shop)
    assert not await shop.desk.till.showing.shown(first.redemption_id, SCREEN, "door")
    assert not await shop.desk.till.showing.shown("0" * 16, SCREEN, "counter")
    assert shop.rows(ResultShown) == []
    assert (await rescan(shop)).unseen == first.redemption_id


async def test_another_station_says_no_more_than_that_it_was_used_but_a_person_is_told(shop: Shop) -> None:
    first = await rescan(shop)
    assert (await rescan(shop, "door")).unseen == ""
    assert (await rescan(shop, "staff", "s-1")).unseen == first.redemption_id


async def test_a_person_honours_it_once_and_the_story_survives_a_restart(shop: Shop) -> None:
    first = await rescan(shop)
    await shop.reopen()  # the power went between the commit and the screen
    unseen = (await rescan(shop)).unseen
    assert unseen == first.redemption_id
    done = await honour(shop, unseen, key="a" * 32)
    assert (done.decision, done.redemption_id) == ("honoured", unseen)
    await shop.reopen()
    assert (await honour(shop, unseen, key="a" * 32)) == done, "asked again after silence, it gets the same answer"
    again = await honour(shop, unseen)
    assert (again.reason, again.before is not None and again.before.staff) == ("already_honoured", "s-1")
    (row,) = shop.rows(UnseenHonoured)
    assert (row.staff, row.device, row.why, row.units, row.redemption_id) == ("s-1", "d-phone", "power_cut", 1, unseen)
    assert (await rescan(shop)).unseen == "", "and nobody is told to honour it a second time"
    assert len(shop.rows(VoucherRedeemed)) == 1, "no second use"


async def test_what_was_seen_is_reversed_or_nobodys_is_never_honoured(shop: Shop) -> None:
    first = await rescan(shop)
    assert (await honour(shop, "0" * 16)).reason == "unknown_redemption"
    assert (await honour(shop, first.redemption_id, SCREEN)).reason == "not_staff"
    await shop.desk.till.showing.shown(first.redemption_id, SCREEN, "counter")
    assert (await honour(shop, first.redemption_id)).reason == "already_shown"
    second = answers.decode(await shop.desk.present(presented(voucher_token(43)), station="counter"))
    manager = Actor(None, "s-2", frozenset({"manager"}))
    await shop.desk.till.reverse(second.redemption_id, key="b" * 32, station="counter", actor=manager)
    assert (await honour(shop, second.redemption_id)).reason == "already_reversed"
    assert shop.rows(UnseenHonoured) == []


@pytest.mark.parametrize(("trust", "offered"), [(TimeTrust.HOLDOVER, False), (TimeTrust.UNTRUSTED, True)])
async def test_after_a_day_it_is_headquarters_matter_unless_nobody_knows_the_time(
    shop: Shop, clock: VirtualClock, trust: TimeTrust, offered: bool
) -> None:
    first = await rescan(shop)
    clock.advance(86_400 + 60)
    clock.trust = trust
    same_boot = clock.now
    clock.now = lambda: msgspec.structs.replace(same_boot(), boot_id="virtual1")  # type: ignore[method-assign]
    assert bool((await rescan(shop)).unseen) is offered
    said = await honour(shop, first.redemption_id)
    assert (said.decision, said.reason) == (("honoured", "") if offered else ("refused", "too_late_to_honour"))


async def test_of_a_voucher_with_several_uses_each_unseen_one_may_be_honoured(shop: Shop) -> None:
    uses = [await shop.present(voucher_token(uses=2)) for _ in range(2)]
    assert [one.decision for one in uses] == ["redeemed"] * 2, "while something is left, a rescan takes it"
    third = await shop.present(voucher_token(uses=2))
    assert (third.reason, third.unseen) == ("exhausted", uses[1].redemption_id)
    assert (await honour(shop, third.unseen)).decision == "honoured"
    assert (await shop.present(voucher_token(uses=2))).unseen == uses[0].redemption_id


async def test_practice_waits_for_no_screen_and_no_till(shop: Shop) -> None:
    lesson = voucher_token(flags=Flag.PRACTICE)
    first, again = await shop.present(lesson), await shop.present(lesson)
    assert (first.practice, first.till_code, again.practice, again.unseen) == (True, "", True, "")


# ---------------------------------------------------------------- till codes


async def ring(shop: Shop, code: str, read_point: str = "typed@counter") -> Answer:
    return answers.decode(await shop.desk.present(presented(code.encode(), read_point=read_point), station="counter"))


async def test_a_till_code_is_rung_up_once_and_says_so_the_second_time(shop: Shop, clock: VirtualClock) -> None:
    first = await rescan(shop)
    assert len(first.till_code) == 12
    done = await ring(shop, first.till_code)
    assert (done.decision, done.redemption_id) == ("rung", first.redemption_id)
    clock.advance(60)
    await shop.reopen()
    again = await ring(shop, f"{first.till_code[:4]} {first.till_code[4:8]}-{first.till_code[8:]}")
    assert (again.decision, again.reason) == ("refused", "already_rung")
    assert again.before is not None
    assert again.before.at_us == done.decided_us
    (row,) = shop.rows(TillCodeRung)
    assert (row.redemption_id, row.till_code) == (first.redemption_id, first.till_code)
    assert [one.reason for one in shop.rows(RedemptionRefused)] == ["already_rung"]
    assert (await honour(shop, first.redemption_id)).reason == "already_shown", "a receipt shows it"


async def test_what_stands_on_a_receipt_only_a_manager_reverses(shop: Shop) -> None:
    async def redeemed(number: int) -> Answer:
        asked = Asked(device=CLERK.device)
        return answers.decode(await shop.desk.present(presented(voucher_token(number)), station="counter", staff="s-1", asked=asked))

    async def reversed_by(actor: Actor, redemption_id: str) -> str:
        asked = shop.desk.till.reverse(redemption_id, key=secrets.token_hex(16), station="counter", actor=actor)
        return answers.decode(await asked).reason

    open_code, taken = await redeemed(1), await redeemed(2)
    await ring(shop, taken.till_code)
    assert await reversed_by(CLERK, open_code.redemption_id) == ""
    assert await reversed_by(CLERK, taken.redemption_id) == "manager_needed"
    await shop.reopen()
    assert await reversed_by(CLERK, taken.redemption_id) == "manager_needed"
    assert await reversed_by(Actor(None, "s-2", frozenset({"manager"})), taken.redemption_id) == ""


async def test_a_till_code_nobody_showed_is_refused(shop: Shop) -> None:
    codes = shop.desk.till.showing.codes
    assert (await ring(shop, codes.of("nobody's"))).reason == "unknown_till_code"
    assert (await ring(shop, "291234567891")).reason == "unreadable", "its check digit is wrong: it is no till code"
    assert shop.rows(TillCodeRung) == []


async def test_what_a_till_with_an_api_redeems_shows_no_code(shop: Shop) -> None:
    await shop.desk.devices.pair("pos", "counter", "till", "s-2")
    (till,) = [one.device_id for one in shop.desk.devices.views() if one.kind == "pos"]
    said = answers.decode(await shop.desk.present(presented(voucher_token()), station="counter", asked=Asked(device=till)))
    assert (said.decision, said.till_code) == ("redeemed", "")
    assert (await rescan(shop)).unseen == "", "a till got its answer by its key"


async def test_without_the_configuration_no_code_is_shown_or_taken(shop_text: str, clock: VirtualClock, ledger_path: Path) -> None:
    shop = Shop(parse(shop_text), clock)
    await shop.open()
    await shop.papers()
    try:
        first = await rescan(shop)
        assert first.till_code == ""
        assert (await ring(shop, shop.desk.till.showing.codes.of(first.redemption_id))).reason == "unreadable"
    finally:
        await shop.end()
