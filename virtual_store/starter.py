"""Brings up headquarters and one shop, the way an installer would, and takes everything down again.

The order is the real one: headquarters first; then the box is announced there and enrols with the single-use secret it gets;
then its tables are made; then its processes start and find each other by themselves, however often any of them is killed.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from cloud_bridge.hq.options import read_addresses
from gateway.errors import StoreError
from gateway.schema import migrate
from provisioning.authority import enrol, write_private
from virtual_store import books
from virtual_store.plan import BANK, CAMERA, GATEWAY, STATION, STORE, STORE_NUMBER, TENANT, Plan
from virtual_store.processes import Keeper
from virtual_store.shoppers import Shoppers
from virtual_store.web import Refused, Web

READY_WITHIN_S: Final = 60.0
DRAIN_WITHIN_S: Final = 60.0
LAST_VISITS_S: Final = 30.0
DOCUMENTS: Final = ("keys", "staff")
UNITS: Final = ("core", "ble@radio", f"scanner@{CAMERA}", f"locker@{BANK}", "bridge")


class Addresses(Struct, frozen=True):
    """Where to look."""

    shop: str
    kiosk: str
    staff: str
    hq: str
    clerk_ref: str
    clerk_name: str
    clerk_pin: str


class Starter:
    """One virtual store.

    Args:
        told: Takes a sentence for the person who started it.
    """

    def __init__(self, plan: Plan, told: Callable[[str], None]) -> None:
        self.plan = plan
        self._told = told
        self.keeper = Keeper(plan.folder / "logs", told)
        self.hq = Web(f"http://127.0.0.1:{plan.ports.hq}")
        self.shop = Web(plan.kiosk_url)
        self.addresses: Addresses | None = None
        self.ready_s = 0.0

    async def __aenter__(self) -> "Starter":
        began_s = time.monotonic()
        await self.keeper.__aenter__()
        try:
            await self._start()
        except BaseException as error:
            await self.keeper.__aexit__(error)
            raise
        self.ready_s = round(time.monotonic() - began_s, 1)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.keeper.__aexit__(*error)

    @property
    def ledger(self) -> Path:
        """The shop's ledger."""
        return self.plan.gateway_toml.parent / "state" / "ledger.db"

    def shoppers(self) -> Shoppers:
        """People for this store."""
        assert self.addresses is not None  # noqa: S101 - set before anybody is let in
        return Shoppers(self.hq, Web(self.plan.kiosk_url), self.plan.camera_control, (self.addresses.clerk_ref, self.addresses.clerk_pin))

    async def cut_line(self, up: bool) -> None:
        """Cut the line between shop and headquarters, or mend it."""
        await self.hq.post(f"/api/stores/{STORE}/wan", {"up": up})

    # ------------------------------------------------------------ up

    async def _start(self) -> None:
        self.plan.write()
        login = await self._start_hq()
        clerk = await self._enrol()
        await asyncio.to_thread(migrate, self.ledger)
        config = str(self.plan.gateway_toml)
        for name in (f"board@{BANK}", *UNITS):
            self.keeper.keep(name, name, "--config", config)
        await self._until_serving()
        kiosk = self.plan.kiosk_url
        self.addresses = Addresses(
            shop=f"{kiosk}/", kiosk=f"{kiosk}/kiosk/{STATION}", staff=f"{kiosk}/staff", hq=login,
            clerk_ref=clerk["staff_ref"], clerk_name=clerk["name"], clerk_pin=clerk["pin"],
        )  # fmt: skip

    async def _start_hq(self) -> str:
        self._told("headquarters starts")
        self.plan.hq_dir.mkdir(parents=True, exist_ok=True)
        addresses = self.plan.hq_dir / "addresses.json"
        addresses.unlink(missing_ok=True)
        self.plan.write_hq()
        self.keeper.keep("hq", "hq", "--config", str(self.plan.hq_toml))
        await self._until(addresses.exists, "headquarters did not come up")
        found = read_addresses(self.plan.hq_dir)
        self.hq.token = found.admin_token
        return found.login

    async def _enrol(self) -> dict[str, str]:
        """Announce the box and enrol it, once in its life; the clerk's PIN is kept beside the demo, since nobody else has it."""
        kept = self.plan.folder / "clerk.json"
        folder = self.plan.gateway_toml.parent / "state" / "enrolment"
        if kept.exists() and (folder / "hq.json").exists():
            return dict(json.loads(kept.read_text()))
        self._told("the shop's box enrols")
        box = {
            "gateway": GATEWAY, "tenant": TENANT, "store": STORE, "number": STORE_NUMBER, "name_zh": "台北一店",
            "name_en": "Taipei No. 1", "timezone": "Asia/Taipei",
        }  # fmt: skip
        announced = await self.hq.post("/api/boxes", box)
        await asyncio.to_thread(enrol, self.hq.base, announced["secret"], folder, GATEWAY)
        clerk = dict(announced["staff"])
        write_private(kept, json.dumps(clerk).encode())
        return clerk

    async def _until_serving(self) -> None:
        self._told("the shop's processes start")

        async def serving() -> bool:
            try:
                store = await self.shop.get("/v1/store")
            except Refused:
                return False
            joined = {unit["unit"] for unit in store["units"] if unit["connected"]}
            return set(UNITS) - {"core"} <= joined and bool(store["line"]["up"]) and set(DOCUMENTS) <= set(store["documents"])

        await self._until_true(serving, "the shop did not come up")

    async def _until(self, there: Callable[[], bool], otherwise: str) -> None:
        async def asked() -> bool:
            return there()

        await self._until_true(asked, otherwise)

    async def _until_true(self, asked: Callable[[], Any], otherwise: str, within_s: float = READY_WITHIN_S) -> None:
        ends_s = time.monotonic() + within_s
        while not await asked():
            if time.monotonic() > ends_s:
                raise StoreError(otherwise, f"Their output is in {self.plan.folder / 'logs'}")
            await asyncio.sleep(0.1)

    # ------------------------------------------------------------ down

    async def drain(self) -> dict[str, Any]:
        """Stop the sources, wait until headquarters has everything, and compare."""
        (self.plan.gateway_toml.parent / "run" / "sources-stop").touch()
        await self.cut_line(True)
        await self._until_true(self._quiet, "visits did not end", LAST_VISITS_S)
        await self._until_true(self._drained, "the lanes did not drain", DRAIN_WITHIN_S)
        stored = await self.hq.get(f"/api/stores/{STORE}/counts")
        produced = await asyncio.to_thread(books.produced, self.ledger)
        return {"produced": produced, "stored": {name: stored[name] for name in produced}, "ready_s": self.ready_s}

    async def _quiet(self) -> bool:
        store = await self.shop.get("/v1/store")
        return not any(zone["subjects"] for zone in store["zones"])

    async def _drained(self) -> bool:
        """No row waits, twice with a commit of the slow lanes in between."""
        for _ in range(2):
            try:
                store = await self.shop.get("/v1/store")
            except Refused:
                return False
            if store["line"]["waiting"] or not store["line"]["up"]:
                return False
            await asyncio.sleep(1.2)
        return True
