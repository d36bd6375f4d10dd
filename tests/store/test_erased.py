"""A whole store: a member's number is on no disk and on no line from the first moment, and after erasing nothing leads to it."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_bridge.hq.broker import OWN_NAME
from cloud_bridge.mqtt import Incoming, Mqtt, TlsFiles
from gateway.phones import phone_key, region_secret
from provisioning.authority import Authority
from tests.store.running import RunningStore
from tests.traces import traces, unpacked
from virtual_store.web import Web

pytestmark = [pytest.mark.slow]

SPELLINGS = ("0912-345-678", "+886912345678", "０９１２３４５６７８", "0912 345 678")
NEEDLES = ("12345678", "345-678", "345 678", "５６７８", "933777111")


class Tap:
    """Hears everything that goes over the broker, as headquarters' own client."""

    def __init__(self, store: RunningStore) -> None:
        self.heard: list[bytes] = []
        self._store = store

    async def listen(self) -> None:
        """Until the store ends."""
        folder = self._store.starter.plan.hq_dir / "broker"
        tls = TlsFiles(*(str(folder / name) for name in ("ca.crt", f"{OWN_NAME}.crt", f"{OWN_NAME}.key")))
        self._up = asyncio.Event()
        port = self._store.starter.plan.ports.broker
        line = Mqtt(
            "127.0.0.1", port, "tap", tls, server_name="localhost", subscriptions=["sgw/1/#"], on_message=self._hear, on_state=self._state
        )
        self._task = asyncio.create_task(line.run())
        async with asyncio.timeout(30):
            await self._up.wait()

    def _state(self, up: bool) -> None:
        if up:
            self._up.set()

    def _hear(self, incoming: Incoming) -> None:
        self.heard.append(incoming.payload)
        incoming.ack()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def look_up(store: RunningStore, **what: str) -> Any:
    return store.shop_post("/v1/members/lookup", {"station": "counter", **what})


def erase(store: RunningStore, member_ref: str) -> None:
    addresses = store.starter.hq
    answer = httpx.delete(
        f"{addresses.base}/api/members/{member_ref}", headers={"Authorization": f"Bearer {addresses.token}"}, timeout=60, trust_env=False
    )
    assert answer.status_code == 200, answer.text


def known(store: RunningStore) -> tuple[int, int]:
    documents = store.view()["documents"]
    return documents.get("members", 0), documents.get("members_recent", 0)


def found(store: RunningStore, typed: str, there: bool) -> bool:
    store.until(
        lambda: bool(store.eventually(lambda: look_up(store, phone=typed), 20)["found"]) is there, 40, "the shop did not hear of it"
    )
    return there


def test_a_number_is_nowhere_and_after_erasing_nothing_leads_to_it(whole_store: RunningStore) -> None:
    store, tap = whole_store, Tap(whole_store)
    store.call(tap.listen())
    addresses = store.starter.addresses
    assert addresses is not None
    store.shop_post("/v1/staff/sign-in", {"staff_ref": addresses.clerk_ref, "pin": addresses.clerk_pin})
    made = store.hq_post("/api/members", {"phone": SPELLINGS[0], "tier": "gold", "consents": ["bind"], "old_cards": ["OLD-7731"]})
    for typed in (*SPELLINGS, "0933-777-111"):
        found(store, typed, typed != "0933-777-111")
    before = store.screen()["number"]
    store.show(made["token"])
    assert store.shown_after(before, "recognised")["answer"]["member"] is None, "whoever is not that screen sees no points"
    kiosk = Web(store.starter.plan.kiosk_url).pair_now("counter")
    assert store.call(kiosk.get("/v1/stations/counter"))["answer"]["member"]["points"] == 0
    backup = store.starter.plan.hq_dir.parent / "one.backup"
    store.call(asyncio.to_thread(lambda: back_up(store, backup)))
    store.drained()

    folder = store.starter.plan.folder
    assert traces(folder, NEEDLES) == []
    secret = region_secret(Authority.open(store.starter.plan.hq_dir / "authority").root.private_bytes_raw(), "TW")
    key = phone_key(secret, "+886912345678")
    assert {name for name, _ in traces(folder, [key])} >= {"hq.db", "ledger.db", "one.backup"}, "or the next look proves nothing"
    lists = known(store)
    erase(store, made["member_ref"])
    store.until(lambda: known(store)[0] > lists[0], 40, "the shop did not hear of the erasing")
    store.until(lambda: traces(folder, [key]) == [], 40, f"still there: {traces(folder, [key])}")
    assert not look_up(store, phone=SPELLINGS[0])["found"]
    assert look_up(store, code=made["token"])["reason"] == "unknown_member_code"
    store.drained()
    store.call(tap.close())
    assert any(key.encode() in piece for payload in tap.heard for piece in unpacked_all(payload)), "the tap heard the lists"
    assert not any(needle.encode() in piece for payload in tap.heard for piece in unpacked_all(payload) for needle in NEEDLES)
    assert traces(folder, NEEDLES) == []


def unpacked_all(payload: bytes) -> list[bytes]:
    """A message, what is compressed in it, and what a piece of a document in base64 says."""
    pieces = [payload, *unpacked(payload)]
    if payload.startswith(b"{") and b'"data"' in payload:
        sealed = base64.b64decode(json.loads(payload)["data"])
        pieces += [sealed, *unpacked(sealed)]
    return pieces


def back_up(store: RunningStore, file: Path) -> None:
    hq = store.starter.hq
    answer = httpx.post(
        f"{hq.base}/api/backups", json={"file": str(file)}, headers={"Authorization": f"Bearer {hq.token}"}, timeout=60, trust_env=False
    )
    assert answer.status_code == 200, answer.text
