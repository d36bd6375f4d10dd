"""What headquarters knows of a shop's paired devices, and which boxes it has revoked. Every function runs inside a transaction.

A device appears when its shop's row arrives. Headquarters' word that it is revoked is set at once (`asked_us`) and travels in the
box's "devices" document; `revoked_us` follows when the shop has written down that it took effect.
"""

from msgspec import Struct

from cloud_bridge.hq.registry import RefusedAsk
from cloud_bridge.hq.store import Connection, StoredRow
from gateway.events import DevicePaired, DeviceRevoked, DeviceSeen


class DeviceRow(Struct, frozen=True):
    """A device of a shop."""

    device_id: str
    kind: str
    station: str
    name: str
    paired_by: str
    paired_us: int
    seen_us: int  # 0: not since headquarters knows it
    asked_us: int  # 0: headquarters has not revoked it
    revoked_us: int  # 0: it is not revoked at the shop, as far as is known
    revoked_by: str

    @property
    def state(self) -> str:
        """`paired`, `revoking` while the shop has not confirmed, or `revoked`."""
        return "revoked" if self.revoked_us else "revoking" if self.asked_us else "paired"


def devices_of(db: Connection, gateway: str) -> list[DeviceRow]:
    """A box's devices, newest first."""
    found = db.execute(
        "SELECT device_id, kind, station, name, paired_by, paired_us, seen_us, asked_us, revoked_us, revoked_by FROM devices"
        " WHERE gateway = ? ORDER BY paired_us DESC, device_id",
        (gateway,),
    )
    return [DeviceRow(*row) for row in found]


def revoke(db: Connection, gateway: str, device_id: str, now_us: int) -> None:
    """Revoke a device; once more changes nothing.

    Raises:
        RefusedAsk: That box has no such device, or is revoked itself: then it hears of nothing else any more.
    """
    if is_retired(db, gateway):
        raise RefusedAsk(409, f"{gateway} is revoked, and so is everything paired with it", "Revoke the device when it has enrolled anew")
    changed = db.execute(
        "UPDATE devices SET asked_us = CASE asked_us WHEN 0 THEN ? ELSE asked_us END WHERE gateway = ? AND device_id = ?",
        (now_us, gateway, device_id),
    )
    if changed.rowcount != 1:
        raise RefusedAsk(404, f"there is no device {device_id} in that shop", "`store-gateway hq devices STORE` lists them")


def revoked_devices(db: Connection, gateway: str) -> list[str]:
    """What the box's "devices" document names."""
    found = db.execute("SELECT device_id FROM devices WHERE gateway = ? AND asked_us > 0 ORDER BY device_id", (gateway,))
    return [device_id for (device_id,) in found]


def retire(db: Connection, gateway: str, now_us: int) -> None:
    """Revoke a box."""
    db.execute("INSERT INTO retired VALUES (?, ?) ON CONFLICT (gateway) DO NOTHING", (gateway, now_us))


def reinstate(db: Connection, gateway: str) -> bool:
    """A box has enrolled anew; whether it was revoked before."""
    return db.execute("DELETE FROM retired WHERE gateway = ?", (gateway,)).rowcount == 1


def is_retired(db: Connection, gateway: str) -> bool:
    """Whether a box was revoked."""
    return db.execute("SELECT 1 FROM retired WHERE gateway = ?", (gateway,)).fetchone() is not None


def retired_boxes(db: Connection) -> frozenset[str]:
    """Every revoked box."""
    return frozenset(gateway for (gateway,) in db.execute("SELECT gateway FROM retired"))


# ---------------------------------------------------------------- effects of rows


def paired(db: Connection, row: StoredRow, event: DevicePaired) -> None:
    """A device was paired, or its browser got one more key."""
    db.execute(
        "INSERT INTO devices (gateway, device_id, kind, station, name, paired_by, paired_us) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (gateway, device_id) DO NOTHING",
        (row.gateway, event.device_id, event.kind, event.station, event.name, event.by, event.event_time.wall_us),
    )


def took_effect(db: Connection, row: StoredRow, event: DeviceRevoked) -> None:
    """The shop has written down that a device is revoked, whoever wanted it."""
    db.execute(
        "UPDATE devices SET revoked_us = ?, revoked_by = ? WHERE gateway = ? AND device_id = ? AND revoked_us = 0",
        (event.event_time.wall_us, event.by, row.gateway, event.device_id),
    )


def seen(db: Connection, row: StoredRow, event: DeviceSeen) -> None:
    """A device was used."""
    db.execute(
        "UPDATE devices SET seen_us = ? WHERE gateway = ? AND device_id = ? AND seen_us < ?",
        (event.event_time.wall_us, row.gateway, event.device_id, event.event_time.wall_us),
    )
