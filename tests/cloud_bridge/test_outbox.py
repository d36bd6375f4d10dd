"""What to send next: whatever is lost, doubled, delayed or restarted, everything arrives once, in order, and it never sticks."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cloud_bridge.outbox import MAX_RESEND_S, MIN_RESEND_S, WINDOW_BATCHES, Outbox, Span

BATCH = 5


def drained(outbox: Outbox, now_s: float = 0.0) -> list[Span]:
    spans = []
    while (span := outbox.next(now_s)) is not None:
        spans.append(span)
        assert len(spans) < 1_000
    return spans


def heeding(reach: dict[int, dict[int, int]], cursors: dict[int, dict[int, int]] | None = None) -> Outbox:
    outbox = Outbox(BATCH)
    outbox.heed(reach, cursors or {}, 0.0)
    return outbox


def test_an_outbox_nobody_told_anything_sends_nothing() -> None:
    assert Outbox(BATCH).next(0.0) is None


def test_rows_go_in_batches_up_to_the_reach_and_not_beyond() -> None:
    assert drained(heeding({1: {0: 12}})) == [Span(1, 0, 0, 5), Span(1, 0, 5, 10), Span(1, 0, 10, 12)]


def test_what_hq_has_is_not_sent() -> None:
    assert drained(heeding({1: {0: 12, 1: 3}}, {1: {0: 10, 1: 3}})) == [Span(1, 0, 10, 12)]


def test_money_goes_before_traffic_and_traffic_before_health() -> None:
    assert [span.lane for span in drained(heeding({1: {2: 1, 1: 6, 0: 6}}))] == [0, 0, 1, 1, 2]


def test_a_window_is_not_overrun() -> None:
    spans = drained(heeding({1: {0: 1_000}}))
    assert len(spans) == WINDOW_BATCHES


def test_an_epoch_goes_only_after_all_of_its_parent_is_acknowledged() -> None:
    outbox = heeding({1: {0: 7}, 2: {0: 3}})
    assert {span.epoch for span in drained(outbox)} == {1}
    outbox.heed({1: {0: 7}, 2: {0: 3}}, {1: {0: 6}}, 0.1)
    assert drained(outbox, 0.1) == []
    outbox.heed({1: {0: 7}, 2: {0: 3}}, {1: {0: 7}}, 0.2)
    assert drained(outbox, 0.2) == [Span(2, 0, 0, 3)]


def test_silence_is_answered_by_sending_again_ever_more_patiently() -> None:
    outbox = heeding({1: {0: 3}})
    assert drained(outbox, 0.0) == [Span(1, 0, 0, 3)]
    assert drained(outbox, MIN_RESEND_S) == []
    now_s, pauses = 0.0, []
    for _ in range(8):
        begun_s = now_s
        while not drained(outbox, now_s):
            now_s += 0.25
        pauses.append(now_s - begun_s)
    assert pauses[0] == pytest.approx(1.25)
    assert pauses == sorted(pauses)
    assert pauses[-1] <= MAX_RESEND_S + 0.25
    assert outbox.resent_rows == 8 * 3


def test_an_answer_makes_the_outbox_quick_again() -> None:
    outbox, now_s = heeding({1: {0: 20}}), 0.0
    for _ in range(6):
        drained(outbox, now_s)
        now_s += MAX_RESEND_S + 0.1
    drained(outbox, now_s)
    outbox.heed({1: {0: 20}}, {1: {0: 5}}, now_s + 0.1)
    assert drained(outbox, now_s + 0.1) == []
    assert drained(outbox, now_s + 0.1 + MIN_RESEND_S + 0.1)


def test_patience_lasts_at_most_so_long_however_long_the_silence() -> None:
    outbox = heeding({1: {0: 3}})
    now_s = 0.0
    for _ in range(3_000):
        assert drained(outbox, now_s)
        now_s += MAX_RESEND_S + 0.1


def test_a_lower_mark_starts_again_at_the_cursor() -> None:
    outbox = heeding({1: {0: 30}}, {1: {0: 2}})
    drained(outbox)
    outbox.rewind(1, 0, 7)
    assert outbox.next(0.1) == Span(1, 0, 2, 7)


@pytest.mark.parametrize(("epoch", "lane", "mark"), [(2, 0, 0), (1, 1, 0), (1, 0, 20), (1, 0, 99)])
def test_a_mark_that_takes_nothing_back_changes_nothing(epoch: int, lane: int, mark: int) -> None:
    outbox = heeding({1: {0: 30}})
    drained(outbox)
    outbox.rewind(epoch, lane, mark)
    assert outbox.next(0.1) is None


def test_a_new_connection_sends_again_what_was_under_way() -> None:
    outbox = heeding({1: {0: 7, 1: 2}})
    first = drained(outbox)
    outbox.restart()
    assert drained(outbox, 0.1) == first


@pytest.mark.parametrize("cuts", [[3], [3, 2, 1], [4, 1]])
def test_a_span_cut_down_several_times_leaves_no_gap(cuts: list[int]) -> None:
    outbox = heeding({1: {0: 9}})
    span = outbox.next(0.0)
    assert span == Span(1, 0, 0, 5)
    for upto in cuts:
        outbox.shorten(span, upto)
    assert outbox.next(0.0) == Span(1, 0, cuts[-1], min(9, cuts[-1] + BATCH))


def test_a_span_that_was_restarted_meanwhile_is_not_cut() -> None:
    outbox = heeding({1: {0: 9}})
    span = outbox.next(0.0)
    assert span is not None
    outbox.restart()
    outbox.shorten(span, 3)
    assert outbox.next(0.0) == span


def test_core_starting_anew_goes_on_from_its_cursors() -> None:
    outbox = heeding({1: {0: 20}})
    drained(outbox)
    outbox.heed({1: {0: 20}, 2: {0: 1}}, {}, 1.0)  # the cursor's last second was lost
    outbox.restart()
    assert outbox.next(1.0) == Span(1, 0, 0, 5)


class Hq:
    """Takes rows of a lane only without a gap, whatever comes; knows the order of epochs."""

    def __init__(self) -> None:
        self.marks: dict[tuple[int, int], int] = {}
        self.taken: dict[int, list[tuple[int, int]]] = {}  # by lane

    def take(self, span: Span) -> tuple[Span, int]:
        """Commit what follows the mark; what is answered: the batch and the mark."""
        mark = self.marks.get((span.epoch, span.lane), 0)
        if span.after <= mark:
            self.taken.setdefault(span.lane, []).extend((span.epoch, seq) for seq in range(mark + 1, span.upto + 1))
            mark = self.marks[span.epoch, span.lane] = max(mark, span.upto)
        return span, mark


class Road(RuleBasedStateMachine):
    """A box, an HQ and a line that loses, doubles and shuffles in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.reach: dict[int, dict[int, int]] = {1: {0: 1}}
        self.cursors: dict[int, dict[int, int]] = {}
        self.saved: dict[int, dict[int, int]] = {}
        self.outbox = Outbox(BATCH)
        self.hq = Hq()
        self.up: list[Span] = []
        self.down: list[tuple[Span, int]] = []
        self.heed()

    def heed(self) -> None:
        self.outbox.heed(_copy(self.reach), _copy(self.cursors), self.now_s)

    def send(self, cut: int | None = None) -> bool:
        span = self.outbox.next(self.now_s)
        if span is None:
            return False
        assert span.after < span.upto <= self.reach[span.epoch][span.lane], "beyond what an fsync has covered"
        assert span.upto - span.after <= BATCH
        for epoch, lanes in self.reach.items():
            if epoch < span.epoch:
                assert lanes.get(span.lane, 0) <= self.cursors.get(epoch, {}).get(span.lane, 0), "before its ancestor"
        self.up.append(span)
        if cut is not None and span.after < cut < span.upto:
            self.outbox.shorten(span, cut)
            self.up[-1] = Span(span.epoch, span.lane, span.after, cut)
        return True

    def answer(self, ack: tuple[Span, int]) -> None:
        """As bridge and core do: the cursor moves to rows both have, a lower mark rewinds."""
        span, mark = ack
        seq = min(span.upto, mark)
        if seq > 0:
            lanes = self.cursors.setdefault(span.epoch, {})
            lanes[span.lane] = max(lanes.get(span.lane, 0), seq)
            self.heed()
        if mark < span.upto:
            self.outbox.rewind(span.epoch, span.lane, mark)

    @rule(lane=st.integers(0, 2), rows=st.integers(1, 25))
    def rows_are_committed(self, lane: int, rows: int) -> None:
        lanes = self.reach[max(self.reach)]
        lanes[lane] = lanes.get(lane, 0) + rows
        self.heed()

    @rule(cut=st.none() | st.integers(0, 200), most=st.integers(1, 10))
    def bridge_sends(self, cut: int | None, most: int) -> None:
        for _ in range(most):
            self.send(cut)

    @precondition(lambda self: self.up)
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "arrives", "doubled", "lost"]))
    def a_batch(self, data: st.DataObject, fate: str) -> None:
        span = self.up[data.draw(st.integers(0, len(self.up) - 1))]
        if fate != "doubled":
            self.up.remove(span)
        if fate != "lost":
            self.down.append(self.hq.take(span))

    @precondition(lambda self: self.down)
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "arrives", "doubled", "lost"]))
    def an_acknowledgement(self, data: st.DataObject, fate: str) -> None:
        ack = self.down[data.draw(st.integers(0, len(self.down) - 1))]
        if fate != "doubled":
            self.down.remove(ack)
        if fate != "lost":
            self.answer(ack)

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def the_line_comes_back(self) -> None:
        self.outbox.restart()

    @rule()
    def the_cursor_is_saved(self) -> None:
        self.saved = _copy(self.cursors)

    @rule()
    def core_starts_anew(self) -> None:
        """A new epoch; cursors not yet on the disk are lost."""
        self.cursors = _copy(self.saved)
        self.reach[max(self.reach) + 1] = {0: 1}
        self.heed()

    @rule()
    def the_bridge_starts_anew(self) -> None:
        self.outbox = Outbox(BATCH)
        self.heed()

    @invariant()
    def everything_arrives_once_and_in_order(self) -> None:
        for lane, taken in self.hq.taken.items():
            whole = [(epoch, seq) for epoch in sorted(self.reach) for seq in range(1, self.reach[epoch].get(lane, 0) + 1)]
            assert taken == whole[: len(taken)]

    def teardown(self) -> None:
        """A quiet line at the end: everything arrives, soon."""
        self.up.clear()
        self.down.clear()
        for _ in range(2_000):
            while self.send():
                self.answer(self.hq.take(self.up.pop()))
            if all(self.cursors.get(epoch, {}).get(lane, 0) == seq for epoch, lanes in self.reach.items() for lane, seq in lanes.items()):
                break
            self.now_s += MAX_RESEND_S / 4
        assert self.hq.marks == {(epoch, lane): seq for epoch, lanes in self.reach.items() for lane, seq in lanes.items()}
        self.everything_arrives_once_and_in_order()


def _copy(marks: dict[int, dict[int, int]]) -> dict[int, dict[int, int]]:
    return {epoch: dict(lanes) for epoch, lanes in marks.items()}


TestRoad = Road.TestCase
TestRoad.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


@given(st.dictionaries(st.integers(1, 5), st.dictionaries(st.integers(0, 2), st.integers(1, 60), min_size=1), min_size=1))
def test_lane_0_is_never_behind_another_lane_it_could_go_before(reach: dict[int, dict[int, int]]) -> None:
    outbox = heeding(reach)
    lanes = [span.lane for span in drained(outbox)]
    assert lanes == sorted(lanes)


def test_a_whole_week_drains_without_one_row_sent_twice() -> None:
    reach: dict[int, dict[int, int]] = {1: {0: 400, 1: 9_000, 2: 70}, 2: {0: 100, 1: 50}}
    cursors: dict[int, dict[int, int]] = {1: {}, 2: {}}
    outbox, hq, now_s = Outbox(200), Hq(), 0.0
    outbox.heed(reach, cursors, now_s)
    sent: list[Any] = []
    while span := outbox.next(now_s):
        sent.append(span)
        now_s += 0.02
        cursors = {epoch: dict(lanes) for epoch, lanes in cursors.items()}
        cursors[span.epoch][span.lane] = hq.take(span)[1]
        outbox.heed(reach, cursors, now_s)
    assert sum(span.upto - span.after for span in sent) == sum(seq for lanes in reach.values() for seq in lanes.values())
    assert outbox.resent_rows == 0
