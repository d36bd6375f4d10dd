"""Scenarios of members at the shop: one reference whatever they show, points with their age, and nobody guesses numbers."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import GatewayConfig
from gateway.events import LookupsLocked, MemberRecognised, SubjectKind, VisitStarted
from tests.conftest import VirtualClock
from tests.gateway.core.roll_of import CARD, GOLD, PHONE, PLAIN, REF, SIGNER, member_token, tagged, whole
from tests.gateway.core.shop import presented
from tests.gateway.kiosk.real_shop import Caller, Doors, open_doors
from tests.traces import unpacked

SPELLINGS = ("0912-345-678", "+886 912 345 678", "０９１２３４５６７８")


@pytest.fixture
async def doors(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Doors]:
    """A shop whose doors are open, told of two members just now."""
    async with open_doors(shop_config, clock, signer=SIGNER) as opened:
        agreed = msgspec.structs.replace(GOLD, consents=["beacon", "bind", "preferences"])
        assert await opened.shop.bring(whole(agreed, PLAIN, issued_us=clock.now().wall_us)) == b"applied"
        yield opened


async def look_up(caller: Caller, **what: str) -> dict[str, Any]:
    """As a till asks."""
    return await caller.said("members/lookup", **what)


async def rested(clock: VirtualClock, seconds: float = 1.0) -> None:
    """Let the pace of look-ups go on."""
    clock.advance(seconds)


@pytest.mark.scenario("R23")
async def test_a_member_code_at_kiosk_till_phone_and_locker_is_one_member(doors: Doors) -> None:
    code = member_token()
    kiosk, till, clerk = await doors.kiosk(), await doors.till(), await doors.person("s-1")
    assert (await kiosk.redeem(code))["decision"] == "recognised"
    assert (await clerk.redeem(code))["decision"] == "recognised"
    await doors.shop.desk.decide("scanner@counter", secrets.token_hex(8), presented(code))  # the scanner at the lockers' station
    found = await look_up(till, code=code.decode())
    assert (found["found"], found["member_ref"], found["tier"]) == (True, REF, "gold")
    rows = doors.shop.rows(MemberRecognised)
    assert len(rows) == 4
    assert {row.member_ref for row in rows} == {REF}
    assert {row.read_point.partition("@")[0] for row in rows} == {"pos", "scanner", "lookup"}


@pytest.mark.scenario("R39")
async def test_phone_at_the_till_code_at_the_kiosk_and_a_beacon_are_one_member(doors: Doors, clock: VirtualClock) -> None:
    till, kiosk = await doors.till(), await doors.kiosk()
    refs = set()
    for typed in SPELLINGS:
        refs.add((await look_up(till, phone=typed))["member_ref"])
        await rested(clock)
    await kiosk.redeem(member_token())
    refs.add(doors.shop.rows(MemberRecognised)[-1].member_ref)
    near = VisitStarted("hci0", "visit-1", REF, SubjectKind.MEMBER, "entrance", clock.now())
    stated = asyncio.ensure_future(doors.shop.desk.decide("ble@radio", secrets.token_hex(8), near))
    assert refs == {REF}
    clerk = await doors.person("s-1")
    alerts = (await clerk.http.get("/v1/staff/members")).json()["alerts"]
    assert [(one["how"], one["tier"]) for one in alerts] == [("beacon", "gold"), ("code", "gold")]
    async with asyncio.timeout(40):
        while not stated.done():
            clock.advance(2)
            await asyncio.sleep(0.01)


@pytest.mark.scenario("R41")
async def test_a_tag_past_its_time_is_on_no_screen_and_on_no_disk_while_the_line_is_down(doors: Doors, clock: VirtualClock) -> None:
    clerk, now_s = await doors.person("s-1"), clock.now().wall_us // 1_000_000
    entry = tagged(GOLD, ("likes the corner", now_s + 600), ("oat milk", now_s + 6_000))
    assert await doors.shop.bring(whole(entry, PLAIN, version=2, issued_us=clock.now().wall_us)) == b"applied"
    assert (await look_up(clerk, phone=PHONE))["tags"] == ["likes the corner", "oat milk"]
    till = await doors.till()
    assert (await look_up(till, phone=PHONE))["tags"] == [], "a till shows none"
    assert not doors.shop.desk.store_view().line.up
    clock.advance(601)
    assert (await look_up(clerk, phone=PHONE))["tags"] == ["oat milk"]
    doors.shop.desk.members.sweep()
    await doors.shop.desk.prove()
    stored = [document.sealed for document in doors.shop.desk._ledger.documents() if document.name.startswith("members")]
    assert len(stored) == 1
    assert stored[0][:4] == b"SGX1", "cut down by the box itself"
    assert not any(b"corner" in piece for piece in unpacked(stored[0]))
    assert any(b"oat milk" in piece for piece in unpacked(stored[0]))


@pytest.mark.scenario("R71")
async def test_points_older_than_the_limit_are_shown_as_old_with_their_time(doors: Doors, clock: VirtualClock) -> None:
    till, told_s = await doors.till(), clock.now().wall_us // 1_000_000
    fresh = await look_up(till, phone=PHONE)
    assert (fresh["points"], fresh["as_of_s"], fresh["is_stale"]) == (300, told_s, False)
    clock.advance(24 * 3600 + 60)
    old = await look_up(till, phone=PHONE)
    assert (old["points"], old["as_of_s"], old["is_stale"]) == (300, told_s, True)
    kiosk = await doors.kiosk()
    shown = (await kiosk.redeem(member_token()))["member"]
    assert (shown["points"], shown["as_of_s"], shown["is_stale"]) == (300, told_s, True)


@pytest.mark.scenario("R72")
async def test_every_spelling_is_one_member_and_twenty_wrong_tries_lock_with_an_audit_row(doors: Doors, clock: VirtualClock) -> None:
    till = await doors.till()
    assert {(await look_up(till, phone=typed))["member_ref"] for typed in SPELLINGS} == {REF}
    for number in range(20):
        await rested(clock)
        nobody = await look_up(till, phone=f"0933-000-{number:03}")
        assert (nobody["found"], nobody["reason"]) == (False, "unknown_member")
        assert set(nobody) == set(await look_up(till, phone="12")), "the same fields, whatever was typed"
    await rested(clock)
    locked = await look_up(till, phone=PHONE)
    assert (locked["found"], locked["reason"], locked["next_step"]["zh"]) == (
        False,
        "lookups_locked",
        "請顧客出示會員條碼；或請店長登入解除",
    )
    (row,) = doors.shop.rows(LookupsLocked)
    assert (row.wrong, row.station, row.device) == (20, "counter", row.by)
    assert (await look_up(till, code=member_token().decode()))["member_ref"] == REF, "codes are not guessed"
    clerk, manager = await doors.person("s-1"), await doors.person("s-2")
    assert (await clerk.http.post("/v1/staff/members/unlock", json={"by": row.by})).status_code == 403
    assert (await manager.http.post("/v1/staff/members/unlock", json={"by": row.by})).json() == {"unlocked": True}
    await rested(clock)
    assert (await look_up(till, phone=PHONE))["member_ref"] == REF


@pytest.mark.scenario("R77")
async def test_an_old_card_gives_the_new_reference(doors: Doors) -> None:
    kiosk, till = await doors.kiosk(), await doors.till()
    assert (await kiosk.redeem(CARD.lower().encode()))["decision"] == "recognised"
    (row,) = doors.shop.rows(MemberRecognised)
    assert (row.member_ref, row.how) == (REF, "card")
    assert (await look_up(till, code=CARD.replace(" ", "")))["member_ref"] == REF
    assert (await look_up(till, code="OLD-CARD 9999"))["reason"] == "unknown_member_code"
    dropped = await look_up(till, code="4111111111111111")
    assert dropped["reason"] == "card_dropped"
