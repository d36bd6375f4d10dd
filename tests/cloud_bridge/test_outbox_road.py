"""A box, headquarters and a line that loses, doubles and shuffles: everything arrives once, in order, and it never sticks."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cloud_bridge.outbox import MAX_RESEND_S, Outbox, Span

from .road import BATCH, Hq, send


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
        self.down: list[tuple[Span, int, int, int]] = []
        self.heed()

    def heed(self) -> None:
        self.outbox.heed(_copy(self.reach), _copy(self.cursors), self.now_s)

    def send(self, cut: int | None = None) -> bool:
        span = send(self.outbox, self.now_s, cut)
        if span is None:
            return False
        assert span.after < span.upto <= self.reach[span.epoch][span.lane], "beyond what an fsync has covered"
        for epoch, lanes in self.reach.items():
            if epoch < span.epoch:
                assert lanes.get(span.lane, 0) <= self.cursors.get(epoch, {}).get(span.lane, 0), "before its ancestor"
        self.up.append(span)
        return True

    def answer(self, ack: tuple[Span, int, int, int]) -> None:
        """As bridge and core do: the cursor moves to rows both have."""
        span, seq, mark, at_us = ack
        self.outbox.answered(span.epoch, span.lane, seq, mark, at_us, self.now_s)
        if seq > 0:
            lanes = self.cursors.setdefault(span.epoch, {})
            lanes[span.lane] = max(lanes.get(span.lane, 0), seq)
            self.heed()

    @rule(lane=st.integers(0, 2), rows=st.integers(1, 25))
    def rows_are_committed(self, lane: int, rows: int) -> None:
        lanes = self.reach[max(self.reach)]
        lanes[lane] = lanes.get(lane, 0) + rows
        self.heed()

    @rule(cut=st.none() | st.integers(0, 200), most=st.integers(1, 10))
    def bridge_sends(self, cut: int | None, most: int) -> None:
        for _ in range(most):
            self.send(cut)

    @rule()
    def a_beat_is_answered(self) -> None:
        self.outbox.heard(self.now_s)

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
        self.outbox.restart(self.now_s)

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

    @precondition(lambda self: self.hq.marks)
    @rule(data=st.data(), told=st.booleans())
    def headquarters_is_restored_from_a_backup(self, data: st.DataObject, told: bool) -> None:
        """Its mark falls; it asks, core moves the cursor back. Whether the bridge heard the request itself does not matter."""
        (epoch, lane), mark = data.draw(st.sampled_from(sorted(self.hq.marks.items())))
        to = data.draw(st.integers(0, mark))
        self.hq.marks[epoch, lane] = to
        self.hq.taken[lane] = [place for place in self.hq.taken.get(lane, []) if place[0] != epoch or place[1] <= to]
        self.down = [ack for ack in self.down if (ack[0].epoch, ack[0].lane) != (epoch, lane)]
        for cursors in (self.cursors, self.saved):
            if cursors.get(epoch, {}).get(lane, 0) > to:
                cursors[epoch][lane] = to
        if told:
            self.outbox.forget(epoch, lane, to, self.hq.clock_us)
        self.heed()

    @invariant()
    def everything_arrives_once_and_in_order(self) -> None:
        for lane, taken in self.hq.taken.items():
            assert len(taken) == len(set(taken))
            for epoch in self.reach:
                seqs = [seq for number, seq in taken if number == epoch]
                assert seqs == list(range(1, len(seqs) + 1))
            assert all(seq <= self.reach[epoch][lane] for epoch, seq in taken)

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
            self.outbox.heard(self.now_s)
        assert self.hq.marks == {(epoch, lane): seq for epoch, lanes in self.reach.items() for lane, seq in lanes.items()}
        self.everything_arrives_once_and_in_order()


def _copy(marks: dict[int, dict[int, int]]) -> dict[int, dict[int, int]]:
    return {epoch: dict(lanes) for epoch, lanes in marks.items()}


TestRoad = Road.TestCase
TestRoad.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
