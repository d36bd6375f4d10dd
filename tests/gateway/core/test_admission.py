"""An old disk image redeems nothing twice: whoever saw what it forgot stops it, and HQ's opening tells it what it forgot."""

import asyncio
import sqlite3

import msgspec
import pytest

from gateway.core.devices import OWN
from gateway.core.witnesses import Word
from gateway.events import (
    CompartmentOpenIntended,
    DeviceSeen,
    EpochAdmitted,
    EpochDoubted,
    LineChanged,
    RedemptionRefused,
    RowsDamaged,
    VoucherRedeemed,
)
from gateway.ledger import LedgerReader
from gateway.rules.pickup import Wall
from gateway.signed import DOCUMENT_TAG, Document, Opening, OrderStand, seal
from tests.conftest import HQ_KEY, STRANGER_KEY, VirtualClock, until
from tests.gateway.core.old_images import acked, admission, epoch, heads, image, names, opening, paired, read, slow, used
from tests.gateway.core.shop import GATEWAY, ORDER_ID, Shop, pickup_token, voucher_token

# ---------------------------------------------------------------- ordinary starts


async def test_a_shop_without_line_and_tablets_serves_at_once_after_every_power_cut(shop: Shop) -> None:
    assert admission(shop).how == "first"
    for number in range(3):
        await shop.reopen()
        assert (admission(shop).admitted, admission(shop).how) == (True, "inherited")
        assert (await shop.present(voucher_token(number))).decision == "redeemed"
    assert [row.how for row in shop.rows(EpochAdmitted)] == ["first", *["inherited"] * 3]


async def test_a_box_in_touch_with_hq_waits_for_its_word_and_says_so(shop: Shop) -> None:
    await acked(shop)
    await shop.reopen()
    answer = await shop.present(voucher_token())
    assert (answer.decision, answer.reason, admission(shop).state) == ("refused", "not_admitted", "waiting")
    assert shop.rows(RedemptionRefused)[-1].reason == "not_admitted"
    await acked(shop)
    assert admission(shop).how == "inherited"
    assert (await shop.present(voucher_token())).decision == "redeemed"


async def test_hqs_silence_is_waited_out(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.core.admission.SETTLE_S", 0.05)
    await acked(shop)
    await shop.reopen()
    assert not admission(shop).admitted
    await until(lambda: bool(admission(shop).admitted))
    assert (await shop.present(voucher_token())).decision == "redeemed"


async def test_expected_witnesses_are_waited_for_by_name(shop: Shop, clock: VirtualClock) -> None:
    tablet, phone = await paired(shop), await paired(shop, "phone")
    for one in (tablet, phone):
        assert one.connect() is Word.VOUCHES
    await slow(shop, DeviceSeen, 2)
    await shop.reopen()
    assert admission(shop).awaited == ["counter · phone", "counter · tablet"]
    assert (await shop.present(voucher_token())).reason == "not_admitted"
    tablet.connect()
    assert (admission(shop).awaited, admission(shop).admitted) == (["counter · phone"], False)
    phone.connect()
    assert admission(shop).how == "witnesses"
    assert (await shop.present(voucher_token())).decision == "redeemed"
    await shop.reopen()
    tablet.connect()
    await shop.desk.devices.revoke(phone.device_id, "staff-1")  # it was lost
    assert admission(shop).how == "witnesses"


async def test_while_hq_answers_no_witness_is_written_down(shop: Shop, clock: VirtualClock) -> None:
    tablet = await paired(shop)
    first = asyncio.ensure_future(shop.desk.decide("bridge", "line", LineChanged(True, clock.now())))
    await slow(shop, LineChanged)
    tablet.connect()
    second = asyncio.ensure_future(shop.desk.decide("bridge", "line2", LineChanged(True, clock.now())))
    await slow(shop, LineChanged, 2)
    await asyncio.gather(first, second)
    assert shop.rows(DeviceSeen) == []
    await shop.reopen()
    assert admission(shop).how == "inherited"


async def test_a_witness_counts_only_until_hq_knows_what_it_knows(shop: Shop) -> None:
    tablet = await paired(shop)
    tablet.connect()
    await slow(shop, DeviceSeen)
    reader = LedgerReader(shop.config.ledger_path)
    last = reader.blocks(1, 2, 0, 10**9, 10**9)[-1]
    reader.close()
    await acked(shop, lane=2, seq=last.last, head=last.head.hex(), mark=last.last)
    await shop.reopen()
    assert admission(shop).awaited == []


async def test_the_boxs_own_screen_is_no_witness(shop: Shop) -> None:
    own = await paired(shop, by=OWN)
    assert shop.desk.mark(own.device) == ""
    assert shop.desk.hear_witness(own.device, "x")[1] == ""


# ---------------------------------------------------------------- old images


async def test_a_witness_stops_an_old_image_until_hq_opens_it(shop: Shop) -> None:
    tablet = await paired(shop)
    tablet.connect()
    await slow(shop, DeviceSeen)
    restore = await image(shop)
    tablet.connect()
    lost = epoch(shop)
    assert (await shop.present(voucher_token())).decision == "redeemed"
    tablet.look()
    await restore()
    assert (await shop.present(voucher_token())).reason == "not_admitted"
    assert tablet.connect() is Word.CONTRADICTS
    assert (admission(shop).state, admission(shop).doubt) == ("doubted", "witness")
    for identifier in (42, 43):
        assert (await shop.present(voucher_token(identifier))).reason == "not_admitted"
    (doubt,) = shop.rows(EpochDoubted)
    assert (doubt.witness, doubt.beyond[0]) == (tablet.device_id, lost)
    await shop.reopen()
    assert admission(shop).doubt == "parent"
    tablet.connect()
    assert await shop.bring(opening(shop, 1, {lost: 2}, used=[used()])) == b"applied"
    assert admission(shop).how == "opening"
    answer = await shop.present(voucher_token())
    assert (answer.reason, answer.before.station if answer.before else None) == ("already_redeemed", "door")
    assert (await shop.present(voucher_token(43))).decision == "redeemed"
    assert tablet.connect() is Word.VOUCHES  # what it knew is settled, and it goes on from there
    assert read(tablet.kept)["epoch"] == epoch(shop)
    await shop.reopen()
    tablet.connect()
    assert admission(shop).how == "witnesses"
    assert (await shop.present(voucher_token())).reason == "already_redeemed"


async def test_a_witness_nobody_expected_stops_it_too(shop: Shop) -> None:
    tablet = await paired(shop)
    restore = await image(shop)
    tablet.connect()
    await shop.present(voucher_token())
    tablet.look()
    await restore()
    assert admission(shop).how == "inherited"
    assert tablet.connect() is Word.CONTRADICTS
    assert (await shop.present(voucher_token())).reason == "not_admitted"


async def test_hqs_mark_beyond_our_rows_stops_it(shop: Shop) -> None:
    restore = await image(shop)
    await shop.present(voucher_token())
    ack = heads(shop)
    await restore()
    assert admission(shop).admitted
    await acked(shop, epoch=ack[0], seq=ack[1], head=ack[2], mark=ack[1])
    assert admission(shop).doubt == "mark"
    assert await shop.bring(opening(shop, 1, {ack[0]: ack[1]}, used=[used()])) == b"applied"
    await acked(shop, epoch=ack[0], seq=ack[1], head=ack[2], mark=ack[1])
    assert admission(shop).admitted
    await acked(shop, epoch=ack[0], seq=ack[1], head=ack[2], mark=ack[1] + 1)  # the lost disk has come alive somewhere
    assert not admission(shop).admitted


async def test_hqs_word_that_an_opening_is_due_stops_it(shop: Shop) -> None:
    await acked(shop, opening=3)
    assert admission(shop).doubt == "headquarters"
    assert await shop.bring(opening(shop, 3)) == b"applied"
    await acked(shop, opening=3)
    assert admission(shop).how == "opening"


async def test_a_doubt_outlives_restarts(shop: Shop) -> None:
    await acked(shop, opening=1)
    for _ in range(2):
        await shop.reopen()
        assert (admission(shop).admitted, admission(shop).doubt) == (False, "parent")


@pytest.mark.parametrize("fault", ["other start", "stranger", "other box", "no content"])
async def test_an_opening_that_is_not_for_this_start_opens_nothing(shop: Shop, fault: str) -> None:
    await acked(shop, opening=1)
    told = Document(GATEWAY, "opening", 1, 0, opening=Opening(epoch(shop), {}))
    key = STRANGER_KEY if fault == "stranger" else HQ_KEY
    if fault == "other start":
        told = msgspec.structs.replace(told, opening=Opening("1-00000000", {}))
    if fault == "other box":
        told = msgspec.structs.replace(told, gateway="box-8")
    if fault == "no content":
        told = msgspec.structs.replace(told, opening=None)
    assert await shop.bring(seal(DOCUMENT_TAG, told, key)) == b"refused"
    assert not admission(shop).admitted
    assert await shop.bring(opening(shop, 1)) == b"applied"
    assert admission(shop).admitted


async def test_an_opening_and_own_rows_are_counted_once_each(shop: Shop) -> None:
    """Three uses: one HQ has, one on a branch that was lost, one HQ has not heard of."""
    token = voucher_token(uses=4)
    await shop.present(token)
    name, seq, _ = heads(shop)
    await shop.present(token)
    await acked(shop, seq=seq, opening=1, head="00")
    await shop.bring(opening(shop, 1, {name: seq}, used=[used(uses=2)]))
    assert (await shop.present(token)).decision == "redeemed"
    assert (await shop.present(token)).reason == "exhausted"
    await shop.reopen()
    assert (await shop.present(token)).reason == "exhausted"
    assert [row.use_number for row in shop.rows(VoucherRedeemed)] == [1, 2, 4]


async def test_a_parcel_handed_over_in_the_lost_time_is_not_handed_over_again(shop: Shop) -> None:
    await acked(shop, opening=1)
    stands = [OrderStand(ORDER_ID, "staged", "wall", 3, 5)]
    await shop.bring(opening(shop, 1, orders=stands))
    assert shop.state_of(3) == "loaded"
    doors = await shop.with_doors()
    assert (await shop.present(pickup_token())).decision == "collecting"
    assert [row.compartment for row in shop.rows(CompartmentOpenIntended)] == [3]
    await doors.leave()
    await shop.reopen()
    assert shop.state_of(3) in ("pickup_opening", "loaded")  # also after a restart the intent finds its parcel
    await acked(shop, opening=2)
    await shop.bring(opening(shop, 2, {**dict.fromkeys(names(shop), 10**6)}, orders=[OrderStand(ORDER_ID, "collected", "wall", 3, 5)]))
    assert shop.state_of(3) == "free"
    assert (await shop.present(pickup_token())).reason == "already_collected"


def test_hqs_word_does_not_undo_what_it_has_not_heard_yet() -> None:
    at = VirtualClock().now()
    wall = Wall([("wall", 1), ("wall", 2)])
    wall.fold(CompartmentOpenIntended("i", "wall", 1, "deposit", "order", "staff", "counter", at), (2, 7))
    wall.adopt([OrderStand("order", "collected", "wall", 2, 5), OrderStand("other", "staged", "wall", 1, 5)], {2: 6}, at)
    assert (wall.by_order("order"), wall.collected, wall.by_order("other")) == (("wall", 1), {}, None)


# ---------------------------------------------------------------- damage


async def test_a_ledger_that_was_lost_is_no_first_one(shop: Shop) -> None:
    await shop.present(voucher_token())
    await shop.close()
    for path in shop.config.state_dir.glob("ledger*"):
        path.write_bytes(b"x" * path.stat().st_size)
    for _ in range(2):  # also over a restart
        await shop.open()
        assert admission(shop).doubt in ("lost", "parent")
        await shop.close()
    await shop.open()
    await shop.papers()
    assert (await shop.present(voucher_token())).reason == "not_admitted"
    assert await shop.bring(opening(shop, 1, used=[used()])) == b"applied"
    assert (await shop.present(voucher_token())).reason == "already_redeemed"
    await shop.reopen()
    assert admission(shop).how == "inherited"


async def test_an_opening_that_was_lost_from_the_disk_is_asked_for_again(shop: Shop) -> None:
    await acked(shop, opening=1)
    assert await shop.bring(opening(shop, 1, used=[used()])) == b"applied"
    await shop.close()
    connection = sqlite3.connect(shop.config.ledger_path, isolation_level=None)
    assert connection.execute("DELETE FROM document WHERE name = 'opening'").rowcount == 1
    connection.close()
    await shop.open()
    assert admission(shop).doubt == "lost"
    assert (await shop.present(voucher_token())).reason == "not_admitted"
    assert await shop.bring(opening(shop, 2, used=[used()])) == b"applied"
    assert (await shop.present(voucher_token())).reason == "already_redeemed"


async def test_power_that_fails_again_while_a_start_is_waiting_does_not_lock_the_shop(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await acked(shop)
    for _ in range(3):
        await shop.reopen()
        assert admission(shop).state == "waiting"
    monkeypatch.setattr("gateway.core.admission.SETTLE_S", 0.05)
    await shop.reopen()
    await until(lambda: bool(admission(shop).admitted))
    assert admission(shop).how == "inherited"


async def test_damaged_money_rows_are_named_and_only_an_opening_that_covers_them_helps(shop: Shop) -> None:
    await shop.present(voucher_token())
    name, seq, _ = heads(shop)
    await shop.present(voucher_token(43))
    await shop.close()
    connection = sqlite3.connect(shop.config.ledger_path, isolation_level=None)
    changed = connection.execute("UPDATE block SET body = zeroblob(40) WHERE lane = 0 AND first <= ? AND last >= ?", (seq, seq))
    assert changed.rowcount == 1
    connection.close()
    await shop.open()
    await until(lambda: bool(shop.rows(RowsDamaged)))
    (damaged,) = shop.rows(RowsDamaged)
    assert (damaged.epoch, damaged.lane, damaged.first <= seq <= damaged.last) == (name, 0, True)
    assert admission(shop).doubt == "damage"
    assert (await shop.present(voucher_token())).reason == "not_admitted"
    assert (await shop.present(voucher_token(43))).reason == "already_redeemed"  # what is left still counts
    await shop.reopen()
    assert admission(shop).doubt == "damage"
    assert await shop.bring(opening(shop, 1, {name: damaged.last - 1})) == b"refused"
    assert await shop.bring(opening(shop, 2, {name: damaged.last}, used=[used()])) == b"applied"
    assert (await shop.present(voucher_token())).reason == "already_redeemed"
    await shop.reopen()
    assert admission(shop).how == "inherited"
