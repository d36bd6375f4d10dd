"""Whether the time of a look-up by telephone number tells what was found, over HTTP against a real core in a process of its own.

Four kinds are asked in turns, in another order each round: somebody who has agreed to be joined to what they buy (`found`), somebody
who has not (`no_consent`), nobody (`unknown`), and any number from a device that may look for none any more (`locked`). The yardstick
runs in the same rounds: `again` is `found` once more, from other devices; what its ranks differ by is noise. `auc_X` is the chance
that one answer of that kind takes longer than one of `found` (0.5: no telling), `z_X` the same of the rank test by Mann and Whitney in
standard deviations. A guess from one answer is right in `guess` of all cases at best, over all kinds.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.aims import table
from gateway import phones
from gateway.clock import SystemClock
from gateway.config import MembersTable, parse
from gateway.events import LookupsLocked
from gateway.schema import migrate
from gateway.signed import MemberEntry
from gateway.token import voucher_ref
from tests.conftest import SHOP

AIMS: Final = {"guess": ("<=", 0.6)}
KINDS: Final = ("found", "no_consent", "unknown", "locked", "again")
MEMBERS: Final = 2_000  # of each kind that has any
A_DEVICE: Final = 15  # look-ups with one; after 20 numbers of nobody it would be locked
WARM_UP: Final = 20  # rounds


def number_of(kind: str, at: int) -> str:
    """A number of that kind: each kind has a block of its own."""
    block = {"found": "0912", "again": "0912", "locked": "0912", "no_consent": "0922", "unknown": "0933"}[kind]
    return f"{block}{300_000 + at % MEMBERS:06}"


async def be_shop(folder: Path, devices: int) -> None:
    """A core that knows members, its doors open; prints its port and the keys of its tills by kind."""
    from tests.gateway.core.roll_of import SECRET, SIGNER, whole
    from tests.gateway.kiosk.real_shop import open_doors

    config = msgspec.structs.replace(parse(SHOP.format(root=folder)), members=MembersTable(lookups_per_s=100_000))
    migrate(config.ledger_path)
    entries = [
        MemberEntry(
            phones.as_reference(bytes([place]) * 8 + at.to_bytes(8, "big")),
            phones.phone_key(SECRET, phones.e164(number_of(kind, at), "TW")), voucher_ref(1, place * MEMBERS + at), "gold",
            ["bind", "preferences"] if kind == "found" else [], 300,
        )
        for place, kind in enumerate(("found", "no_consent"), 1) for at in range(MEMBERS)
    ]  # fmt: skip
    async with open_doors(config, SystemClock(), signer=SIGNER) as doors:
        desk, keys = doors.shop.desk, dict[str, list[str]]()
        assert await doors.shop.bring(whole(*entries, issued_us=desk.clock.now().wall_us)) == b"applied"
        for kind in KINDS:
            for _ in range(devices):
                key = await desk.devices.pair("pos", "counter", kind, "s-2")
                keys.setdefault(kind, []).append(key)
                device = desk.devices.find(key)
                assert device is not None
                if kind == "locked":
                    await desk.write([LookupsLocked(device.device_id, 20, "counter", None, device.device_id, desk.clock.now())])
        print(json.dumps({"port": int(doors.url.rpartition(":")[2]), "keys": keys}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)


def ask(port: int, keys: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each answer, by kind."""
    took, order = {kind: list[float]() for kind in KINDS}, list(KINDS)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for at in range(rounds + WARM_UP):
            random.shuffle(order)
            for kind in order:
                spent_s = _look_up(connection, keys[kind][at // A_DEVICE], kind, at)
                if at >= WARM_UP:
                    took[kind].append(spent_s)
    return took


def _look_up(connection: http.client.HTTPConnection, key: str, kind: str, at: int) -> float:
    body = json.dumps({"station": "counter", "phone": number_of(kind, at)})
    begun_s = time.perf_counter()
    connection.request("POST", "/v1/members/lookup", body, {"authorization": f"Bearer {key}", "content-type": "application/json"})
    with connection.getresponse() as answer:
        said = json.loads(answer.read())
    spent_s = time.perf_counter() - begun_s
    assert said["found"] is (kind not in ("unknown", "locked")), said
    return spent_s


def auc(several: list[float], others: list[float]) -> tuple[float, float]:
    """The chance that one of the first is larger than one of the second, ties half; and how many standard deviations that is from even."""
    ranked = sorted([(value, 1) for value in several] + [(value, 0) for value in others])
    wins, below, at = 0.0, 0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        first = sum(of for _, of in ranked[at:end])
        wins += first * (below + (end - at - first) / 2)
        below += end - at - first
        at = end
    pairs = len(several) * len(others)
    return wins / pairs, (wins - pairs / 2) / (pairs * (len(several) + len(others) + 1) / 12) ** 0.5


def judged(took: dict[str, list[float]]) -> dict[str, float]:
    """Medians, and how well each kind is told from `found`."""
    found = {f"{kind}_ms": round(statistics.median(took[kind]) * 1e3, 4) for kind in KINDS}
    for kind in KINDS[1:]:
        chance, z = auc(took[kind], took["found"])
        found |= {f"auc_{kind}": round(chance, 4), f"z_{kind}": round(z, 2)}
    guesses = {kind: max(found[f"auc_{kind}"], 1 - found[f"auc_{kind}"]) for kind in KINDS[1:]}
    return found | {"guess": round(max(guesses[kind] for kind in KINDS[1:-1]), 4), "guess_of_noise": round(guesses["again"], 4)}


def measure(rounds: int) -> dict[str, float]:
    """Ask a shop."""
    with tempfile.TemporaryDirectory() as folder:
        devices = (rounds + WARM_UP) // A_DEVICE + 1
        command = [sys.executable, "-m", "benchmarks.lookup_timing", "--shop", folder, "--devices", str(devices)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shop:
            assert shop.stdin is not None and shop.stdout is not None
            try:
                said: dict[str, Any] = json.loads(shop.stdout.readline())
                return judged(ask(said["port"], said["keys"], rounds))
            finally:
                shop.stdin.write("\n")
                shop.stdin.flush()


def main() -> None:
    """Entry of `python -m benchmarks.lookup_timing`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lookup_timing", description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the line for programs")
    parser.add_argument("--rounds", type=int, default=600, help="look-ups of each kind")
    parser.add_argument("--shop", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--devices", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shop is not None:
        asyncio.run(be_shop(options.shop, options.devices))
        return
    found = measure(options.rounds)
    if not options.json:
        print(table(found, AIMS))
    print(f"SUMMARY {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main()
