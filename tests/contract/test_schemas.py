"""The contract's schemas say what the code says, and what they say is true of every row."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cloudevents import to_cloudevent, words_of
from gateway.events import LANE_OF, Row
from scripts.contract import FOLDER, MESSAGES, main, texts
from tests.contract.validator import Invalid, load, validate
from tests.gateway.rows import PLACES, ROWS

EVENT = FOLDER / "cloudevent.json"


def fits(said: Any) -> bool:
    try:
        validate(said, load(EVENT), EVENT)
    except Invalid:
        return False
    return True


def test_the_schemas_are_those_of_the_code() -> None:
    differing = [str(path) for path, text in texts() if not path.exists() or path.read_text(encoding="utf-8") != text]
    assert differing == [], "run `python -m scripts.contract`"


def test_no_schema_is_an_orphan() -> None:
    assert {path for path in FOLDER.rglob("*") if path.is_file()} == {path for path, _ in texts()}
    assert main(["--check"]) == 0


def test_there_is_one_for_each_row_and_message() -> None:
    assert {path.stem for path in (FOLDER / "rows").iterdir()} == {words_of(kind.__name__) for kind in LANE_OF}
    assert {path.stem for path in (FOLDER / "messages").iterdir()} == set(MESSAGES)


@given(place=PLACES, event=ROWS)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_every_row_fits_its_schema(place: tuple[str, str, int, int, int], event: Row) -> None:
    said = json.loads(json.dumps(to_cloudevent(*place, event)))
    validate(said, load(EVENT), EVENT)


@given(place=PLACES, event=ROWS, data=st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_row_without_a_field_or_with_a_wrong_one_does_not_fit(
    place: tuple[str, str, int, int, int], event: Row, data: st.DataObject
) -> None:
    said = json.loads(json.dumps(to_cloudevent(*place, event)))
    required = set(load(FOLDER / "rows" / f"{words_of(type(event).__name__)}.json")["required"])
    name = data.draw(st.sampled_from(sorted(required)))
    assert not fits(said | {"data": {key: value for key, value in said["data"].items() if key != name}})
    assert not fits(said | {"data": said["data"] | {name: [[["no field of any row is this"]]]}})
    assert not fits(said | {"type": "store-gateway.unheard-of.v1"})
    assert not fits(said | {"stray": 1})


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.json")), ids=lambda path: path.stem)
def test_a_schema_uses_only_words_the_tests_understand(path: Path) -> None:
    schema = load(path)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == path.name
    with pytest.raises(Invalid):
        validate("no message is a text", schema, path)
