"""A backlog goes up while the shop works: how fast, how large on the wire, and what money and customers notice of it.

Real processes: core, bridge, headquarters and mosquitto (amqtt with --broker). A backlog of foot traffic and some money is written
by the real ledger, the line is mended, and core is asked five times a second all the while. Headquarters and broker would be
other machines; here they give way to the box's processes (nice 10).

Yardsticks in the same run: one event a message, 20 under way, headquarters committing each for itself; and SQLite alone, 1,000 of
the same rows a commit (WAL, synchronous=FULL). Their rounds lie before and after the drain; medians are taken.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.asker import Answers, Asker
from benchmarks.backlog import write_backlog
from benchmarks.footprint import cpu_ticks
from benchmarks.singly import SingleSite, raw, sample, singles
from cloud_bridge.mqtt import Incoming
from cloud_bridge.ports import free_port
from gateway.ledger import LedgerReader
from gateway.signed import SIGNATURE_B, TAG_B, Ack, unpack_limited
from tests.cloud_bridge.brokers.site import Box, connected
from tests.faults.tap import Tap, header_of
from virtual_store.plan import STORE, Plan, Ports
from virtual_store.starter import UNITS, Starter
from virtual_store.web import Refused

AIMS: Final = {
    "drain_over_single": (">=", 60.0), "drain_over_raw_batch1000": (">=", 0.15), "traffic_wire_bytes_per_event": ("<=", 25.0),
    "money_wire_bytes_per_event": ("<=", 150.0), "gateway_us_per_event": ("<=", 5.0), "live_p99_over_idle": ("<=", 3.0),
    "lane0_p99_s": ("<=", 1.0),
}  # fmt: skip
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
IDLE_S: Final = 30.0
SINGLES: Final = 400
MQTT_FRAME_B: Final = 7  # fixed header, topic length, packet id
GIVES_WAY: Final = 10


# ---------------------------------------------------------------- the shop


class LateStarter(Starter):
    """Starts a shop whose line is cut from the beginning."""

    async def _enrol(self) -> dict[str, str]:
        clerk = await super()._enrol()
        await self.cut_line(False)
        return clerk

    async def _until_serving(self) -> None:
        async def serving() -> bool:
            try:
                store = await self.shop.get("/v1/store")
            except Refused:
                return False
            return set(UNITS) - {"core"} <= {unit["unit"] for unit in store["units"] if unit["connected"]}

        await self._until_true(serving, "the shop did not come up")


class Scales(Tap):
    """Weighs what crosses the broker and notes when headquarters acknowledged it."""

    def __init__(self, hq_dir: Path, addresses: list[tuple[str, int]]) -> None:
        super().__init__(hq_dir, addresses)
        self._mqtt.subscriptions += ("sgw/1/+/+/+/+/dn/ack",)
        self.weights: dict[tuple[int, bool], list[int]] = {}  # by lane and whether of the backlog: rows and bytes
        self.acks: dict[tuple[str, int], list[tuple[int, float]]] = {}  # by epoch and lane: mark and when
        self.backlog = ""
        self.first_s = 0.0  # when the backlog's first batch crossed

    def _take(self, incoming: Incoming) -> None:
        super()._take(incoming)
        leaf = incoming.topic.rpartition("/")[2]
        if leaf.isdigit():
            header = header_of(incoming.payload)
            if header.epoch == self.backlog and not self.first_s:
                self.first_s = time.time()
            weight = self.weights.setdefault((header.lane, header.epoch == self.backlog), [0, 0])
            weight[0] += header.last - header.first + 1
            weight[1] += len(incoming.payload) + len(incoming.topic) + MQTT_FRAME_B
        elif leaf == "ack":
            ack = msgspec.json.decode(unpack_limited(incoming.payload[TAG_B + SIGNATURE_B :], 65_536), type=Ack)
            self.acks.setdefault((ack.epoch, ack.lane), []).append((ack.mark, time.time()))

    def acked_s(self, epoch: str, lane: int, seq: int) -> float | None:
        """When headquarters said that it has a row."""
        acks = self.acks.get((epoch, lane), [])
        place = bisect_left(acks, seq, key=lambda ack: ack[0])
        return acks[place][1] if place < len(acks) else None


async def drain(folder: Path, options: argparse.Namespace, told: Any) -> dict[str, float]:
    """Everything that is measured on a shop."""
    plan = Plan(folder, Ports(*(free_port() for _ in range(4))), 7, options.broker)
    async with Starter(plan, told) as starter:
        ask = {"store": STORE, "title_zh": "券", "title_en": "Voucher"}
        tokens = [str((await starter.hq.post("/api/vouchers", ask))["token"]) for _ in range(50)]
        await starter.drain()
    number = await write_backlog(starter.ledger, options.rows, options.money, told)
    async with LateStarter(plan, told) as starter:
        kept = starter.keeper.kept
        for name in kept:
            if name == "hq" or name.startswith("broker"):
                for thread in Path(f"/proc/{kept[name].pid}/task").iterdir():  # on Linux each thread has a niceness of its own
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), GIVES_WAY)
        reader = LedgerReader(starter.ledger)
        epoch = next(epoch.name for epoch in reader.epochs() if epoch.number == number)
        reader.close()
        addresses = json.loads((plan.hq_dir / "addresses.json").read_text())
        scales = Scales(plan.hq_dir, [(addresses["broker_host"], addresses["broker_port"])])
        scales.backlog = epoch
        await scales.start()
        told(f"idle: {IDLE_S:.0f} s")
        idle = await _asked(plan, tokens, IDLE_S)
        told("the line is mended")
        before_ticks, began_s = cpu_ticks(kept["bridge"].pid), time.time()
        await starter.cut_line(True)
        asker = Asker(plan.kiosk_url, tokens)
        ended_s = await _until_acked(scales, epoch, options.rows, told)
        ticks = cpu_ticks(kept["bridge"].pid) - before_ticks
        busy = (await asyncio.to_thread(asker.finish)).found
        await asyncio.sleep(1.5)
        await scales.stop()
        lane0 = await asyncio.to_thread(_lane0, plan.hq_dir / "hq.db", scales, busy)
    traffic_w, money_w = scales.weights[1, True], scales.weights[0, True]
    told(f"answers while it drained: {busy.decisions}, {len(lane0)} of them followed to headquarters")
    return {
        "rows": options.rows, "drain_s": round(ended_s - scales.first_s, 2),
        "drain_per_s": round(options.rows / (ended_s - scales.first_s)),
        "line_up_s": round(scales.first_s - began_s, 2), "traffic_wire_bytes_per_event": round(traffic_w[1] / traffic_w[0], 1),
        "money_wire_bytes_per_event": round(money_w[1] / money_w[0], 1),
        "gateway_us_per_event": round(ticks / TICKS_PER_S / options.rows * 1e6, 2),
        "idle_p99_ms": round(_p99(idle.waits) * 1e3, 1), "live_p99_ms": round(_p99(busy.waits) * 1e3, 1),
        "live_p99_over_idle": round(_p99(busy.waits) / _p99(idle.waits), 2), "live_asked": len(busy.waits),
        "lane0_p99_s": round(_p99(lane0), 3), "resent_over_made": round(scales.resent / max(1, scales.made), 4),
    }  # fmt: skip


async def _asked(plan: Plan, tokens: list[str], for_s: float) -> Answers:
    asker = Asker(plan.kiosk_url, tokens)
    await asyncio.sleep(for_s)
    return (await asyncio.to_thread(asker.finish)).found


async def _until_acked(scales: Scales, epoch: str, rows: int, told: Any) -> float:
    """When headquarters acknowledged the backlog's last row."""
    last_said = 0
    while True:
        acks = scales.acks.get((epoch, 1), [])
        if acks and acks[-1][0] >= rows:
            return acks[-1][1]
        if acks and acks[-1][0] - last_said >= 100_000:
            last_said = acks[-1][0]
            told(f"drained {last_said} of {rows} rows")
        await asyncio.sleep(0.05)


def _lane0(path: Path, scales: Scales, asked: Answers) -> list[float]:
    """From core's answer to headquarters' acknowledgement, for each answer."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    kinds = ("VoucherRedeemed", "RedemptionRefused")
    rows = connection.execute("SELECT epoch, seq, event FROM rows WHERE type IN (?, ?)", kinds).fetchall()
    connection.close()
    took = []
    for epoch, seq, text in rows:
        event = json.loads(text)
        answered_s = asked.answered.get(event.get("redemption_id") or event.get("presentation_id"))
        if answered_s is not None:
            acked_s = scales.acked_s(epoch, 0, seq)
            answered_s = max(answered_s, scales.first_s)  # what waits for the line to come up waits for no backlog
            took.append(max(0.0, acked_s - answered_s) if acked_s is not None else 60.0)
    assert len(took) == len(asked.answered), f"{len(asked.answered) - len(took)} answers are not at headquarters"
    return took


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


# ---------------------------------------------------------------- all of it


async def measure(options: argparse.Namespace, told: Any) -> dict[str, float]:
    """Yardsticks, the drain, yardsticks."""
    single_rates: list[float] = []
    found: dict[str, float] = {}
    raw_rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        events = await asyncio.to_thread(sample)
        (folder / "single").mkdir()
        with SingleSite(options.broker, folder / "single") as site:
            box = Box(await asyncio.to_thread(site.new_box), site.addresses)
            async with connected(box):
                for turn in range(4):
                    if turn == 2:
                        found = await drain(folder / "shop", options, told)
                    told(f"yardsticks, round {turn + 1} of 4")
                    raw_rates.append(await asyncio.to_thread(raw, folder, 50_000, events))
                    single_rates.append(await singles(box, turn * SINGLES + 1, SINGLES))
    single, plain = statistics.median(single_rates), statistics.median(raw_rates)
    return {
        "drain_over_single": round(found["drain_per_s"] / single, 1), "drain_over_raw_batch1000": round(found["drain_per_s"] / plain, 3),
        **found, "single_per_s": round(single), "raw_batch1000_per_s": round(plain), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def main() -> int:
    """Entry of `python -m benchmarks.drain`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drain", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="of foot traffic (200000; a million takes longer to write than to drain)")
    parser.add_argument("--money", type=int, default=2_000, help="redemptions before them")
    parser.add_argument("--broker", choices=("amqtt", "mosquitto", "nats"), default="mosquitto")
    parser.add_argument("--json", action="store_true", help="only the summary")
    options = parser.parse_args()
    found = asyncio.run(measure(options, lambda sentence: options.json or print(f"· {sentence}", flush=True)))
    if not options.json:
        for key, (sign, aim) in AIMS.items():
            met = found[key] >= aim if sign == ">=" else found[key] <= aim
            print(f"{key:32} {found[key]:>12} aim {sign} {aim:g} {'' if met else '  MISSED'}")
    print(f"SUMMARY {json.dumps(found)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
