"""A core with its doors open, in a process of its own, to be killed: `python -m tests.gateway.kiosk.shop_process FILE PORT TILLS`.

Prints `{"keys": [...]}` once it serves: the keys of the tills it has just paired; none, if it is not its first life.
"""

import asyncio
import json
import sys
from pathlib import Path

from gateway.clock import SystemClock
from gateway.config import load
from gateway.kiosk.app import serve
from gateway.schema import migrate
from tests.gateway.core.roll_of import GOLD, PLAIN, SIGNER, whole
from tests.gateway.core.shop import Shop


async def main() -> None:
    config = load(Path(sys.argv[1]))
    is_first = not config.ledger_path.exists()
    migrate(config.ledger_path)
    shop = Shop(config, SystemClock(), SIGNER)
    config.link_path.unlink(missing_ok=True)
    await shop.open()
    keys: list[str] = []
    if is_first:
        await shop.papers()
        assert await shop.bring(whole(GOLD, PLAIN)) == b"applied"
        keys = [await shop.desk.devices.pair("pos", "counter", f"till {number}", "s-2") for number in range(int(sys.argv[3]))]
    await serve(shop.desk, "127.0.0.1", int(sys.argv[2]), listening=lambda port: print(json.dumps({"keys": keys}), flush=True))


if __name__ == "__main__":
    asyncio.run(main())
