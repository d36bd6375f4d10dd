"""Numbered assignments, walked whole within bounds: no unit is spent twice, and each clause of the rules is needed for that."""

import pytest

from tests.models.assignments import Scene
from tests.models.assignments_explore import MISSED_IN, SCENES, Walk, bounds, explore, wider
from tests.models.careless import CLAUSES, SPARE

LARGE = [scene for scene in SCENES if scene.name in ("old image, released", "old image, settled", "restarts", "moves")]
SMALL = [scene for scene in SCENES if scene not in LARGE]


def told(walk: Walk) -> str:
    """The bounds and what was found, for the log."""
    found = "\n  ".join([walk.wrong, *walk.steps]) if walk.wrong else "nothing wrong"
    return f"{walk.scene.name}: {walk.states} states, {walk.edges} steps ({bounds(walk.scene)}): {found}"


def walked_clean(scene: Scene) -> None:
    walk = explore(scene)
    print(told(walk))
    assert not walk.wrong, told(walk)
    assert walk.states >= 500, "the bounds let nothing happen"
    assert walk.did["give"] and walk.did["spend"] and walk.did["row"]
    for step, bound in (("release", scene.releases), ("settle", scene.settles), ("wish:", scene.wishes), ("destroyed:", scene.destroys)):
        assert bool(walk.did[step]) == bool(bound), f"{step} never happened"


@pytest.mark.parametrize("scene", SMALL, ids=lambda scene: scene.name)
def test_no_unit_is_spent_twice_nor_refunded_and_spent(scene: Scene) -> None:
    walked_clean(scene)


@pytest.mark.slow
@pytest.mark.parametrize("scene", LARGE, ids=lambda scene: scene.name)
def test_no_unit_is_spent_twice_nor_refunded_and_spent_whatever_disk_comes_back(scene: Scene) -> None:
    walked_clean(scene)


@pytest.mark.parametrize("clause", CLAUSES)
def test_without_a_clause_a_unit_is_spent_twice(clause: str) -> None:
    walk = explore(MISSED_IN[clause], frozenset([clause]))
    print(f"without {clause} ({CLAUSES[clause]}): {told(walk)}")
    assert walk.wrong, f"{clause} bears no load in {walk.scene}"
    assert 0 < len(walk.steps) < 15


def test_the_spare_clauses_are_spare() -> None:
    for scene in SMALL[:2]:
        assert not explore(scene, frozenset(SPARE)).wrong


def test_the_long_bounds_contain_the_fast_ones() -> None:
    assert all(wider(scene).gives > scene.gives and wider(scene).restores >= scene.restores for scene in SCENES)


def test_a_clause_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no such clause"):
        explore(SCENES[0], frozenset(["wishful"]))
