"""Rows as CloudEvents: nothing is lost either way, and what is not such an event is refused."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cloudevents import KINDS, from_cloudevent, rfc3339, to_cloudevent, type_of, words_of
from gateway.errors import MalformedFrame
from gateway.events import LANE_OF, Instant, LineChanged, Row, TimeTrust
from tests.gateway.rows import PLACES, ROWS, bytes_of

Place = tuple[str, str, int, int, int]
EVENT = LineChanged(True, Instant(1_790_000_000_000_001, 5, "abcdef01", TimeTrust.HOLDOVER))
PLACE: Place = ("tpe-001-a", "7-1f2e3d4c", 2, 42, 1_790_000_000_500_000)
# https://github.com/cloudevents/spec, spec.md 1.0.2: names of attributes
ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@given(place=PLACES, event=ROWS, fixed_us=st.none() | st.integers(0, 4_102_444_800_000_000))
def test_a_row_comes_back_byte_for_byte(place: Place, event: Row, fixed_us: int | None) -> None:
    said = to_cloudevent(*place, event, fixed_us)
    told = from_cloudevent(json.loads(json.dumps(said)))  # through another library's JSON
    assert (told.gateway, told.epoch, told.lane, told.seq, told.record_us, told.fixed_us) == (*place, fixed_us)
    assert told.event == event
    assert bytes_of(told.event) == bytes_of(event)
    assert to_cloudevent(*place, told.event, fixed_us) == said


@given(place=PLACES, event=ROWS)
def test_every_row_is_a_valid_cloudevent(place: Place, event: Row) -> None:
    said = to_cloudevent(*place, event)
    assert said["specversion"] == "1.0"
    assert all(isinstance(said[name], str) and said[name] for name in ("id", "source", "type"))
    assert all(ATTRIBUTE.fullmatch(name) for name in said)
    attributes = {name: value for name, value in said.items() if name != "data"}
    assert all(isinstance(value, bool | str) or -(1 << 31) <= value < 1 << 31 for value in attributes.values())
    assert "time" not in said or RFC3339.fullmatch(said["time"])
    assert said["id"] == f"{place[1]}/{place[2]}/{place[3]}"


@given(places=st.lists(PLACES, min_size=2, max_size=2, unique=True))
def test_text_order_of_sequence_is_order_of_numbers(places: list[Place]) -> None:
    one, other = (to_cloudevent(*place, EVENT)["sequence"] for place in places)
    assert (one < other) == (places[0][3] < places[1][3])


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner))
)
def test_anything_else_is_refused(said: Any) -> None:
    with pytest.raises(MalformedFrame):
        from_cloudevent(said)


@given(data=st.data())
def test_a_changed_event_is_refused_or_says_something_else(data: st.DataObject) -> None:
    said = to_cloudevent(*PLACE, EVENT)
    name = data.draw(st.sampled_from([*said, "stray"]))
    value = data.draw(st.none() | st.integers() | st.text() | st.sampled_from(list(said.values())))
    if said.get(name) == value and type(said.get(name)) is type(value):
        return
    changed = said | {name: value}
    try:
        told = from_cloudevent(changed)
    except MalformedFrame:
        return
    assert to_cloudevent(told.gateway, told.epoch, told.lane, told.seq, told.record_us, told.event) == changed
    assert name in ("source", "recordtime")  # everything else is said twice, and must agree


@pytest.mark.parametrize(
    "change",
    [
        {"time": "2026-09-21T14:13:20.000002Z"},
        {"timetrust": 0},
        {"sequence": "42"},
        {"sequence": "9" * 19},
        {"sequence": "٤" * 19},
        {"id": "7-1f2e3d4c/2/43"},
        {"type": "store-gateway.line-changed.v2"},
        {"retimed": True, "time": None},
        {"retimed": True, "time": "2026-13-21T14:13:20.000002Z"},
        {"retimed": True, "time": "2026-09-21 14:13:20.000002Z"},
        {"source": "not a name"},
        {"recordtime": "1e9"},
        {"data": {"up": True}},
        {"data": {"up": True, "event_time": [1, 2, "abcdef01", 9]}},
        {"specversion": "0.3"},
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedFrame):
        from_cloudevent(to_cloudevent(*PLACE, EVENT) | change)


def test_each_kind_has_one_type() -> None:
    assert len(KINDS) == len(LANE_OF)
    assert type_of("VoucherRedeemed") == "store-gateway.voucher-redeemed.v1"
    assert words_of("CompartmentOpenIntended") == "compartment-open-intended"


def test_a_row_that_was_timed_anew_says_so() -> None:
    said = to_cloudevent(*PLACE, EVENT, fixed_us=1_790_000_100_000_000)
    assert said["retimed"] is True
    assert said["time"] == rfc3339(1_790_000_100_000_000)
    assert said["data"]["event_time"][0] == 1_790_000_000_000_001
    assert "retimed" not in to_cloudevent(*PLACE, EVENT)


@pytest.mark.parametrize(
    ("wall_us", "text"), [(0, "1970-01-01T00:00:00.000000Z"), (-62_135_596_800_000_000, "0001-01-01T00:00:00.000000Z")]
)
def test_times_have_microseconds_and_four_digits_of_year(wall_us: int, text: str) -> None:
    assert rfc3339(wall_us) == text


@pytest.mark.parametrize("wall_us", [253_402_300_800_000_000, -62_135_596_800_000_001, 1 << 62])
def test_a_day_no_calendar_has_is_left_out(wall_us: int) -> None:
    event = msgspec.structs.replace(EVENT, event_time=msgspec.structs.replace(EVENT.event_time, wall_us=wall_us))
    said = to_cloudevent(*PLACE, event)
    assert "time" not in said
    assert from_cloudevent(said).event == event
