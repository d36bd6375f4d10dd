"""Boxes and devices from headquarters' side: who is out there, and taking away what one of them may do.

A revoked box is refused at once: ingest takes none of its rows, the broker lets it publish nothing. Over the connection it still
has it is told so, in a signed document, so that it stops serving; a moment later the connection is cut and no other is let in.
"""

import asyncio
from functools import partial
from typing import Any, Final

import msgspec
from fastapi import APIRouter

from cloud_bridge.hq import devices, labels, registry
from cloud_bridge.hq.broker import Fence
from cloud_bridge.hq.documents import Press
from cloud_bridge.hq.feed import Change, Feed
from cloud_bridge.hq.ingest import Ingest
from cloud_bridge.hq.registry import BoxRow
from cloud_bridge.hq.store import Connection, Store
from gateway.clock import Clock

FAREWELL_S: Final = 1.0  # what a revoked box has to hear of it before it is cut off


class Fleet:
    """What people at headquarters do with boxes and devices."""

    def __init__(self, store: Store, press: Press, ingest: Ingest, feed: Feed, clock: Clock, fence: Fence) -> None:
        self._store = store
        self._press = press
        self._ingest = ingest
        self._feed = feed
        self._clock = clock
        self._fence = fence

    async def devices_of(self, store: str) -> list[dict[str, Any]]:
        """A shop's devices.

        Raises:
            RefusedAsk: There is no such shop.
        """
        found = await self._store.read(lambda db: devices.devices_of(db, registry.box_of_store(db, store).gateway))
        return [dict(msgspec.to_builtins(one)) | {"state": one.state} for one in found]

    async def shops(self) -> list[tuple[BoxRow, bool, list[devices.DeviceRow]]]:
        """Every box, whether it is revoked, and its devices."""

        def read(db: Connection) -> list[tuple[BoxRow, bool, list[devices.DeviceRow]]]:
            return [(row, devices.is_retired(db, row.gateway), devices.devices_of(db, row.gateway)) for row in registry.boxes(db)]

        return await self._store.read(read)

    async def revoke_device(self, store: str, device_id: str) -> None:
        """Revoke a shop's device; the shop heeds it when its document arrives.

        Raises:
            RefusedAsk: No such shop or device.
        """
        await self._ingest.announce(await self._store.write(partial(self._revoke_device, store=store, device_id=device_id)))
        self._feed.tell(Change())

    async def revoke_box(self, gateway: str) -> None:
        """Revoke a box: nothing it says counts from now on, and it is told, if it can hear.

        Raises:
            RefusedAsk: There is no such box.
        """
        row = await self._store.write(partial(self._revoke_box, gateway=gateway))
        await self._ingest.learn_boxes()
        await self._ingest.dismiss(row)
        self._feed.tell(Change())
        await asyncio.sleep(FAREWELL_S)
        await self._fence.drop()
        self._feed.tell(Change())

    def _revoke_device(self, db: Connection, store: str, device_id: str) -> BoxRow:
        row, now_us = registry.box_of_store(db, store), self._clock.now().wall_us
        devices.revoke(db, row.gateway, device_id, now_us)
        self._press.seal(db, row, "devices", now_us)
        return row

    def _revoke_box(self, db: Connection, gateway: str) -> BoxRow:
        row, now_us = registry.box_of(db, gateway), self._clock.now().wall_us
        devices.retire(db, gateway, now_us)
        labels.void(db, gateway)  # a revoked box comes back by a new label only
        self._press.seal(db, row, "devices", now_us)
        return row


def fleet_routes(fleet: Fleet) -> APIRouter:
    """The fleet's part of the API."""
    router = APIRouter(prefix="/api", tags=["fleet"])

    @router.get("/stores/{store}/devices", summary="A shop's paired devices, when they were last used, and which are revoked")
    async def listed(store: str) -> list[dict[str, Any]]:
        return await fleet.devices_of(store)

    @router.post("/stores/{store}/devices/{device_id}/revoke", summary="Take a device's right away, for good")
    async def revoke_device(store: str, device_id: str) -> dict[str, Any]:
        await fleet.revoke_device(store, device_id)
        return {"store": store, "device_id": device_id, "revoked": True}

    @router.post("/boxes/{gateway}/revoke", summary="Revoke a box: it is refused at once and retires when it hears of it")
    async def revoke_box(gateway: str) -> dict[str, Any]:
        await fleet.revoke_box(gateway)
        return {"gateway": gateway, "revoked": True}

    return router
