"""What the machine of numbered assignments is made of: bounds, starts of boxes, headquarters, and everything together."""

from typing import Final, NamedTuple

from gateway.events import Instant, Row, TimeTrust
from gateway.rules.assigning import Stand, Wish
from gateway.signed import AssignmentStand, Grant

V: Final = "v"
BOXES: Final = ("a", "b")
AT: Final = Instant(0, 0, "", TimeTrust.UNTRUSTED)


class Scene(NamedTuple):
    """Bounds: how often each thing may happen."""

    name: str
    units: int = 1
    share: int = 0  # of a balance: what a box asks for
    gives: int = 2
    old_asks: bool = False  # also for starts that are over
    spends: int = 2
    releases: int = 0
    settles: int = 0
    wishes: int = 0
    wish: Wish = Wish.REFUND
    presses: int = 0
    crashes: int = 0
    restores: int = 0
    backups: int = 0
    hq_restores: int = 0
    destroys: int = 0
    reverses: int = 0


class Budget(NamedTuple):
    """What may still happen; the order is that of `Scene`."""

    gives: int
    spends: int
    releases: int
    settles: int
    wishes: int
    presses: int
    crashes: int
    restores: int
    backups: int
    hq_restores: int
    destroys: int
    reverses: int


class Opened(NamedTuple):
    """An opening, as it travels and as the row it becomes."""

    number: int
    epoch: int
    stands: tuple[AssignmentStand, ...]
    settled_s: int
    marks: tuple[int, ...]


class Start(NamedTuple):
    """One start of a box; `rows` are all it ever wrote."""

    box: int
    parent: int  # -1: none
    claimed: int  # rows of the parent it continues
    proven: bool
    rows: tuple[Row | Opened, ...] = ()


class Hq(NamedTuple):
    """What lasts at headquarters."""

    stand: Stand
    marks: tuple[int, ...] = ()  # by start
    openings: tuple[int, ...] = (0, 0)  # newest number, by box
    opened: tuple[int, ...] = (-1, -1)  # the start it is for
    settled: tuple[int, ...] = (0, 0)
    fenced: tuple[bool, ...] = (False, False)
    last_s: int = 0  # the latest end it has signed
    reversed: frozenset[str] = frozenset()  # redemptions it has counted as taken back


class State(NamedTuple):
    """Everything."""

    starts: tuple[Start, ...]
    running: tuple[int, ...]  # by box
    hq: Hq
    journal: Hq | None  # as of the last time anything left headquarters, if that was after the backup
    backup: Hq | None
    grants: frozenset[Grant]
    openings: frozenset[Opened]
    lost: frozenset[tuple[int, int]]  # spent on a branch that is gone before headquarters knew: (start, row)
    left: Budget
