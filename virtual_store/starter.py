"""Brings up headquarters and one shop, the way an installer would, and takes everything down again.

The order is the real one: headquarters is told of its shop by one command and prints a label; the box waits with its scanner
running, the label is held before the camera, the box enrols by itself; then its tables are made; then its other processes
start and find each other by themselves, however often any of them is killed.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from cloud_bridge.hq.batch import batch, read_stores
from cloud_bridge.hq.options import read_addresses
from gateway.errors import StoreError
from gateway.schema import migrate
from provisioning.authority import write_private
from provisioning.enroll import is_enrolled
from provisioning.sheet import Sticker, cjk_font, sheets
from virtual_store import books
from virtual_store.brokers import OwnBroker
from virtual_store.plan import BANK, CAMERA, STATION, STORE, TENANT, Plan
from virtual_store.processes import Keeper
from virtual_store.shoppers import Shoppers, order
from virtual_store.web import Refused, Web

READY_WITHIN_S: Final = 60.0
DRAIN_WITHIN_S: Final = 60.0
LAST_VISITS_S: Final = 30.0
DOCUMENTS: Final = ("keys", "staff")
SCANNER: Final = f"scanner@{CAMERA}"
LABEL_S: Final = 60.0  # how long the label is held before the camera at most
UNITS: Final = ("core", "ble@radio", SCANNER, f"locker@{BANK}", "bridge")
BEHIND_ENROLMENT: Final = ("core", "bridge")  # they have nothing to say before


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
        self._enrolling: asyncio.Task[int] | None = None

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
        self._start_box()
        async with asyncio.TaskGroup() as tasks:
            hq = tasks.create_task(self._start_hq())
            tasks.create_task(asyncio.to_thread(migrate, self.ledger))
        login, clerk = hq.result(), await self._enrol()
        config = str(self.plan.gateway_toml)
        for name in BEHIND_ENROLMENT:
            self.keeper.keep(name, name, "--config", config)
        await self._until_serving()
        kiosk = self.plan.kiosk_url
        self.addresses = Addresses(
            shop=f"{kiosk}/", kiosk=f"{kiosk}/kiosk/{STATION}", staff=f"{kiosk}/staff", hq=login,
            clerk_ref=clerk["staff_ref"], clerk_name=clerk["name"], clerk_pin=clerk["pin"],
        )  # fmt: skip

    def _start_box(self) -> None:
        """What runs on a box that is nobody yet: its drivers, and the unit that waits for a label."""
        config = str(self.plan.gateway_toml)
        for name in (SCANNER, f"board@{BANK}", *(unit for unit in UNITS if unit not in (SCANNER, *BEHIND_ENROLMENT))):
            self.keeper.keep(name, name, "--config", config)
        if not is_enrolled(self.plan.gateway_toml.parent / "state" / "enrolment"):
            self._enrolling = self.keeper.once("enroll", "enroll", "--config", config)

    async def _start_hq(self) -> str:
        self._told("headquarters starts")
        self.plan.hq_dir.mkdir(parents=True, exist_ok=True)
        addresses = self.plan.hq_dir / "addresses.json"
        addresses.unlink(missing_ok=True)
        self.plan.write_hq(await self._start_broker())
        self.keeper.keep("hq", "hq", "--config", str(self.plan.hq_toml))
        await self._until(addresses.exists, "headquarters did not come up")
        found = read_addresses(self.plan.hq_dir)
        self.hq.token = found.admin_token
        return found.login

    async def _start_broker(self) -> str:
        """Start a broker that is a process of its own, if one is wanted; where it is, for headquarters."""
        if self.plan.broker == "amqtt":
            return ""
        self._told(f"{self.plan.broker} starts")
        broker = await asyncio.to_thread(OwnBroker.prepare, self.plan)
        for name, command in broker.commands.items():
            self.keeper.keep_program(name, *command)
        return broker.table

    async def _enrol(self) -> dict[str, str]:
        """Announce the shop and show its label to the box, once in its life.

        The clerk's PIN is kept beside the demo, since nobody else has it.
        """
        kept = self.plan.folder / "clerk.json"
        if self._enrolling is not None:
            self._told("headquarters prints the box's label; the box's camera reads it")
            announced = await asyncio.to_thread(self._announce)
            if announced["staff"] is not None:
                write_private(kept, json.dumps(announced["staff"]).encode())
            await self._until_true(lambda: self._show_label(announced["label"]), "the shop's camera did not come up")
            async with asyncio.timeout(READY_WITHIN_S):
                status = await self._enrolling
            if status:
                raise StoreError("the box did not enrol", f"Its output is in {self.keeper.log_path('enroll')}")
            await order(self.plan.camera_control, do="clear")
        if not kept.exists():
            clerk = await self.hq.post(f"/api/stores/{STORE}/staff", {"name": "店長", "roles": ["clerk", "manager"]})
            write_private(kept, json.dumps(clerk).encode())
        return dict(json.loads(kept.read_text()))

    async def _show_label(self, label: str) -> bool:
        try:
            return bool((await order(self.plan.camera_control, do="show", text=label, seconds=LABEL_S)).get("ok"))
        except (OSError, ValueError):
            return False

    def _announce(self) -> dict[str, Any]:
        """What `store-gateway hq batch` does: register the shop, print its label."""
        lines = read_stores(self.plan.stores_csv, TENANT)
        (issued,) = batch(self.plan.hq_dir, lines, again=True, days=1).issued
        write_private(self.plan.labels_pdf, sheets([Sticker.of(issued)], cjk_font()))
        return dict(issued)

    async def _until_serving(self) -> None:
        self._told("the shop's processes start")

        async def serving() -> bool:
            try:
                store = await self.shop.get("/v1/store")
            except Refused:
                return False
            joined = {unit["unit"] for unit in store["units"] if unit["connected"]}
            admitted = bool(store["admission"]["admitted"])
            return admitted and set(UNITS) - {"core"} <= joined and store["line"]["up"] and set(DOCUMENTS) <= set(store["documents"])

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
