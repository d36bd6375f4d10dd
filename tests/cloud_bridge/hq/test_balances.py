"""Headquarters lends balances in shares over a real broker: what all shops spend never exceeds what was put in, and the story says so."""

import asyncio
import datetime
from typing import Any

import msgspec
import pytest

from cloud_bridge.hq import assignments, balances, claims, settlement
from cloud_bridge.hq.assignments import AssignedRow
from cloud_bridge.hq.effects import EFFECTS
from cloud_bridge.hq.registry import BoxRow, expect_box
from cloud_bridge.hq.store import Connection, Store, StoredRow
from gateway.events import Event, RedemptionReversed, SettledThrough, VoucherRedeemed
from gateway.rules.assigning import Asked, Assigner, Given, Gone, Stand
from gateway.signed import LEND_TAG, Lend, unseal
from gateway.token import Flag, VoucherClass, points_ref, unpack

from .rig import Hq, TestBox, instant, until
from .test_assignments import FAR_S, boxes, say

__all__ = ["boxes"]
GIFT_CARD = {"title_zh": "禮物卡", "title_en": "Gift card", "voucher_class": "leased", "value_minor": 500}
ACCOUNT = {"title_zh": "點數", "title_en": "Points", "voucher_class": "leased", "unit": "points", "points": 300, "share": 100}


async def made(hq: Hq, **asked: Any) -> str:
    return str((await hq.post("/api/assigned", {**GIFT_CARD, **asked}))["voucher_id"])


async def state(hq: Hq, voucher_id: str) -> dict[str, Any]:
    return dict((await hq.get(f"/api/assigned/{voucher_id}"))["balance"])


def spend(redemption_id: str, voucher_id: str, number: int, minor: int, points: int = 1) -> Event:
    return VoucherRedeemed(
        redemption_id, voucher_id, 1, 1, "counter", "pos@counter", None, 1, instant(), points, minor, None, "d-1", number
    )


def back(redemption_id: str, voucher_id: str, number: int, minor: int) -> Event:
    return RedemptionReversed(redemption_id, voucher_id, 1, 1, minor, "counter", None, "d-1", instant(), number)


async def test_each_shop_is_lent_its_share_and_the_story_adds_up(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, two = boxes
    balance = await made(demo, share=200, lease_hours=48)
    first = await one.claim(balance, units=30)
    assert first.grant is not None and (first.grant.units, first.balance) == (200, 500)
    assert first.grant.not_after_s - first.grant.issued_s == 48 * 3_600
    second, third = await two.claim(balance, units=250), await one.claim(balance, units=300)
    assert second.grant is not None and third.grant is not None
    assert (second.grant.units, third.grant.units, third.grant.number) == (250, 250, 1), "a larger share, of what there is"
    await say(one, 1, spend("r1", balance, 1, 180), spend("r2", balance, 1, 20))
    await say(two, 1, spend("r1", balance, 2, 100))
    found = await state(demo, balance)
    assert {name: found[name] for name in ("put_in", "spent", "lent", "left")} == {"put_in": 500, "spent": 300, "lent": 200, "left": 0}
    story = (await demo.get(f"/api/assigned/{balance}"))["story"]
    assert sorted((step["store"], step["amount_minor"]) for step in story) == [("s1", 20), ("s1", 180), ("s2", 100)]
    assert (await two.claim(balance, units=500)).balance == 200


async def test_what_is_reversed_is_spendable_again_where_it_was_or_anywhere_once_the_share_is_settled(
    demo: Hq, boxes: tuple[TestBox, TestBox]
) -> None:
    one, two = boxes
    balance = await made(demo)
    await one.claim(balance, units=300)
    await say(one, 1, spend("r1", balance, 1, 200), spend("r2", balance, 1, 50), back("r1", balance, 1, 200), back("r1", balance, 1, 200))
    found = await demo.get(f"/api/assigned/{balance}")
    assert [(holder["units"], holder["spent"]) for holder in found["holders"]] == [(300, 50)]
    await say(one, 5, SettledThrough(FAR_S, 0, instant()))
    assert (await state(demo, balance))["left"] == 450
    await say(one, 6, back("r2", balance, 1, 50))
    found = await demo.get(f"/api/assigned/{balance}")
    assert (found["balance"]["left"], found["balance"]["spent"], found["late"]) == (500, 0, 0)
    given = (await two.claim(balance, units=500)).grant
    assert given is not None and given.units == 500


async def test_a_share_is_told_to_a_box_again_and_again_until_it_has_claimed_it(
    demo: Hq, boxes: tuple[TestBox, TestBox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RECALL_AGAIN_S", 0.2)
    one, _ = boxes
    balance = await made(demo)

    def told() -> list[Lend]:
        return [unseal(LEND_TAG, raw, one.enrolment.hq_public, Lend) for raw in one.claimed if raw.startswith(LEND_TAG)]

    shown = await demo.post(f"/api/assigned/{balance}/lend", {"store": "s1", "units": 120})
    assert shown["balance"]["to_lend"] == [{"gateway": "gw-s1", "units": 120}]
    first = await until(told)
    assert (first[0].gateway, first[0].voucher_id, first[0].units) == ("gw-s1", balance, 120)
    beat = 1
    while len(told()) < 2:  # headquarters does not repeat itself at every beat
        beat += 1
        await one.beat(beat)
        await asyncio.sleep(0.3)
    one.claimed.clear()
    given = (await one.claim(balance, units=120)).grant
    assert given is not None and given.units == 120
    assert (await state(demo, balance))["to_lend"] == []
    assert (await demo.http.post(f"/api/assigned/{balance}/lend", json={"store": "nowhere", "units": 1})).status_code == 404
    granted = (await demo.post("/api/assigned", {"title_zh": "券"}))["voucher_id"]
    assert (await demo.http.post(f"/api/assigned/{granted}/lend", json={"store": "s1", "units": 1})).status_code == 409


async def test_a_member_has_one_points_account_and_what_is_earned_is_put_in_once(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, _ = boxes
    account = await demo.post("/api/assigned", {**ACCOUNT, "member_ref": "m-7f3a"})
    said, _, _ = unpack(account["token"])
    assert account["voucher_id"] == points_ref("m-7f3a") == f"{said.identifier:015x}"
    assert (said.voucher_class, said.flags, said.value_minor) == (VoucherClass.LEASED, Flag.POINTS, 0)
    assert (await demo.http.post("/api/assigned", json={**ACCOUNT, "member_ref": "m-7f3a"})).status_code == 409
    path, key = f"/api/assigned/{account['voucher_id']}/credit", {"Idempotency-Key": "earned-0001"}
    for _ in range(2):
        assert (await demo.http.post(path, json={"units": 40}, headers=key)).json()["balance"]["put_in"] == 340
    assert (await demo.http.post(path, json={"units": 41}, headers=key)).status_code == 422
    await one.claim(account["voucher_id"], units=5)
    await say(one, 1, spend("r1", account["voucher_id"], 1, 0, points=60))
    found = await state(demo, account["voucher_id"])
    assert (found["unit"], found["spent"], found["left"], found["lent"]) == ("points", 60, 240, 40)
    owed = (await demo.get("/api/settlement?day=" + _today()))["totals"]
    assert [(one["uses"], one["face_minor"]) for one in owed] == [(1, 0)], "points are not money"


@pytest.mark.parametrize("odd", [{"points": 5}, {"member_ref": "m"}, {"unit": "points"}, {"voucher_class": "granted", "unit": "points"}])
async def test_an_account_that_makes_no_sense_is_refused(demo: Hq, odd: dict[str, Any]) -> None:
    assert (await demo.http.post("/api/assigned", json={**GIFT_CARD, **odd})).status_code == 422


def test_stands_of_the_release_before_are_read() -> None:
    old = b'{"voucher_id":"v","left":1,"number":1,"gone":[["gw",1,77]],"told":2}'
    stand = msgspec.json.decode(old, type=Stand)
    assert stand.gone == (Gone("gw", 1, 77),)
    after = Assigner().taken_back(stand, "gw", 1, "1-a", 1)
    assert (after.left, after.late) == (1, 0), "what was not counted brings nothing back"


def _today() -> str:
    return datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=8))).date().isoformat()


async def test_both_databases_keep_a_balance_alike(store: Store) -> None:
    """Lent, spent, taken back, credited, settled for a day."""
    row = AssignedRow("b", VoucherClass.LEASED, 1, "券", "Card", 2_000_000_000, 500, 1, "t", "s", "h", 1, Stand("b", 500))

    def work(db: Connection) -> dict[str, Any]:
        assignments.insert(db, row)
        balances.note(db, "b", balances.Lending("minor", 50, 3_600))
        given = assignments.give(db, "b", Asked("gw-s1", None, 10), 1_900_000_000)
        assert isinstance(given, Given) and (given.grant.units, given.grant.not_after_s) == (50, 1_900_003_600)
        assignments.credit(db, "b", 25)
        balances.want(db, Lend("gw-s1", "b", 7, 1))
        balances.want(db, Lend("gw-s1", "b", 8, 2))
        assert balances.wanting(db) == {"gw-s1"} and [one.units for one in balances.wanted(db, "gw-s1", 3)] == [8]
        expect_box(db, BoxRow("gw-s1", "demo", "0", "s1", 1, "店", "Shop", "Asia/Taipei", None), 1)
        for seq, event in enumerate((spend("r1", "b", 1, 30), spend("r2", "b", 1, 5), back("r1", "b", 1, 30), back("r1", "b", 1, 30)), 1):
            EFFECTS[type(event)](db, StoredRow(seq, "gw-s1", "1-abc", 0, seq, 1, 1, "", "{}"), event)
        found = assignments.find(db, "b")
        (owed,) = settlement.settle(db, _today(), None, "TWD", 1).owed
        assert found is not None and (owed.face_minor, owed.redemptions, owed.reversals) == (5, 2, 1)
        return balances.told(db, "b", found.stand, found.units, True)

    told = await store.write(work)
    assert [step["kind"] for step in told["story"]].count("reversed") == 2, "what a box says twice is told, and counted once"
    assert told["balance"] == {
        "unit": "minor", "put_in": 525, "spent": 5, "lent": 45, "left": 475, "share": 50, "lease_s": 3_600,
        "to_lend": [{"gateway": "gw-s1", "units": 8}],
    }  # fmt: skip
