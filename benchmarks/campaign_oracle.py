"""The campaign engine against another opinion, and the shop against headquarters: `python -m benchmarks.campaign_oracle`.

`differences`: random baskets, campaigns and clocks, priced by the engine and by `benchmarks.oracle`, which tries everything.
`parity_differences`: a running headquarters and a running shop, two processes in two time zones, the definitions carried from one
to the other in signed documents; the same baskets asked at both HTTP doors, the answers compared byte for byte.
"""

import argparse
import concurrent.futures
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.progress import Progress

from benchmarks import oracle
from benchmarks.baskets import STORE, Found, Maker
from gateway.rules.basket import Basket, Count, Facts, ShownVoucher
from gateway.rules.campaign import price
from gateway.rules.definitions import read_campaigns

AIMS: Final = {"differences": 0, "parity_differences": 0}
CHUNK: Final = 500  # baskets of one seed
SHOWN: Final = 3  # differences told in full
WORDS: Final = ("message", "next_step", "title")


class Counted(msgspec.Struct):
    """What a chunk of baskets came to."""

    baskets: int = 0
    differences: int = 0
    used: dict[str, int] = {}  # campaigns used, by kind
    refused: dict[str, int] = {}  # refusals, by reason
    examples: list[str] = []

    def add(self, other: "Counted") -> None:
        """Put another one to it."""
        self.baskets += other.baskets
        self.differences += other.differences
        self.used = dict(Counter(self.used) + Counter(other.used))
        self.refused = dict(Counter(self.refused) + Counter(other.refused))
        self.examples = (self.examples + other.examples)[:SHOWN]


def engine(basket: Found, campaigns: list[Found], facts: Found) -> Found:
    """The engine's answer, without its words."""
    read = read_campaigns(msgspec.json.encode(one) for one in campaigns)
    assert not read.problems, read.problems
    asked = Facts(
        store=facts["store"], timezone=facts["timezone"], earliest_us=facts["earliest_us"], latest_us=facts["latest_us"],
        codes=tuple(facts["codes"]), vouchers=msgspec.convert(facts["vouchers"], tuple[ShownVoucher, ...]), member=facts["member"],
        counts=msgspec.convert(facts["counts"], tuple[Count, ...]),
    )  # fmt: skip
    found: Found = msgspec.to_builtins(price(msgspec.convert(basket, Basket), read.good, asked), builtin_types=())
    for name in ("adjustments", "refused"):
        found[name] = [{key: value for key, value in one.items() if key not in WORDS} for one in found[name]]
    return found


def plain(found: Found) -> Found:
    """As JSON has it: tuples are lists."""
    return dict(json.loads(json.dumps(found)))


def one_basket(maker: Maker) -> tuple[Found, list[Found], Found]:
    """A basket, its campaigns, its facts."""
    maker.next_world()
    campaigns = maker.campaigns(maker.chance.randint(1, 5))
    facts = maker.facts(campaigns)
    facts |= facts.pop("at") | {"store": STORE, "timezone": maker.timezone}
    return maker.basket(), campaigns, facts


def compared(seed: int, baskets: int, judge: Callable[[Found, list[Found], Found], Found] = engine) -> Counted:
    """So many baskets of one seed, priced by both."""
    maker, counted = Maker(seed), Counted(baskets=baskets)
    for _ in range(baskets):
        asked = one_basket(maker)
        ours, theirs = plain(judge(*asked)), plain(oracle.judge(*asked))
        for adjustment in theirs["adjustments"]:
            counted.used[adjustment["kind"]] = counted.used.get(adjustment["kind"], 0) + 1
        for refusal in theirs["refused"]:
            counted.refused[refusal["reason"]] = counted.refused.get(refusal["reason"], 0) + 1
        if ours != theirs:
            counted.differences += 1
            if len(counted.examples) < SHOWN:
                counted.examples.append(json.dumps({"asked": asked, "engine": ours, "oracle": theirs}, ensure_ascii=False))
    return counted


def against_oracle(baskets: int, seed: int, told: Callable[[int], Any], workers: int) -> Counted:
    """Many baskets, on some processes."""
    whole = Counted()
    sizes = [min(CHUNK, baskets - done) for done in range(0, baskets, CHUNK)]
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        for counted in pool.map(compared, range(seed, seed + len(sizes)), sizes):
            whole.add(counted)
            told(counted.baskets)
    return whole


def rows(counted: Counted, parity: Counted, took: dict[str, float]) -> Iterator[tuple[str, str, str]]:
    """What is measured, what came out, and the aim."""
    yield "baskets, engine and oracle", str(counted.baskets), ""
    yield "differences", str(counted.differences), "0"
    yield "baskets, shop and headquarters", str(parity.baskets), ""
    yield "parity_differences", str(parity.differences), "0"
    for name, number in sorted(counted.used.items()):
        yield f"used: {name}", str(number), ""
    for name, number in sorted(parity.used.items()):
        yield f"used at both doors: {name}", str(number), ""
    for name, number in sorted(counted.refused.items()):
        yield f"refused: {name}", str(number), ""
    for name, seconds in took.items():
        yield f"{name}, s", f"{seconds:.1f}", ""


def measure(options: argparse.Namespace, bar: Progress) -> tuple[Counted, Counted, dict[str, float]]:
    """Both comparisons."""
    from benchmarks.parity import against_headquarters  # it needs a whole store's libraries; the oracle does not

    began_s = time.monotonic()
    task = bar.add_task("engine and oracle", total=options.baskets)
    counted = against_oracle(options.baskets, options.seed, lambda done: bar.advance(task, done), options.workers)
    middle_s = time.monotonic()
    parity = Counted()
    if options.parity:
        other = bar.add_task("shop and headquarters", total=options.parity)
        parity = against_headquarters(options.parity, options.seed, lambda done: bar.advance(other, done))
    return counted, parity, {"oracle": middle_s - began_s, "parity": time.monotonic() - middle_s}


def main() -> int:
    """Entry of `python -m benchmarks.campaign_oracle`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign_oracle", description=__doc__)
    parser.add_argument("--baskets", type=int, default=100_000, help="priced by the engine and by the oracle (default: 100000)")
    parser.add_argument("--parity", type=int, default=None, help="asked at the shop and at headquarters (default: as many); 0: none")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same baskets (default: 1)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    parser.add_argument("--json", action="store_true", help="only the last line")
    options = parser.parse_args()
    options.parity = options.baskets if options.parity is None else options.parity
    with Progress(console=Console(stderr=True), disable=options.json) as bar:
        counted, parity, took = measure(options, bar)
    for example in counted.examples + parity.examples:
        print(example, file=sys.stderr)
    if not options.json:
        for name, value, aim in rows(counted, parity, took):
            print(f"{name:<40}{value:>12}{aim:>6}{'  MISSED' if aim and value != aim else ''}")
    flat = {
        "differences": counted.differences, "parity_differences": parity.differences, "baskets": counted.baskets,
        "parity_baskets": parity.baskets, "kinds_used": len(counted.used), "reasons_seen": len(counted.refused),
        "oracle_s": round(took["oracle"], 1), "parity_s": round(took["parity"], 1), "seed": options.seed,
    }  # fmt: skip
    print(f"SUMMARY {json.dumps(flat)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
