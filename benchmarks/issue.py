"""`store-gateway issue` of many vouchers through a running headquarters: seconds, vouchers a second; and again, when nothing is missing.

The yardstick is signing alone: as many Ed25519 signatures over 36 bytes, one after the other, in the same run.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud_bridge.hq.options import HqOptions
from tests.cloud_bridge.hq.rig import headquarters


async def measure(count: int) -> dict[str, float]:
    """Half of them for one shop, half for any."""
    with tempfile.TemporaryDirectory(prefix="issue-") as folder:
        data, path = Path(folder) / "hq", Path(folder) / "vouchers.csv"
        path.write_text(
            f"store,title_zh,title_en,count\ns1,咖啡券,Coffee,{count // 2}\n,禮券,Gift,{count - count // 2}\n", encoding="utf-8"
        )
        async with headquarters(HqOptions(data_dir=str(data))) as hq:
            await hq.new_box()
            took = []
            for _ in range(2):
                started_s = time.perf_counter()
                words = ["issue", str(path), "--codes", str(Path(folder) / "codes.csv"), "--data", str(data)]
                process = await asyncio.create_subprocess_exec(".venv/bin/python", "-m", "gateway", *words)
                if await process.wait():
                    raise SystemExit("it was not issued")
                took.append(time.perf_counter() - started_s)
            size_mb = (data / "hq.db").stat().st_size / 1e6
    return {"count": count, "s": took[0], "again_s": took[1], "hq_db_mb": size_mb}


def signing_s(count: int) -> float:
    """The yardstick."""
    key, started_s = Ed25519PrivateKey.generate(), time.perf_counter()
    for number in range(count):
        key.sign(number.to_bytes(36, "big"))
    return time.perf_counter() - started_s


def main() -> None:
    """Entry of `python -m benchmarks.issue`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = asyncio.run(measure(asked.count))
    found |= {"signing_s": signing_s(asked.count), "per_s": found["count"] / found["s"]}
    found["times_signing"] = found["s"] / found["signing_s"]
    if not asked.json:
        print(f"{asked.count:,} vouchers: {found['s']:.1f} s, {found['per_s']:,.0f}/s, {found['times_signing']:.1f} x signing alone")
        print(f"run again, nothing missing: {found['again_s']:.1f} s; database {found['hq_db_mb']:.0f} MB")
    print(f"SUMMARY {json.dumps({name: round(value, 3) for name, value in found.items()})}")


if __name__ == "__main__":
    main()
