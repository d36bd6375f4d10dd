"""`python -m tests.faults`: kill -9 at random points under load, and count what was lost, doubled or left unexplained.

Each round starts a fresh store on one broker, kills one kind of process a few times while customers redeem and people walk
about, waits until headquarters has everything, and compares. The last line is `SUMMARY {json}`. With `--long` totals accumulate
in a file and a later run goes on from there. The exit status is 1 if anything was lost, doubled or unexplained.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, field
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.errors import ConfigError
from tests.cloud_bridge.hq.cluster import BINARIES
from tests.faults.rounds import FAULTS, Round, Tally, shop
from virtual_store.brokers import installed

SHARES: Final = {"amqtt": 7.5, "mosquitto": 8.0, "postgres": 2.0, "nats": 2.5}  # of the time, if all are there
KILLS: Final = {"amqtt": 10, "mosquitto": 10, "postgres": 8, "nats": 5}  # of a round
RESENT_AIM: Final = 0.1


class Totals(Struct):
    """What is kept between runs of `--long`."""

    rounds: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)  # by "broker fault"
    failed: list[str] = field(default_factory=list)

    def take(self, name: str, tally: Tally, seed: int, folder: str) -> None:
        """Add a round."""
        self.rounds += 1
        self.tallies.setdefault(name, Tally()).add(tally)
        if not tally.clean:
            self.failed.append(f"{name}, seed {seed}, left in {folder}: {json.dumps(tally.said())}")


def main(words: list[str]) -> int:
    """Run; returns the exit status."""
    options = parsed(words)
    console = Console(stderr=True)
    totals = read(options.state) if options.long else Totals()
    brokers = [options.broker] if options.broker else [name for name in SHARES if there(name, console)]
    share = sum(SHARES[name] for name in brokers)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} s of {task.total:.0f} s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        for broker in brokers:
            for_s = options.minutes * 60 * SHARES[broker] / share
            shown = bar.add_task(broker, total=for_s)
            began_s = time.monotonic()

            def tell(sentence: str, broker: str = broker, shown: Any = shown, began_s: float = began_s) -> None:
                bar.update(shown, completed=time.monotonic() - began_s, description=f"{broker}: {sentence}")

            for seed, fault in rounds_of(broker, options, totals):
                left_s = for_s - (time.monotonic() - began_s)
                if left_s <= 0:
                    break
                run_round(broker, fault, seed, totals, min(KILLS[broker], max(1, int(left_s / 6))), tell, console)
                if options.long:
                    write(options.state, totals)
    return conclude(totals, console)


def parsed(words: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--broker", choices=sorted(SHARES), help="only this one; default: all that are installed")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long in all (20)")
    parser.add_argument("--seed", type=int, help="of the first round; default: a new one")
    parser.add_argument("--fault", help="only this one, such as core")
    parser.add_argument("--long", action="store_true", help="go on from the totals of earlier runs, and keep them")
    parser.add_argument("--state", type=Path, default=Path("build/faults.json"), help="where --long keeps them")
    return parser.parse_args(words)


def there(broker: str, console: Console) -> bool:
    """Whether it is installed; amqtt always is."""
    if broker == "postgres" and not (BINARIES / "initdb").exists():
        console.print("[yellow]without postgres: PostgreSQL 15 is not installed (apt-get install postgresql-15)[/yellow]")
        return False
    try:
        if broker not in ("amqtt", "postgres"):
            installed(broker)
    except ConfigError as error:
        console.print(f"[yellow]without {broker}: {error}[/yellow]")
        return False
    return True


def rounds_of(broker: str, options: argparse.Namespace, totals: Totals) -> Iterator[tuple[int, str]]:
    """(seed, fault), for ever; the fault with the fewest cycles so far comes first."""
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 24)
    wanted = [fault for fault in FAULTS[broker] if options.fault in (None, fault)]
    if not wanted:
        raise SystemExit(f"no fault of {broker} is called {options.fault}; there are {', '.join(FAULTS[broker])}")
    wanted.sort(key=lambda fault: totals.tallies.get(f"{broker} {fault}", Tally()).cycles)
    yield from enumerate(cycle(wanted), first)


def run_round(broker: str, fault: str, seed: int, totals: Totals, kills: int, tell: Callable[[str], None], console: Console) -> None:
    """One round on a fresh store."""
    name, done = f"{broker} {fault}", 0

    def killed() -> None:
        nonlocal done
        done += 1
        tell(f"{fault} killed {done} of {kills} times, seed {seed}")

    tell(f"a store starts, seed {seed}")
    with shop(broker, seed) as (store, database):
        folder = store.starter.plan.folder
        tally = Round(store, random.Random(seed), database).run(FAULTS[broker][fault], kills, killed)
    totals.take(name, tally, seed, str(folder))
    console.print(f"{'[red]' if not tally.clean else ''}{name}, seed {seed}: {json.dumps(tally.said())}")
    if tally.clean:
        shutil.rmtree(folder, ignore_errors=True)


def conclude(totals: Totals, console: Console) -> int:
    """Print the summary; the exit status."""
    for failure in totals.failed:
        console.print(f"[red]{failure}[/red]")
    whole = Tally()
    for tally in totals.tallies.values():
        whole.add(tally)
    if whole.made and whole.resent / whole.made > RESENT_AIM:
        console.print(f"[yellow]more was sent again than {RESENT_AIM:.0%} of what was made[/yellow]")
    said = {name: tally.said() for name, tally in sorted(totals.tallies.items())} | {"all": whole.said()}
    print(f"SUMMARY {json.dumps(said)}", flush=True)
    return 0 if whole.clean and whole.cycles else 1


def read(path: Path) -> Totals:
    """The totals of earlier runs."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Totals)
    except FileNotFoundError:
        return Totals()


def write(path: Path, totals: Totals) -> None:
    """Keep them, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_bytes(msgspec.json.encode(totals))
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
