"""What a kiosk asks a member, over real sockets against a real core: a touch and a code join, everything else joins nothing."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import GatewayConfig, parse
from gateway.events import ActionDenied, MemberBound, MemberConsented, PointsAccrued, SalePosted, VoucherRedeemed
from gateway.signed import MemberEntry
from tests.conftest import VirtualClock
from tests.gateway.core.roll_of import CARD, GOLD, OTHER, OTHER_CODE, PLAIN, REF, SIGNER, member_token, recent, whole
from tests.gateway.core.shop import voucher_token
from tests.gateway.kiosk.real_shop import Caller, Doors, open_doors
from tests.gateway.kiosk.test_binding import blocks, sale

BY_CODE = {"consent": True, "code": member_token().decode()}
BY_PHONE = {"consent": True, "phone": "0912-345-678"}


@pytest.fixture
async def doors(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Doors]:
    async with open_doors(shop_config, clock, signer=SIGNER) as opened:
        assert await opened.shop.bring(whole(GOLD, PLAIN, issued_us=clock.now().wall_us)) == b"applied"
        yield opened


async def scan(kiosk: Caller, code: bytes, **more: Any) -> dict[str, Any]:
    return await kiosk.redeem(code, **({"source": "camera"} | more))


async def touch(kiosk: Caller, asked: dict[str, Any], *, yes: bool, key: str = "") -> dict[str, Any]:
    return await kiosk.said("consent", offer_id=asked["consent"]["offer_id"], yes=yes, key=key or secrets.token_hex(16))


async def test_yes_and_the_code_join_what_was_redeemed_in_one_commit_with_the_text_that_was_read(doors: Doors) -> None:
    kiosk = await doors.kiosk()
    used = await scan(kiosk, voucher_token())
    assert (used["decision"], used["binding"], used["consent"]["state"]) == ("redeemed", "", "ask")
    code = await touch(kiosk, used, yes=True)
    assert (code["decision"], code["consent"]["state"]) == ("show_member", "code")
    joined = await scan(kiosk, member_token())
    assert (joined["decision"], joined["binding"], joined["consent"], joined["member"]) == ("joined", "bound", None, None)
    (bound,), (said,) = doors.shop.rows(MemberBound), doors.shop.rows(MemberConsented)
    assert (bound.redemption_id, bound.member_ref, bound.how) == (used["redemption_id"], REF, "code")
    assert (said.member_ref, said.given, said.text_version, said.redemption_id) == (REF, True, "bind-1", used["redemption_id"])
    (block,) = [block for block in blocks(doors.shop.config.ledger_path) if said in block]
    assert bound in block


async def test_a_code_first_joins_the_next_redemption_and_only_that_one(doors: Doors) -> None:
    kiosk = await doors.kiosk()
    shown = await scan(kiosk, member_token(OTHER_CODE))
    assert (shown["decision"], shown["consent"]["state"]) == ("recognised", "ask")
    assert (await touch(kiosk, shown, yes=True))["decision"] == "join_next"
    first, second = [await scan(kiosk, voucher_token(number)) for number in (1, 2)]
    assert (first["binding"], first["consent"], second["binding"]) == ("bound", None, "")
    (bound,), (said,) = doors.shop.rows(MemberBound), doors.shop.rows(MemberConsented)
    assert (bound.redemption_id, bound.member_ref, said.member_ref) == (first["redemption_id"], OTHER, OTHER)


async def test_a_code_shown_instead_of_a_touch_is_asked_about_what_was_redeemed_before(doors: Doors) -> None:
    kiosk = await doors.kiosk()
    used = await scan(kiosk, voucher_token())
    shown = await scan(kiosk, CARD.encode())
    assert (await touch(kiosk, shown, yes=True))["decision"] == "joined"
    (bound,) = doors.shop.rows(MemberBound)
    assert (bound.redemption_id, bound.member_ref, bound.how) == (used["redemption_id"], REF, "card")


async def test_no_silence_an_old_question_and_another_station_join_nothing(doors: Doors, clock: VirtualClock) -> None:
    kiosk, door = await doors.kiosk(), await doors.kiosk("door")
    used = await scan(kiosk, voucher_token(1))
    assert (await touch(door, used, yes=True))["reason"] == "consent_over"
    assert (await touch(kiosk, used, yes=False))["decision"] == "not_joined"
    assert (await touch(kiosk, used, yes=True))["reason"] == "consent_over"
    late = await scan(kiosk, voucher_token(2))
    clock.advance(60)
    assert (await touch(kiosk, late, yes=True))["reason"] == "consent_over"
    asked = await scan(kiosk, voucher_token(3))
    await touch(kiosk, asked, yes=True)
    clock.advance(60)
    assert (await scan(kiosk, member_token()))["decision"] == "recognised"  # nobody waits for it any more
    waiting = await scan(kiosk, member_token())
    await touch(kiosk, waiting, yes=True)
    clock.advance(60)
    assert (await scan(kiosk, voucher_token(4)))["binding"] == ""
    assert doors.shop.rows(MemberBound, MemberConsented) == []
    assert len(doors.shop.rows(VoucherRedeemed)) == 4


async def test_a_touch_is_one_touch_however_often_it_is_sent_and_survives_a_restart_as_nothing(doors: Doors) -> None:
    kiosk, key = await doors.kiosk(), secrets.token_hex(16)
    shown = await scan(kiosk, member_token(OTHER_CODE))
    first = await touch(kiosk, shown, yes=True, key=key)
    assert await touch(kiosk, shown, yes=True, key=key) == first
    again = await kiosk.ask("consent", offer_id=shown["consent"]["offer_id"], yes=False, key=key)
    assert (again.status_code, again.json()["error"]) == (422, "id_reused")
    assert len(doors.shop.rows(MemberConsented)) == 1
    await doors.shop.reopen()
    answer = await doors.shop.present(voucher_token())
    assert answer.binding == ""
    shown_again = await doors.shop.present(member_token(OTHER_CODE))
    assert shown_again.consent is not None and shown_again.consent.state == "standing"  # the row is there


async def test_only_the_stations_own_screen_answers_and_a_till_is_asked_nothing(doors: Doors) -> None:
    kiosk, till, clerk = await doors.kiosk(), await doors.till(), await doors.person("s-1")
    used = await scan(kiosk, voucher_token())
    offer = used["consent"]["offer_id"]
    for other, status in ((till, 403), (clerk, 403), (doors.nobody(), 401)):
        refused = await other.ask("consent", offer_id=offer, yes=True, key=secrets.token_hex(16))
        assert refused.status_code == status
    assert len(doors.shop.rows(ActionDenied)) == 2
    assert (await till.redeem(voucher_token(2)))["consent"] is None
    for wrong in ({"offer_id": "x"}, {"yes": None}, {"more": 1}, {"key": "k"}):
        body = {"offer_id": offer, "yes": True, "key": secrets.token_hex(16)} | wrong
        assert (await kiosk.ask("consent", **body)).status_code == 422
    assert (await touch(kiosk, used, yes=True))["decision"] == "show_member"


async def test_the_tills_code_stays_on_the_screen_until_a_till_has_taken_it(shop_text: str, clock: VirtualClock, ledger_path: Path) -> None:
    async with open_doors(parse(shop_text + "[till]\ncodes = true\n"), clock, signer=SIGNER) as doors:
        assert await doors.shop.bring(whole(GOLD, issued_us=clock.now().wall_us)) == b"applied"
        kiosk = await doors.kiosk()
        used = await scan(kiosk, voucher_token(1))
        assert used["till_code"] and used["consent"]
        assert (await touch(kiosk, used, yes=True))["till_code"] == used["till_code"]
        assert (await scan(kiosk, member_token()))["till_code"] == used["till_code"]
        other = await scan(kiosk, voucher_token(2))
        await scan(kiosk, other["till_code"].encode())
        assert (await touch(kiosk, other, yes=False))["till_code"] == ""


# ---------------------------------------------------------------- withdrawn


async def assert_unbound(doors: Doors) -> None:
    """Nothing is joined to the member, whatever a till says; the customer is served."""
    till, before = await doors.till(), len(doors.shop.rows(MemberBound))
    said = await till.redeem(voucher_token(secrets.randbelow(2**40)), member=BY_CODE)
    assert (said["decision"], said["binding"]) == ("redeemed", "consent_withdrawn")
    posted = await till.said("sales", **sale(member=BY_CODE))
    assert (posted["decision"], posted["binding"], posted["pending"]) == ("sale_posted", "consent_withdrawn", [])
    by_number = await till.said("sales", **sale(member=BY_PHONE))
    assert (by_number["binding"], [one["what"] for one in by_number["pending"]]) == ("by_number", ["points"])  # as of anybody's number
    assert doors.shop.rows(SalePosted)[-1].member_ref is None
    (row,) = doors.shop.rows(PointsAccrued)[-1:]
    assert (row.member_ref, row.phone_ref is not None) == (None, True)
    assert len(doors.shop.rows(MemberBound)) == before


async def test_withdrawn_at_the_kiosk_it_stops_at_every_till_and_after_a_restart_until_it_is_given_anew(
    doors: Doors, clock: VirtualClock
) -> None:
    kiosk = await doors.kiosk()
    shown = await scan(kiosk, member_token())
    assert shown["consent"]["state"] == "standing"
    assert (await touch(kiosk, shown, yes=False))["decision"] == "consent_withdrawn"
    await assert_unbound(doors)
    clock.advance(5)
    assert await doors.shop.bring(recent(GOLD, issued_us=clock.now().wall_us)) == b"applied"  # headquarters has not heard yet
    await assert_unbound(doors)
    anew = await scan(kiosk, member_token())
    assert anew["consent"]["state"] == "ask"
    clock.advance(1)
    await touch(kiosk, anew, yes=True)
    assert (await scan(kiosk, voucher_token(77)))["binding"] == "bound"
    assert (await (await doors.till()).redeem(voucher_token(78), member=BY_CODE))["binding"] == "bound"
    assert [row.given for row in doors.shop.rows(MemberConsented)] == [False, True]


def told(given: bool, at_us: int) -> MemberEntry:
    consents = ["bind"] if given else []
    return msgspec.structs.replace(GOLD, consents=consents, said=[("bind", given, at_us)])


async def test_withdrawn_by_headquarters_it_stops_and_the_later_word_counts(doors: Doors, clock: VirtualClock) -> None:
    now_us = clock.now().wall_us
    assert await doors.shop.bring(recent(told(False, now_us), issued_us=now_us)) == b"applied"
    await assert_unbound(doors)
    kiosk = await doors.kiosk()
    clock.advance(10)
    await touch(kiosk, await scan(kiosk, member_token()), yes=True)
    assert (await (await doors.till()).redeem(voucher_token(5), member=BY_CODE))["binding"] == "bound"
    clock.advance(10)
    assert await doors.shop.bring(recent(told(False, clock.now().wall_us), version=2, issued_us=1)) == b"applied"
    await assert_unbound(doors)


# ---------------------------------------------------------------- whose screen


async def test_nobody_else_on_the_network_sees_points_balances_or_the_question(doors: Doors) -> None:
    kiosk, door, nobody = await doors.kiosk(), await doors.kiosk("door"), doors.nobody()
    await scan(kiosk, member_token())
    for other in (door, nobody, await doors.till("door", "pos")):
        for path in ("/v1/stations/counter", "/v1/store"):
            text = (await other.http.get(path)).text
            assert "recognised" in text and '"points":300' not in text and "offer_id" not in text, path
    own = (await kiosk.http.get("/v1/stations/counter")).json()["answer"]
    assert (own["member"]["points"], own["consent"]["state"], own["balance"]["unit"]) == (300, "standing", "points")
