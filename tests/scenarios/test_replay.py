"""Scenarios of reading out: what shops told is at headquarters whole, and asked for again it is the same."""

import asyncio
import json
import math
import random
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cloud_bridge.hq.commands import events_command
from cloud_bridge.hq.keeping import backup_command
from gateway.clock import SystemClock
from gateway.cloudevents import from_cloudevent, to_cloudevent
from gateway.config import load
from gateway.errors import ConfigError
from gateway.events import Instant, Lane, Stated, SubjectKind, VisitEnded, VisitStarted
from gateway.ledger import LedgerReader
from gateway.link import LinkClient
from tests.store.running import RunningStore
from virtual_store.plan import GATEWAY, STORE
from virtual_store.web import Web

pytestmark = [pytest.mark.slow]

DAY_S = 86_400
ZONES = ("entrance", "shelf-3", "counter")
CAMPAIGNS = {7: 12, 8: 9, 9: 5}  # and how often each is used
Told = dict[str, dict[str, Any]]


def told(store: RunningStore) -> Told:
    """Everything headquarters tells of the shop, by id; no id twice."""
    pages = store.eventually(lambda: [page for page, _ in events_command(store.starter.plan.hq_dir, "")], 20)
    events = [event for page in pages for event in page]
    assert all(event["source"] == GATEWAY for event in events)
    found = {event["id"]: event for event in events}
    assert len(found) == len(events), "a row was told twice"
    return found


def ledger(store: RunningStore) -> Told:
    """The same, made from the shop's own ledger."""
    reader = LedgerReader(store.starter.ledger)
    try:
        found: Told = {}
        for epoch in reader.epochs():
            for lane in Lane:
                for row in reader.rows(epoch.number, lane, 0, 1 << 40, 1 << 40):
                    event = json.loads(row.event)
                    kind = event.pop("type")
                    found[f"{epoch.name}/{row.lane}/{row.seq}"] = {"kind": kind, "record_us": row.record_us, "data": event}
        return found
    finally:
        reader.close()


def totals(events: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """What a merchandiser would ask for: rows of each kind, visits and dwell of each zone, uses of each campaign."""
    dwells: dict[str, list[float]] = {}
    for kind, data in events:
        if kind == "VisitEnded":
            dwells.setdefault(data["zone"], []).append(data["dwell_s"])
    return {
        "kinds": Counter(kind for kind, _ in events),
        "visits": {zone: (len(found), math.fsum(found)) for zone, found in dwells.items()},
        "uses": Counter(data["campaign"] for kind, data in events if kind == "VoucherRedeemed"),
        "refusals": Counter(data["reason"] for kind, data in events if kind == "RedemptionRefused"),
    }


async def live_a_day(store: RunningStore, visits: int) -> None:
    """A day's visits, stated as a radio states them: over its own connection to core, each with its own time of day."""
    config, clock = load(store.starter.plan.gateway_toml), SystemClock()
    link = LinkClient(config.link_path, "ble@day", clock)
    chance = random.Random(12)
    running = asyncio.ensure_future(link.run())
    try:
        answers = []
        for number in range(visits):
            now, ago_s = clock.now(), chance.uniform(0, DAY_S)
            came = Instant(now.wall_us - round(ago_s * 1e6), max(0, now.mono_ns - round(ago_s * 1e9)), now.boot_id, now.trust)
            dwell_s = round(chance.expovariate(1 / 90), 1)
            visit = ("ble@day", f"day-{number}", f"trolley-{number % 40}", SubjectKind.TAG, chance.choice(ZONES))
            both: tuple[Stated, Stated] = VisitStarted(*visit, came), VisitEnded(*visit, dwell_s, came)
            answers += [link.state(event) for event in both]
        async with asyncio.timeout(40):
            await asyncio.gather(*answers)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def sell(url: str, tokens: list[str], stations: tuple[str, ...] = ("counter", "entrance")) -> list[str]:
    """Redeem every token, some at each station; the decisions."""
    kiosks = [(station, await Web(url).pair(station)) for station in stations]
    decisions = []
    for number, token in enumerate(tokens):
        station, kiosk = kiosks[number % len(kiosks)]
        body = {"station": station, "code": token, "presentation_id": secrets.token_hex(16)}
        decisions.append(str((await kiosk.post("/v1/redeem", body))["decision"]))
    return decisions


def campaign_tokens(store: RunningStore) -> list[str]:
    """A voucher of several uses for each campaign."""
    asked = {"store": STORE, "title_zh": "檔期券", "title_en": "Promotion"}
    made = {campaign: store.hq_post("/api/vouchers", asked | {"campaign": campaign, "uses": uses}) for campaign, uses in CAMPAIGNS.items()}
    store.drained()
    return [made[campaign]["token"] for campaign, uses in CAMPAIGNS.items() for _ in range(uses)]


@pytest.mark.scenario("R12")
def test_a_day_replayed_at_headquarters_adds_up_to_the_shops_ledger(whole_store: RunningStore) -> None:
    url = whole_store.starter.plan.kiosk_url
    tokens = campaign_tokens(whole_store)
    half = len(tokens) // 2
    assert whole_store.call(sell(url, tokens[:half])) == ["redeemed"] * half
    whole_store.call(live_a_day(whole_store, 250))
    whole_store.cut_line()
    assert whole_store.call(sell(url, tokens[half:])) == ["redeemed"] * (len(tokens) - half)
    assert whole_store.call(sell(url, [tokens[0], "not a code at all", tokens[-1]])) == ["refused"] * 3
    whole_store.call(live_a_day(whole_store, 250))
    whole_store.call(whole_store.starter.cut_line(True))
    whole_store.kill("bridge")
    whole_store.drained()

    here, there = _in_one_moment(whole_store)
    rows = {name: from_cloudevent(event) for name, event in there.items()}
    for name, row in here.items():
        assert (type(rows[name].event).__name__, rows[name].record_us) == (row["kind"], row["record_us"])
        assert there[name]["data"] == row["data"]
    shop = totals([(row["kind"], row["data"]) for row in here.values()])
    headquarters = totals([(type(rows[name].event).__name__, event["data"]) for name, event in there.items()])
    assert headquarters == shop
    assert shop["uses"] == CAMPAIGNS
    assert shop["refusals"]["exhausted"] == 2 and sum(shop["refusals"].values()) == 3
    assert sum(count for count, _ in shop["visits"].values()) >= 500 and set(ZONES) <= shop["visits"].keys()
    _the_dashboard_says_the_same(whole_store)


def _in_one_moment(store: RunningStore) -> tuple[Told, Told]:
    """Ledger and headquarters, when nothing is on its way: foot traffic goes on meanwhile."""
    ends_s = time.monotonic() + 30
    while True:
        here, there = ledger(store), told(store)
        if here.keys() == there.keys():
            return here, there
        assert time.monotonic() < ends_s, f"apart by {here.keys() ^ there.keys()}"


def _the_dashboard_says_the_same(store: RunningStore) -> None:
    """And the numbers people look at are these, once everything is there."""
    counted = {"redemptions": "VoucherRedeemed", "refusals": "RedemptionRefused", "visits": "VisitEnded"}

    def agree() -> bool:
        before = Counter(row["kind"] for row in ledger(store).values())
        shown = store.hq_get(f"/api/stores/{STORE}/counts")
        after = Counter(row["kind"] for row in ledger(store).values())
        return bool(before == after and all(shown["total"][name] == after[kind] for name, kind in counted.items()))

    store.until(agree, 20, "the dashboard never said what the ledger holds")
    books = store.hq_get("/api/books")
    assert (books["unexplained"], books["declared"], books["quarantined"]) == (0, 0, 0)


@pytest.mark.scenario("R20")
def test_a_day_that_headquarters_lost_comes_again_with_the_same_ids(whole_store: RunningStore, tmp_path: Path) -> None:
    store, data, night = whole_store, whole_store.starter.plan.hq_dir, tmp_path / "night.db"
    tokens = campaign_tokens(store)
    assert store.call(sell(store.starter.plan.kiosk_url, tokens[:4])) == ["redeemed"] * 4
    store.drained()
    backup_command(data, night, lambda done, all_: None)
    held = told(store)

    assert store.call(sell(store.starter.plan.kiosk_url, [*tokens[4:], tokens[4]])) == ["redeemed"] * len(tokens[4:]) + ["refused"]
    store.call(live_a_day(store, 60))
    store.kill("core")
    store.drained()
    day = told(store)
    ((_, cursor),) = list(events_command(data, ""))[-1:]
    assert day.keys() > held.keys()

    store.restore_hq(night)
    store.until(lambda: _is_filled(store, day), 60, "the hole was not filled")
    again = told(store)
    lost = {name for name in day if name not in again}
    for name in day.keys() - lost:
        assert again[name] == day[name]
    # What is missing is traffic and health that the shop had forgotten after its acknowledgement; the books say so to the row.
    print(f"{len(day)} rows before, {len(day.keys() - held.keys())} of them lost with headquarters, {len(lost)} declared")
    assert not [name for name in lost if day[name]["lane"] == Lane.MONEY]
    books = store.hq_get("/api/books")
    assert books["unexplained"] == 0 and books["declared"] == len(lost)
    for name, event in again.items():
        row = from_cloudevent(event)
        assert to_cloudevent(row.gateway, row.epoch, row.lane, row.seq, row.record_us, row.event, row.fixed_us) == event, name
    with pytest.raises(ConfigError, match="restored"):
        list(events_command(data, cursor))


def _is_filled(store: RunningStore, day: Told) -> bool:
    """Whether every row of the day is there, or declared."""
    books = store.eventually(lambda: store.hq_get("/api/books"), 20)
    missing = day.keys() - told(store).keys()
    return bool(books["waiting"] == 0 and books["unexplained"] == 0 and books["declared"] == len(missing))
