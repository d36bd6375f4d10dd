"""Answers are kept as long as somebody may ask for them again, and no longer: memory and disk stay bounded."""

from gateway.events import VoucherRedeemed
from tests.conftest import VirtualClock
from tests.gateway.core.shop import Shop, presented, voucher_token

DAYS = 86_400


def known(shop: Shop) -> int:
    return len(shop.desk._requests)


def acknowledge(shop: Shop) -> None:
    """HQ has every row of lane 0."""
    epoch, seq = shop.desk._knowledge.place
    shop.desk._ledger.move_cursor(epoch, 0, seq)


async def test_an_answer_is_kept_for_72_hours_and_until_hq_has_its_row(shop: Shop, clock: VirtualClock) -> None:
    first = [presented(voucher_token(number)) for number in range(20)]
    given = [await shop.desk.present(code, station="counter") for code in first]
    clock.advance(3 * DAYS + 1)
    later = [presented(voucher_token(100 + number)) for number in range(3)]
    for code in later:
        await shop.desk.present(code, station="counter")
    assert known(shop) == 23  # old, but headquarters has not heard of them
    assert [await shop.desk.present(code, station="counter") for code in first] == given
    acknowledge(shop)
    for number in range(10):
        await shop.desk.present(presented(voucher_token(200 + number)), station="counter")
    assert known(shop) == 13  # the old ones went, two for each new one
    assert all(code.presentation_id in shop.desk._requests._requests for code in later)


async def test_young_answers_stay_although_hq_has_their_rows(shop: Shop, clock: VirtualClock) -> None:
    code = presented(voucher_token(1))
    given = await shop.desk.present(code, station="counter")
    acknowledge(shop)
    clock.advance(3 * DAYS - 60)
    for number in range(5):
        await shop.desk.present(presented(voucher_token(100 + number)), station="counter")
    assert await shop.desk.present(code, station="counter") == given
    assert len(shop.rows(VoucherRedeemed)) == 6


async def test_answers_of_an_earlier_life_count_from_the_start(shop: Shop, clock: VirtualClock) -> None:
    code = presented(voucher_token(1))
    given = await shop.desk.present(code, station="counter")
    await shop.reopen()
    clock.advance(2 * DAYS)
    assert await shop.desk.present(code, station="counter") == given
    clock.advance(2 * DAYS)
    acknowledge(shop)
    await shop.desk.present(presented(voucher_token(2)), station="counter")
    assert known(shop) == 1


async def test_a_forgotten_answer_is_decided_by_the_rules_and_never_twice(shop: Shop, clock: VirtualClock) -> None:
    code = presented(voucher_token(1))
    await shop.desk.present(code, station="counter")
    acknowledge(shop)
    clock.advance(4 * DAYS)
    await shop.desk.present(presented(voucher_token(2)), station="counter")
    answer = await shop.desk.present(code, station="counter")
    assert b"already_redeemed" in answer
    assert [row.voucher_id for row in shop.rows(VoucherRedeemed)].count("000000000000001") == 1
