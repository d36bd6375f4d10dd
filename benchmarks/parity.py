"""A running shop against a running headquarters: the same baskets asked at both HTTP doors, the answers compared byte for byte.

A whole virtual store runs, its processes in different time zones. Campaigns are published at headquarters and reach the shop as it
always learns of them: in a document under headquarters' seal, spooled by the bridge. Every so often some of them get a next version.
"""

import asyncio
import concurrent.futures
import http.client
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.baskets import Found, Maker
from benchmarks.campaign_oracle import SHOWN, Counted
from cloud_bridge.ports import free_port
from gateway.rules.pricing import MOST_ASKS
from virtual_store.plan import STATION, STORE, Plan, Ports
from virtual_store.processes import Keeper
from virtual_store.starter import Starter

ZONES: Final = {"hq": "America/New_York", "core": "Pacific/Auckland"}
TIMEZONE: Final = "Asia/Taipei"  # the shop's
WORLDS: Final = 8  # times that campaigns are published
AT_ONCE: Final = 12  # campaigns of one world
MOST_B: Final = 60_000  # of one body: both doors take 64 kB
PATIENCE_S: Final = 30.0


class ZonedKeeper(Keeper):
    """Starts some processes in another time zone than this machine's."""

    def keep(self, name: str, *arguments: str) -> None:
        super().keep(name, *arguments)
        if name in ZONES:
            self.kept[name].arguments[:0] = ["env", f"TZ={ZONES[name]}"]  # its process is started when the loop next runs


class ZonedStarter(Starter):
    """A whole store in several time zones."""

    def __init__(self, plan: Plan, told: Callable[[str], None]) -> None:
        super().__init__(plan, told)
        self.keeper = ZonedKeeper(plan.folder / "logs", told)

    def zones(self) -> dict[str, str]:
        """The time zone each of the two processes runs in, as the kernel has it."""
        found = {}
        for name in ZONES:
            environment = Path(f"/proc/{self.keeper.kept[name].pid}/environ").read_bytes().decode().split("\0")
            found[name] = next(line for line in environment if line.startswith("TZ=")).removeprefix("TZ=")
        return found


class Door:
    """One side's HTTP door, over a connection that is kept."""

    def __init__(self, port: int, path: str, headers: dict[str, str], place: Found) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._path = path
        self._headers = headers | {"Content-Type": "application/json"}
        self._place = place

    @classmethod
    def of_shop(cls, port: int) -> "Door":
        """As the screen of the box itself: opening its page pairs it."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        connection.request("GET", f"/kiosk/{STATION}")
        reply = connection.getresponse()
        cookie = (reply.getheader("Set-Cookie") or "").partition(";")[0]
        connection.close()
        return cls(port, "/v1/price", {"Cookie": cookie}, {"station": STATION})

    @classmethod
    def of_headquarters(cls, port: int, token: str) -> "Door":
        """As a web shop."""
        return cls(port, "/api/price", {"Authorization": f"Bearer {token}"}, {"store": STORE})

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def ask(self, asks: list[Found]) -> bytes:
        """The answer's bytes.

        Raises:
            RuntimeError: The door refuses the request.
        """
        self._connection.request("POST", self._path, json.dumps(self._place | {"asks": asks}).encode(), self._headers)
        reply = self._connection.getresponse()
        body = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{self._path}: {reply.status} {body[:500]!r}")
        return body


def differing(ours: bytes, theirs: bytes, asks: list[Found]) -> Iterator[str]:
    """What of two answers is not the same, an example for each ask. Other bytes for the same values are a difference too."""
    if ours == theirs:
        return
    here, there = json.loads(ours), json.loads(theirs)
    pairs = [(ask, mine, yours) for ask, mine, yours in zip(asks, here["priced"], there["priced"], strict=True) if mine != yours]
    for ask, mine, yours in pairs or [(asks[0], here["problems"], there["problems"])]:
        yield json.dumps({"asked": ask, "shop": mine, "headquarters": yours}, ensure_ascii=False)


def batches(maker: Maker, campaigns: list[Found], count: int) -> Iterator[list[Found]]:
    """So many baskets, in bodies that both doors take."""
    batch: list[Found] = []
    size_b = 0
    for _ in range(count):
        ask = {"basket": maker.basket()} | maker.facts(campaigns)
        length_b = len(json.dumps(ask)) + 2
        if batch and (len(batch) == MOST_ASKS or size_b + length_b > MOST_B):
            yield batch
            batch, size_b = [], 0
        batch.append(ask)
        size_b += length_b
    if batch:
        yield batch


def compare(doors: tuple[Door, Door], asked: Iterator[list[Found]], counted: Counted, told: Callable[[int], Any]) -> None:
    """Ask both sides at the same time."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for asks in asked:
            ours, theirs = pool.map(lambda door, asks=asks: door.ask(asks), doors)
            counted.baskets += len(asks)
            for priced in json.loads(ours)["priced"]:
                for adjustment in priced["adjustments"]:
                    counted.used[adjustment["kind"]] = counted.used.get(adjustment["kind"], 0) + 1
            for example in differing(ours, theirs, asks):
                counted.differences += 1
                counted.examples = [*counted.examples, example][:SHOWN]
            told(len(asks))


async def publish(starter: Starter, campaigns: list[Found]) -> None:
    """Publish campaigns and wait until the shop has applied the last document."""
    told = 0
    before = await _version(starter)
    for campaign in campaigns:
        reply = await starter.hq.post("/api/campaigns", campaign)
        told += STORE in reply["shops"]
    await _until(lambda: _has(starter, before + told))


async def _version(starter: Starter) -> int:
    await _until(lambda: _has(starter, 1))
    return int((await starter.shop.get("/v1/store"))["documents"]["campaigns"])


async def _has(starter: Starter, version: int) -> bool:
    return int((await starter.shop.get("/v1/store"))["documents"].get("campaigns", 0)) >= version


async def _until(asked: Callable[[], Awaitable[bool]]) -> None:
    ends_s = time.monotonic() + PATIENCE_S
    while not await asked():
        assert time.monotonic() < ends_s, "the shop did not get its campaigns"
        await asyncio.sleep(0.1)


async def run(baskets: int, seed: int, told: Callable[[int], Any], folder: Path) -> Counted:
    """The whole comparison."""
    maker, counted, versions = Maker(seed, TIMEZONE), Counted(), dict[int, int]()
    plan = Plan(folder, Ports(*(free_port() for _ in range(4))), 7)
    starter = ZonedStarter(plan, lambda _: None)
    async with starter:
        assert starter.zones() == ZONES, starter.zones()
        doors = Door.of_shop(plan.ports.kiosk), Door.of_headquarters(plan.ports.hq, starter.hq.token)
        worlds = min(WORLDS, max(1, baskets // 100))
        for world in range(worlds):
            maker.next_world()
            campaigns = maker.campaigns(AT_ONCE)
            for campaign in campaigns:
                versions[campaign["campaign"]] = campaign["version"] = versions.get(campaign["campaign"], 0) + 1
            await publish(starter, campaigns)
            count = baskets * (world + 1) // worlds - baskets * world // worlds
            await asyncio.to_thread(compare, doors, batches(maker, campaigns, count), counted, told)
        for door in doors:
            door.close()
    return counted


def against_headquarters(baskets: int, seed: int, told: Callable[[int], Any]) -> Counted:
    """As `run`, in a folder of its own. Its path is short: unix sockets allow 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="co-", ignore_cleanup_errors=True) as folder:
        return asyncio.run(run(baskets, seed, told, Path(folder)))
