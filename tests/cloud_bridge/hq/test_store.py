"""The contract of headquarters' store, on both engines: the rule by which rows are taken, against a model of a few lines."""

import itertools
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_bridge.hq import reports
from cloud_bridge.hq.books import Entry, books
from cloud_bridge.hq.ready import make_ready
from cloud_bridge.hq.registry import BoxRow, expect_box
from cloud_bridge.hq.sqlite import SqliteStore
from cloud_bridge.hq.store import Store
from cloud_bridge.hq.streams import Place, note_produced
from cloud_bridge.hq.take import Taken, Verdict, take
from gateway.columns import RollUp, Tombstone
from gateway.errors import ConfigError
from gateway.events import CompartmentOpenIntended, IntentSettled, LineChanged, SubjectKind, VisitEnded, VisitStarted

from .rig import Draft, WireRow, instant, opened, redeemed, wire

LAST = 30
LEDGER = [wire(n, LineChanged(n % 2 == 0, instant(n))) if n % 7 else wire(n, b'{"type":"FromTheFuture"}') for n in range(1, LAST + 1)]
BOXES = itertools.count(1)
DAY_US = 86_400_000_000


def draft(rows: list[WireRow], **changes: Any) -> Draft:
    head = f"{rows[-1].seq if rows else 0:04x}"
    return msgspec.structs.replace(Draft("gw", "1-a", None, {}, 0, rows, head, "1-a", {0: LAST}, {}, 1), **changes)


async def put(store: Store, *drafts: Draft, at_us: int = 9) -> list[Taken]:
    batches = [make_ready(opened(one)) for one in drafts]
    return await store.write(lambda db: take(db, batches, at_us))


async def put_one(store: Store, one: Draft, at_us: int = 9) -> Taken:
    (taken,) = await put(store, one, at_us=at_us)
    return taken


async def asked(store: Store, sql: str) -> list[Any]:
    return list(await store.read(lambda db: db.execute(sql).fetchall()))


async def run(store: Store, sql: str) -> None:
    await store.write(lambda db: db.execute(sql).rowcount)


async def register(store: Store, gateway: str = "gw", timezone: str = "Asia/Taipei") -> None:
    number = next(BOXES)
    row = BoxRow(gateway, "t", "0", f"s{number}", number, "店", "Shop", timezone, None)
    await store.write(lambda db: expect_box(db, row, 1))


async def balance(store: Store, *, counted: bool = True) -> dict[tuple[str, int], Entry]:
    entries = await store.read(lambda db: books(db, counted=counted))
    kept = await store.read(books)
    assert [(entry.received, entry.declared) for entry in entries] == [(entry.received, entry.declared) for entry in kept]
    assert [entry.unexplained for entry in entries] == [0] * len(entries)
    return {(entry.epoch, entry.lane): entry for entry in entries}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, LAST), st.integers(1, 12)), min_size=1, max_size=3), max_size=15))
async def test_whatever_comes_the_store_holds_exactly_an_unbroken_beginning(store: Store, groups: list[list[tuple[int, int]]]) -> None:
    gateway, mark = f"gw-{next(BOXES)}", 0
    for group in groups:
        sent = [LEDGER[first - 1 : first - 1 + length] for first, length in group]
        drafts = [draft(rows, gateway=gateway, columns=len(rows) % 2 == 0) for rows in sent]
        for rows, taken in zip(sent, await put(store, *drafts), strict=True):
            last = rows[-1].seq
            if rows[0].seq > mark + 1:
                assert (taken.verdict, taken.seq, taken.mark) == (Verdict.GAP, mark, mark)
                continue
            assert taken.verdict is (Verdict.TAKEN if last > mark else Verdict.REPEATED)
            mark = max(mark, last)
            assert (taken.seq, taken.head, taken.mark) == (last, f"{last:04x}", mark)
    stored = await asked(store, f"SELECT seq FROM rows WHERE gateway = '{gateway}'")
    aside = await asked(store, f"SELECT seq FROM quarantine WHERE gateway = '{gateway}'")
    assert sorted(seq for (seq,) in stored + aside) == list(range(1, mark + 1))
    counted = await asked(store, f"SELECT n FROM counts WHERE gateway = '{gateway}'")
    assert sum(n for (n,) in counted) == sum(1 for n in range(1, mark + 1) if n % 7)
    stands = await store.read(lambda db: reports.lanes(db, gateway))
    assert [(stand.produced, stand.mark) for stand in stands] == ([(LAST, mark)] if groups else [])


async def test_a_changed_row_is_found_out_and_changes_nothing(store: Store) -> None:
    await put_one(store, draft(LEDGER[:10]))
    before = await asked(store, "SELECT * FROM rows ORDER BY id")
    for place in (0, 4, 6):  # the last of them lies in quarantine
        lie = list(LEDGER[:12])
        lie[place] = wire(place + 1, LineChanged(True, instant(777)))
        assert (await put_one(store, draft(lie))).verdict is Verdict.DIVERGED
    assert await asked(store, "SELECT * FROM rows ORDER BY id") == before
    assert (await put_one(store, draft(LEDGER[:12]))).mark == 12


async def test_a_lie_within_one_group_is_found_out(store: Store) -> None:
    lie = [wire(1, LineChanged(True, instant(777))), *LEDGER[1:4]]
    assert [taken.verdict for taken in await put(store, draft(LEDGER[:3]), draft(lie))] == [Verdict.TAKEN, Verdict.DIVERGED]


async def test_rows_are_taken_only_behind_those_they_continue(store: Store) -> None:
    await put_one(store, draft(LEDGER[:3], head="aa"))
    assert (await put_one(store, draft(LEDGER[3:5], before="bb"))).verdict is Verdict.DIVERGED
    assert (await put_one(store, draft(LEDGER[3:5], head="cc", before="aa"))).mark == 5
    assert (await put_one(store, draft(LEDGER[5:6], head="dd"))).mark == 6  # the box knows no more what was before


async def test_rows_are_compared_byte_for_byte(store: Store) -> None:
    await put_one(store, draft([wire(1, LineChanged(True, instant(1)), 5)]))
    spaced = msgspec.json.format(msgspec.json.encode(LineChanged(True, instant(1))))
    assert (await put_one(store, draft([WireRow(1, 5, spaced)]))).verdict is Verdict.DIVERGED


@pytest.mark.parametrize("text", ["a\\b\\\\c", 'tab\\t new\\n \\"quoted\\"', "門口 \u3000 \\u0041", "\\\\N"])
async def test_texts_come_back_as_they_were(store: Store, text: str) -> None:
    event = msgspec.json.encode(redeemed(1)).replace(b'"station":"kiosk-1"', f'"station":"{text}"'.encode())
    assert (await put_one(store, draft([wire(1, event)]))).verdict is Verdict.TAKEN
    ((stored, station),) = await asked(store, "SELECT event, (SELECT station FROM uses) FROM rows")
    assert (stored.encode(), station) == (event, msgspec.json.decode(event)["station"])


async def test_what_no_engine_can_hold_is_set_aside_with_its_effects(store: Store) -> None:
    huge = msgspec.json.encode(redeemed(2)).replace(b'"event_time":[', b'"event_time":[99999999999')
    good = [wire(1, redeemed(1)), wire(3, redeemed(3))]
    other = draft([wire(1, redeemed(9))], gateway="gw-other")
    taken, neighbour = await put(store, draft([good[0], wire(2, huge), good[1]]), other)
    assert (taken.verdict, taken.mark, taken.quarantined, len(taken.rows)) == (Verdict.TAKEN, 3, 1, 2)
    assert (neighbour.verdict, neighbour.quarantined) == (Verdict.TAKEN, 0)
    assert await asked(store, "SELECT gateway, seq FROM quarantine") == [("gw", 2)]
    assert sorted(await asked(store, "SELECT gateway, count(*) FROM uses GROUP BY gateway")) == [("gw", 2), ("gw-other", 1)]
    assert sorted(await asked(store, "SELECT gateway, n FROM counts")) == [("gw", 2), ("gw-other", 1)]
    assert [row.id for row in taken.rows + neighbour.rows] == sorted({row.id for row in taken.rows + neighbour.rows})
    assert (await put_one(store, draft([good[0], wire(2, huge), good[1]]))).verdict is Verdict.REPEATED
    await register(store)
    assert (await balance(store))["1-a", 0].quarantined == 1


async def test_nothing_is_taken_before_its_ancestors(store: Store) -> None:
    """Not the beginning of a lane: each lane waits for its own, and starts without rows in it are looked through."""
    child = {"epoch": "2-b", "parent": "1-a", "parent_heads": {0: (4, "0004")}, "current": "3-c"}
    grandchild = {"epoch": "3-c", "parent": "2-b", "parent_heads": {0: (1, "0001")}, "current": "3-c"}
    early = await put_one(store, draft(LEDGER[:2], lane=1, **grandchild))
    assert (early.verdict, early.mark, early.first) == (Verdict.EARLY, 0, Place("2-b", 0, 0, ""))  # nobody knows yet what 2-b continues
    early = await put_one(store, draft(LEDGER[:1], **child))
    assert (early.verdict, early.first) == (Verdict.EARLY, Place("1-a", 0, 0, ""))
    await put_one(store, draft(LEDGER[:3]))
    assert (await put_one(store, draft(LEDGER[:1], **child))).first == Place("1-a", 0, 3, "0003")
    assert (await put_one(store, draft(LEDGER[:2], lane=1, **grandchild))).verdict is Verdict.TAKEN  # no ancestor has rows in lane 1
    both = await put(store, draft(LEDGER[:4]), draft(LEDGER[:1], **child), draft(LEDGER[:1], **grandchild))
    assert [taken.verdict for taken in both] == [Verdict.TAKEN] * 3
    assert await asked(store, "SELECT count(*) FROM rows") == [(8,)]


async def test_an_epoch_that_claims_to_be_its_own_ancestor_stops_nothing(store: Store) -> None:
    for epoch, parent in (("1-a", "2-b"), ("2-b", "1-a")):
        assert (await put_one(store, draft(LEDGER[:1], epoch=epoch, parent=parent, lane=1))).verdict is Verdict.EARLY
    assert (await put_one(store, draft(LEDGER[:1], gateway="gw-other"))).verdict is Verdict.TAKEN


async def test_of_a_tombstone_counts_what_lies_above_the_mark(store: Store) -> None:
    await register(store)
    visits: list[Any] = []
    for n in range(1, 7):
        times = instant(n * 1_000_000)
        visits.append(VisitStarted("r", f"v{n}", "tag", SubjectKind.TAG, "door", times))
        visits.append(VisitEnded("r", f"v{n}", "tag", SubjectKind.TAG, "door", 2.5, times))
    rows = [wire(n, event, DAY_US + n) for n, event in enumerate(visits, 1)]
    sums = [RollUp("1970-01-02", "VisitStarted", "door", 6, 0.0), RollUp("1970-01-02", "VisitEnded", "door", 6, 15.0)]
    await put_one(store, draft(rows[:4], lane=1, last={1: 12}))
    gone = draft([], lane=1, tombstone=Tombstone(1, 12, "disk_full", sums), head="000c", last={1: 12})
    taken = await put_one(store, gone)
    assert (taken.verdict, taken.mark, taken.seq, taken.head, taken.declared) == (Verdict.TAKEN, 12, 12, "000c", 8)
    assert (await put_one(store, gone)).verdict is Verdict.REPEATED
    assert sorted(await asked(store, "SELECT day, type, n FROM counts")) == [
        ("1970-01-02", "VisitEnded", 6),
        ("1970-01-02", "VisitStarted", 6),
    ]
    assert sorted(await asked(store, "SELECT type, n, dwell_s FROM zones")) == [("VisitEnded", 6, 15.0), ("VisitStarted", 6, 0.0)]
    entry = (await balance(store))["1-a", 1]
    assert (entry.produced, entry.received, entry.declared, entry.waiting) == (12, 4, 8, 0)
    assert (await put_one(store, draft(rows, lane=1))).verdict is Verdict.REPEATED  # what was declared may still be found: no contradiction


async def test_what_a_restored_store_has_lost_is_named(store: Store) -> None:
    taken = await put_one(store, draft(LEDGER[:3], cursor={0: 9, 1: 5}, lane=0))
    assert {(place.lane, place.mark) for place in taken.lost} == {(0, 0), (1, 0)}
    taken = await put_one(store, draft(LEDGER[:5], cursor={0: 9, 1: 5}))
    assert {(place.lane, place.mark) for place in taken.lost} == {(0, 3), (1, 0)}


async def test_a_visit_is_there_until_it_ends(store: Store) -> None:
    started = [VisitStarted("r", f"v{n}", f"tag-{n}", SubjectKind.TAG, "door", instant(n)) for n in range(1, 200)]
    ended = [VisitEnded("r", f"v{n}", f"tag-{n}", SubjectKind.TAG, "door", 1.0, instant(n)) for n in range(1, 200) if n % 3]
    rows = [wire(n, event) for n, event in enumerate([*started, *ended], 1)]
    await put_one(store, draft(rows[:150], lane=1))
    assert len(await asked(store, "SELECT 1 FROM visits")) == 150
    await put_one(store, draft(rows[150:], lane=1))
    assert sorted(await asked(store, "SELECT visit_id FROM visits")) == sorted([(f"v{n}",) for n in range(1, 200) if not n % 3])


async def test_an_order_whose_door_did_not_open_is_where_it_was(store: Store) -> None:
    meant = CompartmentOpenIntended("i1", "A", 3, "pickup", "o1", "shopper", "locker", instant(1))
    await put_one(store, draft([wire(1, meant), wire(2, IntentSettled("i1", "jammed", instant(2)))]))
    assert await asked(store, "SELECT state FROM order_events ORDER BY id") == [("collecting",), ("staged",)]


async def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    batches = [make_ready(opened(draft(LEDGER[:3])))]

    def fail(db: Any) -> None:
        take(db, batches, 9)
        raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        await store.write(fail)
    assert await asked(store, "SELECT count(*) FROM rows") == [(0,)]
    await store.write(lambda db: take(db, batches, 9))
    assert await asked(store, "SELECT count(*) FROM rows") == [(3,)]
    with pytest.raises(Exception, match=r"readonly|read-only"):
        await store.read(lambda db: db.execute("DELETE FROM counts"))


async def test_books_close_where_a_line_of_starts_ended(store: Store) -> None:
    """An old image was restored: the epoch that ran on is closed at the mark, and so is its parent beyond what the new child claims."""
    await register(store)
    await put_one(store, draft(LEDGER[:6], last={0: 9}))
    await put_one(store, draft(LEDGER[:2], epoch="2-old", parent="1-a", parent_heads={0: (6, "0006")}, current="2-old", last={0: 7}))
    new = {"epoch": "2-new", "parent": "1-a", "parent_heads": {0: (4, "0004")}, "current": "2-new", "last": {0: 3}}
    await put_one(store, draft(LEDGER[:1], **new))
    await run(store, "INSERT INTO beats VALUES ('gw', 1, 0, '2-new', '{}')")
    entries = await balance(store)
    shown = {epoch: (entry.produced, entry.received, entry.closed, entry.waiting) for (epoch, _), entry in entries.items()}
    assert shown == {"1-a": (9, 6, 3, 0), "2-old": (7, 2, 5, 0), "2-new": (3, 1, 0, 2)}


async def test_books_that_do_not_add_up_say_so(store: Store) -> None:
    await register(store)
    await put_one(store, draft(LEDGER[:6], last={0: 6}))
    await run(store, "UPDATE marks SET received = 5")
    (entry,) = await store.read(books)
    assert entry.unexplained == 1
    (entry,) = await store.read(lambda db: books(db, counted=True))
    assert entry.unexplained == 0
    await run(store, "DELETE FROM arrivals WHERE seq = 2")
    (entry,) = await store.read(lambda db: books(db, counted=True))
    assert entry.unexplained == 1


async def test_what_was_said_to_be_written_only_grows(store: Store) -> None:
    for said in (5, 9, 7):
        await store.write(lambda db, said=said: note_produced(db, "gw", "1-a", {0: said, 2: 1}))  # type: ignore[misc]
    stands = await store.read(lambda db: reports.lanes(db, "gw"))
    assert [(stand.lane, stand.produced, stand.mark) for stand in stands] == [(0, 9, 0), (2, 1, 0)]


async def test_tables_of_another_shape_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "hq.db") as old:
        old.execute("CREATE TABLE boxes (gateway TEXT)")
    with pytest.raises(ConfigError, match="this release needs"):
        await SqliteStore(tmp_path / "hq.db").open()
