"""However many frames show a code, showing it once is one event, and showing it again is another."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.scanner.dedupe import GONE_LOOKS, GONE_S, MAX_CANDIDATES, VOTE_S, VOTES, Presence

FRAME_NS = 125_000_000
GONE_FRAMES = max(GONE_LOOKS, int(GONE_S * 1e9 / FRAME_NS) + 1)


def presence() -> Presence:
    ids = itertools.count(1)
    return Presence(lambda: f"{next(ids):032x}")


def events(frames: list[set[bytes]], confirmed: bool = True) -> list[bytes]:
    """Payloads of the events that frames at 8 a second give."""
    eye = presence()
    return [p for i, seen in enumerate(frames) for p, _ in eye.look(i * FRAME_NS, dict.fromkeys(seen, confirmed))]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(GONE_FRAMES + 1, 40)), max_size=8))
def test_each_showing_is_one_event(showings: list[tuple[int, int]]) -> None:
    frames = [seen for shown, gone in showings for seen in [{b"A"}] * shown + [set[bytes]()] * gone]
    assert events(frames) == [b"A"] * len(showings)


@given(st.lists(st.booleans(), max_size=200))
def test_a_code_that_flickers_for_less_than_the_limit_stays_one_event(flicker: list[bool]) -> None:
    frames: list[set[bytes]] = [{b"A"}]
    missed = 0
    for seen in flicker:
        missed = 0 if seen or missed + 1 >= GONE_FRAMES - 1 else missed + 1
        frames.append(set() if missed else {b"A"})
    assert events(frames) == [b"A"]


@given(st.lists(st.sets(st.sampled_from([b"A", b"B", b"C"])), max_size=150))
def test_texts_do_not_disturb_each_other(frames: list[set[bytes]]) -> None:
    together = events(frames)
    for text in (b"A", b"B", b"C"):
        assert together.count(text) == len(events([seen & {text} for seen in frames]))


@given(st.lists(st.dictionaries(st.binary(max_size=4), st.booleans(), max_size=5), max_size=60), st.lists(st.integers(0, 10**10)))
def test_ids_are_never_given_twice_and_nothing_present_is_stated_again(looks: list[dict[bytes, bool]], steps: list[int]) -> None:
    eye, now_ns, seen_ids = presence(), 0, set[str]()
    for look, step in itertools.zip_longest(looks, steps, fillvalue=None):
        now_ns += step or FRAME_NS
        before = eye.present
        for payload, presentation_id in eye.look(now_ns, look or {}):
            assert presentation_id not in seen_ids
            assert payload in (look or {})
            assert payload in eye.present
            seen_ids.add(presentation_id)
            assert payload not in before


def test_two_codes_side_by_side_are_two_presentations() -> None:
    found = presence().look(0, {b"A": True, b"B": True})
    assert {payload for payload, _ in found} == {b"A", b"B"}
    assert len({presentation_id for _, presentation_id in found}) == 2


def test_frames_nobody_looked_at_make_nothing_absent() -> None:
    eye = presence()
    assert eye.look(0, {b"A": True})
    assert eye.look(3600 * 10**9, {b"A": True}) == []


def test_an_unconfirmed_code_needs_votes_of_different_looks() -> None:
    assert events([{b"A"}] * (VOTES - 1), confirmed=False) == []
    assert events([{b"A"}] * VOTES, confirmed=False) == [b"A"]
    assert events([{b"A"}, {b"B"}, {b"A"}, {b"C"}, {b"D"}], confirmed=False) == []


def test_old_votes_count_for_nothing() -> None:
    eye = presence()
    step_ns = int(VOTE_S * 1e9 / (VOTES - 1)) + 1
    assert [eye.look(i * step_ns, {b"A": False}) for i in range(20)] == [[]] * 20


def test_a_flood_of_misreads_is_forgotten() -> None:
    eye = presence()
    for i in range(10_000):
        eye.look(i * FRAME_NS, {str(i).encode(): False})
    assert len(eye._votes) <= MAX_CANDIDATES
