"""1,000 codes, each shown by eight devices in the same millisecond, while core is killed ten times: each is redeemed exactly once.

No yardstick but zero: `twice`, `lost` and `changed` are failures, and `redeemed` is every code.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

import msgspec

from tests.gateway.kiosk.race import race


def main() -> None:
    """Entry of `python -m benchmarks.race`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description="One code, many devices, kill -9 in between.")
    parser.add_argument("--json", action="store_true", help="only the last line")
    parser.add_argument("--quick", action="store_true", help="fifty codes")
    parser.add_argument("--codes", type=int, default=1_000)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    codes, kills = (50, 2) if options.quick else (options.codes, options.kills)
    with tempfile.TemporaryDirectory(prefix="race-", ignore_cleanup_errors=True) as folder:
        found = asyncio.run(race(Path(folder), codes, options.devices, kills, options.seed))
    flat = msgspec.to_builtins(found)
    if not options.json:
        print("\n".join(f"{name:<12}{value:>8}" for name, value in flat.items()))
    print(f"SUMMARY {json.dumps(flat)}", flush=True)
    if found.twice or found.lost or found.changed or found.redeemed != codes:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
