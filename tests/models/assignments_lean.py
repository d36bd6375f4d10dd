"""Which differences between states do not matter: what makes the search of `assignments` small enough to be whole.

Each of these leaves the answer as it is, because of two states that differ so, one can be wrong later only if the other can:
1. Where no more uses can come than were issued, and nothing is refunded, nothing can go wrong any more: the search ends there.
2. What may still be shown, arrive or be put back, and never could change anything any more, is forgotten: openings for a start
that is over, grants for a start that is off the line or under a number that the box will refuse for good, all grants once
no use is left, backup and journal once headquarters is not restored any more, and what only a restore would ask for.
3. Of two grants of one number and start the one that ends no later and is for no more units is forgotten: whatever it allows, the other
allows as well.
4. A branch that is off the line, and wholly known to headquarters that is not restored any more, is its uses and reversals.
Nothing asks how much was late in all, nor, where nothing is reversed, what was spent under a number that is over.
5. Where neither box alone has faults the two are alike: the first that is given anything is called `a`.
"""

from msgspec.structs import replace

from gateway.events import RedemptionReversed, Row, VoucherRedeemed
from gateway.rules.assigning import ENDED, Gone, Stand
from gateway.signed import Grant
from tests.models.assignments import Machine
from tests.models.assignments_state import BOXES, Hq, Opened, Start, State, V

NOTHING = Opened(0, -1, (), 0, ())  # stands for a row that changes nothing any more


def is_over(machine: Machine, state: State) -> bool:
    """Whether nothing can go wrong from here on."""
    if may_refund(machine, state):
        return False
    exposed = 0 if state.left.hq_restores else state.hq.stand.exposed
    return machine.spent(state) + state.left.spends <= machine.scene.units + exposed


def may_refund(machine: Machine, state: State) -> bool:
    """Whether anything is, or may come to be, refunded."""
    if machine.scene.wish not in ENDED or not machine.scene.wishes:
        return False
    kept = [one.stand for one in (state.hq, state.backup, state.journal) if one is not None]
    return state.left.wishes > 0 or any(stand.wish or stand.ended for stand in kept)


def lean(machine: Machine, state: State) -> State:
    """The state without differences that do not matter."""
    backup, journal = state.backup, state.journal
    if not state.left.hq_restores:
        backup = journal = None
    elif backup is None and not state.left.backups:
        journal = None
    hq = _lean_hq(machine, state)
    on_line = [{at for at, _ in machine.line(state, start)} for start in state.running]
    openings = frozenset(one for one in state.openings if _may_adopt(machine, state, one))
    grants = frozenset(_may_show(machine, state, on_line)) if state.left.spends else frozenset[Grant]()
    starts = state.starts if state.left.hq_restores else _short(state, on_line)
    return state._replace(hq=hq, backup=backup, journal=journal, openings=openings, grants=grants, starts=starts)


def is_mirror(machine: Machine, state: State, box: int) -> bool:
    """Whether giving to this box is like giving to the other one: the two are alike, and nothing was given yet."""
    scene = machine.scene
    return bool(box) and not state.hq.last_s and not (scene.presses or scene.crashes or scene.restores or scene.destroys)


def _lean_hq(machine: Machine, state: State) -> Hq:
    """Headquarters, without what only a restore, or only a reversal, would ask for, where there is none."""
    stand, is_kept = state.hq.stand, state.left.hq_restores > 0
    kept, gone = stand.kept, stand.gone
    if not is_kept and any(one.told for one in kept):
        kept = tuple(replace(one, told=()) for one in kept)
    if not machine.scene.reverses:
        gone = tuple(Gone(one.gateway, one.number, one.latest_s) for one in gone)
    elif not is_kept and any(one.told for one in gone):
        gone = tuple(replace(one, told=()) for one in gone)
    changed: Stand = replace(stand, kept=kept, gone=gone, late=0, told=stand.told if is_kept else 0)
    return state.hq._replace(stand=changed)


def _may_adopt(machine: Machine, state: State, opened: Opened) -> bool:
    if opened.epoch not in state.running:
        return False
    book, _ = machine.box(state, state.starts[opened.epoch].box)
    return opened.number > book.opening


def _may_show(machine: Machine, state: State, on_line: list[set[int]]) -> list[Grant]:
    """Grants that somebody may still have honoured."""
    grants = sorted(state.grants, key=lambda one: (one.gateway, one.number, one.epoch or "", -one.not_after_s, -one.units))
    found: list[Grant] = []
    for grant in grants:
        if not any(_outlasts(other, grant) for other in found) and _may_be_honoured(machine, state, grant, on_line):
            found.append(grant)
    return found


def _outlasts(one: Grant, other: Grant) -> bool:
    is_same = (one.gateway, one.number, one.epoch) == (other.gateway, other.number, other.epoch)
    return is_same and one.not_after_s >= other.not_after_s and one.units >= other.units


def _may_be_honoured(machine: Machine, state: State, grant: Grant, on_line: list[set[int]]) -> bool:
    if not machine.keeps("box_named"):
        return True
    box = BOXES.index(grant.gateway)
    if grant.epoch is not None and int(grant.epoch) not in on_line[box]:
        return False
    if box == 0 and state.left.restores:  # its disk may come to know less
        return True
    book, _ = machine.box(state, box)
    return not (book._was_released(V, grant.number) or grant.number < book.number(V) or book._is_settled(grant))


def _short(state: State, on_line: list[set[int]]) -> tuple[Start, ...]:
    """The starts; of those off the line, and wholly known, what still counts."""
    known = (*state.hq.marks, *(0 for _ in range(len(state.hq.marks), len(state.starts))))
    return tuple(
        start if at in on_line[start.box] or known[at] < len(start.rows) else start._replace(rows=tuple(_counts(row) for row in start.rows))
        for at, start in enumerate(state.starts)
    )


def _counts(row: Row | Opened) -> Row | Opened:
    return row if isinstance(row, VoucherRedeemed | RedemptionReversed) else NOTHING
