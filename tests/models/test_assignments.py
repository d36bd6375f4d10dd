"""Numbered assignments, walked whole within bounds: no unit is spent twice, and each clause of the rules is needed for that."""

import pytest

from tests.models.assignments import Machine, Scene
from tests.models.assignments_explore import MISSED_ALONG, MISSED_IN, PUT_BACK, SCENES, Walk, along, bounds, explore, wider
from tests.models.careless import CLAUSES, SPARE

TAKEN_BACK = ("taken back", "headquarters restored, taken back", "balance, taken back")
LARGE = [scene for scene in SCENES if scene.name in ("old image, released", "old image, settled", "restarts", "moves", *TAKEN_BACK)]
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


@pytest.mark.parametrize("clause", MISSED_IN)
def test_without_a_clause_a_unit_is_spent_twice(clause: str) -> None:
    walk = explore(MISSED_IN[clause], frozenset([clause]))
    print(f"without {clause} ({CLAUSES[clause]}): {told(walk)}")
    assert walk.wrong, f"{clause} bears no load in {walk.scene}"
    assert 0 < len(walk.steps) < 15


@pytest.mark.parametrize("clause", MISSED_ALONG)
def test_without_a_clause_these_steps_spend_a_unit_twice_and_with_it_they_cannot(clause: str) -> None:
    assert along(Machine(PUT_BACK, frozenset([clause])), MISSED_ALONG[clause])[1], f"{clause} bears no load"
    stuck, wrong = along(Machine(PUT_BACK), MISSED_ALONG[clause])
    assert stuck and not wrong


def test_each_clause_is_missed_somewhere() -> None:
    assert {*MISSED_IN, *MISSED_ALONG} == set(CLAUSES)


def test_the_spare_clauses_are_spare() -> None:
    for scene in SMALL[:2]:
        assert not explore(scene, frozenset(SPARE)).wrong


def test_the_long_bounds_contain_the_fast_ones() -> None:
    assert all(wider(scene).gives > scene.gives and wider(scene).restores >= scene.restores for scene in SCENES)


def test_a_clause_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no such clause"):
        explore(SCENES[0], frozenset(["wishful"]))
