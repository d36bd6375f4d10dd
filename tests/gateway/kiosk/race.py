"""Several devices show the same code in the same millisecond, code after code, while core is killed at random moments.

Each device asks until it is answered, always with the same key. At the end the ledger says what happened.
"""

import asyncio
import collections
import json
import os
import random
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from cloud_bridge.ports import free_port
from gateway.chain import decode_event
from gateway.events import VoucherRedeemed
from tests.conftest import SHOP
from tests.gateway.core.shop import stored, voucher_token

WITHIN_S: Final = 60.0


class Outcome(Struct):
    """What a race came to."""

    codes: int
    devices: int
    kills: int
    redeemed: int  # codes that a device was told it redeemed
    twice: int  # codes with more than one row, or more than one device that was told so
    lost: int  # codes that a device was told it redeemed, without a row
    changed: int  # requests that got two different answers


class Process:
    """The shop, started again as often as it is killed."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.port, self._config, self._devices = free_port(), folder / "gateway.toml", devices
        self._config.write_text(SHOP.format(root=folder) + "[till]\nrequests_per_s = 100000\n", encoding="utf-8")
        self.keys: list[str] = []
        self.kills = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; returns when it serves."""
        command = [sys.executable, "-m", "tests.gateway.kiosk.shop_process", str(self._config), str(self.port), str(self._devices)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.keys = json.loads(self._process.stdout.readline())["keys"] or self.keys

    def kill(self) -> None:
        """kill -9, and nothing else."""
        assert self._process is not None and self._process.stdout is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self.kills += 1


async def _ask(port: int, key: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask until answered, each time the same."""
    raw = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(head.encode() + raw)
                answer = await reader.read()
                writer.close()
            except OSError:
                answer = b""
            if answer.startswith(b"HTTP/1.1 200"):
                return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))
            assert not answer.startswith(b"HTTP/1.1 4"), answer
            await asyncio.sleep(0.02)


async def race(folder: Path, codes: int, devices: int, kills: int, seed: int) -> Outcome:
    """Run it; nothing is left running."""
    shop, chance = Process(folder, devices), random.Random(seed)
    shop.start()
    killed = set(chance.sample(range(codes), kills))
    told: dict[str, list[str]] = collections.defaultdict(list)
    changed = 0
    try:
        for number in range(codes):
            code, asked = voucher_token(10_000 + number).decode(), list[Any]()
            bodies = [{"station": "counter", "code": code, "presentation_id": secrets.token_hex(16)} for _ in shop.keys]
            asked = [asyncio.ensure_future(_ask(shop.port, key, "/v1/redeem", body)) for key, body in zip(shop.keys, bodies, strict=True)]
            if number in killed:
                await asyncio.sleep(chance.uniform(0.0, 0.02))
                await asyncio.to_thread(shop.kill)
                await asyncio.to_thread(shop.start)
            answers = await asyncio.gather(*asked)
            if number in killed:  # the same keys again: the same answers, from before the kill or from after it
                again = [await _ask(shop.port, key, "/v1/redeem", body) for key, body in zip(shop.keys, bodies, strict=True)]
                changed += sum(one != other for one, other in zip(answers, again, strict=True))
            told[answers[0]["reference"]] += [one["redemption_id"] for one in answers if one["decision"] == "redeemed"]
    finally:
        shop.kill()
    return _compared(folder, Outcome(codes, devices, shop.kills - 1, 0, 0, 0, changed), told)


def _compared(folder: Path, outcome: Outcome, told: dict[str, list[str]]) -> Outcome:
    rows: dict[str, list[str]] = collections.defaultdict(list)
    for _, _, event in stored(folder / "state" / "ledger.db"):
        if isinstance(row := decode_event(event), VoucherRedeemed):
            rows[row.voucher_id].append(row.redemption_id)
    outcome.redeemed = sum(bool(found) for found in told.values())
    outcome.twice = sum(len(found) > 1 for found in told.values()) + sum(len(found) > 1 for found in rows.values())
    outcome.lost = sum(not set(found) <= set(rows[voucher_id]) for voucher_id, found in list(told.items()))
    return outcome
