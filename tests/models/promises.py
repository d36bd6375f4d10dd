"""What must never be on the road, wherever it is, and what must be when it has come to rest."""

from tests.models.machine import HQ_LOST, ROW, UP, State, fact_of, kind_of
from tests.models.road import Road


def wrong_in(road: Road, state: State) -> str:
    """What must never be, wherever it is."""
    hq, disk = state.hq, state.disk
    if state.wrong:
        return state.wrong
    if hq.doubled:
        return "a row is counted twice"
    if hq.alarms and not state.restored[0]:
        return "false alarm: no image was ever restored"
    for epoch in range(len(state.epochs)):
        if hq.known >> epoch & 1:
            if road.overtaken(state, hq, epoch) and not hq.alarms >> epoch & 1:
                return "missed alarm: a parent's mark is above its child's claim"
            if any(road.mark(hq, epoch, lane) and not road.has_parent(state, hq, epoch, lane) for lane in road.lanes):
                return "a row came before one it continues"
    if any(kind_of(item) == HQ_LOST for lanes in hq.rows for item in lanes[0]):
        return "a money row was declared lost that the box had forgotten too early"
    return wrong_trims(road, state) if disk.top >= 0 else ""


def wrong_trims(road: Road, state: State) -> str:
    """Whether the box forgot, or believes to be done with, what headquarters needs."""
    for epoch in road.ancestry(state, state.disk.top):
        needed = min(road.mark(hq, epoch, 0) for hq in (state.hq, *state.backups))
        if state.disk.trims[epoch][0] > needed:
            return "a money row was trimmed that headquarters may still need"
        if state.phase == UP and not state.restored[1]:
            for lane in road.lanes:
                if not delivered(road, state, epoch, lane, state.cursors[epoch][lane]):
                    return "a row behind the cursor is not at headquarters"
    return ""


def delivered(road: Road, state: State, epoch: int, lane: int, upto: int) -> bool:
    """Whether each of these rows is at headquarters as it is here, or declared."""
    if upto > road.mark(state.hq, epoch, lane):
        return False
    here = state.disk.rows[epoch][lane][:upto]
    there = state.hq.rows[epoch][lane][:upto] if upto else ()
    return all(fact_of(a) == fact_of(b) or kind_of(a) != ROW or kind_of(b) != ROW for a, b in zip(here, there, strict=True))


def unrest(road: Road, state: State) -> str:
    """Why a fair run may not end here; empty: everything is at rest, and the books close."""
    if state.phase != UP or state.disk.unsynced:
        return "core is not serving"
    line = road.ancestry(state, state.disk.top)
    for epoch in line:
        for lane in road.lanes:
            produced = len(state.disk.rows[epoch][lane])
            if state.cursors[epoch][lane] != produced:
                return f"the cursor of {epoch}/{lane} sticks at {state.cursors[epoch][lane]} of {produced}"
            if road.mark(state.hq, epoch, lane) < produced or not delivered(road, state, epoch, lane, produced):
                return f"the books of {epoch}/{lane} do not close"
    if not state.disk.admitted >> state.disk.top & 1:
        return "the start is never admitted"
    alarmed = [epoch for epoch in line if state.hq.alarms >> epoch & 1]
    if alarmed and not any(state.disk.opened >> epoch & 1 for epoch in line if epoch >= alarmed[-1]):
        return "an alarmed line goes on without an opening"
    if not state.restored[1] and any(state.epochs[epoch].rolled for epoch in line) and not alarmed:
        return "missed alarm: headquarters had rows this disk did not know"
    return wrong_loss(road, state)


def wrong_loss(road: Road, state: State) -> str:
    """An answered row that is nowhere, though no disk was put back to a time before it."""
    there = sum(1 << fact_of(item) for lanes in state.hq.rows for items in lanes for item in items)
    lost = state.answered & ~there & (-1 if not state.restored[0] else road.facts_on(state.disk))
    return f"answered rows {lost:b} are lost undeclared" if lost else ""
