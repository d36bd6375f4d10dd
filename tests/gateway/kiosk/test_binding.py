"""Members joined to what they do, over real sockets, against a real core: with consent only, in one transaction, within their limits."""

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.chain import decode_event
from gateway.columns import Tombstone, unpack
from gateway.config import GatewayConfig
from gateway.events import (
    MemberBound,
    MemberLookedUp,
    PointsAccrued,
    RedemptionRefused,
    RevisitAsked,
    Row,
    SalePosted,
    VoucherAuthorized,
    VoucherRedeemed,
)
from gateway.ledger import LedgerReader
from gateway.phones import sale_ref
from gateway.rules.reasons import POINTS_PENDING, REVISIT_PENDING
from gateway.signed import DOCUMENT_TAG, Document, Voucher, seal
from gateway.token import Flag, voucher_ref
from tests.conftest import HQ_KEY, VirtualClock
from tests.gateway.core.roll_of import CARD, GOLD, OTHER, OTHER_CODE, PHONE, PLAIN, REF, SIGNER, key_of, member_token, whole
from tests.gateway.core.shop import END_S, GATEWAY, stored, voucher_token
from tests.gateway.kiosk.race import Process, _ask
from tests.gateway.kiosk.real_shop import Caller, Doors, open_doors

STRANGER = "0933-222-111"
MEMBER = {"consent": True, "code": member_token().decode()}
BY_PHONE = {"consent": True, "phone": "0912-345-678"}
HEAD = {"version": 1, "title_zh": "試用", "title_en": "Sample", "currency": "TWD", "rounding": "half_up"}
SAMPLE = HEAD | {
    "campaign": 57, "rule": {"kind": "item_voucher", "items": {"skus": ["SAMPLE"]}}, "trigger": "voucher", "limits": {"per_member": 1}
}  # fmt: skip
DAILY = SAMPLE | {"campaign": 58, "limits": {"per_member_day": 1}}
RETURN = HEAD | {"campaign": 40, "rule": {"kind": "revisit", "days": 30, "points": 50}}
OVER = RETURN | {"campaign": 41, "withdrawn": True}
DAY_S = 86_400.0


@pytest.fixture
async def doors(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Doors]:
    async with open_doors(shop_config, clock, signer=SIGNER) as opened:
        assert await opened.shop.bring(whole(GOLD, PLAIN, issued_us=clock.now().wall_us)) == b"applied"
        told = [msgspec.Raw(msgspec.json.encode(one)) for one in (SAMPLE, DAILY, RETURN, OVER)]
        assert await opened.shop.bring(seal(DOCUMENT_TAG, Document(GATEWAY, "campaigns", 1, 0, campaigns=told), HQ_KEY)) == b"applied"
        yield opened


def key() -> str:
    return secrets.token_hex(16)


def sale(**more: Any) -> dict[str, Any]:
    return {"receipt_id": f"R{secrets.token_hex(5)}", "lines": [{"sku": "TEA", "quantity": 1, "price_minor": 300}], "key": key()} | more


def blocks(path: Path) -> list[list[Row]]:
    """Lane 0, block by block: what was committed as one."""
    reader, found = LedgerReader(path), list[list[Row]]()
    try:
        for epoch in reader.epochs():
            for block in reader.blocks(epoch.number, 0, 0, 10**9, 10**9):
                rows = unpack(block.section, block.first)
                found.append([] if isinstance(rows, Tombstone) else [decode_event(event) for _, event in rows])
    finally:
        reader.close()
    return found


def written(folder: Path, needle: bytes) -> bool:
    """Whether these bytes stand in any file, or in any row."""
    files = any(needle in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return files or any(needle in event for _, _, event in stored(folder / "ledger.db"))


# ---------------------------------------------------------------- to a redemption


@pytest.mark.parametrize(
    ("member", "how"), [(MEMBER, "code"), ({"consent": True, "code": CARD}, "card"), (BY_PHONE, "phone")], ids=["code", "card", "phone"]
)
async def test_with_consent_the_member_is_in_the_same_commit_as_the_redemption(doors: Doors, member: dict[str, Any], how: str) -> None:
    said = await (await doors.kiosk()).redeem(voucher_token(), member=member)
    assert (said["decision"], said["binding"]) == ("redeemed", "bound")
    (used,), (bound,) = doors.shop.rows(VoucherRedeemed), doors.shop.rows(MemberBound)
    assert (bound.redemption_id, bound.member_ref, bound.how, bound.units) == (used.redemption_id, REF, how, 1)
    (block,) = [block for block in blocks(doors.shop.config.ledger_path) if used in block]
    assert bound in block


async def test_declining_or_saying_nothing_or_being_nobody_is_served_all_the_same(doors: Doors) -> None:
    kiosk = await doors.kiosk()
    asked: list[tuple[dict[str, Any] | None, str]] = [
        ({"consent": False}, "declined"), ({"consent": False, "phone": PHONE}, "declined"), (None, ""),
        ({"consent": True, "code": "NOBODY-77"}, "unknown_member_code"), ({"consent": True, "phone": STRANGER}, "unknown_member"),
        ({"consent": True, "phone": "12"}, "not_a_number"), ({"consent": True, "code": "4111111111111111"}, "card_dropped"),
        ({"consent": True, "code": voucher_token(7).decode()}, "unknown_member_code"),
    ]  # fmt: skip
    for number, (member, state) in enumerate(asked, 100):
        said = await kiosk.redeem(voucher_token(number), member=member)
        assert (said["decision"], said["binding"]) == ("redeemed", state)
    assert doors.shop.rows(MemberBound) == []
    assert len(doors.shop.rows(MemberLookedUp)) == 1  # by number it counts as a look-up; who declined was not looked up


@pytest.mark.parametrize("spelt", ["x" * 4_296, "\x00", "＋８８６", "📞" * 20])
async def test_whatever_is_typed_for_a_member_serves_the_customer(doors: Doors, spelt: str) -> None:
    till = await doors.till()
    for number, member in enumerate(({"consent": True, "code": spelt}, {"consent": True, "phone": spelt[:40]})):
        shown = json.dumps({"station": "counter", "code": voucher_token(900 + number).decode(), "presentation_id": key(), "member": member})
        answer = await till.http.post("/v1/redeem", content=shown.encode())
        assert answer.status_code == 200 and answer.json()["decision"] == "redeemed", answer.text
        posted = json.dumps({"station": "counter"} | sale(member=member))
        assert (await till.http.post("/v1/sales", content=posted.encode())).status_code == 200
    assert doors.shop.rows(MemberBound) == []


@pytest.mark.parametrize("member", [{}, {"consent": True}, {"consent": True, "phone": "1", "code": "2"}, {"phone": PHONE}, "x"])
async def test_a_member_of_another_shape_is_refused_before_anything(doors: Doors, member: Any) -> None:
    answer = await (await doors.kiosk()).ask("redeem", code=voucher_token().decode(), presentation_id=key(), member=member)
    assert answer.status_code == 422 and doors.shop.rows(VoucherRedeemed) == []


async def test_a_retry_gets_the_same_bytes_and_another_member_is_another_request(doors: Doors) -> None:
    kiosk = await doors.kiosk()
    for number, member in enumerate((MEMBER, BY_PHONE), 200):
        body = {"code": voucher_token(number).decode(), "presentation_id": key(), "member": member}
        first = await kiosk.ask("redeem", **body)
        assert (await kiosk.ask("redeem", **body)).content == first.content
        others = [{"consent": True, "phone": "0987-654-321"}, {"consent": False}, None]
        for other in others:
            assert (await kiosk.ask("redeem", **(body | {"member": other}))).status_code == 422
    assert len(doors.shop.rows(MemberBound)) == 2


async def test_the_number_is_written_nowhere_nor_its_plain_hash_nor_its_key(doors: Doors) -> None:
    till = await doors.till()
    for phone in (PHONE, STRANGER):
        await till.redeem(voucher_token(secrets.randbelow(2**40)), member={"consent": True, "phone": phone})
        await till.said("sales", **sale(member={"consent": True, "phone": phone}))
    (unknown,) = [row for row in doors.shop.rows(PointsAccrued) if row.phone_ref]
    assert unknown.phone_ref == sale_ref(key_of("+886933222111"), unknown.sale_id)
    folder = doors.shop.config.state_dir
    for needle in (b"912345678", b"933222111", b"0933-222", key_of("+886933222111").encode(), bytes.fromhex(key_of("+886933222111"))):
        assert not written(folder, needle), needle
    assert written(folder, unknown.phone_ref.encode())


# ---------------------------------------------------------------- within their limits


async def use(caller: Caller, number: int, member: Any = MEMBER, verb: str = "redeem", campaign: int = 57, **more: Any) -> dict[str, Any]:
    code = voucher_token(number, campaign=campaign).decode()
    return await caller.said(verb, code=code, presentation_id=key(), member=member, **more)


async def test_the_second_sample_of_a_member_is_refused_also_at_two_kiosks_at_once(doors: Doors) -> None:
    kiosks = [await doors.kiosk("counter"), await doors.kiosk("door")]
    answers = await asyncio.gather(*(use(kiosks[number % 2], 300 + number, BY_PHONE if number % 3 else MEMBER) for number in range(8)))
    assert sorted(answer["reason"] for answer in answers) == [""] + ["limit_member"] * 7
    assert (len(doors.shop.rows(VoucherRedeemed)), len(doors.shop.rows(MemberBound))) == (1, 1)
    assert {row.reason for row in doors.shop.rows(RedemptionRefused)} == {"limit_member"}
    refused = next(answer for answer in answers if answer["reason"])
    assert refused["message"]["zh"] and refused["next_step"]["en"]
    assert (await use(kiosks[0], 310, {"consent": True, "code": member_token(OTHER_CODE).decode()}))["decision"] == "redeemed"
    assert [row.member_ref for row in doors.shop.rows(MemberBound)] == [REF, OTHER]


async def test_a_limit_outlives_a_restart_and_a_reversal_gives_it_back(doors: Doors) -> None:
    till = await doors.till()
    first = await use(till, 320)
    fresh = type(doors.shop.desk._binding.book)()
    for row in doors.shop.rows(MemberBound):
        fresh.fold(row)
    now = doors.shop.clock.now()
    assert fresh.count(REF, 57, now) == doors.shop.desk._binding.book.count(REF, 57, now)
    assert (await use(till, 321))["reason"] == "limit_member"
    assert (await till.said("reverse", redemption_id=first["redemption_id"], key=key()))["decision"] == "reversed"
    assert (await use(till, 321))["decision"] == "redeemed"


async def test_who_is_nobody_cannot_use_what_is_limited_and_the_voucher_is_not_used(doors: Doors) -> None:
    till = await doors.till()
    for member in (None, {"consent": False}, {"consent": True, "phone": STRANGER}):
        assert (await use(till, 330, member))["reason"] == "member_missing"
    assert (await use(till, 330))["decision"] == "redeemed"


async def test_a_day_limit_is_over_with_the_day(doors: Doors, clock: VirtualClock) -> None:
    till = await doors.till()
    assert (await use(till, 340, campaign=58))["decision"] == "redeemed"
    assert (await use(till, 341, campaign=58))["reason"] == "limit_member_day"
    clock.advance(DAY_S)
    assert (await use(till, 341, campaign=58))["decision"] == "redeemed"


async def test_a_hold_counts_until_it_ends_and_whose_it_was_it_stays(doors: Doors) -> None:
    till = await doors.till()
    held = await use(till, 350, verb="authorize")
    assert (held["decision"], held["binding"]) == ("authorized", "bound")
    assert (await use(till, 351))["reason"] == "limit_member"
    await till.said("void", authorization_id=held["authorization_id"], key=key())
    again = await use(till, 351, verb="authorize")
    done = await till.said("capture", authorization_id=again["authorization_id"], key=key())
    assert (done["decision"], done["binding"]) == ("redeemed", "bound")
    assert doors.shop.rows(MemberBound)[-1].redemption_id == done["redemption_id"]
    assert (await use(till, 352))["reason"] == "limit_member"
    late = await till.said("capture", authorization_id=held["authorization_id"], key=key())
    assert late["reason"] == "hold_voided"


async def test_a_late_capture_beyond_the_limit_is_refused(doors: Doors, clock: VirtualClock) -> None:
    till = await doors.till()
    held = await use(till, 360, verb="authorize", hold_s=1)
    clock.advance(5)
    assert (await use(till, 361))["decision"] == "redeemed"
    late = await till.said("capture", authorization_id=held["authorization_id"], key=key())
    assert late["reason"] == "hold_expired"
    assert len(doors.shop.rows(VoucherRedeemed)) == len(doors.shop.rows(MemberBound)) - len(doors.shop.rows(VoucherAuthorized)) == 1


async def test_the_engine_reckons_with_the_same_counts(doors: Doors) -> None:
    till = await doors.till()
    basket = {"currency": "TWD", "lines": [{"line_id": "L1", "sku": "SAMPLE", "quantity": 1, "unit_minor": 90}]}
    assert (await use(till, 370, basket=basket))["priced"]["to_pay_minor"] == 0
    refused = await use(till, 371, basket=basket)
    assert (refused["reason"], refused["priced"]["refused"][0]["reason"]) == ("limit_member", "limit_member")


async def test_a_lesson_counts_for_nobody(doors: Doors) -> None:
    said = await (await doors.till()).redeem(voucher_token(380, campaign=57, flags=Flag.PRACTICE), member=BY_PHONE)
    assert (said["practice"], said["binding"], doors.shop.rows(MemberBound)) == (True, "", [])


async def test_a_voucher_issued_for_a_member_is_theirs_whoever_shows_it_unless_they_decline(doors: Doors) -> None:
    kiosk, code = await doors.kiosk(), [0x500 + number for number in range(4)]
    listed = [Voucher(voucher_ref(1, one), 57 if at < 2 else 9, "券", "Voucher", 0, END_S, member_ref=REF) for at, one in enumerate(code)]
    assert await doors.shop.bring(seal(DOCUMENT_TAG, Document(GATEWAY, "vouchers", 2, 0, vouchers=listed), HQ_KEY)) == b"applied"
    said = await kiosk.redeem(voucher_token(code[0], campaign=57))  # as any scanner presents it
    assert (said["decision"], said["binding"]) == ("redeemed", "bound")
    (bound,) = doors.shop.rows(MemberBound)
    assert (bound.member_ref, bound.how, bound.redemption_id) == (REF, "voucher", said["redemption_id"])
    second = await kiosk.redeem(voucher_token(code[1], campaign=57))
    assert second["reason"] == "limit_member"
    other = {"consent": True, "code": member_token(OTHER_CODE).decode()}
    assert (await kiosk.redeem(voucher_token(code[2]), member=other))["reason"] == "other_member"
    assert (await kiosk.redeem(voucher_token(code[2]), member=MEMBER))["binding"] == "bound"
    declined = await kiosk.redeem(voucher_token(code[3]), member={"consent": False})
    assert (declined["decision"], declined["binding"]) == ("redeemed", "declined")
    assert len(doors.shop.rows(MemberBound)) == 2


# ---------------------------------------------------------------- to a sale


async def test_a_sale_bears_the_reference_and_earns_points_that_are_pending(doors: Doors) -> None:
    till = await doors.till()
    said = await till.said("sales", **sale(member=MEMBER))
    (row,), (accrued,) = doors.shop.rows(SalePosted), doors.shop.rows(PointsAccrued)
    assert (row.member_ref, accrued.sale_id, accrued.member_ref, accrued.spent_minor) == (REF, row.sale_id, REF, 300)
    assert said["binding"] == "bound"
    assert {"what": "points", "text": {"zh": POINTS_PENDING.zh, "en": POINTS_PENDING.en}, "campaign": 0, "revisit_id": ""} in said[
        "pending"
    ]
    (block,) = [block for block in blocks(doors.shop.config.ledger_path) if row in block]
    assert accrued in block


async def test_by_number_everybody_gets_the_same_answer_whether_they_are_known_or_not(doors: Doors) -> None:
    till = await doors.till()
    known, unknown = [await till.said("sales", **sale(member={"consent": True, "phone": phone})) for phone in (PHONE, STRANGER)]
    assert (known["decision"], known["binding"]) == ("sale_posted", "by_number")
    same = [{name: value for name, value in said.items() if name not in ("reference", "decided_us")} for said in (known, unknown)]
    assert same[0] == same[1]
    assert [(row.member_ref, row.phone_ref is None) for row in doors.shop.rows(PointsAccrued)] == [(REF, True), (None, False)]
    assert doors.shop.rows(MemberLookedUp) == []


async def test_a_mistyped_number_stops_the_sale_so_that_it_can_be_mended_and_declining_stops_nothing(doors: Doors) -> None:
    till = await doors.till()
    assert (await till.said("sales", **sale(receipt_id="R1", member={"consent": True, "phone": "0912"})))["reason"] == "not_a_number"
    assert doors.shop.rows(SalePosted) == []
    said = await till.said("sales", **sale(receipt_id="R1", member={"consent": False, "phone": PHONE}))
    assert (said["decision"], said["binding"], said["pending"], doors.shop.rows(PointsAccrued)) == ("sale_posted", "declined", [], [])


async def test_a_genuine_code_of_somebody_new_earns_too(doors: Doors) -> None:
    said = await (await doors.till()).said("sales", **sale(member={"consent": True, "code": member_token(0x99).decode()}))
    (row,) = doors.shop.rows(PointsAccrued)
    assert (said["binding"], row.member_ref, row.member_code) == ("unknown_member_code", None, "000000000000099"[-15:])


@pytest.mark.parametrize("typed", ["0912345678", "+886 912 345 678", "０９１２３４５６７８"])
async def test_a_number_alone_spends_nothing(doors: Doors, typed: str) -> None:
    till = await doors.till()
    for verb in ("redeem", "authorize"):
        said = await till.said(verb, code=typed, presentation_id=key())
        assert (said["reason"], said["next_step"]["zh"]) == ("phone_cannot_spend", "請出示會員條碼或票券")
    assert not written(doors.shop.config.state_dir, b"912345678")


# ---------------------------------------------------------------- a first visit in so many days


async def test_a_first_visit_is_pending_until_headquarters_has_spoken_and_asked_once(doors: Doors, clock: VirtualClock) -> None:
    till = await doors.till()
    said = await till.said("sales", **sale(member=MEMBER))
    (asked,) = doors.shop.rows(RevisitAsked)
    assert (asked.campaign, asked.days, asked.points, asked.member_ref) == (40, 30, 50, REF)
    revisit = [one for one in said["pending"] if one["what"] == "revisit"]
    assert [(one["campaign"], one["revisit_id"], one["text"]["zh"]) for one in revisit] == [(40, asked.revisit_id, REVISIT_PENDING.zh)]
    await till.redeem(voucher_token(400), member=MEMBER)
    clock.advance(10 * DAY_S)
    await till.said("sales", **sale(member=MEMBER))  # seen here ten days ago: the shop knows the answer itself
    assert len(doors.shop.rows(RevisitAsked)) == 1
    clock.advance(31 * DAY_S)
    said = await till.redeem(voucher_token(401), member=MEMBER)
    assert [one["what"] for one in said["pending"]] == ["revisit"]
    assert len(doors.shop.rows(RevisitAsked)) == 2


# ---------------------------------------------------------------- and killed


@pytest.mark.slow
async def test_killed_at_any_moment_a_redemption_and_its_member_are_both_there_or_neither(tmp_path: Path) -> None:
    chance, shop = random.Random(86), Process(tmp_path, 3)
    shop.start()
    killed = {6, 14, 22}
    try:
        for number in range(30):
            codes = [voucher_token(20_000 + 10 * number + at).decode() for at in range(len(shop.keys))]
            bodies = [{"station": "counter", "code": code, "presentation_id": key(), "member": MEMBER} for code in codes]
            asked = [asyncio.ensure_future(_ask(shop.port, of, "/v1/redeem", body)) for of, body in zip(shop.keys, bodies, strict=True)]
            if number in killed:
                await asyncio.sleep(chance.uniform(0.0, 0.01))
                await asyncio.to_thread(shop.kill)
                found = [decode_event(event) for _, _, event in stored(tmp_path / "state" / "ledger.db")]
                assert _both(found)
                await asyncio.to_thread(shop.start)
            answers = await asyncio.gather(*asked)
            assert {(one["decision"], one["binding"]) for one in answers} == {("redeemed", "bound")}
    finally:
        shop.kill()
    found = [decode_event(event) for _, _, event in stored(tmp_path / "state" / "ledger.db")]
    assert _both(found) and sum(isinstance(row, VoucherRedeemed) for row in found) == 30 * len(shop.keys)


def _both(rows: list[Row]) -> bool:
    used = [row.redemption_id for row in rows if isinstance(row, VoucherRedeemed)]
    return used == [row.redemption_id for row in rows if isinstance(row, MemberBound)]
