"""The road from one box to headquarters as a small machine, to be searched whole: `python -m tests.models.road`.

Rules of the machine (DESIGN section 2, in the words of this file):

- A *fact* is one row's content, numbered as it is written; an *item* is a fact with a kind (a row, or a tombstone's word for
  it). The box holds items by (epoch, lane, seq); at most one write is under way, and only an fsync makes it certain.
- The line keeps every message that could ever have been sent and delivers any of them at any time, again and again or never:
  lost, late and doubled messages in one. Sending has no effect on the box, so all that may be sent counts as sent at once.
- A message carries one item; a batch of many is the same as its items one after the other, since headquarters takes a batch
  in one transaction from its mark on. Headquarters may sign an acknowledgement for whatever it has, at any time.
- Faults are counted down from a budget, so that the machine is finite; `explore` walks every state within the budget.

`dropped` names rules that are left out, to see that each of them bears load.
"""

import sys

from tests.models.machine import (
    DAMAGED,
    DOWN,
    HQ_LOST,
    OPENING,
    ROW,
    RULES,
    UP,
    Budget,
    Disk,
    Hq,
    Origin,
    Scene,
    State,
    fact_of,
    kind_of,
    put,
    put_rows,
)


class Road:
    """The machine within the bounds of a scene."""

    def __init__(self, scene: Scene, dropped: frozenset[str] = frozenset()) -> None:
        unknown = dropped - RULES.keys()
        if unknown:
            raise ValueError(f"no such rule: {unknown}")
        self.scene = scene
        self.lanes = range(scene.lanes)
        self.empty = tuple(() for _ in self.lanes)
        self.zero = tuple(0 for _ in self.lanes)
        self._keeps = {rule: rule not in dropped for rule in RULES}

    def keeps(self, rule: str) -> bool:
        """Whether a rule is in force."""
        return self._keeps[rule]

    def first(self) -> State:
        """A new box, switched off."""
        scene = self.scene
        left = Budget(*(getattr(scene, name) for name in Budget._fields))
        return State(Disk(-1, (), (), (), 0, 0), DOWN, (), Hq(), frozenset(), (), (), (), 0, 0, left)

    # ------------------------------------------------------------ what each end knows

    def ancestry(self, state: State, epoch: int) -> list[int]:
        """An epoch and those it continues, oldest first."""
        found = []
        while epoch >= 0:
            found.append(epoch)
            epoch = state.epochs[epoch].parent
        return found[::-1]

    def reach(self, state: State, epoch: int, lane: int) -> int:
        """How far core names a lane to the bridge."""
        length = len(state.disk.rows[epoch][lane])
        if state.phase == UP and not self.keeps("named_only"):
            return length
        if state.phase == OPENING:
            return 0 if self.keeps("epoch_row_first") else length
        return length - state.disk.unsynced.count((epoch, lane))

    def mark(self, hq: Hq, epoch: int, lane: int) -> int:
        """How far headquarters has come."""
        return len(hq.rows[epoch][lane]) if epoch < len(hq.rows) else 0

    def backed_up(self, state: State, epoch: int, lane: int) -> int:
        """What headquarters says it would still have after any restore."""
        if not state.backups:
            return 0
        marks = [self.mark(hq, epoch, lane) for hq in state.backups]
        return min(*marks, self.mark(state.hq, epoch, lane)) if self.keeps("lowest_backup") else marks[0]

    def offered(self, state: State) -> list[tuple[int, int, int, int, int]]:
        """Items the bridge may send now: (epoch, lane, seq, item, the fact before it or -1)."""
        if state.phase == DOWN or (state.phase == OPENING and self.keeps("epoch_row_first")):
            return []
        found = []
        line = self.ancestry(state, state.disk.top)
        for lane in self.lanes:
            for epoch in line:
                cursor, reach = state.cursors[epoch][lane], self.reach(state, epoch, lane)
                if cursor < reach:
                    found += [
                        (epoch, lane, seq, self.sent_item(state, epoch, lane, seq), self.before(state, epoch, lane, seq))
                        for seq in range(cursor + 1, reach + 1)
                    ]
                    if self.keeps("ancestry"):
                        break
        return found

    def sent_item(self, state: State, epoch: int, lane: int, seq: int) -> int:
        """What the box can still tell of a row; of a trimmed one only that it was."""
        item = state.disk.rows[epoch][lane][seq - 1]
        return (item & ~3) | HQ_LOST if seq <= state.disk.trims[epoch][lane] else item

    def before(self, state: State, epoch: int, lane: int, seq: int) -> int:
        """The fact whose chain head a batch says it continues; -1: none, or nothing of it is left."""
        if seq == 1 or seq - 1 < state.disk.trims[epoch][lane]:
            return -1
        item = state.disk.rows[epoch][lane][seq - 2]
        return -1 if kind_of(item) == DAMAGED else fact_of(item)

    def wants_opening(self, state: State, epoch: int, proven: bool) -> bool:
        """Whether headquarters answers a start with an opening."""
        if not proven or state.hq.alarms >> epoch & 1:
            return True
        return self.keeps("open_descendants") and any(state.hq.alarms >> older & 1 for older in self.ancestry(state, epoch))

    def asks(self, state: State) -> list[tuple[int, int, int]]:
        """What headquarters asks for when it hears the running box: (epoch, lane, from)."""
        if state.phase != UP or not self.keeps("ask"):
            return []
        hq, top = state.hq, state.disk.top
        found = [(top, lane, self.mark(hq, top, lane)) for lane in self.lanes if state.cursors[top][lane] > self.mark(hq, top, lane)]
        if self.keeps("ask_whole_line"):
            heard = [epoch for epoch in self.ancestry(state, top) if hq.known >> epoch & 1 or epoch == top]
        else:  # the youngest two, and whatever a batch just now refused continues
            heard = [top, *{epoch for epoch, lane, *_ in self.offered(state) if not self.has_parent(state, hq, epoch, lane)}]
        for epoch in heard:
            parent, claims, *_ = state.epochs[epoch]
            if parent >= 0:
                found += [(parent, lane, mark) for lane in self.lanes if (mark := self.mark(hq, parent, lane)) < claims[lane]]
        return found

    # ------------------------------------------------------------ core

    def start(self, state: State) -> State:
        """Core starts and writes the row of a new epoch."""
        disk = state.disk
        if disk.top >= 0 and not self.keeps("new_epoch"):
            return state._replace(disk=disk._replace(unsynced=()), phase=UP, cursors=disk.cursors)
        epoch, parent = len(state.epochs), disk.top
        claims = tuple(len(disk.rows[parent][lane]) for lane in self.lanes) if parent >= 0 else self.zero
        at_hq = self.facts_at(state.hq)
        rolled = bool(at_hq & ~self.facts_on(disk))
        whole = not any(kind_of(item) == DAMAGED for lanes in disk.rows for item in lanes[0])
        admitted = parent < 0 or bool(disk.admitted >> parent & 1 and (whole or disk.opened >> parent & 1))
        grown = disk._replace(
            top=epoch,
            rows=(*disk.rows, ((state.facts << 2,), *self.empty[1:])),
            cursors=(*disk.cursors, self.zero),
            trims=(*disk.trims, self.zero),
            admitted=disk.admitted | admitted << epoch,
            unsynced=(*disk.unsynced, (epoch, 0)),
        )
        epochs = (*state.epochs, Origin(parent, claims, at_hq, rolled))
        images = tuple(self.widened(image) for image in state.images)
        return state._replace(disk=grown, phase=OPENING, cursors=grown.cursors, epochs=epochs, images=images, facts=state.facts + 1)

    def widened(self, disk: Disk) -> Disk:
        """The same disk with room in its tables for one epoch more."""
        return disk._replace(rows=(*disk.rows, self.empty), cursors=(*disk.cursors, self.zero), trims=(*disk.trims, self.zero))

    def sync(self, state: State) -> State:
        """The fsync returns: core answers, and names what is certain."""
        answered = state.answered
        if state.phase == UP:
            for epoch, lane in state.disk.unsynced:
                answered |= 1 << fact_of(state.disk.rows[epoch][lane][-1])
        return state._replace(disk=state.disk._replace(unsynced=()), phase=UP, answered=answered)

    def write(self, state: State, lane: int) -> State:
        """A row goes into the file."""
        disk, top = state.disk, state.disk.top
        rows = put_rows(disk.rows, top, lane, (*disk.rows[top][lane], state.facts << 2))
        return state._replace(disk=disk._replace(rows=rows, unsynced=((top, lane),)), facts=state.facts + 1)

    def fall(self, state: State, kept: int) -> State:
        """Core is gone; of what no fsync covered the first `kept` writes are in the file."""
        disk = state.disk
        for epoch, lane in disk.unsynced[kept:]:
            if lane == 0 and len(disk.rows[epoch][0]) == 1:  # the epoch's first row: that start never was
                disk = disk._replace(top=state.epochs[epoch].parent, admitted=disk.admitted & ~(1 << epoch))
            disk = disk._replace(rows=put_rows(disk.rows, epoch, lane, disk.rows[epoch][lane][:-1]))
        return state._replace(disk=disk._replace(unsynced=disk.unsynced[:kept]), phase=DOWN, cursors=())

    def hear_ack(self, state: State, epoch: int, lane: int, seq: int, head: int) -> State | None:
        """The cursor moves, if all is as it must be."""
        if state.phase != UP or not state.cursors[epoch][lane] < seq:
            return None
        items = state.disk.rows[epoch][lane]
        own = seq <= len(items) and fact_of(items[seq - 1]) == head
        if not items or (self.keeps("head_own") and not own):
            return None
        return state._replace(cursors=put(state.cursors, epoch, lane, min(seq, len(items))))

    def hear_ask(self, state: State, epoch: int, lane: int, after: int) -> State | None:
        """The cursor moves back, never forward."""
        if state.phase != UP or state.cursors[epoch][lane] <= after:
            return None
        return state._replace(cursors=put(state.cursors, epoch, lane, after))

    def hear_opening(self, state: State, epoch: int, used: int) -> State | None:
        """The start is admitted with what headquarters knows."""
        top = state.disk.top
        if state.phase != UP or state.disk.opened >> top & 1 or (epoch != top and self.keeps("opening_bound")):
            return None
        unknown = state.epochs[top].due & ~used & ~self.facts_on(state.disk)
        wrong = "admitted without uses that headquarters knew before this start" if unknown and not state.restored[1] else ""
        disk = state.disk._replace(opened=state.disk.opened | 1 << top, admitted=state.disk.admitted | 1 << top)
        return state._replace(disk=disk, wrong=wrong or state.wrong)

    def trim(self, state: State, epoch: int, lane: int) -> State | None:
        """Core forgets what nobody can ask for any more."""
        upto = state.cursors[epoch][lane]
        if lane == 0 and self.keeps("kept_until_backed_up"):
            upto = min(upto, self.backed_up(state, epoch, lane))
        if upto <= state.disk.trims[epoch][lane]:
            return None
        return state._replace(disk=state.disk._replace(trims=put(state.disk.trims, epoch, lane, upto)))

    # ------------------------------------------------------------ headquarters

    def take(self, state: State, epoch: int, lane: int, seq: int, item: int, before: int) -> State:
        """A batch of one item arrives. The same state: it changes nothing."""
        hq = self.learned(state, state.hq, epoch)
        mark = self.mark(hq, epoch, lane)
        if self.keeps("ancestry") and not self.has_parent(state, hq, epoch, lane):
            return state._replace(hq=self.alarmed(state, hq))
        if seq == mark + 1 and before >= 0 and self.keeps("continues") and fact_of(hq.rows[epoch][lane][mark - 1]) != before:
            return state._replace(hq=self.alarmed(state, hq))  # other rows stand behind this one
        if seq == mark + 1 and self.readable(item):
            if self.keeps("mark_with_rows"):
                hq = hq._replace(rows=put_rows(hq.rows, epoch, lane, (*hq.rows[epoch][lane], item)))
            elif hq.loose == (epoch, lane, item):
                hq = hq._replace(doubled=1)
            elif hq.loose is None:
                hq = hq._replace(loose=(epoch, lane, item))
        elif 0 < seq <= mark and kind_of(item) != ROW and not self.keeps("tombstone_above_mark"):
            hq = hq._replace(doubled=int(kind_of(hq.rows[epoch][lane][seq - 1]) == ROW))
        return state._replace(hq=self.alarmed(state, hq))

    def has_parent(self, state: State, hq: Hq, epoch: int, lane: int) -> bool:
        """Whether headquarters has all that this lane of an epoch continues."""
        parent, claims, *_ = state.epochs[epoch]
        return parent < 0 or self.mark(hq, parent, lane) >= claims[lane]

    def readable(self, item: int) -> bool:
        """Whether an item may move the mark: a poisoned row does so from quarantine."""
        return not self.scene.poison >> fact_of(item) & 1 or self.keeps("poison_moves_mark")

    def mark_loose(self, state: State) -> State:
        """Without `mark_with_rows`: the second transaction."""
        assert state.hq.loose is not None
        epoch, lane, item = state.hq.loose
        rows = put_rows(state.hq.rows, epoch, lane, (*state.hq.rows[epoch][lane], item))
        return state._replace(hq=self.alarmed(state, state.hq._replace(rows=rows, loose=None)))

    def learned(self, state: State, hq: Hq, epoch: int) -> Hq:
        """Headquarters hears of an epoch: its parent, and how far that had come."""
        rows = (*hq.rows, *(self.empty for _ in range(len(hq.rows), epoch + 1)))
        if hq.known >> epoch & 1:
            return hq
        hq = hq._replace(rows=rows, known=hq.known | 1 << epoch)
        return hq if self.keeps("alarm_mark") or not self.overtaken(state, hq, epoch) else hq._replace(alarms=hq.alarms | 1 << epoch)

    def overtaken(self, state: State, hq: Hq, epoch: int) -> bool:
        """Whether headquarters has more of the parent than this epoch claims."""
        parent, claims, *_ = state.epochs[epoch]
        return parent >= 0 and any(self.mark(hq, parent, lane) > claims[lane] for lane in self.lanes)

    def alarmed(self, state: State, hq: Hq) -> Hq:
        """Look for what only a restored image can bring about."""
        alarms, known = hq.alarms, [epoch for epoch in range(len(state.epochs)) if hq.known >> epoch & 1]
        parents = [state.epochs[epoch].parent for epoch in known]
        for epoch, parent in zip(known, parents, strict=True):
            twins = self.keeps("alarm_children") and parents.count(parent) > 1
            if twins or (self.keeps("alarm_mark") and self.overtaken(state, hq, epoch)):
                alarms |= 1 << epoch
        return hq._replace(alarms=alarms)

    def hear_beat(self, state: State, epoch: int, proven: bool) -> State:
        """A heartbeat arrives; headquarters may answer with an opening."""
        state = state._replace(hq=self.alarmed(state, self.learned(state, state.hq, epoch)))
        if not self.wants_opening(state, epoch, proven):
            return state
        return state._replace(line=state.line | {("opening", epoch, self.facts_at(state.hq))})

    def signable(self, hq: Hq) -> list[tuple[int, int, int, int]]:
        """Acknowledgements headquarters may sign now: (epoch, lane, seq, head)."""
        lowest = self.keeps("ack_lower")
        return [
            (epoch, lane, seq, fact_of(items[seq - 1]))
            for epoch, lanes in enumerate(hq.rows)
            for lane, items in enumerate(lanes)
            for seq in range(1 if lowest else max(1, len(items)), len(items) + 1)
        ]

    def restore_hq(self, state: State, which: int) -> State:
        """Headquarters is put back to a backup; what it signed before is still on the line."""
        signed = {("ack", *ack) for ack in self.signable(state.hq)}
        return state._replace(hq=state.backups[which], line=state.line | signed, restored=(state.restored[0], True))

    def facts_at(self, hq: Hq) -> int:
        """Facts headquarters has received, as bits."""
        return sum(1 << fact_of(item) for lanes in hq.rows for items in lanes for item in items if kind_of(item) == ROW)

    def facts_on(self, disk: Disk) -> int:
        """Facts on a disk, trimmed ones included, as bits."""
        return sum(1 << fact_of(item) for lanes in disk.rows for items in lanes for item in items)


if __name__ == "__main__":
    from tests.models.explore import main

    sys.exit(main(sys.argv[1:]))
