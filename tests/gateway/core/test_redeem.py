"""Redeeming at the desk: once, the same answer for ever, and no number that is not ours on the disk."""

import asyncio
import base64
import secrets
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from backports import zstd

from gateway.chain import MAC_B
from gateway.core.requests import ConflictingKey
from gateway.errors import LedgerError
from gateway.events import RedemptionRefused, VoucherRedeemed
from gateway.link import LinkClient
from gateway.rules import answers
from gateway.signed import DOCUMENT_TAG, Document, seal
from gateway.token import TokenKind, VoucherClass, voucher_ref
from tests.conftest import HQ_KEY, STRANGER_KEY, VirtualClock, until
from tests.gateway.core.shop import GATEWAY, Shop, no_commits, pickup_token, presented, typed, voucher_token

CARD = "4111111111111111"
PHONE = "0912345678"


async def test_two_kiosks_in_the_same_tick_redeem_once(shop: Shop, clock: VirtualClock) -> None:
    token = voucher_token()
    both = [
        shop.desk.present(presented(token, read_point=f"scanner@{station}"), station=station, staff=None) for station in ("counter", "door")
    ]
    first, second = (answers.decode(answer) for answer in await asyncio.gather(*both))
    assert (first.decision, second.decision, second.reason) == ("redeemed", "refused", "already_redeemed")
    assert second.before is not None
    assert (second.before.at_us, second.before.station, second.before.read_point) == (clock.wall_us, "counter", "scanner@counter")
    (row,) = shop.rows(VoucherRedeemed)
    assert (row.voucher_id, row.redemption_id, row.use_number) == (voucher_ref(1, 42), first.redemption_id, 1)
    assert [refused.reason for refused in shop.rows(RedemptionRefused)] == ["already_redeemed"]


@pytest.mark.parametrize("uses", [1, 3])
async def test_a_crowd_with_one_voucher_uses_it_as_often_as_it_says(shop: Shop, uses: int) -> None:
    found = await asyncio.gather(*(shop.present(voucher_token(uses=uses)) for _ in range(20)))
    assert [answer.decision for answer in found].count("redeemed") == uses
    assert [row.use_number for row in shop.rows(VoucherRedeemed)] == list(range(1, uses + 1))
    await shop.reopen()
    assert (await shop.present(voucher_token(uses=uses))).reason == ("already_redeemed" if uses == 1 else "exhausted")


async def test_the_same_presentation_gets_the_same_bytes_also_after_a_restart(shop: Shop) -> None:
    code, refused = presented(voucher_token()), presented(b"V1:nonsense")
    first = [await shop.desk.present(each, station="counter") for each in (code, refused)]
    assert [await shop.desk.present(each, station="counter") for each in (code, refused)] == first
    await shop.reopen()
    assert [await shop.desk.present(each, station="counter") for each in (code, refused)] == first
    assert len(shop.rows(VoucherRedeemed)) == 1
    assert len(shop.rows(RedemptionRefused)) == 1


async def test_the_same_presentation_before_its_commit_waits_for_it(shop: Shop) -> None:
    code = presented(voucher_token())
    with no_commits(shop.config.ledger_path):
        waiting = [asyncio.ensure_future(shop.desk.present(code, station="counter")) for _ in range(3)]
        waiting[0].cancel()  # the kiosk's page was closed
        await asyncio.sleep(0.05)
        assert not any(each.done() for each in waiting[1:])
    first, second = await asyncio.gather(*waiting[1:])
    assert first == second
    assert answers.decode(first).decision == "redeemed"


async def test_one_who_goes_away_takes_the_answer_from_nobody(shop: Shop) -> None:
    code = presented(voucher_token(1))
    gone, waits = (asyncio.ensure_future(shop.desk.present(code, station="counter")) for _ in range(2))
    gone.cancel()
    given = await waits
    assert gone.cancelled()
    assert await shop.desk.present(code, station="counter") == given
    assert len(shop.rows(VoucherRedeemed)) == 1


async def test_a_key_that_was_another_request_is_refused(shop: Shop) -> None:
    code = presented(voucher_token())
    await shop.desk.present(code, station="counter")
    other = presented(voucher_token(43), code.presentation_id)
    for _ in range(2):
        with pytest.raises(ConflictingKey):
            shop.desk.present(other, station="counter")
        with pytest.raises(ConflictingKey):
            shop.desk.present(code, station="door")
        with pytest.raises(ConflictingKey):
            shop.desk.present(code, station="counter", staff="staff-1")
        await shop.reopen()
    key = secrets.token_hex(16)
    await shop.desk.stage("x", key=key, staff="s", station="counter", bank="wall")
    with pytest.raises(ConflictingKey):
        shop.desk.stage("x", key=key, staff="s", station="counter", bank="annex")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (voucher_token(store=8), "other_store"),
        (pickup_token(store=8), "other_store"),
        (voucher_token(key_id=3), "unknown_issuer"),
        (voucher_token(key_id=2), "unknown_issuer"),  # a true key, but of another issuer
        (voucher_token(not_after_s=1), "expired"),
        (voucher_token(not_before_s=1_999_999_999), "not_yet"),
        (voucher_token(0x78), "revoked"),
        (typed(0x78), "revoked"),
        (voucher_token(voucher_class=VoucherClass.GRANTED), "needs_grant"),
        (voucher_token(voucher_class=VoucherClass.BOUNDED_RISK), "needs_online"),
        (voucher_token(kind=TokenKind.PICKUP, identifier=0x2C), "order_cancelled"),
        (pickup_token(0x999), "being_prepared"),
        (typed(0x999), "unknown_code"),
        (typed(0x999)[:-1] + b"Z", "mistyped"),
        (b"https://example.org", "unreadable"),
        (b"", "unreadable"),
        (b"\xff\xfe\x00", "unreadable"),
        (voucher_token()[:-1], "unreadable"),
        (CARD.encode(), "card_dropped"),
        (PHONE.encode(), "phone_cannot_spend"),
    ],
)
async def test_a_refusal_is_an_answer_with_a_reason_and_a_row(shop: Shop, payload: bytes, reason: str) -> None:
    answer = await shop.present(payload)
    assert (answer.decision, answer.reason) == ("refused", reason)
    assert answer.next_step.zh
    (row,) = shop.rows(RedemptionRefused)
    assert (row.reason, row.station) == (reason, "counter")
    assert shop.desk.screen("counter").state == "refused"


async def test_a_forged_token_is_refused(shop: Shop) -> None:
    from gateway.token import Claims, sign

    claims = Claims(kind=TokenKind.VOUCHER, key_id=1, issuer=1, identifier=42, store=7, not_after_s=2_000_000_000)
    assert (await shop.present(sign(claims, STRANGER_KEY).encode())).reason == "forged"
    assert (await shop.present(voucher_token())).decision == "redeemed"  # nobody's forgery uses up the real one


async def test_a_listed_voucher_may_be_typed_and_then_not_scanned(shop: Shop) -> None:
    answer = await shop.present(typed(0x77))
    assert (answer.decision, answer.title.en) == ("redeemed", "Coffee")
    assert (await shop.present(voucher_token(0x77))).reason == "already_redeemed"


@pytest.mark.parametrize(
    ("bounds", "decision"),
    [((0, None), "redeemed"), ((2_000_000_000 * 10**6, None), "redeemed"), ((2_000_000_001 * 10**6, None), "refused")],
)
async def test_a_clock_nobody_trusts_does_not_stop_the_shop(shop: Shop, clock: VirtualClock, bounds: Any, decision: str) -> None:
    clock.bounds = bounds
    assert (await shop.present(voucher_token(not_before_s=1_999_999_999))).decision == decision


async def test_not_even_a_hash_of_a_foreign_number_is_kept(shop: Shop) -> None:
    """A hash of ten digits is soon undone. So core cannot tell two foreign numbers under one key apart, and must not."""
    first = await shop.desk.present(presented(PHONE.encode(), "one"), station="counter")
    assert await shop.desk.present(presented(b"0987654321", "one"), station="counter") == first


async def test_no_foreign_number_is_on_the_disk(shop: Shop) -> None:
    """Cards, phone numbers and the texts of codes, planted at every door; searched for in every file."""
    secret = [
        CARD,
        "4111 1111 1111 1111",
        "4111.1111.1111.1111",
        PHONE,
        "+886912345678",
        "886-912-345-678",
        f"card={CARD};x",
        voucher_token().decode(),
    ]
    scanner = LinkClient(shop.config.link_path, "scanner@counter", shop.clock)
    running = asyncio.create_task(scanner.run())
    for text in secret:
        await shop.present(text.encode())
        await shop.desk.present(presented(text.encode(), read_point="kiosk"), station="door", staff="staff-1")
        await asyncio.wait_for(scanner.state(presented(text.encode())), 10)
    running.cancel()
    assert len(shop.rows(RedemptionRefused, VoucherRedeemed)) == 3 * len(secret)
    await shop.close()
    digits = [CARD, "41111111", PHONE, "912345678", "912-345-678"]
    wanted = [text.encode() for text in [*secret, *digits]]
    wanted += [base64.b64encode(text)[:-4] for text in wanted if len(text) > 8] + [text.hex().encode() for text in wanted]
    files = [path for path in shop.config.state_dir.rglob("*") if path.is_file()]
    assert shop.config.ledger_path in files
    for path in files:
        content = path.read_bytes()
        assert not [each for each in wanted if each in content], path
    unpacked = packed_contents(shop.config.ledger_path)
    assert not [each for each in wanted if each in unpacked]
    assert voucher_ref(1, 42).encode() in unpacked  # the search would have found it


def packed_contents(path: Path) -> bytes:
    """What lies compressed in a ledger: rows, and what stays on the box beside them."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT body, substr(local, ?) FROM block", (MAC_B + 1,)).fetchall()
    connection.close()
    return b"".join(zstd.decompress(packed) for row in found for packed in row if packed)


async def test_a_driver_gets_the_answer_to_what_it_presented_and_again_after_cores_restart(shop: Shop) -> None:
    scanner = LinkClient(shop.config.link_path, "scanner@door", shop.clock)
    running = asyncio.create_task(scanner.run())
    code = presented(voucher_token(), read_point="scanner@door")
    first = await asyncio.wait_for(scanner.state(code), 10)
    assert answers.decode(first).decision == "redeemed"
    assert shop.desk.screen("door").state == "redeemed"
    await shop.reopen()
    assert await asyncio.wait_for(scanner.state(code), 10) == first
    running.cancel()


async def test_after_a_failed_commit_nothing_is_answered_and_core_ends(shop: Shop) -> None:
    breaker = sqlite3.connect(shop.config.ledger_path, isolation_level=None)
    breaker.execute("CREATE TRIGGER full BEFORE INSERT ON block BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    breaker.close()
    answer = asyncio.ensure_future(shop.desk.present(presented(voucher_token()), station="counter"))
    with pytest.raises(LedgerError, match="disk full"):
        await shop.ended()
    assert not answer.done()
    assert shop.desk.screen("counter").state == "attract"
    answer.cancel()


async def test_a_voucher_redeemed_and_revoked_later_still_says_when(shop: Shop) -> None:
    await shop.present(typed(0x77))
    listed = Document(GATEWAY, "vouchers", 2, 0)
    await shop.bring(seal(DOCUMENT_TAG, listed, HQ_KEY))
    answer = await shop.present(voucher_token(0x77))
    assert answer.reason == "already_redeemed"
    assert answer.before is not None


async def test_counts_say_what_the_ledger_holds(shop: Shop) -> None:
    await shop.present(voucher_token(1))
    await shop.present(voucher_token(2))
    await shop.present(voucher_token(1))
    before = shop.desk.store_view()
    assert (before.counts["redemptions"], before.counts["refusals"]) == (2, 1)
    await shop.reopen()
    assert shop.desk.store_view().counts == before.counts
    await until(lambda: shop.desk.store_view().epoch != before.epoch)
    assert msgspec.json.encode(shop.desk.store_view())
