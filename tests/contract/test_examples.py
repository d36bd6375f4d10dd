"""Each kind of row has one example, each example is a row, and none is an orphan."""

import json
from pathlib import Path

import pytest

from gateway.cloudevents import KINDS, from_cloudevent, to_cloudevent, words_of
from gateway.events import LANE_OF
from scripts.contract import FOLDER as SCHEMAS
from tests.contract.validator import load, validate

FOLDER = SCHEMAS.parent / "examples"
EXAMPLES = sorted(FOLDER.iterdir())


def test_each_kind_has_an_example_and_no_example_is_an_orphan() -> None:
    assert {path.name for path in EXAMPLES} == {f"{words_of(kind.__name__)}.json" for kind in LANE_OF}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_row_of_its_kind(path: Path) -> None:
    said = json.loads(path.read_text(encoding="utf-8"))
    told = from_cloudevent(said)
    assert words_of(type(told.event).__name__) == path.stem
    assert isinstance(told.event, KINDS[said["type"]])
    assert LANE_OF[type(told.event)] == told.lane
    assert to_cloudevent(told.gateway, told.epoch, told.lane, told.seq, told.record_us, told.event) == said
    validate(said, load(SCHEMAS / "cloudevent.json"), SCHEMAS / "cloudevent.json")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_looks_like_what_a_shop_tells(path: Path) -> None:
    told = from_cloudevent(json.loads(path.read_text(encoding="utf-8")))
    assert all(value != "" for value in told.event.__struct_fields__)
    assert 0 < told.event.event_time.wall_us <= told.record_us


def test_no_two_examples_stand_in_one_place() -> None:
    ids = [json.loads(path.read_text(encoding="utf-8"))["id"] for path in EXAMPLES]
    assert len(set(ids)) == len(ids)
