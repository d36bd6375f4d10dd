"""What rows have told of an assignment, start by start, so that rows that come again after a restore count once.

Pure. A headquarters that is put back to a backup takes the stand that left it last from its journal, and shops send again the rows
since the backup. Of a number that is still held, uses are counted anew from those rows. A number that is over has given back what was
left of it, and its stand holds the effect of rows that now come again: so many units of each start are *due again* and change nothing.
Units, not names, since rows of one start always come in their order; of the start that spent, not of the one that reversed, since
headquarters takes each redemption back once, whichever start says so first.
"""

from collections.abc import Iterable

from msgspec import Struct


class Counted(Struct, frozen=True, array_like=True):
    """Units that rows have told of under one number, of what one start spent."""

    epoch: str
    used: int = 0
    back: int = 0  # taken back again


Told = tuple[Counted, ...]


def counting(told: Told, epoch: str, used: int = 0, back: int = 0) -> Told:
    """With more of one start."""
    return _sorted({one.epoch: one for one in told}, [Counted(epoch, used, back)])


def due_again(told: Told, known: Told, due: Told) -> Told:
    """What was told and is not known any more; of what is known, `due` was not told again yet."""
    sums = {one.epoch: one for one in told}
    sums = {one.epoch: one for one in _sorted(sums, [Counted(one.epoch, -one.used, -one.back) for one in known])}
    left = _sorted(sums, due)
    return tuple(one for one in (Counted(one.epoch, max(0, one.used), max(0, one.back)) for one in left) if one.used or one.back)


def absorbed(due: Told, epoch: str, used: int = 0, back: int = 0) -> tuple[Told, Counted]:
    """Rows arrive: what is still due, and how much of them is news."""
    mine = next((one for one in due if one.epoch == epoch), Counted(epoch))
    old = Counted(epoch, min(used, mine.used), min(back, mine.back))
    if not old.used and not old.back:
        return due, Counted(epoch, used, back)
    left = Counted(epoch, mine.used - old.used, mine.back - old.back)
    rest = tuple(left if one is mine else one for one in due)
    return tuple(one for one in rest if one.used or one.back), Counted(epoch, used - old.used, back - old.back)


def _sorted(sums: dict[str, Counted], more: Iterable[Counted]) -> Told:
    for one in more:
        old = sums.get(one.epoch, Counted(one.epoch))
        sums = {**sums, one.epoch: Counted(one.epoch, old.used + one.used, old.back + one.back)}
    return tuple(sums[epoch] for epoch in sorted(sums))
