"""Marks that nobody forges, HQ's asks, and the moment the clock became right."""

import base64
import json
from typing import Any

import msgspec

from gateway.core.witnesses import Word
from gateway.events import (
    AskArrived,
    ClockFixed,
    TimeTrust,
)
from gateway.signed import ASK_TAG, Ask, seal
from tests.conftest import HQ_KEY, STRANGER_KEY, VirtualClock
from tests.gateway.core.old_images import acked, admission, descends, epoch, heads, paired, read, slow
from tests.gateway.core.shop import GATEWAY, Shop, presented, voucher_token


async def test_nobody_forges_a_mark_or_shows_anothers(shop: Shop) -> None:
    tablet, other = await paired(shop), await paired(shop, "other")
    tablet.connect()
    body, _, mac = tablet.kept.partition(".")
    beyond = base64.urlsafe_b64encode(json.dumps(read(tablet.kept) | {"seq": 10**6}).encode()).decode().rstrip("=")
    for text in (f"{beyond}.{mac}", f"{body}.{mac[:-2]}AA", body, "", ".", "ÿ", "x" * 5000, f"{body}.{mac}="):
        assert shop.desk.hear_witness(tablet.device, text)[0].word is Word.NOTHING, text
    assert shop.desk.hear_witness(other.device, tablet.kept)[0].word is Word.NOTHING
    assert admission(shop).admitted


async def test_a_mark_that_is_many_starts_old_is_answered_by_one_that_descends_from_it(shop: Shop) -> None:
    tablet = await paired(shop)
    tablet.connect()
    for _ in range(10):
        await shop.reopen()
    assert not descends(tablet.kept, shop.desk.mark(tablet.device))
    assert tablet.connect() is Word.VOUCHES
    assert read(tablet.kept)["epoch"] == epoch(shop)


async def test_a_mark_names_committed_rows_only(shop: Shop) -> None:
    tablet = await paired(shop)
    tablet.connect()
    shop_answer = shop.desk.present(presented(voucher_token()), station="counter")
    assert read(shop.desk.mark(tablet.device))["seq"] == read(tablet.kept)["seq"]
    await shop_answer
    assert read(shop.desk.mark(tablet.device))["seq"] == read(tablet.kept)["seq"] + 1


async def test_hqs_ask_moves_the_cursor_back_and_never_forward(shop: Shop, clock: VirtualClock) -> None:
    for number in range(4):
        await shop.present(voucher_token(number))
    await acked(shop)
    name, seq, _ = heads(shop)
    before = shop.desk.store_view().line.waiting

    async def ask(key: Any = HQ_KEY, **changes: Any) -> int:
        asked = msgspec.structs.replace(Ask(GATEWAY, name, 0, 2, 1_800_000_000_000_001), **changes)
        await shop.desk.decide("bridge", "a", AskArrived(seal(ASK_TAG, asked, key)))
        return shop.desk.store_view().line.waiting - before

    assert await ask(STRANGER_KEY) == 0
    assert await ask(gateway="box-8") == 0
    assert await ask(epoch="1-00000000") == 0
    assert await ask(from_seq=-1) == 0
    assert await ask(lane=9) == 0
    assert await ask() == seq - 2
    assert await ask(from_seq=seq - 1) == seq - 2
    assert await ask(from_seq=0) == seq


async def test_the_moment_the_clock_became_right_is_a_row(shop: Shop, clock: VirtualClock) -> None:
    clock.trust = TimeTrust.UNTRUSTED
    await shop.present(voucher_token(1))
    clock.trust = TimeTrust.HOLDOVER
    await shop.present(voucher_token(2))
    clock.trust = TimeTrust.SYNCED
    clock.advance(1)
    right = clock.now()
    await shop.present(voucher_token(3))
    await slow(shop, ClockFixed)
    await shop.present(voucher_token(4))
    await shop.close()
    (fixed,) = shop.rows(ClockFixed)
    assert (fixed.boot_id, fixed.mono_ns, fixed.wall_us) == ("virtual0", right.mono_ns, right.wall_us)
    await shop.open()
    clock.trust = TimeTrust.UNTRUSTED  # a restart of core in the same boot knows from its rows that the clock was wrong
    await shop.present(voucher_token(5))
    await shop.reopen()
    clock.trust = TimeTrust.SYNCED
    await shop.present(voucher_token(6))
    await slow(shop, ClockFixed, 2)
