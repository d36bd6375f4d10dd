"""Whatever is said, in whatever order: a start that something contradicts decides nothing until HQ opens it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rules.admission import TRANSITIONS, Admission, Doubt, Input, Start, State

WITNESSES = ("tablet", "phone", "till")
EPOCH, PARENT = "4-aa", "3-bb"
Step = tuple[str, Any]

starts = st.builds(
    Start,
    epoch=st.just(EPOCH),
    parent=st.sampled_from([None, PARENT]),
    known=st.booleans(),
    parent_admitted=st.booleans(),
    lost=st.sampled_from([False, False, True]),
    damaged=st.sampled_from([{}, {}, {}, {PARENT: 7}]),
    expected=st.frozensets(st.sampled_from(WITNESSES)),
    in_touch=st.booleans(),
)
harmless = st.one_of(
    st.tuples(st.sampled_from(["vouch", "excuse"]), st.sampled_from(WITNESSES)), st.tuples(st.sampled_from(["agree", "settle"]), st.none())
)
contradicting = st.tuples(st.just("contradict"), st.sampled_from([Doubt.WITNESS, Doubt.HQ, Doubt.MARK]))
foreign = st.tuples(st.just("open"), st.tuples(st.integers(1, 9), st.sampled_from(["4-xx", PARENT]), st.just({PARENT: 99})))
opening = st.tuples(st.just("open"), st.tuples(st.integers(1, 9), st.just(EPOCH), st.sampled_from([{}, {PARENT: 6}, {PARENT: 7}])))


def told(start: Start, steps: list[Step]) -> Admission:
    found = Admission(start)
    for step in steps:
        tell(found, step)
    return found


def tell(admission: Admission, step: Step) -> bool:
    name, argument = step
    method = getattr(admission, name)
    return bool(method() if argument is None else method(*argument) if name == "open" else method(argument))


def plain(**changes: Any) -> Start:
    return Start(**{"epoch": EPOCH, "parent": PARENT, "known": True, "parent_admitted": True, **changes})


@pytest.mark.parametrize(
    ("start", "state", "how"),
    [
        (Start(epoch=EPOCH, parent=None), State.WAITING, None),
        (plain(known=False), State.WAITING, None),
        (plain(), State.ADMITTED, "inherited"),
        (plain(in_touch=True), State.WAITING, None),
        (plain(expected=frozenset({"tablet"})), State.WAITING, None),
        (plain(parent_admitted=False), State.DOUBTED, None),
        (plain(damaged={PARENT: 7}), State.DOUBTED, None),
        (plain(lost=True), State.DOUBTED, None),
        (Start(epoch=EPOCH, parent=None, lost=True), State.DOUBTED, None),
    ],
)
def test_how_a_start_begins(start: Start, state: State, how: str) -> None:
    admission = Admission(start)
    assert (admission.state, admission.how) == (state, how)


@pytest.mark.parametrize("parent", [None, PARENT])
def test_a_ledger_headquarters_never_heard_of_waits_for_its_word_and_not_for_its_silence(parent: str | None) -> None:
    admission = Admission(Start(epoch=EPOCH, parent=parent, parent_admitted=parent is not None))
    assert not admission.settle() and admission.awaits_hq
    assert admission.agree()
    assert (admission.state, admission.how, admission.awaits_hq) == (State.ADMITTED, "first", False)


def test_a_box_without_line_and_without_witness_serves_at_once_after_a_power_cut() -> None:
    assert Admission(plain()).admitted


@given(
    start=starts, steps=st.lists(st.one_of(harmless, foreign)), contradiction=contradicting, after=st.lists(st.one_of(harmless, foreign))
)
def test_one_contradiction_outweighs_all_until_the_opening(start: Start, steps: list[Step], contradiction: Step, after: list[Step]) -> None:
    admission = told(start, [*steps, contradiction, *after])
    assert admission.state is State.DOUBTED
    assert admission.doubt is not None
    assert admission.open(10, EPOCH, {PARENT: 7})
    assert (admission.state, admission.how, admission.opening) == (State.ADMITTED, "opening", 10)


@given(start=starts, steps=st.lists(st.one_of(harmless, foreign)))
def test_an_unadmitted_parent_and_damage_need_an_opening(start: Start, steps: list[Step]) -> None:
    admission = told(start, steps)
    if start.lost or start.damaged or (start.parent is not None and not start.parent_admitted):
        assert admission.state is State.DOUBTED


@given(start=starts, steps=st.lists(harmless))
def test_it_waits_for_each_expected_witness_and_for_headquarters_only_where_it_must(start: Start, steps: list[Step]) -> None:
    admission = told(start, steps)
    if admission.state is State.DOUBTED:
        return
    spoken = {who for what, who in steps if what in ("vouch", "excuse")}
    assert admission.awaited == (frozenset() if admission.admitted else start.expected - spoken)
    for witness in start.expected:
        admission.vouch(witness)
    admission.settle()
    assert admission.admitted == (start.known or ("agree", None) in steps)
    admission.agree()
    assert admission.how == ("first" if not start.known else "witnesses" if start.expected else "inherited")


@given(start=starts, steps=st.lists(harmless), seed=st.randoms(use_true_random=False))
def test_the_order_of_voices_does_not_matter(start: Start, steps: list[Step], seed: Any) -> None:
    shuffled = list(steps)
    seed.shuffle(shuffled)
    first, second = told(start, steps), told(start, shuffled)
    assert (first.state, first.how, first.awaited) == (second.state, second.how, second.awaited)


@given(start=starts, steps=st.lists(st.one_of(harmless, contradicting, foreign, opening)), last=opening)
def test_an_opening_counts_for_its_own_start_once_and_only_if_it_covers_the_damage(start: Start, steps: list[Step], last: Step) -> None:
    admission = told(start, steps)
    before = admission.opening
    number, _, marks = last[1]
    covers = not start.damaged or marks.get(PARENT, 0) >= 7
    assert tell(admission, last) is (covers and (before is None or number > before))
    if covers and (before is None or number > before):
        assert (admission.admitted, admission.opening) == (True, number)
    assert tell(admission, ("open", (99, "4-xx", {PARENT: 99}))) is False


@given(start=starts, steps=st.lists(st.one_of(harmless, contradicting, foreign, opening)))
def test_what_is_said_and_what_changed_agree(start: Start, steps: list[Step]) -> None:
    admission = Admission(start)
    for step in steps:
        before = (admission.state, admission.how, admission.opening, admission.doubt)
        changed = tell(admission, step)
        assert changed == (before != (admission.state, admission.how, admission.opening, admission.doubt))
        assert admission.admitted or not admission.awaited or admission.state is State.WAITING


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(Input.OPENED in row and Input.CONTRADICTED in row for row in TRANSITIONS.values())
    assert Input.ENOUGH not in TRANSITIONS[State.DOUBTED]
