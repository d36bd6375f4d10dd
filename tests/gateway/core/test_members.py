"""Members at the shop: found however their number is typed, by code and by old card; and nobody guesses numbers for long."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.config import GatewayConfig
from gateway.core.members import Asker, Found, Locked, NotFound
from gateway.events import LookupsLocked, LookupsUnlocked, MemberLookedUp, MemberRecognised
from tests.conftest import VirtualClock
from tests.gateway.core.roll_of import CARD, GOLD, OTHER_CODE, PHONE, PLAIN, REF, SIGNER, member_token, recent, tagged, whole
from tests.gateway.core.shop import Shop

TILL = Asker("counter", None, "d-1")


@pytest.fixture
async def shop(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Shop]:
    """A shop that was told of two members just now."""
    shop = Shop(shop_config, clock, SIGNER)
    await shop.open()
    await shop.papers()
    assert await shop.bring(whole(GOLD, PLAIN, issued_us=clock.now().wall_us)) == b"applied"
    try:
        yield shop
    finally:
        await shop.end()


async def look_up(shop: Shop, typed: str, asker: Asker = TILL) -> Found | NotFound | Locked:
    found = shop.desk.members.by_phone(typed, asker)
    if not isinstance(found, Locked) and found.rows:
        await shop.desk.write(found.rows)
    return found


@pytest.mark.parametrize("typed", ["0912-345-678", "+886912345678", "０９１２３４５６７８"])
async def test_a_member_is_found_however_the_number_is_typed(shop: Shop, typed: str) -> None:
    found = await look_up(shop, typed)
    assert isinstance(found, Found)
    assert (found.member.member_ref, found.member.tier, found.member.points, found.member.is_stale) == (REF, "gold", 300, False)
    assert shop.rows(MemberLookedUp)[-1].member_ref == REF


async def test_nobody_is_found_as_slowly_as_somebody(shop: Shop) -> None:
    """Both write one row of the same kind, and wait for it."""
    found, nobody = await look_up(shop, PHONE), await look_up(shop, "0933-333-333")
    assert isinstance(nobody, NotFound)
    assert nobody.reason == "unknown_member"
    assert isinstance(found, Found)
    assert [type(row) for row in found.rows] == [type(row) for row in nobody.rows] == [MemberLookedUp]


async def test_a_code_shown_anywhere_names_the_same_member(shop: Shop) -> None:
    for station in ("counter", "lockers"):
        assert (await shop.present(member_token(), station)).decision == "recognised"
    assert (await shop.present(CARD.lower().encode())).decision == "recognised"
    rows = shop.rows(MemberRecognised)
    assert {row.member_ref for row in rows} == {REF}
    assert [row.how for row in rows] == ["code", "code", "card"]


async def test_a_screen_does_not_say_who_it_was(shop: Shop) -> None:
    await shop.present(member_token())
    assert REF.encode() not in msgspec.json.encode(shop.desk.screen("counter"))
    assert b"gold" not in msgspec.json.encode(shop.desk.screen("counter"))


async def test_a_code_nobody_here_has_is_refused(shop: Shop) -> None:
    assert (await shop.present(member_token(0x99))).reason == "unknown_member_code"
    assert (await shop.present(member_token(not_after_s=1))).reason == "expired"
    assert shop.rows(MemberRecognised) == []


async def test_too_many_numbers_of_nobody_lock_and_that_survives_a_restart(shop: Shop) -> None:
    for number in range(10):
        assert isinstance(await look_up(shop, f"09330000{number:02}"), NotFound)
        assert isinstance(await look_up(shop, PHONE), Found), "somebody's number in between does not help"
    await shop.reopen()
    for number in range(10, 20):
        assert isinstance(await look_up(shop, f"09330000{number:02}"), NotFound), "counted on from before the restart"
    assert isinstance(await look_up(shop, PHONE), Locked)
    (row,) = shop.rows(LookupsLocked)
    assert (row.by, row.wrong, row.device, row.station) == ("d-1", 20, "d-1", "counter")
    await shop.reopen()
    assert isinstance(await look_up(shop, PHONE), Locked)
    assert isinstance(await look_up(shop, PHONE, Asker("counter", "s-1", "d-1")), Found), "a person is counted for themselves"
    assert (await shop.present(member_token())).decision == "recognised", "codes are not guessed"
    assert await shop.desk.members.unlock("d-1", "s-2")
    assert isinstance(await look_up(shop, PHONE), Found)
    assert [row.staff for row in shop.rows(LookupsUnlocked)] == ["s-2"]
    await shop.reopen()
    assert isinstance(await look_up(shop, PHONE), Found)


async def test_wrong_numbers_of_long_ago_do_not_count(shop: Shop, clock: VirtualClock) -> None:
    for number in range(40):
        assert isinstance(await look_up(shop, f"09330000{number:02}"), NotFound)
        clock.advance(400)


async def test_what_is_no_number_is_not_counted(shop: Shop) -> None:
    for _ in range(30):
        assert (await look_up(shop, "0912")) == NotFound("not_a_number")
    assert shop.rows(MemberLookedUp) == []


async def test_points_are_old_after_a_day_without_a_word(shop: Shop, clock: VirtualClock) -> None:
    told_s = clock.now().wall_us // 1_000_000
    clock.advance(24 * 3600 + 60)
    found = await look_up(shop, PHONE)
    assert isinstance(found, Found)
    assert (found.member.is_stale, found.member.as_of_s, found.member.points) == (True, told_s, 300)
    assert await shop.bring(recent(issued_us=clock.now().wall_us)) == b"applied"
    again = await look_up(shop, PHONE)
    assert isinstance(again, Found)
    assert not again.member.is_stale


async def test_who_has_changed_goes_on_top_of_its_own_list_only(shop: Shop) -> None:
    richer = msgspec.structs.replace(GOLD, points=900)
    assert await shop.bring(recent(richer, base=2, version=1)) == b"applied"
    found = await look_up(shop, PHONE)
    assert isinstance(found, Found)
    assert found.member.points == 300, "its list is not here yet"
    assert await shop.bring(whole(GOLD, PLAIN, version=2)) == b"applied"
    assert isinstance(found := await look_up(shop, PHONE), Found)
    assert found.member.points == 900
    await shop.reopen()
    assert isinstance(found := await look_up(shop, PHONE), Found)
    assert found.member.points == 900


async def test_a_tag_is_gone_after_its_time_also_from_the_disk_and_without_a_line(shop: Shop, clock: VirtualClock) -> None:
    now_s = clock.now().wall_us // 1_000_000
    entry = tagged(GOLD, ("likes the corner table", now_s + 600), ("oat milk", now_s + 6_000))
    assert await shop.bring(whole(entry, PLAIN, version=2, issued_us=clock.now().wall_us)) == b"applied"
    found = await look_up(shop, PHONE)
    assert isinstance(found, Found)
    assert found.member.tags == ["likes the corner table", "oat milk"]
    clock.advance(601)
    assert isinstance(found := await look_up(shop, PHONE), Found)
    assert found.member.tags == ["oat milk"]
    shop.desk.members.sweep()
    await shop.reopen()
    assert isinstance(found := await look_up(shop, PHONE), Found)
    assert found.member.tags == ["oat milk"]
    for document in shop.desk._ledger.documents():
        assert b"corner" not in document.sealed
    held = shop.desk._road.catalog.roll._documents["members"].members
    assert held is not None
    assert [tag for one in held.entries for tag, _ in one.tags] == ["oat milk"]


async def test_staff_are_told_of_a_tier_and_nobody_else_is(shop: Shop, clock: VirtualClock) -> None:
    await shop.present(member_token())
    await shop.present(member_token(OTHER_CODE))
    (alert,) = shop.desk.members.alerts()
    assert (alert.station, alert.tier, alert.how) == ("counter", "gold", "code")
    assert REF not in str(alert)
    clock.advance(61)
    assert shop.desk.members.alerts() == []


async def test_who_is_locked_out_leaves_the_same_row_as_whoever_finds_nobody_so_no_time_tells_them_apart(shop: Shop) -> None:
    asker = Asker("counter", None, "d-9")
    await shop.desk.write([LookupsLocked("d-9", 20, "counter", None, "d-9", shop.clock.now())])
    for typed, rows in ((PHONE, 1), ("0933222111", 1), ("12", 0)):
        found = shop.desk.members.by_phone(typed, asker)
        assert isinstance(found, Locked) and len(found.rows) == rows
        assert all(isinstance(row, MemberLookedUp) and row.member_ref is None for row in found.rows), "whoever has that number"
    assert len(shop.desk.members.by_phone("0933222111", Asker("counter", None, "d-8")).rows) == 1
