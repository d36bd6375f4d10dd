"""What the road's machine is made of: bounds, rules, and the state of both ends and the line."""

from typing import Final, NamedTuple

ROW, DISK_FULL, HQ_LOST, DAMAGED = range(4)  # kinds of items
DOWN, OPENING, UP = range(3)  # phases of core; OPENING: its epoch row is written and not yet certain

RULES: Final = {
    "head_own": "the cursor moves only if the acknowledged head is the box's own",
    "kept_until_backed_up": "lane 0 is kept until every backup holds it",
    "lowest_backup": "backed up is what the least of all backups and headquarters itself hold, not what the oldest holds",
    "named_only": "the bridge reads no further than core names after the commit",
    "epoch_row_first": "nothing is sent before the row of the new epoch is certain",
    "new_epoch": "every start is a new epoch",
    "ancestry": "a row goes, and is taken, only after every row before it along its line",
    "tombstone_above_mark": "of a tombstone only what lies above the mark is taken",
    "declared_is_known": "rows under declared numbers are acknowledged, not called a contradiction",
    "continues": "a batch names the chain head it continues, and is taken only behind that",
    "mark_with_rows": "headquarters' mark moves in the transaction of the rows",
    "ack_lower": "an acknowledgement names the lower of mark and the batch's last row",
    "ask": "headquarters asks again when the box knows more than it does",
    "ask_whole_line": "it looks at every epoch of the line for that, not at the youngest two alone",
    "alarm_children": "two children of one parent raise the alarm",
    "alarm_mark": "a parent's mark above its child's claim raises the alarm whenever it comes to be so",
    "open_descendants": "an alarm wants an opening for every later start too, until one was applied",
    "opening_bound": "an opening opens the one epoch it names",
    "poison_moves_mark": "a row nobody can read moves the mark",
}


class Scene(NamedTuple):
    """Bounds: how often each thing may happen."""

    name: str
    lanes: int = 1
    writes: int = 2
    cuts: int = 0  # power cuts: what no fsync covered may go
    kills: int = 0  # core dies; the file keeps what was written
    saves: int = 0  # images of the disk taken
    restores: int = 0  # an image put back
    resumes: int = 0  # a running box put back, memory and all: outside what the design heals, it must only not lose
    backups: int = 0  # of headquarters
    expiries: int = 0
    hq_restores: int = 0
    rollups: int = 0  # traffic rolled up for want of disk
    damages: int = 0
    poison: int = 0  # bit set of facts that headquarters cannot read
    late_asks: bool = False  # also what headquarters asks for while it is under way anyhow
    prompt: bool = False  # lane 0 travels at once: for scenes about the other one
    faults: int = 99  # all of the faults together


class Disk(NamedTuple):
    """What lasts on the box. Tables are by epoch, then lane."""

    top: int  # the youngest epoch, -1: none
    rows: tuple[tuple[tuple[int, ...], ...], ...]
    cursors: tuple[tuple[int, ...], ...]
    trims: tuple[tuple[int, ...], ...]
    opened: int  # epochs that an opening admitted, as bits
    admitted: int
    unsynced: tuple[tuple[int, int], ...] = ()  # written and not certain: (epoch, lane), oldest first


class Hq(NamedTuple):
    """What lasts at headquarters."""

    rows: tuple[tuple[tuple[int, ...], ...], ...] = ()
    known: int = 0  # epochs heard of, as bits
    alarms: int = 0
    doubled: int = 0  # rows counted twice
    loose: tuple[int, int, int] | None = None  # a row whose mark has not moved; only without `mark_with_rows`


class Budget(NamedTuple):
    """What may still happen; the order is that of `Scene`."""

    writes: int
    cuts: int
    kills: int
    saves: int
    restores: int
    resumes: int
    backups: int
    expiries: int
    hq_restores: int
    rollups: int
    damages: int
    faults: int


class Origin(NamedTuple):
    """An epoch's first row: ghostly knowledge, the same for everybody."""

    parent: int
    claims: tuple[int, ...]
    due: int  # facts headquarters had by then
    rolled: bool  # headquarters had facts that this disk did not know


Message = tuple[object, ...]


class State(NamedTuple):
    """Everything."""

    disk: Disk
    phase: int
    cursors: tuple[tuple[int, ...], ...]  # core's, in memory
    hq: Hq
    line: frozenset[Message]
    backups: tuple[Hq, ...]
    images: tuple[Disk, ...]
    epochs: tuple[Origin, ...]
    facts: int  # made so far
    answered: int
    left: Budget
    restored: tuple[bool, bool] = (False, False)  # ever: the box's disk, headquarters' store
    wrong: str = ""


def fact_of(item: int) -> int:
    """An item's fact."""
    return item >> 2


def kind_of(item: int) -> int:
    """An item's kind."""
    return item & 3


def put(table: tuple[tuple[int, ...], ...], epoch: int, lane: int, value: int) -> tuple[tuple[int, ...], ...]:
    """The table with one number changed."""
    lanes = table[epoch]
    return (*table[:epoch], (*lanes[:lane], value, *lanes[lane + 1 :]), *table[epoch + 1 :])


def put_rows(
    table: tuple[tuple[tuple[int, ...], ...], ...], epoch: int, lane: int, items: tuple[int, ...]
) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The table with one lane changed."""
    lanes = table[epoch]
    return (*table[:epoch], (*lanes[:lane], items, *lanes[lane + 1 :]), *table[epoch + 1 :])
