"""Which shops can be heard now, and what they last said about themselves.

Kept in memory, since a beat is worth nothing a few seconds later; written down now and then so that a restarted headquarters
can still say when it last heard of a shop.
"""

from typing import Final

import msgspec
from msgspec import Struct, field

from cloud_bridge.hq.store import Connection
from cloud_bridge.hq.streams import Place, Streams
from gateway.signed import Beat

SILENT_S: Final = 4.0  # a bridge beats every second; after this much silence its line counts as down


class Heard(Struct, frozen=True):
    """The last that was heard of a box."""

    heard_us: int
    waiting: int  # committed rows at the shop which headquarters had not acknowledged, as the box said
    epoch: str
    last: dict[int, int]  # lane to last seq of that epoch
    cursor: dict[int, int] = field(default_factory=dict)  # lane to what it believes to be acknowledged
    parent: str | None = None
    parent_heads: dict[int, tuple[int, str]] = field(default_factory=dict)
    ahead_us: int | None = None  # how far the box's clock was before headquarters'; None: not heard since headquarters runs


class Presence:
    """The last beat of each box."""

    def __init__(self) -> None:
        self._heard: dict[str, Heard] = {}
        self._unwritten: set[str] = set()

    def hear(self, beat: Beat, now_us: int) -> bool:
        """Take a beat; whether it is news that this box can be heard."""
        was_up = self.is_up(beat.gateway, now_us)
        ahead_us = beat.sent_us - now_us
        self._heard[beat.gateway] = Heard(
            now_us, beat.waiting, beat.epoch, beat.last, beat.cursor, beat.parent, beat.parent_heads, ahead_us
        )
        self._unwritten.add(beat.gateway)
        return not was_up

    def heard(self, gateway: str) -> Heard | None:
        """The last that was heard; None if nothing ever was."""
        return self._heard.get(gateway)

    def is_up(self, gateway: str, now_us: int) -> bool:
        """Whether the box's line is up, end to end."""
        heard = self._heard.get(gateway)
        return heard is not None and now_us - heard.heard_us < SILENT_S * 1e6

    def up_now(self, now_us: int) -> frozenset[str]:
        """Boxes whose line is up."""
        return frozenset(gateway for gateway in self._heard if self.is_up(gateway, now_us))

    def take_unwritten(self) -> dict[str, Heard]:
        """What has changed since the last call."""
        changed = {gateway: self._heard[gateway] for gateway in self._unwritten}
        self._unwritten.clear()
        return changed

    def remember(self, heard: dict[str, Heard]) -> None:
        """Take what was written before a restart."""
        self._heard = heard | self._heard


def write_heard(db: Connection, heard: dict[str, Heard]) -> dict[str, list[Place]]:
    """Write down what was heard; gives what boxes believe to be here and is not."""
    lost: dict[str, list[Place]] = {}
    for gateway, last in heard.items():
        streams = Streams(db)
        if last.parent is not None:
            streams.descend(gateway, last.epoch, last.parent, last.parent_heads, last.heard_us)
        streams.note(gateway, last.epoch, last.last)
        lost[gateway] = streams.lost(gateway, last.epoch, last.cursor)
        streams.write()
        lanes = msgspec.json.encode(last.last).decode("ascii")
        db.execute(
            "INSERT INTO beats VALUES (?, ?, ?, ?, ?) ON CONFLICT (gateway) DO UPDATE SET heard_us = excluded.heard_us,"
            " waiting = excluded.waiting, epoch = excluded.epoch, last = excluded.last",
            (gateway, last.heard_us, last.waiting, last.epoch, lanes),
        )
    return lost


def read_heard(db: Connection) -> dict[str, Heard]:
    """What was written down."""
    found = db.execute("SELECT gateway, heard_us, waiting, epoch, last FROM beats")
    return {
        gateway: Heard(heard_us, waiting, epoch, msgspec.json.decode(last, type=dict[int, int]))
        for gateway, heard_us, waiting, epoch, last in found
    }
