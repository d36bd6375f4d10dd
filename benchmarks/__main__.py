"""Runs every benchmark, one after the other; options go to each of them. `make bench` comes here."""

import subprocess
import sys
from typing import Final

BENCHMARKS: Final = (
    "footprint", "ledger", "redeem", "race", "drain", "ingest", "campaign_oracle", "offline_day", "verify", "issue", "lookup_timing",
)  # fmt: skip


def main() -> None:
    """Entry of `python -m benchmarks`; its exit status says whether all of them ran to their end."""
    failed = []
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=False).returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"did not run to their end: {', '.join(failed)}")


if __name__ == "__main__":
    main()
