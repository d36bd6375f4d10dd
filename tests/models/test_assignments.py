"""Numbered assignments, walked whole within bounds: no unit is spent twice, and each clause of the rules is needed for that."""

import pytest

from tests.models.assignments import Machine
from tests.models.assignments_explore import Walk, along, bounds, explore
from tests.models.assignments_scenes import ALONG_IN, LONG, MISSED_ALONG, MISSED_IN, PUT_BACK, SCENES, wider
from tests.models.assignments_state import Scene
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
    assert walk.states >= 200, "the bounds let nothing happen"
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
    scene = ALONG_IN.get(clause, PUT_BACK)
    assert along(Machine(scene, frozenset([clause])), MISSED_ALONG[clause])[1], f"{clause} bears no load"
    stuck, wrong = along(Machine(scene), MISSED_ALONG[clause])
    assert stuck and not wrong


def test_each_clause_is_missed_somewhere() -> None:
    assert {*MISSED_IN, *MISSED_ALONG} == set(CLAUSES)


def test_the_spare_clauses_are_spare() -> None:
    for scene in SMALL[:2]:
        assert not explore(scene, frozenset(SPARE)).wrong


def test_the_long_bounds_contain_the_fast_ones() -> None:
    assert all(wider(scene).gives > scene.gives and wider(scene).restores >= scene.restores for scene in SCENES)
    assert {scene.name for scene in LONG} > {scene.name for scene in SCENES}


AT_HEADQUARTERS = ("released_is_over", "exclusive", "same_number", "latest_end", "settled_at_end", "wish_waits")
AT_THE_BOX = ("newest_opening", "naming_needed", "opening_tells_stands", "opening_tells_settled")
PLAIN: dict[
    Scene, tuple[tuple[str, ...], int]
] = {  # bounds that a search of everything gets through in seconds; the clauses left out in turn; how many are missed there
    Scene("plain", gives=2, spends=2, releases=1, settles=1, wishes=1): (AT_HEADQUARTERS, 6),
    Scene("plain, old image", gives=2, spends=2, settles=1, presses=1, restores=1): (AT_THE_BOX, 4),
    Scene("plain, swap", gives=2, spends=2, destroys=1, settles=1): (("exposure", "box_named", "settled_is_over"), 3),
    Scene("plain, headquarters restored", gives=2, spends=2, settles=1, backups=1, hq_restores=1): (
        ("journal", "exclusive", "in_order"),
        3,
    ),
    Scene("plain, taken back", gives=2, spends=2, settles=1, reverses=1): (("exclusive", "same_number", "late_first", "counted_stays"), 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("scene", PLAIN, ids=lambda scene: scene.name)
def test_leaving_out_what_does_not_matter_changes_no_answer(scene: Scene) -> None:
    """With every clause left out in turn, the whole search and the lean one find something, or nothing, alike."""
    found, (clauses, missed) = 0, PLAIN[scene]
    for dropped in (frozenset[str](), *(frozenset([clause]) for clause in clauses)):
        whole, small = explore(scene, dropped, plain=True), explore(scene, dropped)
        assert bool(whole.wrong) == bool(small.wrong), f"without {dropped}: {told(whole)} but {told(small)}"
        assert small.states <= whole.states
        assert dropped or not small.wrong
        found += bool(small.wrong)
    assert found >= missed, "in these bounds too little can go wrong to compare"


def test_a_clause_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no such clause"):
        explore(SCENES[0], frozenset(["wishful"]))
