"""What tests of admission share: a tablet that keeps its mark, a disk put back, headquarters' words."""

import base64
import json
import shutil
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.core.devices import Device
from gateway.core.witnesses import Word
from gateway.events import (
    AckArrived,
)
from gateway.ledger import LedgerReader
from gateway.signed import ACK_TAG, DOCUMENT_TAG, Ack, Document, Opening, UsedVoucher, seal
from gateway.token import voucher_ref
from tests.conftest import HQ_KEY, VirtualClock, until
from tests.gateway.core.shop import GATEWAY, Shop


class Tablet:
    """A paired screen's page, as `static/witness.js` behaves: it keeps a mark, and replaces it only by one that descends from it."""

    def __init__(self, shop: Shop, device: Device) -> None:
        self.shop = shop
        self.device_id = device.device_id
        self.kept = ""

    @property
    def device(self) -> Device:
        return self.shop.desk.devices._devices[self.device_id]

    def connect(self) -> Word:
        heard, mark = self.shop.desk.hear_witness(self.device, self.kept)
        if not self.kept or descends(self.kept, mark):
            first, self.kept = not self.kept, mark
            if first:
                return self.connect()
        return heard.word

    def look(self) -> None:
        """Its event stream shows the newest mark."""
        mark = self.shop.desk.mark(self.device)
        if descends(self.kept, mark):
            self.kept = mark


def read(mark: str) -> dict[str, Any]:
    body = mark.split(".")[0]
    return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))


def descends(older: str, newer: str) -> bool:
    before, now = read(older), read(newer)
    return bool((now["seq"] if before["epoch"] == now["epoch"] else now["past"].get(before["epoch"], -1)) >= before["seq"])


async def paired(shop: Shop, name: str = "tablet", by: str = "staff-1") -> Tablet:
    device = shop.desk.devices.find(await shop.desk.devices.pair("kiosk", "counter", name, by))
    assert device is not None
    return Tablet(shop, device)


async def image(shop: Shop) -> Callable[[], Any]:
    """Copy the box's disk; what is returned puts it back."""
    await shop.close()
    state, kept = shop.config.state_dir, shop.config.state_dir.with_name("image")
    shutil.copytree(state, kept)
    await shop.open()

    async def restore() -> None:
        await shop.close()
        shutil.rmtree(state)
        shutil.copytree(kept, state)
        await shop.open()

    return restore


def admission(shop: Shop) -> Any:
    return shop.desk.store_view().admission


def epoch(shop: Shop) -> str:
    return shop.desk.store_view().epoch


def opening(shop: Shop, number: int, marks: dict[str, int] | None = None, **more: Any) -> bytes:
    told = Opening(more.pop("epoch", epoch(shop)), marks or {}, **more)
    return seal(DOCUMENT_TAG, Document(GATEWAY, "opening", number, 0, opening=told), HQ_KEY)


def used(identifier: int = 42, uses: int = 1) -> UsedVoucher:
    return UsedVoucher(voucher_ref(1, identifier), uses, 5, "door", None)


def heads(shop: Shop) -> tuple[str, int, str]:
    """Epoch, last row of lane 0, its head."""
    reader = LedgerReader(shop.config.ledger_path)
    try:
        now = reader.epochs()[-1]
        last = reader.blocks(now.number, 0, 0, 10**9, 10**9)[-1]
        return now.name, last.last, last.head.hex()
    finally:
        reader.close()


async def acked(shop: Shop, **changes: Any) -> None:
    name, seq, head = heads(shop)
    ack = msgspec.structs.replace(Ack(GATEWAY, name, 0, seq, head, seq, 1_800_000_000_000_000), **changes)
    await shop.desk.decide("bridge", "e", AckArrived(seal(ACK_TAG, ack, HQ_KEY)))


async def slow(shop: Shop, kind: Any, count: int = 1) -> None:
    """Until so many rows of a slow lane are on the disk: they wait for their second, and the clock stands still."""

    def there() -> bool:
        assert isinstance(shop.clock, VirtualClock)
        shop.clock.advance(0.2)
        return len(shop.rows(kind)) >= count

    await until(there)


def names(shop: Shop) -> list[str]:
    reader = LedgerReader(shop.config.ledger_path)
    try:
        return [one.name for one in reader.epochs()]
    finally:
        reader.close()
