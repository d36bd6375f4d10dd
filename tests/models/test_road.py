"""The road, walked whole within bounds: its rules suffice, and none of them is idle."""

import pytest

from tests.models.explore import Walk, explore
from tests.models.machine import RULES, Scene
from tests.models.scenes import LONG, MISSED_IN, SCENES

SMALL = [scene for scene in SCENES if scene.name in ("backups", "poison", "damage", "resume")]
LARGE = [scene for scene in SCENES if scene not in SMALL]


def told(walk: Walk) -> str:
    """The bounds and what was found, for the log."""
    bounds = " ".join(f"{key}={value}" for key, value in walk.scene._asdict().items() if key != "name" and value)
    found = walk.counterexample
    return f"{walk.scene.name}: {walk.states} states, {walk.edges} steps ({bounds})" + (f"\n{found}" if found else "")


def walked_clean(scene: Scene, at_least: int) -> None:
    walk = explore(scene)
    print(told(walk))
    assert walk.counterexample is None, told(walk)
    assert walk.states >= at_least, "the bounds let nothing happen"


@pytest.mark.parametrize("scene", SMALL, ids=lambda scene: scene.name)
def test_rows_arrive_once_or_are_declared_and_books_close(scene: Scene) -> None:
    walked_clean(scene, 300)


@pytest.mark.slow
@pytest.mark.parametrize("scene", LARGE, ids=lambda scene: scene.name)
def test_rows_arrive_once_or_are_declared_and_books_close_whatever_fails(scene: Scene) -> None:
    walked_clean(scene, 5_000)


@pytest.mark.parametrize("rule", RULES)
def test_without_a_rule_the_promise_breaks(rule: str) -> None:
    scene, wrong = MISSED_IN[rule]
    walk = explore(scene, frozenset([rule]))
    assert walk.counterexample is not None, f"{rule} bears no load in {scene}"
    assert wrong in walk.counterexample.wrong, told(walk)
    assert 0 < len(walk.counterexample.steps) < 30


def test_with_every_rule_the_same_bounds_are_clean() -> None:
    cheap = {
        scene
        for rule, (scene, _) in MISSED_IN.items()
        if rule not in ("ask_whole_line", "open_descendants", "declared_is_known", "opening_bound")
    }
    for scene in cheap:
        assert explore(scene).counterexample is None


def test_the_long_bounds_contain_the_fast_ones() -> None:
    long = {scene.name: scene for scene in LONG}
    for scene in SCENES:
        wider = long[scene.name]
        assert wider.writes >= scene.writes and wider.restores >= scene.restores and wider.hq_restores >= scene.hq_restores


def test_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no such rule"):
        explore(SMALL[0], frozenset(["wishful"]))
