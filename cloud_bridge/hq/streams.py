"""How far headquarters has come: the mark of each stream, that is one lane of one epoch of a box, and how streams follow each other."""

from typing import Final

import msgspec
from msgspec import Struct

from cloud_bridge.hq.store import Connection

Heads = dict[int, tuple[int, str]]  # lane to (last seq, chain head)
MOST_ANCESTORS: Final = 10_000  # starts without a row in some lane, one after the other; more are no box's

MOST_ASKED_BACK: Final = 50  # starts before the running one; those before are asked for when these are here

_heads = msgspec.json.Decoder(Heads)


class Place(Struct, frozen=True):
    """How far a stream has come."""

    epoch: str
    lane: int
    mark: int
    head: str


class Stream(Struct):
    """One lane of one epoch of a box, and its books."""

    stream: int
    gateway: str
    epoch: str
    lane: int
    mark: int = 0
    head: str = ""
    produced: int = 0
    received: int = 0
    declared: int = 0
    changed: bool = False

    @property
    def place(self) -> Place:
        """How far it has come."""
        return Place(self.epoch, self.lane, self.mark, self.head)

    def say(self, produced: int) -> None:
        """The box says that it has written so many rows."""
        if produced > self.produced:
            self.produced, self.changed = produced, True


class Streams:
    """Those that a transaction touches: read once, written once."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self._of: dict[tuple[str, str], dict[int, Stream]] = {}
        self._parents: dict[tuple[str, str], tuple[str | None, Heads] | None] = {}

    def get(self, gateway: str, epoch: str, lane: int) -> Stream:
        """A stream; a new one if nobody has heard of it."""
        lanes = self._lanes(gateway, epoch)
        if lane not in lanes:
            (number,) = self._db.execute(
                "INSERT INTO marks (gateway, epoch, lane) VALUES (?, ?, ?) RETURNING stream", (gateway, epoch, lane)
            ).fetchone()
            lanes[lane] = Stream(number, gateway, epoch, lane)
        return lanes[lane]

    def known(self, gateway: str, epoch: str, lane: int) -> Stream | None:
        """A stream, if anybody has heard of it."""
        return self._lanes(gateway, epoch).get(lane)

    def note(self, gateway: str, epoch: str, last: dict[int, int]) -> None:
        """The box says how many rows an epoch's lanes have."""
        for lane, seq in last.items():
            if seq > 0:
                self.get(gateway, epoch, lane).say(seq)

    def descend(self, gateway: str, epoch: str, parent: str | None, heads: Heads, now_us: int) -> None:
        """The box says what an epoch continues. The first word stands."""
        if self.origin(gateway, epoch) is None:
            self._db.execute(
                "INSERT INTO epochs VALUES (?, ?, ?, ?, ?) ON CONFLICT (gateway, epoch) DO NOTHING",
                (gateway, epoch, parent, msgspec.json.encode(heads).decode("ascii"), now_us),
            )
            self._parents[gateway, epoch] = parent, heads

    def origin(self, gateway: str, epoch: str) -> tuple[str | None, Heads] | None:
        """Parent of an epoch and how far each lane of it had come; None: unknown."""
        if (gateway, epoch) not in self._parents:
            found = self._db.execute("SELECT parent, parent_heads FROM epochs WHERE gateway = ? AND epoch = ?", (gateway, epoch)).fetchone()
            self._parents[gateway, epoch] = (found[0], _heads.decode(found[1])) if found else None
        return self._parents[gateway, epoch]

    def missing_before(self, gateway: str, parent: str | None, heads: Heads, lane: int) -> Stream | None:
        """The stream that has to come first: the nearest ancestor with rows in this lane has not all come. None: all is there."""
        for _ in range(MOST_ANCESTORS):
            if parent is None:
                return None
            claimed = heads.get(lane, (0, ""))[0]
            if claimed > 0:
                before = self.get(gateway, parent, lane)
                return before if before.mark < claimed else None
            origin = self.origin(gateway, parent)
            if origin is None:
                return self.get(gateway, parent, 0)  # every start has a row in lane 0, and its batch names what came before it
            parent, heads = origin
        return self.get(gateway, parent or "", 0)

    def lost(self, gateway: str, epoch: str, cursors: dict[int, int]) -> list[Place]:
        """Streams that a box believes to be acknowledged further than they are here, this store having been restored from a backup.

        Of the running epoch its cursors say so. Of those before it what the line claims is taken for acknowledged: a box that has
        rows of them still to send knows better, and need not heed an ask.
        """
        found = [self.get(gateway, epoch, lane) for lane, seq in cursors.items() if seq > 0]
        behind = [stream.place for stream in found if stream.mark < cursors[stream.lane]]
        seen: set[str | None] = {epoch, None}
        parent, heads = self.origin(gateway, epoch) or (None, {})
        while parent is not None and parent not in seen and len(seen) < MOST_ASKED_BACK:
            self.note(gateway, parent, {lane: seq for lane, (seq, _) in heads.items()})
            claims = [(self.get(gateway, parent, lane), seq) for lane, (seq, _) in heads.items() if seq > 0]
            behind += [stream.place for stream, seq in claims if stream.mark < seq]
            seen.add(parent)
            parent, heads = self.origin(gateway, parent) or (None, {})
        return behind

    def write(self) -> None:
        """Write down what has changed."""
        changed = [stream for lanes in self._of.values() for stream in lanes.values() if stream.changed]
        self._db.executemany(
            "UPDATE marks SET mark = ?, head = ?, produced = ?, received = ?, declared = ? WHERE stream = ?",
            [(one.mark, one.head, one.produced, one.received, one.declared, one.stream) for one in changed],
        )
        for stream in changed:
            stream.changed = False

    def _lanes(self, gateway: str, epoch: str) -> dict[int, Stream]:
        if (gateway, epoch) not in self._of:
            found = self._db.execute(
                "SELECT stream, gateway, epoch, lane, mark, head, produced, received, declared FROM marks WHERE gateway = ? AND epoch = ?",
                (gateway, epoch),
            ).fetchall()
            self._of[gateway, epoch] = {row[3]: Stream(*row) for row in found}
        return self._of[gateway, epoch]


def note_produced(db: Connection, gateway: str, epoch: str, last: dict[int, int]) -> None:
    """Remember the highest number a box said it has written, lane by lane: the other side of the books."""
    streams = Streams(db)
    streams.note(gateway, epoch, last)
    streams.write()
