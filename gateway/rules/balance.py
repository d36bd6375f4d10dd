"""What a shop may spend of a balance that headquarters lends out in shares: face value in minor units, or a member's points. Pure.

A share is an assignment (`gateway.rules.assignment`); the largest part of it that no other sale holds may be spent here, line or no
line, until it ends. What a sale holds stands under the number of its assignment, so a hold never follows a voucher to another share.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gateway.rules.assignment import Book, Running

MINOR: Final = "minor"  # the currency's smallest unit
POINTS: Final = "points"
STALE_S: Final = (
    86_400  # as points are, unless `[members] cache_h` says otherwise: headquarters has had every chance to say something newer
)


class Balance(Struct, frozen=True, kw_only=True):
    """Of a balance, in its own unit: what was decided, and what is known."""

    unit: str  # `MINOR` or `POINTS`
    taken: int = 0  # spent or held by this decision
    offered: int = 0  # how much of what was asked for could be taken now: ask for so much, or with `or_less`
    short: int = 0  # of what was asked for, what this shop does not hold
    short_reason: str = ""  # a key of `REASONS`; empty: headquarters is asked when it comes to spending
    here: int = 0  # what this shop may spend after this decision, line or no line
    ends_s: int | None = None  # until then
    known: int | None = None  # what was left of it in the whole chain when headquarters last said so; None: it never has
    known_age_s: int | None = None  # how long ago that was
    is_stale: bool = False  # that is longer ago than `STALE_S`: show it greyed


class Share(Struct, frozen=True):
    """What may be spent here."""

    number: int = 0  # of its assignment; 0: nothing is held
    free: int = 0
    ends_s: int = 0


NO_SHARE: Final = Share()


def share_of(book: Book, voucher_id: str, running: Running, earliest_us: int, held: Callable[[int], int]) -> Share:
    """The best share that may be spent now; `held` tells what sales hold under a number."""
    found = NO_SHARE
    for grant in book.held(voucher_id):
        if book.refusal(grant, 0, running, earliest_us) is None:
            free = max(0, book.room(grant) - held(grant.number))
            if not found.number or (free, grant.not_after_s) > (found.free, found.ends_s):
                found = Share(grant.number, free, grant.not_after_s)
    return found


def may_capture(book: Book, voucher_id: str, number: int, units: int, running: Running) -> bool:
    """Whether a live hold under a number may still be spent: by its own time, not the clock's, since it began before the end."""
    grants = [grant for grant in book.held(voucher_id) if grant.number == number]
    return any(book.refusal(grant, 0, running, 0) is None and book.room(grant) >= units for grant in grants)


def ends_with(book: Book, voucher_id: str, number: int) -> int:
    """The latest end of what is held under a number; 0: nothing is."""
    return max((grant.not_after_s for grant in book.held(voucher_id) if grant.number == number), default=0)
