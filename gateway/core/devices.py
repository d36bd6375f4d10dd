"""The shop's paired devices: who holds a key, who lost the right to use it, and whether this box serves at all.

A device is known by a random key that it alone holds; here lies only its hash, in the ledger. A revocation counts from the
moment it is known: a manager's is in the ledger, headquarters' is in the signed document, and both outlive a restart. What
headquarters revoked is written to the ledger too, so that headquarters sees that it took effect.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Final

from msgspec import Struct, field

from gateway.catalog import Catalog
from gateway.clock import Clock
from gateway.events import DevicePaired, DeviceRevoked, DeviceSeen, Row
from gateway.rules.marks import NOWHERE, RowPlace

KEY_B: Final = 32
MOST_KEYS: Final = 32  # of the box's own screen, which may be opened in several browsers; the oldest goes
SEEN_AGAIN_NS: Final = 600 * 10**9  # six rows an hour from a busy kiosk
OWN: Final = "box"  # who paired the box's own screen
OWN_NAME: Final = "本機螢幕 This box's own screen"


class Device(Struct):
    """A device that was paired once."""

    device_id: str
    kind: str
    station: str
    name: str
    by: str
    paired_us: int
    keys: list[str] = field(default_factory=list)  # SHA-256 of each, hex; oldest first
    revoked_by: str = ""
    revoked_us: int = 0
    seen_us: int = 0
    seen_ns: int = 0  # when that was last written down; 0: not since this start


class DeviceView(Struct, frozen=True):
    """A device as a manager sees it."""

    device_id: str
    kind: str
    station: str
    name: str
    by: str
    paired_us: int
    seen_us: int  # 0: not since this start
    revoked: bool


class Devices:
    """The table of devices.

    Args:
        commit: Appends rows to the ledger; done after the fsync. Rows are folded back through `fold` at once.
        tell: Something that is shown has changed; open event streams look again whether they may go on.
    """

    def __init__(
        self, clock: Clock, catalog: Catalog, commit: "Callable[[list[Row]], asyncio.Future[None]]", tell: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._catalog = catalog
        self._commit = commit
        self._tell = tell
        self._devices: dict[str, Device] = {}
        self._by_key: dict[str, Device] = {}
        self.on_revoked: Callable[[str], None] = lambda device_id: None  # called when a device has lost its right

    @property
    def retired(self) -> bool:
        """Whether headquarters has revoked this whole box."""
        return self._catalog.retired

    def views(self) -> list[DeviceView]:
        """Every device, newest first."""
        return [
            DeviceView(one.device_id, one.kind, one.station, one.name, one.by, one.paired_us, one.seen_us, self.is_revoked(one))
            for one in sorted(self._devices.values(), key=lambda one: -one.paired_us)
        ]

    def find(self, key: str) -> Device | None:
        """The device that holds a key, revoked or not; None: nobody's key."""
        digest = sha256(key)
        device = self._by_key.get(digest)
        if device is None or not any(hmac.compare_digest(digest, held) for held in device.keys):
            return None
        return device

    def is_revoked(self, device: Device) -> bool:
        """Whether it may do nothing any more."""
        return bool(device.revoked_by) or device.device_id in self._catalog.revoked_devices

    def lost(self, device_id: str) -> bool:
        """Whether the device of that identifier is revoked."""
        device = self._devices.get(device_id)
        return device is not None and self.is_revoked(device)

    def kind_of(self, device_id: str) -> str:
        """What kind of device that is; empty: none of this shop."""
        device = self._devices.get(device_id)
        return device.kind if device else ""

    def is_witness(self, device_id: str) -> bool:
        """Whether what the device was shown lies off this box's disk, and counts."""
        device = self._devices.get(device_id)
        return device is not None and device.by != OWN and not self.is_revoked(device)

    def called(self, device_id: str) -> str:
        """What people call a device."""
        device = self._devices.get(device_id)
        return " · ".join(part for part in (device.station, device.name or device.kind) if part) if device else device_id

    def see(self, device: Device) -> None:
        """It was used."""
        device.seen_us = self._clock.now().wall_us
        now_ns = self._clock.boottime_ns()
        if device.seen_ns == 0 or now_ns - device.seen_ns > SEEN_AGAIN_NS:
            device.seen_ns = now_ns
            self._commit([DeviceSeen(device.device_id, self._clock.now())])

    async def pair(self, kind: str, station: str, name: str, by: str) -> str:
        """Make a device known; its key, which is kept nowhere. Returns after the commit."""
        return await self._pair(f"d-{secrets.token_hex(4)}", kind, station, name, by)

    async def pair_own(self, station: str) -> str | None:
        """A key for the box's own screen at a station; None: that screen was revoked, and only a manager pairs it again."""
        own = next((one for one in self._devices.values() if one.by == OWN and one.station == station), None)
        if own is None:
            return await self.pair("kiosk", station, OWN_NAME, OWN)
        return None if self.is_revoked(own) else await self._pair(own.device_id, own.kind, station, own.name, OWN)

    async def revoke(self, device_id: str, by: str) -> bool:
        """Take a device's right away, for good; False: there is no such device. Counts at once, returns after the commit."""
        device = self._devices.get(device_id)
        if device is None:
            return False
        if not device.revoked_by:
            commit = self._commit([DeviceRevoked(device_id, by, self._clock.now())])
            self._tell()
            await asyncio.shield(commit)
        return True

    def heed(self) -> None:
        """Write down what headquarters' document revokes and the ledger does not know yet."""
        known = [self._devices[name] for name in sorted(self._catalog.revoked_devices) if name in self._devices]
        rows: list[Row] = [DeviceRevoked(one.device_id, "hq", self._clock.now()) for one in known if not one.revoked_by]
        if rows:
            self._commit(rows)

    def fold(self, row: DevicePaired | DeviceRevoked, place: RowPlace = NOWHERE) -> None:
        """Take a row of the ledger."""
        device = self._devices.get(row.device_id)
        if isinstance(row, DeviceRevoked):
            if device is not None:
                device.revoked_by, device.revoked_us = row.by, row.event_time.wall_us
                self.on_revoked(row.device_id)
            return
        if device is None:
            device = Device(row.device_id, row.kind, row.station, row.name, row.by, row.event_time.wall_us)
            self._devices[row.device_id] = device
        device.keys.append(row.key_sha256)
        self._by_key[row.key_sha256] = device
        if len(device.keys) > MOST_KEYS:
            del self._by_key[device.keys.pop(0)]

    async def _pair(self, device_id: str, kind: str, station: str, name: str, by: str) -> str:
        key = secrets.token_urlsafe(KEY_B)
        await asyncio.shield(self._commit([DevicePaired(device_id, kind, station, name, sha256(key), by, self._clock.now())]))
        return key


def sha256(key: str) -> str:
    """What is kept of a key. It is random and 256 bits long, so it needs no slow hash."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
