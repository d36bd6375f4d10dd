"""Walks every state of `assignments.Machine` within a scene's bounds, breadth first, and looks at each."""

import argparse
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.signed import Grant
from tests.models.assignments import Machine
from tests.models.assignments_lean import is_mirror, is_over, lean
from tests.models.assignments_scenes import LONG, SCENES
from tests.models.assignments_state import BOXES, Scene, State

Step = tuple[str, State]


class Walk(NamedTuple):
    """How a search ended."""

    scene: Scene
    states: int
    edges: int
    seconds: float  # of one processor
    did: Counter[str]
    wrong: str
    steps: list[str]


def steps(machine: Machine, state: State) -> Iterator[Step]:
    """Everything that can happen next, each in words."""
    left, hq = state.left, state.hq
    for name, maker in (
        ("gives", _gives),
        ("spends", _spends),
        ("releases", _releases),
        ("settles", _settles),
        ("presses", _presses),
        ("reverses", _reverses),
    ):
        if getattr(left, name):
            for words, after in maker(machine, state):
                yield words, after._replace(left=left._replace(**{name: getattr(left, name) - 1}))
    yield from _arrivals(machine, state)
    yield from _faults(machine, state)
    for words, name, reached in (
        (f"wish: {machine.scene.wish}", "wishes", machine.wish(state) if left.wishes else None),
        ("destroyed: a", "destroys", machine.destroy(state, 0) if left.destroys else None),
        ("backup", "backups", state._replace(backup=hq, journal=None) if left.backups else None),
        ("headquarters restored", "hq_restores", machine.restore_hq(state) if left.hq_restores else None),
    ):
        if reached is not None:
            yield words, reached._replace(left=left._replace(**{name: getattr(left, name) - 1}))


def _gives(machine: Machine, state: State) -> Iterator[Step]:
    for box, name in enumerate(BOXES):
        asking = [at for at, start in enumerate(state.starts) if start.box == box]
        for start in asking if machine.scene.old_asks else [state.running[box]]:
            if not (machine.lean and is_mirror(machine, state, box)) and (after := machine.give(state, box, start)) is not None:
                yield f"give to {name} for start {start}: {_told(after.grants - state.grants)}", after


def _spends(machine: Machine, state: State) -> Iterator[Step]:
    for box, name in enumerate(BOXES):
        for grant in (None, *sorted(state.grants, key=lambda one: (one.gateway, one.number, one.not_after_s, one.epoch or ""))):
            if (after := machine.spend(state, box, grant)) is not None:
                yield f"spend at {name}: {'held' if grant is None else _told({grant})}", after


def _releases(machine: Machine, state: State) -> Iterator[Step]:
    for box, name in enumerate(BOXES):
        for number in range(1, state.hq.stand.number + 1):
            if (after := machine.release(state, box, number)) is not None:
                yield f"release {number} at {name}", after


def _settles(machine: Machine, state: State) -> Iterator[Step]:
    for box, name in enumerate(BOXES):
        for through_s in range(1, state.hq.last_s + 1):
            if (after := machine.settle(state, box, through_s)) is not None:
                yield f"settle through {through_s} at {name}", after


def _reverses(machine: Machine, state: State) -> Iterator[Step]:
    for box, name in enumerate(BOXES):
        for use in machine.uses(state, box):
            if (after := machine.reverse(state, box, use)) is not None:
                yield f"reverse {use.redemption_id} at {name}", after


def _presses(machine: Machine, state: State) -> Iterator[Step]:
    if (after := machine.press(state, 0)) is not None:
        yield "press opening for a", after


def _arrivals(machine: Machine, state: State) -> Iterator[Step]:
    marks = (*state.hq.marks, *(0 for _ in state.starts))
    for at, start in enumerate(state.starts):
        for index in range(marks[at], len(start.rows)):
            if (after := machine.deliver(state, at, index)) is not None:
                yield f"row {index + 1} of start {at} arrives: {type(start.rows[index]).__name__}", after
    for opened in sorted(state.openings):
        for box, name in enumerate(BOXES):
            if (after := machine.adopt(state, box, opened)) is not None:
                yield f"opening {opened.number} is adopted at {name}", after


def _faults(machine: Machine, state: State) -> Iterator[Step]:
    left, start = state.left, state.running[0]
    line = machine.line(state, start)
    if left.crashes and line[-1][1]:
        after = machine.start(state, 0, *line[-1], machine.proven(state, start))
        yield "a restarts", after._replace(left=left._replace(crashes=left.crashes - 1))
    if left.restores:
        for at, upto in line:
            for rows in range(upto + 1):
                if (at, rows) != line[-1] and (rows or at == 0):
                    after = machine.start(state, 0, at, rows, False)
                    yield f"a is put back to row {rows} of start {at}", after._replace(left=left._replace(restores=left.restores - 1))


def _told(grants: set[Grant] | frozenset[Grant]) -> str:
    return ", ".join(f"n={one.number} for {one.gateway} start {one.epoch} x{one.units} until {one.not_after_s}" for one in grants)


def explore(scene: Scene, dropped: frozenset[str] = frozenset(), most: int = 5_000_000, *, plain: bool = False) -> Walk:
    """Every state within the bounds, or up to the first that is wrong.

    Args:
        plain: Leave out nothing that does not matter (`assignments_lean`): slow, and the answer is the same.

    Raises:
        RuntimeError: More than `most` states.
    """
    began_s = time.process_time()
    machine = Machine(scene, dropped, lean=not plain)
    first = machine.first()
    came: dict[int, tuple[int, int]] = {hash(first): (0, 0)}
    queue, did, edges = deque([first]), Counter[str](), 0
    while queue:
        state = queue.popleft()
        key = hash(state)
        for number, (words, raw) in enumerate(steps(machine, state)):
            after = seen(machine, raw)
            edges += 1
            did[words.partition(" ")[0]] += 1
            if (reached := hash(after)) in came:
                continue
            came[reached] = (key, number)
            if wrong := machine.wrong(after):
                return Walk(scene, len(came), edges, time.process_time() - began_s, did, wrong, replayed(machine, came, reached))
            if plain or not is_over(machine, after):
                queue.append(after)
        if len(came) > most:
            raise RuntimeError(f"more than {most} states in {scene.name}")
    return Walk(scene, len(came), edges, time.process_time() - began_s, did, "", [])


def seen(machine: Machine, state: State) -> State:
    """The state as the search knows it."""
    noted = machine.noted(state)
    return lean(machine, noted) if machine.lean else noted


def along(machine: Machine, words: Sequence[str]) -> tuple[str, str]:
    """Where these steps lead: the first that cannot be taken, and what is wrong then."""
    state = machine.first()
    for word in words:
        raw = next((after for said, after in steps(machine, state) if said == word), None)
        if raw is None:
            return word, ""
        state = machine.noted(raw)
    return "", machine.wrong(state)


def replayed(machine: Machine, came: dict[int, tuple[int, int]], key: int) -> list[str]:
    """The steps that lead to a state."""
    numbers, state, said = [], machine.first(), []
    start = hash(state)
    while key != start:
        key, number = came[key]
        numbers.append(number)
    for number in reversed(numbers):
        words, raw = next(step for at, step in enumerate(steps(machine, state)) if at == number)
        said.append(words)
        state = seen(machine, raw)
    return said


def bounds(scene: Scene) -> str:
    """A scene's bounds in words."""
    return " ".join(f"{key}={value}" for key, value in scene._asdict().items() if key != "name" and value)


def main(arguments: Sequence[str]) -> int:
    """Walk the scenes and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.models.assignments", description=__doc__)
    parser.add_argument("--long", action="store_true", help="wider bounds: minutes")
    parser.add_argument("--scene", help="one scene only")
    parser.add_argument("--drop", action="append", default=[], help="leave a clause out; several are possible")
    asked = parser.parse_args(arguments)
    wrong, total_s = 0, 0.0
    for scene in LONG if asked.long else SCENES:
        if asked.scene not in (None, scene.name):
            continue
        walk = explore(scene, frozenset(asked.drop), 50_000_000)
        print(f"{scene.name}: {walk.states} states, {walk.edges} steps, {walk.seconds:.1f} s ({bounds(scene)})", flush=True)
        total_s += walk.seconds
        if walk.wrong:
            wrong += 1
            print(f"  WRONG: {walk.wrong}", *(f"    {step}" for step in walk.steps), sep="\n", flush=True)
    print(f"{total_s:.0f} s of one processor in all")
    return min(wrong, 1)
