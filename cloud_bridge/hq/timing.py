"""Rows dated anew: a box whose clock could not be believed says later what the time truly was, and its rows move to their day.

A boot has one true offset between its monotonic clock and the wall, which `ClockFixed` gives; the first one of a boot stands. A
row that was written untrusted (T2) is counted at once, on the day its clock said, so nothing waits and nothing is missing; it is
noted as undated. With the boot's fix it moves: its counts to the true day, its moment in stories, and in the events that others
read. Rows that come after their fix are dated right from the start. The rows themselves are never changed, nor is their order,
which is that of their numbers. A boot that ended without ever hearing the time leaves its rows undated.

What a tombstone sums up stays on the days its box said.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from cloud_bridge.hq.ready import DEFAULT_ZONE, local_day
from cloud_bridge.hq.store import Connection, StoredRow
from cloud_bridge.hq.undated import Undated
from gateway.events import ClockFixed, Instant, OccupancyEstimated, TimeTrust, VisitEnded, VisitStarted

EARLIEST_US: Final = 0
LATEST_US: Final = 253_402_214_400_000_000  # the end of year 9999, less a day for time zones
# Moments that stories and lists show, each with the column that says which arrival it came with.
MOMENTS: Final = (
    ("uses", "at_us"),
    ("order_events", "at_us"),
    ("sales", "at_us"),
    ("pickups", "at_us"),
    ("bindings", "at_us"),
    ("member_visits", "at_us"),
    ("accruals", "at_us"),
    ("revisits", "at_us"),
)


class Fix(Struct, frozen=True):
    """What the time truly was at a moment of a boot."""

    mono_ns: int
    wall_us: int

    def true_us(self, at: Instant) -> int:
        """When something happened in that boot, µs since 1970 UTC."""
        true_us = self.wall_us + (at.mono_ns - self.mono_ns) // 1000
        return min(max(true_us, EARLIEST_US), LATEST_US)


def note(db: Connection, gateway: str, stream: int, received_us: int, rows: Sequence[Undated]) -> None:
    """Rows were stored and counted whose clock was not believed. Date those whose boot has its fix, remember the others."""
    fixes = known_fixes(db, gateway, {row.at.boot_id for row in rows})
    waiting = [(row, row.at) for row in rows if row.at.boot_id not in fixes]
    db.executemany(
        "INSERT INTO undated VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (stream, row.seq, gateway, at.boot_id, at.mono_ns, at.wall_us, received_us, row.type, row.day, row.zone, row.dwell_s)
            for row, at in waiting
        ],
    )
    for boot_id, fix in fixes.items():
        _date(db, gateway, fix, [(row, received_us) for row in rows if row.at.boot_id == boot_id])


def fixed(db: Connection, row: StoredRow, event: ClockFixed) -> None:
    """A box says what the time truly was: date what that boot wrote before it knew."""
    if not EARLIEST_US <= event.wall_us <= LATEST_US:
        return
    added = db.execute(
        "INSERT INTO fixes VALUES (?, ?, ?, ?) ON CONFLICT (gateway, boot_id) DO NOTHING",
        (row.gateway, event.boot_id, event.mono_ns, event.wall_us),
    )
    if added.rowcount == 0:
        return
    of_boot = (row.gateway, event.boot_id)
    found = db.execute(
        "SELECT seq, type, day, zone, dwell_s, wall_us, mono_ns, received_us FROM undated WHERE gateway = ? AND boot_id = ?", of_boot
    ).fetchall()
    waiting = [
        (Undated(seq, kind, day, zone, dwell_s, Instant(wall_us, mono_ns, event.boot_id, TimeTrust.UNTRUSTED)), received_us)
        for seq, kind, day, zone, dwell_s, wall_us, mono_ns, received_us in found
    ]
    _date(db, row.gateway, Fix(event.mono_ns, event.wall_us), waiting)
    db.execute("DELETE FROM undated WHERE gateway = ? AND boot_id = ?", of_boot)


def known_fixes(db: Connection, gateway: str, boot_ids: set[str]) -> dict[str, Fix]:
    """The fixes of some boots of a box."""
    found = {}
    for boot_id in sorted(boot_ids):
        fix = db.execute("SELECT mono_ns, wall_us FROM fixes WHERE gateway = ? AND boot_id = ?", (gateway, boot_id)).fetchone()
        if fix is not None:
            found[boot_id] = Fix(*fix)
    return found


def undated_rows(db: Connection, gateway: str) -> int:
    """How many rows of a box are counted on a day its clock made up."""
    return int(db.execute("SELECT count(*) FROM undated WHERE gateway = ?", (gateway,)).fetchone()[0])


def _date(db: Connection, gateway: str, fix: Fix, rows: Sequence[tuple[Undated, int]]) -> None:
    timezone = _timezone(db, gateway)
    counts: Counter[tuple[str, str]] = Counter()
    zones: Counter[tuple[str, str, str]] = Counter()
    dwell_s: dict[tuple[str, str, str], float] = {}
    for row, received_us in rows:
        true_us = fix.true_us(row.at)
        day = local_day(true_us, timezone)
        _move_moment(db, gateway, row, received_us, true_us)
        for of_day, sign in ((row.day, -1), (day, 1)) if day != row.day else ():
            counts[of_day, row.type] += sign
            if row.zone:
                place = of_day, row.zone, row.type
                zones[place] += sign
                dwell_s[place] = dwell_s.get(place, 0.0) + sign * row.dwell_s
    db.executemany(
        "INSERT INTO counts VALUES (?, ?, ?, ?) ON CONFLICT (gateway, day, type) DO UPDATE SET n = counts.n + excluded.n",
        [(gateway, *place, n) for place, n in sorted(counts.items()) if n],
    )
    db.executemany(
        "INSERT INTO zones VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, day, zone, type) DO UPDATE SET"
        " n = zones.n + excluded.n, dwell_s = zones.dwell_s + excluded.dwell_s",
        [(gateway, *place, n, dwell_s[place]) for place, n in sorted(zones.items()) if n or dwell_s[place]],
    )
    for table in ("counts", "zones"):
        db.execute(f"DELETE FROM {table} WHERE gateway = ? AND n = 0", (gateway,))  # noqa: S608 - our own names


def _move_moment(db: Connection, gateway: str, row: Undated, received_us: int, true_us: int) -> None:
    """Where the row's moment is shown, it becomes the true one."""
    if row.type == VisitStarted.__name__:
        db.execute("UPDATE visits SET started_us = ? WHERE gateway = ? AND started_us = ?", (true_us, gateway, row.at.wall_us))
    elif row.type == OccupancyEstimated.__name__:
        db.execute("UPDATE occupancy SET at_us = ? WHERE gateway = ? AND at_us = ?", (true_us, gateway, row.at.wall_us))
    elif row.type != VisitEnded.__name__:
        for table, column in MOMENTS:
            where = f"gateway = ? AND {column} = ? AND received_us = ?"
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (true_us, gateway, row.at.wall_us, received_us))  # noqa: S608


def _timezone(db: Connection, gateway: str) -> str:
    found = db.execute("SELECT timezone FROM boxes WHERE gateway = ?", (gateway,)).fetchone()
    return found[0] if found else DEFAULT_ZONE
