"""What shops told, read out as CloudEvents: complete, in order, and the same however often and in whatever pages."""

import asyncio
import json
import re
from functools import partial
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud_bridge.hq.commands import events_command
from cloud_bridge.hq.export import page
from cloud_bridge.hq.postgres import PostgresStore
from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Store
from gateway.cloudevents import from_cloudevent
from gateway.commands import app
from gateway.errors import ConfigError
from gateway.events import ClockFixed, Instant, Lane, LineChanged, TimeTrust
from scripts.contract import FOLDER as SCHEMAS
from tests.contract.validator import load, validate

from .rig import Hq, redeemed, wire
from .test_timing import BOOT, FIXED_AT_NS, TRUE_US, Shop, lost, true_us

ID = re.compile(r"1-a/[012]/\d+")


async def read(store: Store, after: str = "", limit: int = 1_000) -> tuple[list[dict[str, Any]], str]:
    found = await store.read(partial(page, after=after, limit=limit))
    return found.events, found.cursor


async def told(store: Store) -> Shop:
    shop = Shop(store)
    await shop.register()
    await shop.tell(Lane.MONEY, *(redeemed(n) for n in range(40)))
    await shop.tell(Lane.HEALTH, LineChanged(True, Instant(TRUE_US, 1, BOOT, TimeTrust.SYNCED)), LineChanged(False, lost(60)))
    return shop


@pytest.mark.parametrize("limit", [1, 7, 42, 1_000])
async def test_pages_of_any_size_give_every_row_once_and_in_order(store: Store, limit: int) -> None:
    await told(store)
    whole, end = await read(store)
    assert [event["id"] for event in whole] == [f"1-a/0/{n}" for n in range(1, 41)] + ["1-a/2/1", "1-a/2/2"]
    collected: list[dict[str, Any]] = []
    cursor = ""
    while True:
        events, cursor = await read(store, cursor, limit)
        if not events:
            break
        assert len(events) <= limit
        collected += events
    assert collected == whole
    assert cursor == end
    assert await read(store, end) == ([], end)


async def test_an_event_is_the_row_byte_for_byte_and_fits_the_contract(store: Store) -> None:
    shop = await told(store)
    stored = await shop.asked("SELECT epoch, lane, seq, record_us, event FROM rows WHERE gateway = ? ORDER BY id")
    events, _ = await read(store)
    for (epoch, lane, seq, record_us, text), said in zip(stored, events, strict=True):
        back = from_cloudevent(json.loads(json.dumps(said)))
        assert (back.gateway, back.epoch, back.lane, back.seq, back.record_us) == (shop.gateway, epoch, lane, seq, record_us)
        assert {"type": type(back.event).__name__, **said["data"]} == json.loads(text)
        validate(said, load(SCHEMAS / "cloudevent.json"), SCHEMAS / "cloudevent.json")


async def test_rows_nobody_can_read_leave_a_gap_and_stop_nothing(store: Store) -> None:
    shop = await told(store)
    await store.write(lambda db: db.execute("UPDATE arrived SET last = last + 5000").rowcount)  # as rows set aside one by one do
    await shop.tell(Lane.MONEY, redeemed(99))
    events, _ = await read(store, limit=10)
    cursor, ids = "", []
    while True:
        events, cursor = await read(store, cursor, 10)
        if not events:
            break
        ids += [event["id"] for event in events]
    assert len(ids) == 43 and ids[-1] == "1-a/0/41"


async def test_a_row_that_was_dated_anew_says_so_and_keeps_its_id(store: Store) -> None:
    shop = await told(store)
    before = (await read(store))[0][-1]
    assert before["timetrust"] == 2 and before["time"].startswith("1970-01-01") and "retimed" not in before
    await shop.tell(Lane.HEALTH, ClockFixed(BOOT, FIXED_AT_NS, TRUE_US, Instant(TRUE_US, FIXED_AT_NS, BOOT, TimeTrust.SYNCED)))
    after = next(event for event in (await read(store))[0] if event["id"] == before["id"])
    assert after["retimed"] is True
    assert from_cloudevent(after).fixed_us == true_us(60)
    assert (after["data"], after["sequence"]) == (before["data"], before["sequence"])


@pytest.mark.parametrize("after", ["x", "1", "0-000000000000", "1-00000000000g", "1-0000000000001", "-1-000000000000"])
async def test_what_is_no_cursor_is_refused(store: Store, after: str) -> None:
    with pytest.raises(RefusedAsk) as refused:
        await read(store, after)
    assert refused.value.status == 400


async def forget_all(store: Store) -> None:
    statements = ["DELETE FROM arrivals", "UPDATE marks SET mark = 0, received = 0", "UPDATE arrived SET last = 0"]
    for statement in [*statements, "DELETE FROM runs"] if isinstance(store, PostgresStore) else statements:
        await store.write(lambda db, statement=statement: db.execute(statement).rowcount)  # type: ignore[misc]


async def refused_as_old(store: Store, cursor: str) -> None:
    with pytest.raises(RefusedAsk) as refused:
        await read(store, cursor)
    assert refused.value.status == 410


async def test_a_cursor_of_before_a_restore_is_refused(store: Store) -> None:
    await told(store)
    _, cursor = await read(store)
    await forget_all(store)
    other = Shop(store, "gw-other")
    await other.register(2)
    for numbers in (range(3), range(3, 60)):  # first there is no such arrival, then it is another row
        await other.tell(Lane.MONEY, *map(redeemed, numbers))
        await refused_as_old(store, cursor)


async def test_a_cursor_is_refused_even_if_the_same_row_came_again_under_the_same_number(store: Store) -> None:
    """Found by R20: what came before it may be other rows than those the reader has seen."""
    rows = [LineChanged(bool(n % 2), Instant(TRUE_US + n, n, BOOT, TimeTrust.SYNCED)) for n in range(4)]
    shop = Shop(store)
    await shop.register()
    await shop.tell(Lane.HEALTH, *rows)
    _, cursor = await read(store)
    await forget_all(store)
    await Shop(store).tell(Lane.HEALTH, *rows, received_us=TRUE_US + 1)
    await refused_as_old(store, cursor)


async def test_the_door_gives_a_batch_and_names_the_next(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        await box.send(box.batch([wire(n, redeemed(n)) for n in range(1, 8)]))
        first = await demo.http.get("/api/events?limit=5")
        assert first.headers["Content-Type"] == "application/cloudevents-batch+json"
        assert len(first.json()) == 5 and all(ID.fullmatch(event["id"].replace(event["epoch"], "1-a")) for event in first.json())
        second = await demo.http.get(re.fullmatch(r'<(.+)>; rel="next"', first.headers["Link"])[1])  # type: ignore[index]
        assert [int(event["sequence"]) for event in second.json()] == [6, 7]
        assert (await demo.http.get(f"/api/events?after={second.headers['X-Cursor']}")).json() == []
        assert (await demo.http.get("/api/events?after=nonsense")).status_code == 400
        assert (await demo.http.get("/api/events?limit=0")).status_code == 422


async def test_the_command_prints_lines_and_where_to_go_on(demo: Hq) -> None:
    async with demo.connected(await demo.new_box()) as box:
        await box.send(box.batch([wire(n, redeemed(n)) for n in range(1, 4)]))
        data = demo.options.data_dir
        asked = await asyncio.to_thread(CliRunner().invoke, app, ["hq", "events", "--data", str(data)])
        assert asked.exit_code == 0, asked.output
        lines = [json.loads(line) for line in asked.stdout.splitlines()]
        assert [from_cloudevent(line).seq for line in lines] == [1, 2, 3]
        go_on = asked.stderr.split()
        await box.send(box.batch([wire(4, redeemed(4))]))
        again = await asyncio.to_thread(CliRunner().invoke, app, ["hq", "events", "--data", str(data), *go_on])
        assert [json.loads(line)["sequence"][-1] for line in again.stdout.splitlines()] == ["4"]
        with pytest.raises(ConfigError, match="no cursor"):
            await asyncio.to_thread(lambda: list(events_command(demo.folder / "hq", "nonsense")))
