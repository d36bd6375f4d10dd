"""The port to headquarters' database: what the rest of headquarters may ask of it, whichever engine it is.

Statements are written once, in the SQL that SQLite and PostgreSQL share, with `?` for values: `ON CONFLICT` names its columns,
sums are cast, and nothing leans on a rowid. What the engines cannot share are `add` and the tables' text.

One process writes, on one thread: so a transaction sees nobody else's half of anything, and marks need no locks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from msgspec import Struct

from cloud_bridge.hq.ready import ReadyRow
from gateway.errors import StoreError

T = TypeVar("T")
SCHEMA: Final = 3  # number of the tables' shape; another one in a database is refused
RECENT: Final = 5_000  # rows by arrival among which "the last that arrived" are looked for


class Run(Struct, frozen=True):
    """Rows of one stream that arrive together."""

    first_id: int
    stream: int
    received_us: int
    rows: list[ReadyRow]


class StoreAway(StoreError):
    """The database cannot be reached now: nothing was committed as far as is known, and what was asked may be asked again."""


class Cursor(Protocol):
    """What a statement brought."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection inside a transaction."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Cursor: ...
    def executemany(self, sql: str, values: Iterable[Sequence[Any]], /) -> Cursor: ...

    def put(self, table: str, rows: list[tuple[Any, ...]], conflict: str, /) -> None:
        """Insert whole rows; `conflict` is what follows ON CONFLICT. No two of them may meet the same row."""

    def remove(self, table: str, gateway: str, column: str, keys: list[str], /) -> None:
        """Delete a box's rows by one column."""

    def add(self, runs: list[Run], /) -> None:
        """Store rows, the quickest way the engine knows."""

    def stored(self, stream: int, first: int, last: int, /) -> list[tuple[int, int, str]]:
        """What is stored of some rows, in order: (seq, record_us, event)."""

    @property
    def unfit(self) -> tuple[type[Exception], ...]:
        """What a value that the engine cannot hold may raise."""


class Store(Protocol):
    """A database; `open` it, `close` it."""

    async def open(self) -> None:
        """Make the tables, or look whether they are this release's.

        Raises:
            ConfigError: It cannot be used.
        """

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; it is on the disk when this returns.

        Raises:
            StoreAway: The database cannot be reached.
        """

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on what is committed, all of it of one moment.

        Raises:
            StoreAway: The database cannot be reached.
        """

    async def scrub(self) -> None:
        """Leave nothing in the database's files of what has been deleted.

        Raises:
            StoreAway: The database cannot be reached.
        """

    async def close(self) -> None:
        """Finish what is being written and let go."""


class StoredRow(Struct, frozen=True):
    """A row as headquarters keeps it."""

    id: int
    gateway: str
    epoch: str
    lane: int
    seq: int
    record_us: int
    received_us: int
    type: str
    event: str  # JSON
