"""Headquarters assigns a voucher to one box at a time, over a real broker, and frees it only on that box's word of today."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_bridge.hq.journal import NAME, Journal, Line
from gateway.errors import ConfigError
from gateway.events import EpochAdmitted, Event, Released, SettledThrough
from gateway.rules.assigning import Stand
from gateway.signed import CLAIMED_TAG, Claim, Claimed, unseal

from .rig import Hq, TestBox, headquarters, instant, now_us, redeemed, shop, until, wire

FAR_S = 4_000_000_000


@pytest.fixture
async def boxes(demo: Hq) -> AsyncIterator[tuple[TestBox, TestBox]]:
    first, second = await demo.new_box("s1", 1), await demo.new_box("s2", 2)
    async with demo.connected(first) as one, demo.connected(second) as two:
        await one.beat()
        await two.beat()
        yield one, two


async def issued(hq: Hq, **more: Any) -> str:
    return str((await hq.post("/api/assigned", {"title_zh": "咖啡券", "title_en": "Coffee", "value_minor": 500, **more}))["voucher_id"])


async def state(hq: Hq, voucher_id: str) -> str:
    return str((await hq.get(f"/api/assigned/{voucher_id}"))["state"])


async def say(box: TestBox, first: int, *events: Event) -> None:
    await box.send(box.batch([wire(seq, event) for seq, event in enumerate(events, first)]))


def use(voucher_id: str, number: int, units: int = 1) -> Event:
    return msgspec.structs.replace(redeemed(number, voucher_id), number=number, units=units)


async def test_a_voucher_is_one_boxs_at_a_time_and_the_other_is_told_whose(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, two = boxes
    voucher_id = await issued(demo)
    given = (await one.claim(voucher_id)).grant
    assert given is not None and (given.number, given.units, given.gateway, given.epoch) == (1, 1, "gw-s1", None)
    told = await two.claim(voucher_id)
    assert (told.grant, told.reason, told.holder_en) == (None, "assigned_elsewhere", "Shop 1")
    await say(one, 1, use(voucher_id, 1))
    assert await state(demo, voucher_id) == "assigned"
    assert (await one.claim(voucher_id)).reason == "already_redeemed"
    assert (await two.claim("0" * 15)).reason == "unknown_voucher"


async def test_a_claim_that_is_asked_again_gets_the_same_bytes_and_nobody_elses(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, two = boxes
    voucher_id = await issued(demo)
    claim = Claim("gw-s1", "c" * 32, voucher_id, "1-abc", True, 0, now_us())
    first = await one.claim_bytes(claim)
    assert await one.claim_bytes(claim) == first
    again = (await one.claim(voucher_id)).grant
    held = unseal(CLAIMED_TAG, first, one.enrolment.hq_public, Claimed).grant
    assert again is not None and held is not None and (again.number, held.number) == (1, 1)
    # Another box that learned of the identifier gets nothing for it, nor does a claim in somebody else's name.
    for stolen in (msgspec.structs.replace(claim, gateway="gw-s2"), claim):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await two.claim_bytes(stolen)


async def test_what_is_wanted_back_is_asked_for_and_refunded_only_when_it_is_free(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, two = boxes
    voucher_id = await issued(demo)
    await one.claim(voucher_id)
    assert (await demo.post(f"/api/assigned/{voucher_id}/refund"))["state"] == "requested"
    assert (await two.claim(voucher_id)).reason == "assigned_elsewhere"
    assert (await one.claim(voucher_id)).reason == "recalled"
    await one.beat(2)
    wanted = await until(lambda: one.recalls)
    assert (wanted[0].voucher_id, wanted[0].number) == (voucher_id, 1)
    await say(one, 1, Released(voucher_id, 1, 0, instant()))
    assert await state(demo, voucher_id) == "refunded"
    assert (await two.claim(voucher_id)).reason == "refunded"


async def test_a_settled_mark_frees_what_ends_by_then_but_for_what_was_spent(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, two = boxes
    voucher_id = await issued(demo, uses=2)
    first = (await one.claim(voucher_id)).grant
    later = (await one.claim(voucher_id)).grant
    assert first is not None and later is not None and later.not_after_s >= first.not_after_s
    await say(one, 1, use(voucher_id, 1), SettledThrough(later.not_after_s - 1, 0, instant()))
    assert (await two.claim(voucher_id)).reason == "assigned_elsewhere"
    await say(one, 3, SettledThrough(later.not_after_s, 0, instant()))
    moved = (await two.claim(voucher_id)).grant
    assert moved is not None and (moved.number, moved.units) == (2, 1)


async def test_an_old_image_frees_nothing_and_is_given_only_what_names_it(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, two = boxes
    held, lost = await issued(demo), await issued(demo)
    await one.claim(held)
    await one.claim(lost)
    await say(one, 1, use(lost, 1))
    start = {"epoch": "2-old", "parent": "1-abc", "parent_heads": {0: (0, "")}}
    await one.beat(2, proven=False, **start)
    named = (await one.claim(held, epoch="2-old", proven=False)).grant
    assert named is not None and (named.number, named.epoch, named.units) == (1, "2-old", 1)
    assert (await one.claim(lost, epoch="2-old", proven=False)).reason == "already_redeemed"
    opening = (await one.document("opening")).opening
    assert opening is not None and opening.epoch == "2-old"
    told = {stand.voucher_id: (stand.number, stand.spent, stand.live) for stand in opening.assigned}
    assert told == {held: (1, 0, True), lost: (1, 1, True)}
    # What the line before still says is late: it frees nothing, under whichever opening it says it was written.
    await say(one, 2, Released(held, 1, 0, instant()), SettledThrough(FAR_S, 0, instant()))
    assert (await two.claim(held)).reason == "assigned_elsewhere"


async def test_a_start_behind_the_newest_opening_gets_its_own_and_frees_under_that_alone(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, _ = boxes
    voucher_id = await issued(demo)
    named = (await one.claim(voucher_id, proven=False)).grant
    assert named is not None and named.epoch == "1-abc"
    first = await one.document("opening")
    # It restarts without having taken it, is believed, and gives the number back under what it knows: nothing.
    start = {"epoch": "2-new", "parent": "1-abc", "parent_heads": {0: (0, "")}}
    await one.beat(2, proven=True, **start)
    second = await one.document("opening", first.version + 1)
    assert second.opening is not None and second.opening.epoch == "2-new"
    await demo.post(f"/api/assigned/{voucher_id}/refund")
    for seq, opening in enumerate((0, first.version, second.version), 1):
        assert await state(demo, voucher_id) == "requested"
        rows = [wire(seq, Released(voucher_id, 1, opening, instant()))]
        await one.send(one.batch(rows, current="2-new", **start))
    assert await state(demo, voucher_id) == "refunded"


async def test_what_a_destroyed_box_may_have_spent_is_booked_and_it_is_given_nothing_more(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, two = boxes
    voucher_id = await issued(demo)
    await one.claim(voucher_id)
    assert (await demo.get("/api/exposure"))["boxes"] == {"gw-s1": 1}
    assert (await demo.post("/api/boxes/gw-s1/destroyed"))["exposed_units"] == 1
    given = (await two.claim(voucher_id)).grant
    assert given is not None and given.number == 2
    assert (await one.claim(voucher_id)).reason == "box_retired"
    await say(one, 1, use(voucher_id, 1))  # it lay in a drawer, and had honoured it
    found = await demo.get("/api/exposure")
    assert (found["exposed_units"], found["exposed_minor"], found["late_units"]) == (1, 500, 1)
    assert (await demo.http.post("/api/boxes/nobody/destroyed")).status_code == 404


async def test_a_box_that_takes_anothers_name_honours_nothing_of_it_and_only_what_names_its_start(
    demo: Hq, boxes: tuple[TestBox, TestBox]
) -> None:
    one, _ = boxes
    voucher_id = await issued(demo)
    old = (await one.claim(voucher_id)).grant
    assert old is not None and old.number == 1
    asked = {"store": "s1", "gateway": "gw-s1", "number": 1, "name_zh": "店", "name_en": "Shop", "again": True}
    label = (await demo.post("/api/boxes", asked))["label"]
    enrolment = await demo.enrol(label, "swapped", shop("s1", 1))
    assert (await demo.get("/api/exposure"))["exposed_units"] == 1
    async with demo.connected(enrolment) as new:
        await new.beat(epoch="1-new")
        given = (await new.claim(voucher_id, epoch="1-new")).grant
        assert given is not None and (given.number, given.epoch) == (2, "1-new"), "the old one in its drawer has no such start"
        opening = (await new.document("opening")).opening
        assert opening is not None and [(stand.number, stand.live) for stand in opening.assigned] == [(1, False)]


async def test_a_balance_is_shared_and_never_more_is_out_than_there_is(demo: Hq, boxes: tuple[TestBox, TestBox]) -> None:
    one, two = boxes
    balance = await issued(demo, voucher_class="leased", value_minor=500)
    first, second = (await one.claim(balance, units=300)).grant, (await two.claim(balance, units=300)).grant
    assert first is not None and second is not None and (first.units, second.units) == (300, 200)
    await say(one, 1, use(balance, 1, units=180))
    more = (await one.claim(balance, units=300)).grant
    assert more is not None and (more.number, more.units) == (1, 300)
    told = await demo.get(f"/api/assigned/{balance}")
    assert (told["left"], sum(holder["units"] for holder in told["holders"])) == (0, 500)


@pytest.mark.slow
async def test_nothing_that_left_is_forgotten_by_a_restored_headquarters(demo: Hq, boxes: tuple[TestBox, TestBox], tmp_path: Path) -> None:
    one, _ = boxes
    voucher_id, ended = await issued(demo), await issued(demo)
    await say(one, 1, EpochAdmitted("1-abc", "first", None, instant()))
    data = Path(demo.options.data_dir)
    copy = sqlite3.connect(tmp_path / "copy.db")
    with sqlite3.connect(data / "hq.db") as live:
        live.backup(copy)
    copy.close()
    await one.claim(voucher_id)
    await demo.post(f"/api/assigned/{ended}/refund")
    assert Stand in {type(line.stand) for line in Journal(data).read()}
    old = data.parent / "old"
    old.mkdir()
    for path in data.iterdir():
        if path.is_dir():
            (old / path.name).symlink_to(path)
        elif not path.name.startswith(("hq.db", "addresses", "ports")):
            (old / path.name).write_bytes(path.read_bytes())
    (old / "hq.db").write_bytes((tmp_path / "copy.db").read_bytes())
    async with headquarters(
        msgspec.structs.replace(demo.options, data_dir=str(old), http_port=0, broker_port=0, relay_ports={})
    ) as restored:
        assert (await restored.get(f"/api/assigned/{voucher_id}"))["holders"][0]["gateway"] == "gw-s1"
        assert await state(restored, ended) == "refunded"


async def test_a_journal_survives_a_line_cut_short_and_no_other_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    await journal.write(Line(1, Stand("v", 0, told=1)), Line(2, opening=("gw", 7, "2-old")))
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"at_us":3,"sta')
    again = Journal(tmp_path)
    assert [line.at_us for line in again.read()] == [1, 2]
    assert again.has(Stand("v", 0, told=1)) and not again.has(Stand("v", 0, told=2))
    await again.write(Line(4, destroyed="gw"))
    assert [line.at_us for line in Journal(tmp_path).read()] == [1, 2, 4]
    (tmp_path / NAME).write_bytes(b"nonsense\n" + (tmp_path / NAME).read_bytes())
    with pytest.raises(ConfigError, match="line 1"):
        Journal(tmp_path).read()
