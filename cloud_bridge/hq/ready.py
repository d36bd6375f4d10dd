"""Batches made ready for the store, away from its thread: rows read, numbers summed up. Pure but for the zones' tables.

What comes by the thousand is summed up before it is written, so a day's worth of visits is a few statements. What cannot be
read is told apart here.
"""

import datetime
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Struct

from cloud_bridge.envelope import Batch, Header, Piece, read_row
from cloud_bridge.hq.undated import Undated, undated
from gateway.columns import RollUp, Rows, Tombstone
from gateway.events import OccupancyEstimated, Row, TimeTrust, VisitEnded, VisitStarted

DEFAULT_ZONE: Final = "Asia/Taipei"
QUARTER_US: Final = 900_000_000  # no zone's day begins within a quarter of an hour
UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)

ReadyRow = tuple[int, int, str, str]  # seq, record_us, type, event


class Tally:
    """What rows of one box sum up to."""

    def __init__(self, timezone: str) -> None:
        self.timezone = timezone
        self.counts: Counter[tuple[str, str]] = Counter()  # by day and type
        self.zones: Counter[tuple[str, str, str]] = Counter()  # by day, zone and type
        self.dwell_s: Counter[tuple[str, str, str]] = Counter()
        self.came: dict[str, VisitStarted] = {}
        self.left: dict[str, VisitEnded] = {}
        self.estimates: dict[str, OccupancyEstimated] = {}

    def add(self, record_us: int, kind: str, event: Row) -> bool:
        """Take a row; whether it is of a rare kind, which may have an effect of its own."""
        day = quarter_day(record_us // QUARTER_US, self.timezone)
        self.counts[day, kind] += 1
        if isinstance(event, VisitStarted):
            self.zones[day, event.zone, kind] += 1
            self.came[event.visit_id] = event
        elif isinstance(event, VisitEnded):
            self.zones[day, event.zone, kind] += 1
            self.dwell_s[day, event.zone, kind] += event.dwell_s  # type: ignore[assignment]
            if self.came.pop(event.visit_id, None) is None:
                self.left[event.visit_id] = event
        elif isinstance(event, OccupancyEstimated):
            self.estimates[event.zone] = event
        else:
            return True
        return False

    def merge(self, other: "Tally") -> None:
        """Take what came after."""
        self.counts.update(other.counts)
        self.zones.update(other.zones)
        self.dwell_s.update(other.dwell_s)
        for visit_id, ended in other.left.items():
            if self.came.pop(visit_id, None) is None:
                self.left[visit_id] = ended
        self.came.update(other.came)
        self.estimates.update(other.estimates)

    def add_sums(self, sums: Iterable[RollUp], here: Iterable[tuple[int, str]]) -> None:
        """Take what rows summed up to that will never come, less those of them that are here: (record_us, event)."""
        had = Tally(self.timezone)
        for record_us, text in here:
            event = read_row(text.encode("utf-8"))
            had.add(record_us, event.__class__.__name__, event)
        for one in sums:
            place = one.day, one.zone, one.type
            of_zone = one.zone != ""
            got = had.zones[place] if of_zone else had.counts[one.day, one.type]
            self.counts[one.day, one.type] += max(0, one.rows - got)
            if of_zone:
                self.zones[place] += max(0, one.rows - got)
                self.dwell_s[place] += max(0.0, one.dwell_s - had.dwell_s[place])  # type: ignore[assignment]


class Ready(Struct, frozen=True):
    """Rows of one block, read."""

    rows: list[ReadyRow]
    rare: list[tuple[ReadyRow, Row]]  # those of rare kinds
    aside: list[tuple[int, int, bytes, str]]  # that nobody here can read: seq, record_us, event and why
    tally: Tally
    undated: list[Undated] = []  # whose clock was not believed


class ReadyBatch(Struct, frozen=True):
    """A batch, read."""

    header: Header
    pieces: list[Piece]
    ready: list[Ready | Tombstone]  # of each piece
    timezone: str


def make_ready(batch: Batch, timezone: str = DEFAULT_ZONE) -> ReadyBatch:
    """Read a batch.

    Args:
        timezone: Of the shop: its days are local.
    """
    made: list[Ready | Tombstone] = []
    for piece in batch.pieces:
        content = piece.content
        made.append(content if isinstance(content, Tombstone) else ready(piece.first, content, timezone))
    return ReadyBatch(batch.header, batch.pieces, made, timezone)


def ready(first: int, content: Rows, timezone: str) -> Ready:
    """Read rows, the first of which is number `first`."""
    rows, rare, aside, tally = list[ReadyRow](), list[tuple[ReadyRow, Row]](), list[tuple[int, int, bytes, str]](), Tally(timezone)
    doubted: list[Undated] = []
    add = tally.add
    for seq, (record_us, raw) in enumerate(content, first):
        try:
            event, text = read_row(raw), raw.decode("utf-8")
        except UNREADABLE as error:
            aside.append((seq, record_us, raw, str(error)))
            continue
        kind = event.__class__.__name__
        row = seq, record_us, kind, text
        rows.append(row)
        if add(record_us, kind, event):
            rare.append((row, event))
        if event.event_time.trust is TimeTrust.UNTRUSTED:
            doubted.append(undated(seq, kind, event, quarter_day(record_us // QUARTER_US, timezone)))
    return Ready(rows, rare, aside, tally, doubted)


def local_day(wall_us: int, timezone: str) -> str:
    """The shop's calendar day of a moment, such as `2026-11-21`."""
    return datetime.datetime.fromtimestamp(wall_us / 1e6, zone(timezone)).date().isoformat()


@lru_cache(maxsize=4096)
def quarter_day(quarter: int, timezone: str) -> str:
    """The shop's calendar day of a quarter of an hour since 1970."""
    return local_day(quarter * QUARTER_US, timezone)


@lru_cache(maxsize=64)
def zone(timezone: str) -> datetime.tzinfo:
    """The time zone of that name; UTC where the machine does not know it."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return datetime.UTC
