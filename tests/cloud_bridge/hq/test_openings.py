"""Headquarters notices a restored disk image, says what was used, and counts what may be lost until the box has heard it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_bridge.hq.options import HqOptions
from gateway.events import CompartmentOpenIntended, EpochAdmitted, EpochOpened, Event, ParcelCollected, ParcelStaged
from gateway.signed import Document, Opening

from .rig import Draft, Hq, TestBox, WireRow, headquarters, instant, redeemed, seal_batch, until, wire
from .stores import NUMBERS

HEADS = {0: (2, "aa" * 16)}


@pytest.fixture(params=["sqlite", "postgres"])
async def demo(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hq]:
    """What is raised and counted comes from the database, so on each."""
    database = ""
    if request.param == "postgres":
        database = request.getfixturevalue("postgres").make_database(f"openings_{next(NUMBERS)}")
    async with headquarters(HqOptions(data_dir=str(tmp_path / "hq"), database=database)) as running:
        yield running


@pytest.fixture
async def box(demo: Hq) -> AsyncIterator[TestBox]:
    async with demo.connected(await demo.new_box()) as connected:
        yield connected


def begun(epoch: str, parent: str | None = None, heads: Any = None) -> Event:
    return EpochOpened(parent, heads or {}, "test", instant())


def rows(*events: Event, first: int = 1) -> list[WireRow]:
    return [wire(seq, event) for seq, event in enumerate(events, first)]


def of(box: TestBox, epoch: str, events: list[WireRow], parent: str | None = None, heads: Any = None, **more: Any) -> Draft:
    """A batch of the start that is alive."""
    return box.batch(events, **{"epoch": epoch, "current": epoch, "parent": parent, "parent_heads": heads or {}, **more})


async def start_of(hq: Hq, store: str = "s1") -> Any:
    return next(shop["start"] for shop in await hq.get("/api/stores") if shop["store"] == store)


async def raised(hq: Hq) -> Any:
    """Its alarms, once there are any: a beat is answered first and looked into then."""
    async with asyncio.timeout(40):
        while not (found := (await start_of(hq))["alarms"]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def voucher(hq: Hq, **more: Any) -> str:
    asked = {"store": "s1", "title_zh": "券", "title_en": "Voucher", "value_minor": 500, **more}
    return str((await hq.post("/api/vouchers", asked))["voucher_id"])


def content(document: Document) -> Opening:
    assert document.opening is not None
    return document.opening


async def test_a_start_that_is_not_admitted_gets_what_was_used_and_handed_over(demo: Hq, box: TestBox) -> None:
    first = await voucher(demo, uses=2)
    await voucher(demo)
    parcel = [
        ParcelStaged("order", "wall", 3, "s", instant()),
        CompartmentOpenIntended("i", "wall", 3, "pickup", "order", "shopper", "k", instant()),
        ParcelCollected("order", "wall", 3, "i", instant()),
        ParcelStaged("other", "wall", 3, "s", instant()),
    ]
    await box.send(of(box, "1-aa", rows(begun("1-aa"), redeemed(1, first), redeemed(2, first), *parcel)))
    await box.beat(epoch="2-bb", proven=False, parent="1-aa", parent_heads={0: (7, "aa")})
    opening = await box.document("opening")
    told = content(opening)
    assert (told.epoch, told.marks) == ("2-bb", {"1-aa": 7})
    assert [(one.voucher_id, one.uses, one.station) for one in told.used] == [(first, 2, "kiosk-1")]
    assert [(one.order_id, one.state, one.bank, one.compartment) for one in told.orders] == [
        ("order", "collected", "wall", 3),
        ("other", "staged", "wall", 3),
    ]
    start = await start_of(demo)
    assert start["exposure"] == {"vouchers": 1, "uses": 1, "value_minor": 500}
    assert (start["admitted"], start["alarms"], start["opening"]["applied_us"]) == (False, [], 0)
    # Its acknowledgements say that the opening is to be awaited; once it was applied, nothing is exposed any more.
    opened = EpochAdmitted("2-bb", "opening", opening.version, instant())
    ack = await box.send(of(box, "2-bb", rows(begun("2-bb", "1-aa")), "1-aa", {0: (7, "aa")}, proven=False))
    assert ack.opening == opening.version
    await box.send(of(box, "2-bb", rows(opened, first=2), "1-aa", {0: (7, "aa")}, proven=True))
    start = await start_of(demo)
    assert (start["admitted"], start["exposure"]) == (True, None)
    assert start["opening"]["applied_us"] > 0


async def test_an_ordinary_restart_raises_nothing(demo: Hq, box: TestBox) -> None:
    await box.send(of(box, "1-aa", rows(begun("1-aa"), redeemed(1))))
    for number, epoch in ((2, "2-bb"), (3, "3-cc")):
        parent = "1-aa" if number == 2 else "2-bb"
        heads = {0: (2, "aa")} if number == 2 else {0: (1, "aa")}
        await box.beat(number, epoch=epoch, parent=parent, parent_heads=heads)
        ack = await box.send(of(box, epoch, rows(begun(epoch)), parent, heads))
        assert ack.opening == 0
    assert (await start_of(demo))["alarms"] == []
    assert all(one.name != "opening" for one in box.manifests[-1].documents)


async def test_two_starts_that_continue_the_same_one_are_an_alarm_and_the_living_is_opened(demo: Hq, box: TestBox) -> None:
    await box.send(of(box, "1-aa", rows(begun("1-aa"), redeemed(1))))
    await box.send(of(box, "2-lost", rows(begun("2-lost"), redeemed(2, "lost")), "1-aa", HEADS))
    await box.beat(2, epoch="2-new", proven=True, parent="1-aa", parent_heads=HEADS)
    told = content(await box.document("opening"))
    assert told.epoch == "2-new"
    assert told.marks == {"1-aa": 2, "2-lost": 2}
    assert "lost" in {one.voucher_id for one in told.used}
    (alarm,) = await raised(demo)
    assert (alarm["kind"], alarm["epoch"], alarm["other"], alarm["settled_us"]) == ("two_children", "2-new", "2-lost", 0)
    # The child of a start that should not have been admitted needs an opening too, until one is applied.
    await box.beat(3, epoch="3-new", proven=True, parent="2-new", parent_heads={0: (1, "aa")})
    again = await box.document("opening", 2)
    assert content(again).epoch == "3-new"
    await box.send(of(box, "2-new", rows(begun("2-new")), "1-aa", HEADS, current="3-new"))
    opened = EpochAdmitted("3-new", "opening", again.version, instant())
    await box.send(of(box, "3-new", rows(begun("3-new"), opened), "2-new", {0: (1, "aa")}))
    start = await start_of(demo)
    assert (start["exposure"], [bool(one["settled_us"]) for one in start["alarms"]]) == (None, [True])
    await box.beat(4, epoch="4-new", proven=True, parent="3-new", parent_heads={0: (2, "aa")})
    assert (await start_of(demo))["opening"]["number"] == again.version


async def test_a_mark_above_what_a_child_claims_is_an_alarm_whenever_it_comes_to_be_so(demo: Hq, box: TestBox) -> None:
    await box.send(of(box, "1-aa", rows(begun("1-aa"), redeemed(1))))
    await box.send(of(box, "2-bb", rows(begun("2-bb")), "1-aa", HEADS))
    assert (await start_of(demo))["alarms"] == []
    await box.send(box.batch(rows(redeemed(2), first=3), epoch="1-aa", current="2-bb", proven=True))  # a disk that was lost drains
    await box.beat(2, epoch="2-bb", parent="1-aa", parent_heads=HEADS)
    await until(lambda: any(one.name == "opening" for one in box.manifests[-1].documents) or None)
    (alarm,) = await raised(demo)
    assert (alarm["kind"], alarm["claimed"], alarm["mark"]) == ("mark_above_claim", 2, 3)
    assert content(await box.document("opening")).marks == {"1-aa": 3, "2-bb": 1}


async def test_an_old_image_is_noticed_by_its_first_beat(demo: Hq, box: TestBox) -> None:
    await box.send(of(box, "1-aa", rows(begun("1-aa"), *(redeemed(n) for n in range(5)))))
    await box.beat(1, epoch="2-bb", proven=True, parent="1-aa", parent_heads=HEADS)
    assert content(await box.document("opening")).epoch == "2-bb"
    assert (await raised(demo))[0]["kind"] == "mark_above_claim"


async def test_other_rows_under_known_numbers_are_an_alarm(demo: Hq, box: TestBox) -> None:
    await box.send(of(box, "1-aa", rows(begun("1-aa"), redeemed(1))))
    box.send_bytes(seal_batch(of(box, "1-aa", rows(begun("1-aa"), redeemed(9))), box.enrolment.sign_key))
    box.send_bytes(seal_batch(of(box, "1-aa", rows(begun("1-aa"), redeemed(9))), box.enrolment.sign_key))

    async def kinds() -> list[str]:
        return [alarm["kind"] for alarm in (await start_of(demo))["alarms"]]

    for _ in range(200):
        if await kinds():
            break
        await asyncio.sleep(0.02)
    assert await kinds() == ["other_rows"]


async def test_a_second_ledger_is_an_alarm_unless_the_box_was_enrolled_again(demo: Hq, box: TestBox) -> None:
    await box.send(of(box, "1-aa", rows(begun("1-aa"), redeemed(1))))
    await box.beat(1, epoch="1-xx", proven=True)
    assert (await raised(demo))[0]["kind"] == "second_root"
    assert content(await box.document("opening")).epoch == "1-xx"


async def test_an_opening_that_the_box_refused_is_pressed_again_when_more_is_known(demo: Hq, box: TestBox) -> None:
    await box.beat(1, epoch="2-bb", proven=False, parent="1-aa", parent_heads=HEADS)
    first = await box.document("opening")
    await box.send(box.batch(rows(begun("1-aa"), redeemed(1)), epoch="1-aa", current="2-bb", proven=False))
    for number in range(2, 80):
        await box.beat(number, epoch="2-bb", proven=False, parent="1-aa", parent_heads=HEADS)
        await asyncio.sleep(0.1)
        refs = [one for one in box.manifests[-1].documents if one.name == "opening" and one.version > first.version]
        if refs:
            break
    assert content(await box.document("opening", first.version + 1)).marks == {"1-aa": 2}


async def test_uses_beyond_what_a_voucher_allows_are_booked(demo: Hq, box: TestBox) -> None:
    used = await voucher(demo)
    await box.send(of(box, "1-aa", rows(begun("1-aa"), redeemed(1, used), redeemed(2, used))))
    assert (await start_of(demo))["overused"] == {"vouchers": 1, "uses": 1, "value_minor": 500}
    page = (await demo.http.get("/")).text
    assert 'data-overused="1"' in page


async def test_the_page_says_what_is_wrong_and_how_much_is_at_stake(demo: Hq, box: TestBox) -> None:
    await voucher(demo)
    await box.send(of(box, "1-aa", rows(begun("1-aa"), *(redeemed(n) for n in range(5)))))
    await box.beat(1, epoch="2-bb", proven=True, parent="1-aa", parent_heads=HEADS)
    async with asyncio.timeout(40):  # the beat is answered first, and looked into then
        while 'data-start="alarm"' not in (await demo.http.get("/")).text:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await demo.get("/api/books"))["alarms"] == 1
    assert msgspec.json.encode(await start_of(demo))
