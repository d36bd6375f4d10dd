"""kill -9 at random moments while customers redeem: nothing acknowledged is lost, nothing happens twice.

The seed of each run is part of the test's name; a run that finds a failure stays here under its seed.
"""

import json
import os
import random
import secrets
import signal
import threading
import time
from typing import Any

import pytest

from tests.store.running import RunningStore
from virtual_store.web import Refused, Web

pytestmark = [pytest.mark.slow]
VICTIMS = ("core", "bridge", "hq", "scanner@counter", "locker@wall", "ble@radio", "board@wall")
RUN_S = 25.0  # some seventeen kills


class Customer(threading.Thread):
    """Presents codes over HTTP, each until it is answered, and writes down what it was told."""

    def __init__(self, url: str, tokens: list[str], seed: int) -> None:
        super().__init__(daemon=True)
        self._web = Web(url).pair_now("entrance")
        self._tokens = tokens
        self._random = random.Random(seed)
        self.told: list[tuple[str, dict[str, Any]]] = []  # presentation and the answer to it
        self.closing = threading.Event()

    def run(self) -> None:
        """Until told to stop."""
        while not self.closing.is_set():
            token, presentation_id = self._random.choice(self._tokens), secrets.token_hex(16)
            self.told.append((presentation_id, self._present(token, presentation_id)))
            if self._random.random() < 0.3:  # asks again with the same key, as after a time-out
                self.told.append((presentation_id, self._present(token, presentation_id)))
            time.sleep(0.02)

    def _present(self, token: str, presentation_id: str) -> dict[str, Any]:
        body = {"station": "entrance", "code": token, "presentation_id": presentation_id}
        while True:
            try:
                return dict(self._web.call("/v1/redeem", json.dumps(body).encode()))
            except Refused as error:
                assert error.status in (0, 429, 503), error
                time.sleep(0.1)


@pytest.mark.parametrize("seed", [1, 2026])
def test_nothing_acknowledged_is_lost_and_nothing_happens_twice(whole_store: RunningStore, seed: int) -> None:
    chance = random.Random(seed)
    ask = {"store": "tpe-001", "title_zh": "券", "title_en": "Voucher"}
    tokens = [str(whole_store.hq_post("/api/vouchers", ask)["token"]) for _ in range(60)]
    customers = [Customer(whole_store.starter.plan.kiosk_url, tokens, seed + number) for number in range(3)]
    for customer in customers:
        customer.start()
    kills = 0
    ends_s = time.monotonic() + RUN_S
    while time.monotonic() < ends_s:
        time.sleep(chance.uniform(0.3, 2.5))
        kept = whole_store.starter.keeper.kept[chance.choice(VICTIMS)]
        try:
            os.kill(kept.pid, signal.SIGKILL)
            kills += 1
        except ProcessLookupError:
            continue  # it is between two lives
    for customer in customers:
        customer.closing.set()
    for customer in customers:
        customer.join(timeout=30)
        assert not customer.is_alive()
    assert kills >= 10
    whole_store.drained()
    told = [one for customer in customers for one in customer.told]
    check(whole_store, told)


def check(store: RunningStore, told: list[tuple[str, dict[str, Any]]]) -> None:
    """Compare what customers were told with the ledger, and the ledger with HQ."""
    rows = store.rows("VoucherRedeemed")
    redemptions = {row["redemption_id"] for row in rows}
    vouchers = [row["voucher_id"] for row in rows]
    assert len(vouchers) == len(set(vouchers)), "a voucher was redeemed twice"
    answered: dict[str, dict[str, Any]] = {}
    for presentation_id, answer in told:
        assert answered.setdefault(presentation_id, answer) == answer, "the same request got two answers"
    promised = {answer["redemption_id"] for answer in answered.values() if answer["decision"] == "redeemed"}
    assert promised
    assert promised <= redemptions, "an acknowledged redemption is not in the ledger"
    refused = {row["presentation_id"] for row in store.rows("RedemptionRefused")}
    assert {presentation for presentation, answer in answered.items() if answer["decision"] == "refused"} <= refused
    counts = store.hq_get("/api/stores/tpe-001/counts")
    assert counts["redemptions"] == len(rows)
    assert counts["refusals"] == len(store.rows("RedemptionRefused"))
    assert store.hq_get("/api/books")["unexplained"] == 0
