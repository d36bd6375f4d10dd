"""The books: what boxes say they wrote against what headquarters received and what was declared lost.

For each lane of each epoch::

    produced = received + declared + closed + waiting        and unexplained must be 0

*Received* rows are stored, or in quarantine. *Declared* rows a box said it has no longer. *Waiting* rows are still on their
way. *Closed* rows will never come: they were written on a line of starts that ended, because an old disk image was restored
or a disk replaced, so headquarters closes that line at its mark. The line that lives leads from the epoch of a box's last beat
to the first of its ancestors; of each epoch on it only counts what its child claims.
"""

from typing import Any, Final

from msgspec import Struct

from cloud_bridge.hq.store import Connection
from cloud_bridge.hq.streams import MOST_ANCESTORS, Stream, Streams

SUMS: Final = ("produced", "received", "declared", "closed", "waiting", "unexplained", "quarantined")


class Entry(Struct, frozen=True):
    """One lane of one epoch."""

    store: str
    gateway: str
    epoch: str
    lane: int
    alive: bool  # the box writes to this epoch now
    produced: int
    received: int
    declared: int
    closed: int
    waiting: int
    quarantined: int  # of those received

    @property
    def unexplained(self) -> int:
        """Rows that neither arrived nor were accounted for, or that were counted twice: never 0 without a fault of ours."""
        return self.produced - self.received - self.declared - self.closed - self.waiting

    def described(self) -> dict[str, Any]:
        """For the API."""
        return {name: getattr(self, name) for name in ("store", "gateway", "epoch", "lane", "alive", *SUMS)}


def books(db: Connection, *, counted: bool = False) -> list[Entry]:
    """Every lane of every epoch of every box.

    Args:
        counted: Count the rows themselves instead of believing what was kept along with the marks. Reads every row.
    """
    alive = dict(db.execute("SELECT gateway, epoch FROM beats").fetchall())
    entries = []
    for store, gateway in db.execute("SELECT store, gateway FROM boxes ORDER BY number").fetchall():
        ends = _ends(db, gateway, alive.get(gateway))
        aside = _quarantined(db, gateway)
        for stream in _streams(db, gateway):
            if counted:
                stream.received, stream.declared = _count(db, stream)
            entries.append(_entry(store, stream, ends, alive.get(gateway), aside.get((stream.epoch, stream.lane), 0)))
    return entries


def sums(entries: list[Entry]) -> dict[str, int]:
    """The columns, added up."""
    return {name: sum(int(getattr(entry, name)) for entry in entries) for name in SUMS}


def _entry(store: str, stream: Stream, ends: dict[str, dict[int, int] | None] | None, alive: str | None, aside: int) -> Entry:
    produced = max(stream.produced, stream.mark)
    if ends is None or (stream.epoch in ends and ends[stream.epoch] is None):
        end = produced  # nothing is known against rows that are not here: they may come
    else:
        end = (ends.get(stream.epoch) or {}).get(stream.lane, 0)
    waiting = max(0, min(produced, end) - stream.mark)
    closed = produced - stream.mark - waiting
    return Entry(
        store, stream.gateway, stream.epoch, stream.lane, stream.epoch == alive, produced, stream.received, stream.declared,
        closed, waiting, aside,
    )  # fmt: skip


def _ends(db: Connection, gateway: str, alive: str | None) -> dict[str, dict[int, int] | None] | None:
    """How far each epoch of the living line goes, by lane; of the youngest nobody knows (None). None: no line is known."""
    streams = Streams(db)
    if alive is None or streams.origin(gateway, alive) is None:
        return None
    ends: dict[str, dict[int, int] | None] = {alive: None}
    epoch = alive
    for _ in range(MOST_ANCESTORS):
        origin = streams.origin(gateway, epoch)
        if origin is None or origin[0] is None or origin[0] in ends:
            break
        epoch, heads = origin[0], origin[1]
        ends[epoch] = {lane: seq for lane, (seq, _) in heads.items()}
    return ends


def _streams(db: Connection, gateway: str) -> list[Stream]:
    found = db.execute(
        "SELECT stream, gateway, epoch, lane, mark, head, produced, received, declared FROM marks WHERE gateway = ? ORDER BY epoch, lane",
        (gateway,),
    )
    return [Stream(*row) for row in found.fetchall()]


def _quarantined(db: Connection, gateway: str) -> dict[tuple[str, int], int]:
    found = db.execute("SELECT epoch, lane, count(*) FROM quarantine WHERE gateway = ? GROUP BY epoch, lane", (gateway,))
    return {(epoch, lane): n for epoch, lane, n in found.fetchall()}


def _count(db: Connection, stream: Stream) -> tuple[int, int]:
    """Rows received and declared, by the rows themselves."""
    place = stream.gateway, stream.epoch, stream.lane
    (stored,) = db.execute("SELECT count(DISTINCT seq) FROM arrivals WHERE stream = ?", (stream.stream,)).fetchone()
    (aside,) = db.execute("SELECT count(*) FROM quarantine WHERE gateway = ? AND epoch = ? AND lane = ?", place).fetchone()
    (gone,) = db.execute(
        "SELECT CAST(coalesce(sum(last - first + 1), 0) AS BIGINT) FROM declared WHERE gateway = ? AND epoch = ? AND lane = ?", place
    ).fetchone()
    return stored + aside, gone
