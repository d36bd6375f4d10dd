"""Whether a start may decide from what its disk says: a disk may be an old image of itself, and cannot know it.

Rules the table obeys. 1. A start is admitted if nothing off the disk contradicts it: as the `first` of a ledger that HQ has never
acknowledged, once HQ has, and not on its silence, since a box whose ledger is gone looks just like a new one; `inherited` from an
admitted parent that no witness has to vouch for; by its `witnesses`, once every expected one has vouched. A start that ended while
it was waiting has decided nothing, and its child takes its place. 2. A start whose parent was doubted, whose lane 0
is damaged or whose ledger was lost is doubted from its beginning: nobody can vouch for what is not there.
3. One contradiction (a witness's mark this ledger does not know, HQ's word, HQ's signed mark beyond our rows) outweighs any
number of voices for it, at any time, also after admission. 4. What is doubted is admitted by nothing but HQ's `opening` for
this very start that covers its damage; an opening also outweighs everything said before it, and nothing said after it.
5. A box that was in touch with HQ waits `SETTLE_S` for HQ's word before it inherits; silence is then no contradiction.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

SETTLE_S: Final = 5.0  # a bridge is back within two seconds of core; a customer waits no longer than that for nothing
IN_TOUCH_ROWS: Final = 16  # of lane 0 without HQ's acknowledgement: a cursor reaches the disk within a second of the ack


class State(StrEnum):
    """Of one start."""

    WAITING = "waiting"  # nothing contradicts the disk, but somebody has yet to speak
    DOUBTED = "doubted"  # something does: only HQ can help
    ADMITTED = "admitted"


class Input(StrEnum):
    """What can happen to one."""

    ENOUGH = "enough"  # everybody has spoken who had to
    CONTRADICTED = "contradicted"
    OPENED = "opened"


class How(StrEnum):
    """In what way a start was admitted."""

    FIRST = "first"
    INHERITED = "inherited"
    WITNESSES = "witnesses"
    OPENING = "opening"


class Doubt(StrEnum):
    """Why a start is not believed."""

    PARENT = "parent"  # the start before it was not admitted
    DAMAGE = "damage"  # rows of lane 0 are not what was written
    LOST = "lost"  # a whole ledger, or the opening that told what a lost one had known
    WITNESS = "witness"  # a device was shown a row that is not here
    HQ = "headquarters"  # HQ has pressed an opening for it
    MARK = "mark"  # HQ signed for rows that are not here


TRANSITIONS: Final[dict[State, dict[Input, State]]] = {
    State.WAITING: {Input.ENOUGH: State.ADMITTED, Input.CONTRADICTED: State.DOUBTED, Input.OPENED: State.ADMITTED},
    State.DOUBTED: {Input.CONTRADICTED: State.DOUBTED, Input.OPENED: State.ADMITTED},
    State.ADMITTED: {Input.CONTRADICTED: State.DOUBTED, Input.OPENED: State.ADMITTED},
}


class Start(Struct, frozen=True, kw_only=True):
    """What is known of a start at its beginning, from its own disk."""

    epoch: str
    parent: str | None
    known: bool = False  # HQ has acknowledged a row of this ledger, or a start of it was admitted
    parent_admitted: bool = False  # or, where it ended undecided, the last of its line that did not
    lost: bool = False
    damaged: dict[str, int] = field(default_factory=dict)  # epoch to its last damaged row of lane 0
    expected: frozenset[str] = frozenset()  # witnesses that saw the box since HQ last acknowledged
    in_touch: bool = False  # HQ had acknowledged nearly everything: its word is worth waiting for


class Admission:
    """The judgement on one start. Each method says whether it changed anything."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.state = State.WAITING
        self.how: How | None = None
        self.opening: int | None = None
        self.doubt: Doubt | None = None
        self._vouched: set[str] = set()
        self._excused: set[str] = set()
        self._settled = not start.in_touch
        self._agreed = start.known
        if start.lost:
            self._contradict(Doubt.LOST)
        elif start.damaged:
            self._contradict(Doubt.DAMAGE)
        elif start.parent is not None and not start.parent_admitted:
            self._contradict(Doubt.PARENT)
        else:
            self._weigh()

    @property
    def admitted(self) -> bool:
        """Whether the store may decide."""
        return self.state is State.ADMITTED

    @property
    def awaits_hq(self) -> bool:
        """Whether it waits for HQ to have heard of this ledger at all."""
        return self.state is State.WAITING and not self._agreed

    @property
    def awaited(self) -> frozenset[str]:
        """The witnesses that have yet to speak."""
        return self.start.expected - self._vouched - self._excused if self.state is State.WAITING else frozenset()

    def vouch(self, witness: str) -> bool:
        """A witness's mark is a row of this ledger."""
        self._vouched.add(witness)
        return self._weigh()

    def excuse(self, witness: str) -> bool:
        """A witness was revoked: what it saw counts no more."""
        self._excused.add(witness)
        return self._weigh()

    def agree(self) -> bool:
        """HQ has acknowledged a row of this start, and nothing it holds contradicts it."""
        self._agreed = True
        return self.settle()

    def settle(self) -> bool:
        """HQ's time to speak is up."""
        self._settled = True
        return self._weigh()

    def contradict(self, doubt: Doubt) -> bool:
        """Something off the disk knows what this disk does not."""
        return self._contradict(doubt)

    def open(self, number: int, epoch: str, marks: Mapping[str, int]) -> bool:
        """HQ's opening: for this start only, and only if HQ has counted (or declared lost) what is damaged here."""
        covered = all(marks.get(name, 0) >= last for name, last in self.start.damaged.items())
        if epoch != self.start.epoch or not covered or (self.opening is not None and number <= self.opening):
            return False
        self.opening, self.doubt, self.how = number, None, How.OPENING
        return self._take(Input.OPENED)

    def _weigh(self) -> bool:
        if self.state is not State.WAITING or self.awaited or not self._agreed or not (self._settled or self.start.expected):
            return False
        self.how = How.FIRST if not self.start.known else How.WITNESSES if self.start.expected else How.INHERITED
        return self._take(Input.ENOUGH)

    def _contradict(self, doubt: Doubt) -> bool:
        if self.state is State.DOUBTED:
            return False
        self.doubt = doubt
        return self._take(Input.CONTRADICTED)

    def _take(self, happened: Input) -> bool:
        following = TRANSITIONS[self.state].get(happened)
        if following is None:
            return False
        self.state = following
        return True
