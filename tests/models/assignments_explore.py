"""Walks every state of `assignments.Machine` within a scene's bounds, breadth first, and looks at each."""

import argparse
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from gateway.rules.assigning import Wish
from gateway.signed import Grant
from tests.models.assignments import BOXES, Machine, Scene, State

Step = tuple[str, State]

SCENES: Final = (
    Scene("give and free", gives=3, spends=2, releases=1, settles=1, wishes=1),
    Scene("two uses", units=2, gives=2, spends=3, releases=1, settles=1),
    Scene("old image", units=2, gives=2, spends=3, presses=1, restores=1, old_asks=True),
    Scene("old image, released", gives=3, spends=2, releases=1, presses=1, restores=1),
    Scene("old image, settled", gives=3, spends=2, settles=1, presses=1, restores=1),
    Scene("restarts", gives=2, spends=2, releases=1, presses=1, crashes=1, restores=1),
    Scene("swap", gives=3, spends=2, releases=1, wishes=1, destroys=1),
    Scene("headquarters restored", gives=3, spends=2, releases=2, backups=1, hq_restores=1, wishes=1),
    Scene("balance", units=2, share=1, gives=3, spends=3, settles=1),
    Scene("moves", gives=3, spends=2, releases=1, settles=1, wishes=1, wish=Wish.MOVE),
    Scene("taken back", gives=3, spends=2, releases=1, settles=1, wishes=1, reverses=1),
    Scene("old image, taken back", gives=1, spends=3, presses=1, restores=1, reverses=2),
    Scene("swap, taken back", gives=2, spends=3, settles=1, destroys=1, reverses=1),
    Scene("headquarters restored, taken back", gives=3, spends=2, settles=1, backups=1, hq_restores=1, reverses=1),
    Scene("balance, taken back", units=2, share=1, gives=3, spends=3, settles=1, reverses=1),
)

MISSED_IN: Final[dict[str, Scene]] = {
    "released_is_over": SCENES[0],
    "settled_is_over": SCENES[0],
    "exclusive": SCENES[0],
    "same_number": SCENES[0],
    "current_number": Scene("released twice", gives=3, spends=2, releases=2, presses=1, crashes=1, restores=1),
    "latest_end": SCENES[0],
    "settled_at_end": SCENES[0],
    "newest_opening": SCENES[3],
    "wish_waits": SCENES[0],
    "exposure": SCENES[6],
    "journal": SCENES[7],
    "in_order": SCENES[0],
    "naming_needed": SCENES[3],
    "naming_opens": SCENES[3],
    "named_less_spent": SCENES[2],
    "opening_tells_stands": SCENES[3],
    "opening_tells_settled": SCENES[4],
    "counted_stays": SCENES[11],
    "dark_booked": SCENES[12],
    "box_named": SCENES[6],
}

# What a search of tens of seconds finds, as the steps of its counterexample.
PUT_BACK: Final = Scene("reversed, put back", gives=2, spends=4, settles=1, presses=1, restores=1, reverses=2)
_FIRST, _AFTER = "n=1 for a start None x1 until 1", "n=2 for a start None x1 until 2"
_GIVEN: Final = (f"give to a for start 0: {_FIRST}", f"spend at a: {_FIRST}", "reverse 0.1 at a")
_AGAIN: Final = (f"give to a for start 2: {_AFTER}", f"spend at a: {_AFTER}")
MISSED_ALONG: Final[dict[str, tuple[str, ...]]] = {
    "late_first": (
        *_GIVEN, "a is put back to row 0 of start 0", "press opening for a", "opening 1 is adopted at a", "spend at a: held",
        "settle through 1 at a", "row 2 of start 2 arrives: VoucherRedeemed", "row 3 of start 2 arrives: SettledThrough",
        "row 2 of start 0 arrives: VoucherRedeemed", "row 3 of start 0 arrives: RedemptionReversed", *_AGAIN,
    ),
    "returned_given": (
        *_GIVEN, "a is put back to row 0 of start 0", "press opening for a", "row 2 of start 0 arrives: VoucherRedeemed",
        "opening 1 is adopted at a", "spend at a: held", "settle through 1 at a", "row 2 of start 2 arrives: VoucherRedeemed",
        "row 3 of start 2 arrives: SettledThrough", "row 3 of start 0 arrives: RedemptionReversed", *_AGAIN,
    ),
    "reversed_once": (
        *_GIVEN, "spend at a: held", "settle through 1 at a", "row 2 of start 0 arrives: VoucherRedeemed",
        "row 3 of start 0 arrives: RedemptionReversed", "row 4 of start 0 arrives: VoucherRedeemed",
        "row 5 of start 0 arrives: SettledThrough", "a is put back to row 2 of start 0", "press opening for a",
        "opening 1 is adopted at a", "reverse 0.1 at a", "row 2 of start 2 arrives: RedemptionReversed", *_AGAIN,
    ),
}  # fmt: skip


class Walk(NamedTuple):
    """How a search ended."""

    scene: Scene
    states: int
    edges: int
    seconds: float
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
            if (after := machine.give(state, box, start)) is not None:
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


def explore(scene: Scene, dropped: frozenset[str] = frozenset(), most: int = 5_000_000) -> Walk:
    """Every state within the bounds, or up to the first that is wrong.

    Raises:
        RuntimeError: More than `most` states.
    """
    began_s = time.monotonic()
    machine = Machine(scene, dropped)
    first = machine.first()
    came: dict[int, tuple[int, int]] = {hash(first): (0, 0)}
    queue, did, edges = deque([first]), Counter[str](), 0
    while queue:
        state = queue.popleft()
        key = hash(state)
        for number, (words, raw) in enumerate(steps(machine, state)):
            after = machine.noted(raw)
            edges += 1
            did[words.partition(" ")[0]] += 1
            if (reached := hash(after)) in came:
                continue
            came[reached] = (key, number)
            if wrong := machine.wrong(after):
                return Walk(scene, len(came), edges, time.monotonic() - began_s, did, wrong, replayed(machine, came, reached))
            queue.append(after)
        if len(came) > most:
            raise RuntimeError(f"more than {most} states in {scene.name}")
    return Walk(scene, len(came), edges, time.monotonic() - began_s, did, "", [])


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
        state = machine.noted(raw)
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
    wrong = 0
    for scene in [wider(scene) for scene in SCENES] if asked.long else SCENES:
        if asked.scene not in (None, scene.name):
            continue
        walk = explore(scene, frozenset(asked.drop), 50_000_000)
        print(f"{scene.name}: {walk.states} states, {walk.edges} steps, {walk.seconds:.1f} s ({bounds(scene)})", flush=True)
        if walk.wrong:
            wrong += 1
            print(f"  WRONG: {walk.wrong}", *(f"    {step}" for step in walk.steps), sep="\n", flush=True)
    return min(wrong, 1)


def wider(scene: Scene) -> Scene:
    """The same scene with one more of what it already has."""
    more = {name: getattr(scene, name) + 1 for name in ("gives", "spends", "presses") if getattr(scene, name)}
    return scene._replace(**more)
