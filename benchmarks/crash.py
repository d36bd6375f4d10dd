"""A ledger that works hard, to be cut off at any moment, and what is left of it: for replays of power cuts.

`write --root DIR --ack FILE` begins with a ledger of the first release, migrates it, then goes on for ever: redemptions, foot
traffic, headquarters' acknowledgements, days that pass (so that rows are merged, trimmed and forgotten), a new start every
now and then. Once the ledger has said that a row is on the disk, its number is appended to FILE.
`recover DIR` starts on what is left and prints the numbers that are there; its exit status is 1 if anything is damaged.
"""

import argparse
import asyncio
import hashlib
import itertools
import os
import sqlite3
import sys
from pathlib import Path
from typing import Final

from benchmarks.clocks import MovedClock
from gateway.chain import CHAIN_START, PLACE, encode_event
from gateway.clock import Clock, SystemClock
from gateway.errors import LedgerError
from gateway.events import EpochOpened, Row, SubjectKind, VisitStarted, VoucherRedeemed
from gateway.ledger import Ledger, StoredAnswer
from gateway.schema import MIGRATIONS, migrate

OLD_ROWS: Final = 40
LIFE_ROUNDS: Final = 60
DAYS_AHEAD: Final = 4


def used(number: int, clock: Clock) -> Row:
    """The use of a voucher; its number is what must not be lost."""
    return VoucherRedeemed(f"r{number}", str(number), 7, 1, "counter", "kiosk", None, 1, clock.now())


def broke(error: LedgerError) -> None:
    """The process ends, as core does."""
    raise error


class Acknowledged:
    """The file that says what was acknowledged."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, number: int) -> None:
        """This one is on the disk."""
        os.write(self._descriptor, b"%d\n" % number)


def write_old(path: Path, clock: Clock, numbers: "itertools.count[int]", acknowledged: Acknowledged) -> None:
    """A ledger of the first release, with rows in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(f"BEGIN; {MIGRATIONS[0][0]} PRAGMA user_version=1; COMMIT;")
    key, head = bytes(range(32)), CHAIN_START
    connection.execute("INSERT INTO file VALUES (1, ?)", (key,))
    connection.execute("INSERT INTO epoch VALUES (1, 'aaaaaaaa', NULL, '{}', 1)")
    for seq in range(1, OLD_ROWS + 1):
        number = next(numbers)
        row = used(number, clock) if seq > 1 else EpochOpened(None, {}, "first", clock.now())
        event, kind, at_us = encode_event(row), type(row).__name__, row.event_time.wall_us
        link = hashlib.blake2b(head + PLACE.pack(1, 0, seq, at_us), key=key, digest_size=16)
        for part in (kind.encode(), event, b""):
            link.update(len(part).to_bytes(4, "big") + part)
        head = link.digest()
        connection.execute("INSERT INTO row VALUES (1, 0, ?, ?, ?, ?, '', ?)", (seq, at_us, kind, event, head))
        connection.execute("INSERT INTO answer VALUES (?, x'00', x'01', ?)", (str(number), at_us))
        if seq > 1:
            acknowledged.say(number)
    connection.close()


async def live(path: Path, clock: MovedClock, numbers: "itertools.count[int]", acknowledged: Acknowledged) -> None:
    """One start, until the next."""
    ledger = Ledger(path, clock, "crash", lambda: None, broke)
    visits: list[asyncio.Future[None]] = []
    for round_ in range(LIFE_ROUNDS):

        async def one() -> None:
            number = next(numbers)
            await ledger.append([used(number, clock)], answer=StoredAnswer(f"k{number}", b"asked", b"answered"))
            acknowledged.say(number)

        await asyncio.gather(*(one() for _ in range(round_ % 5 + 1)))
        visits += [
            ledger.append([VisitStarted("ble@radio", f"v{number}", "tag", SubjectKind.TAG, "door", clock.now())], source_id=f"e{number}")
            for number in range(40)
        ]
        await ledger.prove()
        clock.ahead_ns += (DAYS_AHEAD * 86_400 if round_ % 30 == 29 else 2) * 10**9
        if round_ % 30 == 29:  # now and then headquarters has everything, and its backups too
            for number, lanes in list(ledger.reach.items()):
                for lane, seq in lanes.items():
                    ledger.move_cursor(number, lane, seq)
            for epoch in ledger.reader.epochs():
                ledger.backed_up(epoch.name, 0, ledger.reach.get(epoch.number, {}).get(0, 0))
        await ledger.prove()
        await asyncio.sleep(0.01)
    ledger.close()


def write(root: Path, acknowledged: Acknowledged) -> None:
    """For ever."""
    path, clock, numbers = root / "ledger.db", MovedClock(), itertools.count(1)
    write_old(path, clock, numbers, acknowledged)
    migrate(path)
    while True:
        asyncio.run(live(path, clock, numbers, acknowledged))


async def left(root: Path) -> tuple[list[str], list[str]]:
    """The numbers that are there, and what is damaged."""
    path = root / "ledger.db"
    if not path.exists():
        return [], []
    migrate(path)
    ledger = Ledger(path, SystemClock(), "recover", lambda: None, broke)
    numbers = [row.voucher_id for _, row in ledger.history() if isinstance(row, VoucherRedeemed)]
    trouble = [f"{one.epoch.name}/{one.lane}/{one.first}-{one.last}" for one in ledger.damage] + ledger.harmed
    if ledger.set_aside is not None:
        trouble.append(f"set aside: {ledger.set_aside}")
    ledger.close()
    return numbers, trouble


def main() -> None:
    """Entry of `python -m benchmarks.crash`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description="A ledger to be cut off, and what is left of it.")
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="work until killed")
    writing.add_argument("--root", type=Path, required=True, help="folder of the ledger")
    writing.add_argument("--ack", type=Path, required=True, help="file that gets a line for each row on the disk")
    commands.add_parser("recover", help="start on what is left").add_argument("root", type=Path)
    options = parser.parse_args()
    if options.command == "write":
        write(options.root, Acknowledged(options.ack))
    numbers, trouble = asyncio.run(left(options.root))
    print("\n".join(numbers))
    if trouble:
        print("\n".join(trouble), file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
