"""The rules of assignments with one clause left out: what `assignments` shows each of them to be for."""

from typing import Any, Final

from msgspec.structs import replace

from gateway.rules.assigning import Assigner, Kept, Stand
from gateway.rules.assignment import Book
from gateway.rules.marks import beyond
from gateway.rules.recounted import Counted

CLAUSES: Final = {
    # rule 1, at the box
    "released_is_over": "a box never again honours a number it released",
    "settled_is_over": "a box never again honours what ends at or before its settled mark",
    # rule 1, at headquarters
    "exclusive": "units that a box holds are nobody else's",
    "same_number": "the same box is given the same number again",
    "current_number": "only a release of the current number frees",
    "latest_end": "an assignment ends with the latest grant under it",
    "settled_at_end": "a settled mark frees only what ends by then",
    "newest_opening": "only what was written under the newest opening frees",
    "wish_waits": "a refund waits until nobody holds it",
    "exposure": "what a destroyed box may have spent is booked",
    "journal": "nothing leaves headquarters before it is in what headquarters would be restored from",
    "in_order": "rows arrive after every row before them along their line",
    # rule 2
    "naming_needed": "a start that is not proven honours only what names it",
    "naming_opens": "a grant that names a start opens it",
    "named_less_spent": "a grant that names a start is less by what is known to be spent outside it",
    "opening_tells_stands": "an opening tells what the box holds, how much of it is spent, and what is over",
    "opening_tells_settled": "an opening tells the settled mark",
    # reversals
    "counted_stays": "a reversal frees nothing at a box of what headquarters' opening has counted",
    "reversed_once": "headquarters takes a redemption back once",
    "late_first": "what had come to be known too late brings nothing back",
    "returned_given": "what was spent beyond what was given brings nothing back",
    "told_again": "what rows tell again after a restore of headquarters changes nothing that they had changed in the journal's stand",
    "dark_booked": "what comes back from a destroyed box is booked",
    # rule 8
    "box_named": "assignments name boxes, not shops",
}

# Kept as belt and braces: uses arrive before the release, and headquarters frees no more than is left of what it has counted.
SPARE: Final = {
    "released_unused": "a number is released only while unused",
    "unspent_frees": "a release frees only what headquarters knows no use of",
}


def _yes(*_: Any) -> bool:
    return True


def _no(*_: Any) -> bool:
    return False


def _taken_off(self: Book, voucher_id: str, number: int) -> int:
    own = self._spent.get((voucher_id, number), ())
    known = self._known.get((voucher_id, number), 0)
    later = sum(one.units for one in own if beyond(one.place, self._marks))
    back = sum(one.units for one in own if one.back is not None and beyond(one.back, self._marks))
    return max(sum(one.units for one in own if one.back is None), known + later - back)


BOOK: Final[dict[str, tuple[str, Any]]] = {
    "released_is_over": ("_was_released", _no),
    "settled_is_over": ("_is_settled", _no),
    "released_unused": ("_is_unused", _yes),
    "naming_needed": ("_may_speak", _yes),
    "box_named": ("_is_mine", _yes),
    "counted_stays": ("spent", _taken_off),
}


def _all_left(self: Assigner, stand: Stand, given: int) -> int:
    del self, given
    return stand.left


def _first_end(self: Assigner, mine: Kept, not_after_s: int) -> int:
    del self, not_after_s
    return mine.latest_s


def _new_number(self: Assigner, stand: Stand, mine: Kept, asked: Any, not_after_s: int) -> Kept:
    return Kept(mine.gateway, stand.number + 1, mine.units - mine.total_spent, not_after_s)


def _at_once(self: Assigner, stand: Stand) -> Stand:
    del self
    if not stand.wish:
        return stand
    held = sum(one.units - one.total_spent for one in stand.kept)
    return replace(stand, left=stand.left + held, ended="refunded")


ASSIGNER: Final[dict[str, tuple[str, Any]]] = {
    "exclusive": ("_rest", _all_left),
    "same_number": ("_again", _new_number),
    "current_number": ("_is_current", _yes),
    "latest_end": ("_latest", _first_end),
    "settled_at_end": ("_is_past", _yes),
    "newest_opening": ("counts", _yes),
    "unspent_frees": ("_is_unspent", _yes),
    "wish_waits": ("_finished", _at_once),
    "exposure": ("_exposure", lambda *_: 0),
    "dark_booked": ("_booked", lambda *_: 0),
    "late_first": ("_late_first", lambda *_: 0),
    "returned_given": ("_returned", lambda self, over, units: units),
    "told_again": ("_news", lambda self, over, epoch, used=0, back=0: (over.again, Counted(epoch, used, back))),
    "named_less_spent": ("_units_for", lambda self, mine, epoch: mine.units),
}


def book_without(dropped: frozenset[str], gateway: str) -> Book:
    """The box's rules without some clauses."""
    changed = dict(BOOK[clause] for clause in dropped if clause in BOOK)
    return type("Careless", (Book,), changed)(gateway) if changed else Book(gateway)


def assigner_without(dropped: frozenset[str]) -> Assigner:
    """Headquarters' rules without some clauses."""
    changed = dict(ASSIGNER[clause] for clause in dropped if clause in ASSIGNER)
    if "exclusive" in dropped:
        changed["_may_share"] = _yes
    return type("Careless", (Assigner,), changed)() if changed else Assigner()
