"""Everything that may happen next on the road: what each end does of itself, what arrives, what fails."""

import itertools
from collections.abc import Iterator

from tests.models.machine import DAMAGED, DISK_FULL, DOWN, UP, Message, State, kind_of, put_rows
from tests.models.road import Road

Step = tuple[str, State]
Table = tuple[tuple[int, ...], ...]


def spend(state: State, what: str, fault: bool = True) -> State | None:
    """One less of something; None: the budget does not allow it."""
    left = state.left
    if getattr(left, what) <= 0 or (fault and left.faults <= 0):
        return None
    changed = left._replace(**{what: getattr(left, what) - 1})
    return state._replace(left=changed._replace(faults=left.faults - 1) if fault else changed)


def steps(road: Road, state: State) -> Iterator[Step]:
    """Everything that may happen next."""
    yield from core_steps(road, state)
    yield from line_steps(road, state)
    yield from hq_steps(road, state)
    yield from fault_steps(road, state)


def core_steps(road: Road, state: State) -> Iterator[Step]:
    """What the box does of itself."""
    if state.phase == DOWN:
        yield "start", road.start(state)
        return
    if state.phase != UP or state.disk.unsynced:
        yield "fsync", road.sync(state)
    if state.phase != UP:
        return
    if not state.disk.unsynced and (paid := spend(state, "writes", fault=False)):
        for lane in road.lanes:
            if lane == len(road.lanes) - 1:  # with two lanes the first holds only the epochs' own rows
                yield f"write in lane {lane}", road.write(paid, lane)
    for epoch in road.ancestry(state, state.disk.top):
        for lane in road.lanes:
            if (trimmed := road.trim(state, epoch, lane)) is not None:
                yield f"trim {epoch}/{lane}", trimmed


def line_steps(road: Road, state: State) -> Iterator[Step]:
    """Any message arrives."""
    for message in state.line:
        kind = message[0]
        if kind == "item":
            _, epoch, lane, seq, item, before = message
            after: State | None = road.take(state, epoch, lane, seq, item, before)  # type: ignore[arg-type]
        elif kind == "beat":
            after = road.hear_beat(state, message[1], bool(message[2]))  # type: ignore[arg-type]
        elif kind == "ack":
            after = road.hear_ack(state, *message[1:])  # type: ignore[arg-type]
        elif kind == "ask":
            after = road.hear_ask(state, *message[1:])  # type: ignore[arg-type]
        else:
            after = road.hear_opening(state, *message[1:])  # type: ignore[arg-type]
        if after is not None and after is not state and after != state:
            yield f"arrives: {say(message)}", after
    for ack in road.signable(state.hq):
        if (after := road.hear_ack(state, *ack)) is not None:
            yield f"arrives: ack {ack}", after


def say(message: Message) -> str:
    """A message in words."""
    if message[0] == "item":
        _, epoch, lane, seq, item, _ = message
        return f"item {epoch}/{lane}/{seq} fact {int(item) >> 2} {('row', 'disk_full', 'hq_lost', 'damaged')[int(item) & 3]}"  # type: ignore[call-overload]
    return f"{message[0]} {message[1:]}"


def hq_steps(road: Road, state: State) -> Iterator[Step]:
    """What headquarters does of itself."""
    if state.hq.loose is not None:
        yield "headquarters moves the mark", road.mark_loose(state)
    if paid := spend(state, "backups", fault=False):
        yield "backup of headquarters", paid._replace(backups=(*state.backups, state.hq))
    if len(state.backups) > 1 and (paid := spend(state, "expiries", fault=False)):
        yield "the oldest backup is given up", paid._replace(backups=state.backups[1:])
    if paid := spend(state, "hq_restores"):
        for which in range(len(state.backups)):
            yield f"headquarters restored from backup {which}", road.restore_hq(paid, which)


def fault_steps(road: Road, state: State) -> Iterator[Step]:
    """What befalls the box."""
    disk = state.disk
    if state.phase != DOWN:
        if paid := spend(state, "kills"):
            yield from falls(road, paid, len(disk.unsynced), "core killed")
        if paid := spend(state, "rollups"):
            yield from rollups(road, paid)
    if disk.top >= 0 and (state.phase != DOWN or disk.unsynced) and (paid := spend(state, "cuts")):
        for kept in range(len(disk.unsynced) + 1):
            yield from falls(road, paid, kept, f"power cut, {kept} of {len(disk.unsynced)} unsynced kept")
    yield from image_steps(state)
    if state.phase == DOWN and (paid := spend(state, "damages")):
        yield from damages(road, paid)


def image_steps(state: State) -> Iterator[Step]:
    """Images of the disk are taken, and put back."""
    disk = state.disk
    if disk.top >= 0 and not disk.unsynced and (paid := spend(state, "saves", fault=False)):
        for cursors in {disk.cursors, state.cursors or disk.cursors}:
            yield f"image saved, cursors {cursors}", paid._replace(images=(*state.images, disk._replace(cursors=cursors)))
    for which, image in enumerate(state.images):
        if (paid := spend(state, "restores")) and image != disk:
            yield f"image {which} put back", paid._replace(disk=image, phase=DOWN, cursors=(), restored=(True, state.restored[1]))
        if state.phase == UP and image.top == disk.top and (paid := spend(state, "resumes")):
            yield f"box resumed from image {which}", paid._replace(disk=image, cursors=image.cursors, restored=(True, state.restored[1]))


def falls(road: Road, state: State, kept: int, said: str) -> Iterator[Step]:
    """Core is gone. Cursors go to the disk within a second, so it has what they were lately: any one may have been last."""
    yield said, road.fall(state, kept)
    if state.cursors != state.disk.cursors and state.phase == UP:
        for cursors in between(state.disk.cursors, state.cursors):
            noted = state._replace(disk=state.disk._replace(cursors=cursors))
            yield f"{said}, cursors {cursors} on the disk", road.fall(noted, kept)


def between(old: Table, new: Table) -> Iterator[Table]:
    """Each table from the old one, that left out, to the new one."""
    width = len(new[0])
    spans = [range(min(a, b), max(a, b) + 1) for olds, news in zip(old, new, strict=True) for a, b in zip(olds, news, strict=True)]
    for flat in itertools.product(*spans):
        table = tuple(flat[at : at + width] for at in range(0, len(flat), width))
        if table != old:
            yield table


def rollups(road: Road, state: State) -> Iterator[Step]:
    """Traffic that HQ has not acknowledged becomes a tombstone."""
    lane = len(road.lanes) - 1
    for epoch in road.ancestry(state, state.disk.top) if state.phase == UP else []:
        cursor, reach = state.cursors[epoch][lane], road.reach(state, epoch, lane)
        items = state.disk.rows[epoch][lane]
        rolled = tuple(item | DISK_FULL if cursor < seq <= reach and not kind_of(item) else item for seq, item in enumerate(items, 1))
        if rolled != items:
            yield (
                f"traffic of epoch {epoch} rolled up",
                state._replace(disk=state.disk._replace(rows=put_rows(state.disk.rows, epoch, lane, rolled))),
            )


def damages(road: Road, state: State) -> Iterator[Step]:
    """A row cannot be read back."""
    for epoch, lanes in enumerate(state.disk.rows):
        for lane, items in enumerate(lanes):
            for at, item in enumerate(items):
                if at >= state.disk.trims[epoch][lane] and not kind_of(item):
                    hurt = (*items[:at], item | DAMAGED, *items[at + 1 :])
                    rows = put_rows(state.disk.rows, epoch, lane, hurt)
                    yield f"row {epoch}/{lane}/{at + 1} damaged", state._replace(disk=state.disk._replace(rows=rows))
