"""What fits the store: names, numbers and heads of batches and beats, which come from outside."""

import re
from typing import Final

from cloud_bridge.envelope import Batch
from gateway.columns import Tombstone
from gateway.errors import MalformedFrame
from gateway.events import Lane
from gateway.signed import Beat

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
HEAD: Final = re.compile(r"[0-9a-f]{0,128}")
REASON: Final = re.compile(r"[a-z_]{1,40}")
DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MOST: Final = 1 << 62  # what a database holds, with room
MOST_ROLLED: Final = 1_000
LAST_MOMENT_US: Final = 253_402_214_400_000_000  # the end of year 9999, less a day for time zones
LANES: Final = frozenset(Lane)


def check_batch(batch: Batch, gateway: str, leaf: str) -> None:
    """Look whether every number and name of a batch fits the store.

    Args:
        gateway: Whose topic it came on.
        leaf: The last level of that topic: the lane.

    Raises:
        MalformedFrame: It is not that box's, or does not fit.
    """
    header = batch.header
    refuse_unless(header.gateway == gateway, "a batch of another box")
    refuse_unless(header.lane in LANES and leaf == str(header.lane), "a batch of another lane")
    names = (header.epoch, header.current, header.parent if header.parent is not None else header.epoch)
    refuse_unless(all(NAME.fullmatch(name) for name in names) and header.parent != header.epoch, "an impossible epoch")
    heads = {lane: seq for lane, (seq, _) in header.parent_heads.items()}
    hexes = [header.head, header.before, *(head for _, head in header.parent_heads.values())]
    refuse_unless(all(HEAD.fullmatch(head) for head in hexes), "an impossible chain head")
    fits = lanes_fit(heads) and lanes_fit(header.last_seqs) and lanes_fit(header.cursors) and header.last < MOST
    refuse_unless(fits and 0 <= header.sent_us < MOST, "impossible numbers")
    for piece in batch.pieces:
        if isinstance(piece.content, Tombstone):
            _check_tombstone(piece.content)
        else:
            refuse_unless(max(record_us for record_us, _ in piece.content) < LAST_MOMENT_US, "impossible numbers")


def check_beat(beat: Beat) -> None:
    """Look whether every number and name of a beat fits the store.

    Raises:
        MalformedFrame: One does not.
    """
    names = (beat.epoch, beat.parent if beat.parent is not None else beat.epoch)
    refuse_unless(all(NAME.fullmatch(name) for name in names) and beat.parent != beat.epoch, "a beat of an impossible epoch")
    heads = {lane: seq for lane, (seq, _) in beat.parent_heads.items()}
    fits = lanes_fit(beat.last) and lanes_fit(beat.cursor) and lanes_fit(heads) and 0 <= beat.waiting < MOST
    refuse_unless(fits and all(HEAD.fullmatch(head) for _, head in beat.parent_heads.values()), "a beat with impossible numbers")


def _check_tombstone(tombstone: Tombstone) -> None:
    refuse_unless(bool(REASON.fullmatch(tombstone.reason)), "a tombstone without a reason")
    refuse_unless(len(tombstone.rollup) <= MOST_ROLLED, "a tombstone with too many sums")
    most = tombstone.last - tombstone.first + 1
    for one in tombstone.rollup:
        names = NAME.fullmatch(one.type) and len(one.zone) <= 100 and "\0" not in one.zone and DAY.fullmatch(one.day)
        refuse_unless(bool(names) and one.rows <= most and 0 <= one.dwell_s < 1e15, "a tombstone with impossible sums")


def lanes_fit(numbers: dict[int, int]) -> bool:
    """Whether these are numbers of rows by lane."""
    return all(lane in LANES and 0 <= seq < MOST for lane, seq in numbers.items())


def why(error: Exception) -> str:
    """The kind of complaint, without what varies: kinds are counted, and outsiders must not make new ones."""
    return str(error.args[0]).partition(":")[0][:80] if isinstance(error, MalformedFrame) else "nested too deeply"


def refuse_unless(fits: bool, reason: str) -> None:
    """Refuse what does not fit.

    Raises:
        MalformedFrame: It does not.
    """
    if not fits:
        raise MalformedFrame(reason)
