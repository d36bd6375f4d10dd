"""Masked names, and the words of both languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.hq.documents import masked
from cloud_bridge.hq.words import LANGUAGES, locale


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("陳小明", "陳○明"),
        ("王明", "王○"),
        ("歐陽小明", "歐○○明"),
        ("林", "林○"),
        ("Ann Lee", "A○○ L○○"),
        ("A", "A○"),
        (" 陳小明 ", "陳○明"),
    ],
)
def test_a_masked_name_is_known_to_its_owner_only(name: str, shown: str) -> None:
    assert masked(name) == shown


@given(st.text(min_size=1).filter(str.strip))
def test_no_name_stays_whole(name: str) -> None:
    assert masked(name) != name.strip()
    assert "○" in masked(name)


def test_both_languages_say_the_same_things() -> None:
    first, second = (locale(language) for language in LANGUAGES)
    assert first.keys() == second.keys()
    fields = {key: sorted(part for part in text.split("{")[1:] if part) for key, text in first.items()}
    for key in fields:
        assert {part.partition("}")[0] for part in fields[key]} - {"station"} <= {p.partition("}")[0] for p in second[key].split("{")[1:]}


def test_every_row_type_has_words() -> None:
    from gateway.events import LANE_OF

    said = " ".join(locale("en"))
    silent = {kind.__name__ for kind in LANE_OF if f"event.{kind.__name__}" not in said}
    assert silent == {"OccupancyEstimated"}
