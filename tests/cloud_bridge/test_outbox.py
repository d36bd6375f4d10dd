"""What to send next: whatever is lost, doubled, delayed or restarted, everything arrives once, in order, and it never sticks."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.outbox import AGE_S, MAX_RESEND_S, TOLD_S, WINDOW_BATCHES, Outbox, Span
from cloud_bridge.pace import FIRST_PATIENCE_S, MOST_WINDOW_B

from .road import BATCH, Hq, drained, heeding, send


def test_an_outbox_nobody_told_anything_sends_nothing() -> None:
    assert Outbox(BATCH).next(0.0) is None


def test_rows_go_in_batches_up_to_the_reach_and_not_beyond() -> None:
    assert drained(heeding({1: {0: 12}})) == [(1, 0, 0, 5), (1, 0, 5, 10), (1, 0, 10, 12)]


def test_what_hq_has_is_not_sent() -> None:
    assert drained(heeding({1: {0: 12, 1: 3}}, {1: {0: 10, 1: 3}})) == [(1, 0, 10, 12)]


def test_money_goes_before_traffic_and_traffic_before_health() -> None:
    assert [lane for _, lane, _, _ in drained(heeding({1: {2: 1, 1: 5, 0: 6}}))] == [0, 0, 1, 2]


def test_a_lane_can_be_asked_for_alone() -> None:
    outbox = heeding({1: {0: 1, 1: 5}})
    assert outbox.next(0.0, range(1, 256)) == Span(1, 1, 0, 5, 5)
    assert outbox.next(0.0, range(1)) == Span(1, 0, 0, 1, 5)


def test_a_window_is_not_overrun() -> None:
    assert len(drained(heeding({1: {0: 1_000}}))) == WINDOW_BATCHES


def test_money_goes_at_once_and_traffic_waits_a_moment_for_a_fuller_batch() -> None:
    outbox = heeding({1: {0: 5, 1: 5}}, {1: {0: 5, 1: 5}})
    outbox.heed({1: {0: 6, 1: 7}}, {1: {0: 5, 1: 5}}, 10.0)
    assert drained(outbox, 10.0) == [(1, 0, 5, 6)]
    assert outbox.wait_s(10.0) == pytest.approx(AGE_S[1])
    outbox.answered(1, 0, 6, 6, 1, 10.1)
    outbox.heard(10.2)
    assert drained(outbox, 10.0 + AGE_S[1] + 0.01) == [(1, 1, 5, 7)]
    outbox.heed({1: {0: 6, 1: 30}}, {1: {0: 6, 1: 7}}, 20.0)
    assert drained(outbox, 20.0)[0] == (1, 1, 7, 12)  # a full one need not wait


def test_traffic_under_way_is_bounded_by_bytes_however_large_its_batches_are() -> None:
    outbox = Outbox(10**6)
    outbox.heed({1: {0: 3, 1: 10**9}}, {}, 0.0)
    outbox.restart(0.0)
    outbox.heard(0.0)
    spans = []
    while (span := outbox.next(0.1)) is not None:
        outbox.sent(span, min(span.upto, span.after + span.rows), span.rows * 60, 0.1)
        spans.append(span)
    assert spans[0].lane == 0
    under_way_b = sum(span.rows * 60 for span in spans[1:])
    assert 0 < under_way_b <= MOST_WINDOW_B


def test_an_epoch_goes_only_after_all_of_its_parent_is_acknowledged() -> None:
    outbox = heeding({1: {0: 7}, 2: {0: 3}})
    assert {epoch for epoch, _, _, _ in drained(outbox)} == {1}
    outbox.heed({1: {0: 7}, 2: {0: 3}}, {1: {0: 6}}, 0.1)
    assert drained(outbox, 0.1) == []
    outbox.heed({1: {0: 7}, 2: {0: 3}}, {1: {0: 7}}, 0.2)
    assert drained(outbox, 0.2) == [(2, 0, 0, 3)]


def test_nothing_goes_over_a_new_connection_before_headquarters_has_answered_there() -> None:
    outbox = heeding({1: {0: 3}})
    outbox.restart(5.0)
    assert drained(outbox, 5.1) == []
    outbox.heard(4.9)  # an answer to the connection before
    assert drained(outbox, 5.2) == []
    outbox.heard(5.1)
    assert drained(outbox, 5.3) == [(1, 0, 0, 3)]


def test_without_a_sign_of_life_it_tries_at_last() -> None:
    outbox = heeding({1: {0: 3}})
    outbox.restart(5.0)
    assert outbox.wait_s(5.0) == pytest.approx(MAX_RESEND_S)
    assert drained(outbox, 5.0 + MAX_RESEND_S) == [(1, 0, 0, 3)]


def test_silence_sends_nothing_again_until_headquarters_is_back() -> None:
    outbox = heeding({1: {0: 3}})
    assert drained(outbox, 0.0) == [(1, 0, 0, 3)]
    for now_s in range(1, 25):
        assert drained(outbox, float(now_s)) == []
    assert outbox.resent_rows == 0
    outbox.heard(24.5)
    assert drained(outbox, 25.0) == [(1, 0, 0, 3)]


def test_a_batch_that_stays_unanswered_goes_again_ever_more_patiently() -> None:
    outbox = heeding({1: {0: 3}})
    assert drained(outbox, 0.0) == [(1, 0, 0, 3)]
    now_s, pauses = 0.0, []
    for _ in range(8):
        begun_s = now_s
        while not drained(outbox, now_s):
            now_s += 0.25
            outbox.heard(now_s)
        pauses.append(now_s - begun_s)
    assert pauses[0] == pytest.approx(FIRST_PATIENCE_S)
    assert pauses == sorted(pauses)
    assert MAX_RESEND_S <= pauses[-1] <= MAX_RESEND_S + 0.25
    assert outbox.resent_rows == 8 * 3


def test_nothing_new_follows_a_batch_whose_answer_is_late() -> None:
    outbox = heeding({1: {0: 5}})
    for number in range(5):
        assert drained(outbox, float(number))
        outbox.answered(1, 0, 5 + number, 5 + number, number, number + 0.02)
        outbox.heed({1: {0: 6 + number}}, {1: {0: 5 + number}}, number + 0.03)
    assert drained(outbox, 10.0) == [(1, 0, 9, 10)]
    outbox.heed({1: {0: 11}}, {1: {0: 9}}, 10.1)
    assert drained(outbox, 10.1) == [(1, 0, 10, 11)]  # not late yet
    outbox.heed({1: {0: 12}}, {1: {0: 9}}, 10.5)
    assert drained(outbox, 10.5) == []


def test_only_what_headquarters_does_not_have_goes_again_after_a_new_connection() -> None:
    outbox = heeding({1: {0: 20}})
    assert len(drained(outbox)) == 4
    outbox.restart(1.0)
    outbox.heard(1.1)
    assert drained(outbox, 1.1) == [(1, 0, 0, 1)]  # one row asks for all
    outbox.answered(1, 0, 1, 15, 7, 1.2)  # HQ has three of the four
    assert drained(outbox, 1.2) == [(1, 0, 15, 20)]
    assert outbox.resent_rows == 6


def test_what_headquarters_has_needs_but_its_last_answer_again() -> None:
    outbox = heeding({1: {0: 20}})
    drained(outbox)
    outbox.restart(1.0)
    outbox.heard(1.1)
    drained(outbox, 1.1)
    outbox.answered(1, 0, 1, 20, 7, 1.2)
    outbox.heed({1: {0: 20}}, {1: {0: 1}}, 1.2)
    assert drained(outbox, 1.3) == []
    outbox.heard(FIRST_PATIENCE_S)
    assert drained(outbox, FIRST_PATIENCE_S) == [(1, 0, 15, 20)]
    assert drained(outbox, FIRST_PATIENCE_S) == []


def test_a_later_answer_shows_which_batch_is_missing() -> None:
    outbox = heeding({1: {0: 20}})
    drained(outbox)
    outbox.answered(1, 0, 5, 5, 1, 0.1)
    outbox.answered(1, 0, 5, 5, 2, 0.1)  # the third came, and did not fit
    assert drained(outbox, 0.2) == [(1, 0, 5, 10), (1, 0, 10, 15), (1, 0, 15, 20)]
    outbox.answered(1, 0, 5, 5, 3, 0.3)  # the fourth of the first sending, too: nothing new
    assert drained(outbox, 0.3) == []


def test_a_gap_at_the_very_beginning_is_seen_too() -> None:
    outbox = heeding({1: {0: 10}})
    drained(outbox)
    outbox.answered(1, 0, 0, 0, 1, 0.1)
    assert drained(outbox, 0.2) == [(1, 0, 0, 5), (1, 0, 5, 10)]


@pytest.mark.parametrize(("epoch", "lane"), [(2, 0), (1, 1)])
def test_an_answer_about_others_changes_nothing(epoch: int, lane: int) -> None:
    outbox = heeding({1: {0: 30}})
    drained(outbox)
    outbox.answered(epoch, lane, 0, 0, 1, 0.1)
    assert outbox.next(0.1) is None


def test_headquarters_that_lost_rows_gets_them_from_its_mark_on_when_it_asks() -> None:
    outbox = heeding({1: {0: 20}}, {1: {0: 20}})
    outbox.answered(1, 0, 20, 20, 1, 0.0)
    outbox.forget(1, 0, 5, 2)
    outbox.heed({1: {0: 20}}, {1: {0: 5}}, 1.0)
    outbox.heard(1.0)
    assert drained(outbox, 1.0)[0] == (1, 0, 5, 10)


@pytest.mark.parametrize(("seq", "at_us"), [(5, 9), (20, 9), (0, 4)])
def test_a_request_for_what_is_on_its_way_disturbs_nothing(seq: int, at_us: int) -> None:
    outbox = heeding({1: {0: 20}})
    drained(outbox)
    outbox.answered(1, 0, 5, 5, 5, 0.1)
    outbox.forget(1, 0, seq, at_us)
    outbox.heed({1: {0: 20}}, {1: {0: 5}}, 0.1)
    assert drained(outbox, 0.1) == []


def test_a_mark_that_was_believed_wrongly_is_forgotten() -> None:
    outbox = heeding({1: {0: 20}})
    outbox.answered(1, 0, 15, 15, 9, 0.0)  # nobody knows where from
    now_s, sent = 0.0, []
    while (1, 0, 0, 5) not in sent:
        now_s += 0.5
        outbox.heard(now_s)
        sent += drained(outbox, now_s)
        assert now_s < 60


def test_core_starting_anew_does_not_send_again_what_headquarters_was_heard_to_have() -> None:
    outbox = heeding({1: {1: 20}})
    drained(outbox)
    outbox.answered(1, 1, 20, 20, 5, 0.1)
    outbox.heed({1: {1: 20}}, {1: {1: 20}}, 0.1)
    outbox.heed({1: {1: 20}, 2: {1: 4}}, {}, 1.0)  # the cursor's last second was lost with core
    assert drained(outbox, 1.0) == []  # whoever kept HQ's word tells core
    outbox.heard(1.0 + TOLD_S)
    assert drained(outbox, 1.0 + TOLD_S) == [(1, 1, 19, 20)]  # nobody did: its answer says it all
    outbox.heed({1: {1: 20}, 2: {1: 4}}, {1: {1: 20}}, 4.1)
    assert drained(outbox, 5.0) == [(2, 1, 0, 4)]


@pytest.mark.parametrize("cuts", [[3], [3, 4]])
def test_a_span_cut_down_to_fit_a_message_leaves_no_gap(cuts: list[int]) -> None:
    outbox = heeding({1: {0: 9}})
    after = 0
    for upto in cuts:
        span = send(outbox, 0.0, upto)
        assert span is not None and (span.after, span.upto) == (after, upto)
        after = upto
    span = send(outbox, 0.0)
    assert span is not None and span.after == after


def test_a_batch_sent_again_in_parts_loses_none() -> None:
    outbox = heeding({1: {0: 10}})
    drained(outbox)
    outbox.restart(1.0)
    outbox.heard(1.0)
    assert drained(outbox, 1.0) == [(1, 0, 0, 1)]
    outbox.answered(1, 0, 1, 1, 1, 1.1)
    span = send(outbox, 1.1, 3)
    assert span is not None and (span.after, span.upto) == (1, 3)
    assert drained(outbox, 1.1) == [(1, 0, 3, 5), (1, 0, 5, 10)]


def test_blocks_merged_meanwhile_take_their_neighbours_along() -> None:
    outbox = heeding({1: {0: 20}})
    drained(outbox)
    outbox.restart(1.0)
    outbox.heard(1.0)
    span = outbox.next(1.0)
    assert span == Span(1, 0, 0, 20, 1)
    outbox.sent(span, 15, 300, 1.0)
    outbox.answered(1, 0, 15, 15, 1, 1.1)
    assert drained(outbox, 1.1) == [(1, 0, 15, 20)]


@given(st.dictionaries(st.integers(1, 5), st.dictionaries(st.integers(0, 2), st.integers(1, 60), min_size=1), min_size=1))
def test_lane_0_is_never_behind_another_lane_it_could_go_before(reach: dict[int, dict[int, int]]) -> None:
    lanes = [lane for _, lane, _, _ in drained(heeding(reach))]
    assert lanes == sorted(lanes)


@given(
    st.dictionaries(st.integers(1, 3), st.dictionaries(st.integers(0, 2), st.integers(1, 60), min_size=1), min_size=1), st.floats(0, 100)
)
def test_the_time_to_wait_is_never_nothing_while_nothing_can_be_sent(reach: dict[int, dict[int, int]], passed_s: float) -> None:
    outbox = heeding(reach)
    drained(outbox)
    drained(outbox, passed_s)
    wait_s = outbox.wait_s(passed_s)
    assert wait_s is None or wait_s > 0


def test_a_whole_week_drains_without_one_row_sent_twice() -> None:
    reach: dict[int, dict[int, int]] = {1: {0: 400, 1: 9_000, 2: 70}, 2: {0: 100, 1: 50}}
    cursors: dict[int, dict[int, int]] = {1: {}, 2: {}}
    outbox, hq, now_s = heeding(reach, cursors), Hq(), 0.0
    sent: list[Any] = []
    while cursors != reach:
        now_s += 0.02
        span = send(outbox, now_s)
        if span is None:
            continue
        sent.append(span)
        _, seq, mark, at_us = hq.take(span)
        outbox.answered(span.epoch, span.lane, seq, mark, at_us, now_s + 0.01)
        cursors = {epoch: dict(lanes) for epoch, lanes in cursors.items()}
        cursors[span.epoch][span.lane] = mark
        outbox.heed(reach, cursors, now_s + 0.01)
    assert sum(span.upto - span.after for span in sent) == sum(seq for lanes in reach.values() for seq in lanes.values())
    assert outbox.resent_rows == 0


def test_a_line_on_which_only_beats_are_answered_is_told_from_one_that_is_silent() -> None:
    outbox, now_s = heeding({1: {0: 3}}), 0.0
    while not outbox.is_unheard():
        drained(outbox, now_s)
        now_s += 0.5
        assert now_s < 120
        outbox.heard(now_s)
    silent = heeding({1: {0: 3}})
    for second in range(120):
        drained(silent, float(second))
        assert not silent.is_unheard()
