"""Walks every state of `road.Road` within a scene's bounds, breadth first, and looks at each.

Safety is looked at in every state. Liveness: from every state a fair run (no more faults, what is sent now arrives) must come
to rest with the books closed; each state has one fair successor, so going back from the states at rest reaches all or names
one that is stuck. States are kept as 64-bit hashes with the step that led there; a counterexample is replayed from the first.
"""

import argparse
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.models.machine import DOWN, ROW, UP, Budget, Message, Scene, State, fact_of, kind_of
from tests.models.promises import unrest, wrong_in
from tests.models.road import Road
from tests.models.scenes import LONG, SCENES
from tests.models.steps import steps

MOST_FAIR_STEPS: Final = 400


class Counterexample(NamedTuple):
    """What went wrong and how it came about."""

    wrong: str
    steps: list[str]


class Walk(NamedTuple):
    """How a search ended."""

    scene: Scene
    states: int
    edges: int
    seconds: float
    counterexample: Counterexample | None


# ---------------------------------------------------------------- the line


def settled(road: Road, state: State) -> State:
    """With everything on the line that could have been sent by now, and nothing that can never matter again."""
    if road.scene.prompt and state.phase == UP:
        for item in [item for item in road.offered(state) if item[1] == 0]:
            state = exchanged(road, state, *item)
    line = set(state.line)
    line.update(("item", *item) for item in road.offered(state))
    if state.phase == UP or (state.phase != DOWN and not road.keeps("epoch_row_first")):
        line.add(("beat", state.disk.top, state.disk.admitted >> state.disk.top & 1))
    line.update(("ask", *ask) for ask in road.asks(state) if state.cursors[ask[0]][ask[1]] > ask[2] or road.scene.late_asks)
    stores = (state.hq, *state.backups)
    kept = frozenset(message for message in line if not spent(road, state, message, stores))
    return state if kept == state.line else state._replace(line=kept)


def spent(road: Road, state: State, message: Message, stores: Sequence[object]) -> bool:
    """Whether a message can change nothing any more, whatever is restored."""
    if message[0] == "item" and road.keeps("tombstone_above_mark") and road.keeps("mark_with_rows"):
        _, epoch, lane, seq, *_ = message
        return all(road.mark(hq, epoch, lane) >= seq for hq in stores)  # type: ignore[arg-type, operator]
    if message[0] == "beat" and message[2]:
        bit = 1 << message[1]  # type: ignore[operator]
        return all(hq.known & bit for hq in stores) and not state.hq.alarms and not state.left.restores  # type: ignore[attr-defined]
    return False


# ---------------------------------------------------------------- fair runs


def fair(road: Road, state: State) -> State | None:
    """What happens next when nothing fails; None: nothing."""
    if state.phase == DOWN:
        return road.start(state)
    if state.phase != UP or state.disk.unsynced:
        return road.sync(state)
    if state.hq.loose is not None:
        return road.mark_loose(state)
    top = state.disk.top
    proven = bool(state.disk.admitted >> top & 1)
    after = road.hear_beat(state, top, proven)._replace(line=state.line)
    if road.wants_opening(after, top, proven) and (opened := road.hear_opening(after, top, road.facts_at(after.hq))) is not None:
        after = opened
    for ask in road.asks(after):
        after = road.hear_ask(after, *ask) or after
    if after != state:
        return after
    for epoch, lane, seq, *what in road.offered(state):
        if seq == state.cursors[epoch][lane] + 1 and (moved := exchanged(road, state, epoch, lane, seq, *what)) != state:
            return moved
    return None


def exchanged(road: Road, state: State, epoch: int, lane: int, seq: int, item: int, before: int) -> State:
    """A batch goes up and its acknowledgement comes back."""
    after = road.take(state, epoch, lane, seq, item, before)
    mark = road.mark(after.hq, epoch, lane)
    if seq > mark:  # a gap, or refused: the mark alone is acknowledged
        return after
    stored = after.hq.rows[epoch][lane]
    rows = kind_of(stored[seq - 1]) == ROW or not road.keeps("declared_is_known")
    if kind_of(item) == ROW and rows and stored[seq - 1] != item:
        return after  # other rows under known numbers: never acknowledged
    upto = seq if road.keeps("ack_lower") else mark
    return road.hear_ack(after, epoch, lane, upto, fact_of(stored[upto - 1]) if upto > seq else fact_of(item)) or after


class Fairness:
    """Remembers from which states a fair run is known to come to rest."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._fine: set[int] = set()

    def stuck(self, state: State) -> str:
        """Why the fair run from here never ends well."""
        path: list[int] = []
        for _ in range(MOST_FAIR_STEPS):
            key = hash(bare(state))
            if key in self._fine:
                break
            path.append(key)
            after = fair(self._road, state)
            if after is None:
                if why := unrest(self._road, state):
                    return f"stuck: {why}"
                break
            state = after
        else:
            return "stuck: a fair run goes on for ever"
        self._fine.update(path)
        return ""


def bare(state: State) -> State:
    """What a fair run depends on: not the line, the images nor the budget."""
    return state._replace(line=frozenset(), images=(), left=NOTHING)


NOTHING: Final = Budget(*(0 for _ in Budget._fields))


# ---------------------------------------------------------------- search


def explore(scene: Scene, dropped: frozenset[str] = frozenset(), most: int = 50_000_000) -> Walk:
    """Every state within the bounds, or up to the first that is wrong.

    Raises:
        RuntimeError: More than `most` states.
    """
    began_s = time.monotonic()
    road = Road(scene, dropped)
    fairness = Fairness(road) if not scene.resumes else None
    first = settled(road, road.first())
    came: dict[int, tuple[int, int]] = {hash(first): (0, 0)}
    queue = deque([first])
    edges = 0

    def ended(wrong: str = "", key: int = 0) -> Walk:
        found = Counterexample(wrong, replayed(road, came, first, key)) if wrong else None
        return Walk(scene, len(came), edges, time.monotonic() - began_s, found)

    while queue:
        state = queue.popleft()
        key = hash(state)
        for number, (_, raw) in enumerate(steps(road, state)):
            after = settled(road, raw)
            edges += 1
            reached = hash(after)
            if reached in came:
                continue
            came[reached] = (key, number)
            if wrong := wrong_in(road, after) or (fairness.stuck(after) if fairness else ""):
                return ended(wrong, reached)
            queue.append(after)
        if len(came) > most:
            raise RuntimeError(f"more than {most} states in {scene.name}")
    return ended()


def replayed(road: Road, came: dict[int, tuple[int, int]], first: State, key: int) -> list[str]:
    """The steps that lead to a state."""
    numbers = []
    start = hash(first)
    while key != start:
        key, number = came[key]
        numbers.append(number)
    said, state = [], first
    for number in reversed(numbers):
        words, raw = next(step for at, step in enumerate(steps(road, state)) if at == number)
        said.append(words)
        state = settled(road, raw)
    return said


def main(arguments: Sequence[str]) -> int:
    """Walk the scenes and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.models.road", description=__doc__)
    parser.add_argument("--long", action="store_true", help="wider bounds: minutes to hours")
    parser.add_argument("--scene", help="one scene only")
    parser.add_argument("--drop", action="append", default=[], help="leave a rule out; several are possible")
    asked = parser.parse_args(arguments)
    wrong = 0
    for scene in LONG if asked.long else SCENES:
        if asked.scene not in (None, scene.name):
            continue
        walk = explore(scene, frozenset(asked.drop))
        bounds = " ".join(f"{key}={value}" for key, value in scene._asdict().items() if key != "name" and value)
        print(f"{scene.name}: {walk.states} states, {walk.edges} steps, {walk.seconds:.1f} s ({bounds})", flush=True)
        if walk.counterexample:
            wrong += 1
            print(f"  WRONG: {walk.counterexample.wrong}", *(f"    {step}" for step in walk.counterexample.steps), sep="\n", flush=True)
    return min(wrong, 1)
