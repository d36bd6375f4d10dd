"""Definitions: read whole or refused whole, and one that is refused harms no other."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.baskets import Maker
from gateway import rules
from gateway.rules.definitions import (
    KINDS,
    MOST_B,
    Campaign,
    CampaignError,
    Grace,
    Hours,
    Items,
    Limits,
    Rule,
    Window,
    encode_campaign,
    read_campaign,
    read_campaigns,
)
from gateway.rules.pricing import Ask, StationAsks, read_asks
from gateway.rules.reasons import REASONS
from scripts.contract import FOLDER
from tests.contract.validator import Invalid, load, validate
from tests.gateway.rules.offers import BOGO, definition, offer, problem

SPEND = {"kind": "minimum_spend", "minimum_minor": 1000, "off_minor": 100}
SCHEMA = FOLDER / "campaign.json"


def random_campaign(seed: int) -> dict[str, Any]:
    maker = Maker(seed)
    return maker.campaign(7)


def test_there_is_a_kind_for_each_rule_and_no_other() -> None:
    assert {one.__struct_config__.tag for one in Rule.__args__} == set(KINDS)


def test_an_unknown_kind_is_refused_and_the_nearest_is_named() -> None:
    found = problem({"kind": "by_one_get_one"})
    assert "by_one_get_one" in found.problem
    assert "`buy_one_get_one`" in found.hint
    assert found.campaign == 1
    assert "update" in problem({"kind": "lucky_wheel"}).hint


def test_one_unknown_kind_stops_no_other_campaign() -> None:
    read = read_campaigns([definition(BOGO, 1), definition({"kind": "lucky_wheel", "spins": 3}, 2), definition(SPEND, 3)])
    assert [one.campaign for one in read.good] == [1, 3]
    assert [(one.place, one.campaign) for one in read.problems] == [(1, 2)]


@pytest.mark.parametrize(
    "more",
    [
        {"colour": "red"},
        {"rule": BOGO | {"max_pears": 3}},
        {"rule": BOGO | {"items": {"sku": ["A"]}}},
        {"window": {"weekday": [1]}},
        {"limits": {"per_week": 1}},
        {"grace": {"seconds": 5}},
    ],
)
def test_an_unknown_field_is_refused_wherever_it_stands(more: dict[str, Any]) -> None:
    found = problem(**({"rule": BOGO} | more))
    assert "unknown field" in found.problem
    assert (found.campaign, bool(found.hint)) == (1, True)


@pytest.mark.parametrize(
    "more",
    [
        {"rounding": "up"},
        {"currency": "EUR"},
        {"campaign": 0},
        {"version": 0},
        {"title_zh": ""},
        {"priority": 1001},
        {"trigger": "code"},
        {"code": "WELCOME10"},
        {"trigger": "code", "code": "welcome"},
        {"trigger": "code", "code": "WELCOME10\n"},
        {"rule": {"kind": "face_value"}},
        {"rule": {"kind": "item_voucher"}},
        {"rule": SPEND | {"percent_off": 5}},
        {"rule": {"kind": "minimum_spend", "minimum_minor": 1000}},
        {"rule": SPEND | {"max_off_minor": 5}},
        {"rule": {"kind": "minimum_spend", "minimum_minor": 1000, "percent_off": 5, "max_times": 2}},
        {"rule": {"kind": "nth_at_percent", "n": 1, "percent_off": 50}},
        {"rule": {"kind": "nth_at_percent", "n": 2, "percent_off": 101}},
        {"rule": BOGO | {"max_pairs": 1.5}},
        {"window": {"first_day": "2026-12-01", "last_day": "2026-11-30"}},
        {"window": {"extra_days": ["2026-12-01"], "excluded_days": ["2026-12-01"]}},
        {"window": {"hours": [{"begin": "10:00", "end": "10:00"}]}},
        {"window": {"hours": [{"begin": "24:00", "end": "10:00"}]}},
        {"window": {"hours": [{"begin": "10:60", "end": "11:00"}]}},
        {"window": {"last_day": "2026-02-30"}},
        {"window": {"last_day": "1999-02-01"}},
        {"window": {"weekdays": [8]}},
    ],
)
def test_a_definition_that_contradicts_itself_is_refused_with_the_next_step(more: dict[str, Any]) -> None:
    found = problem(**({"rule": BOGO} | more))
    assert found.problem and found.hint


def test_what_has_to_be_said_is_never_guessed() -> None:
    whole = json.loads(definition(BOGO))
    for name in whole:
        assert isinstance(read_campaign(json.dumps({key: value for key, value in whole.items() if key != name}).encode()), CampaignError)


def test_of_two_with_one_number_the_higher_version_is_served() -> None:
    for definitions in ([definition(BOGO, version=2), definition(SPEND)], [definition(SPEND), definition(BOGO, version=2)]):
        read = read_campaigns(definitions)
        assert [(one.kind, one.version) for one in read.good] == [("buy_one_get_one", 2)]
        assert [one.campaign for one in read.problems] == [1]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_campaign_or_an_error(data: bytes) -> None:
    for found in (read_campaign(data), *read_campaigns([data]).problems):
        assert isinstance(found, CampaignError) and found.problem and found.hint


@given(st.integers(0, 2**32), st.data())
@settings(deadline=None)
def test_a_definition_with_something_torn_out_or_put_in_never_raises(seed: int, data: st.DataObject) -> None:
    text = json.dumps(random_campaign(seed)).encode()
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    torn = text[:begin] + data.draw(st.binary(max_size=8)) + text[end:]
    assert isinstance(read_campaign(torn), Campaign | CampaignError)


def test_nesting_and_length_have_an_end() -> None:
    deep = b'{"campaign":' * 200_000
    assert isinstance(read_campaign(deep[:MOST_B]), CampaignError)
    assert "more than" in read_campaign(b" " * (MOST_B + 1)).problem  # type: ignore[union-attr]


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_a_definition_comes_back_from_its_bytes_and_fits_the_contract(seed: int) -> None:
    said = random_campaign(seed)
    read = read_campaign(json.dumps(said).encode())
    assert isinstance(read, Campaign)
    assert read_campaign(encode_campaign(read)) == read
    validate(json.loads(encode_campaign(read)), load(SCHEMA), SCHEMA)
    validate(said, load(SCHEMA), SCHEMA)
    with pytest.raises(Invalid):
        validate(said | {"rule": {"kind": "lucky_wheel"}}, load(SCHEMA), SCHEMA)


def test_defaults_are_not_written_so_older_releases_can_read_what_they_know() -> None:
    said = json.loads(encode_campaign(offer(BOGO)))
    assert said.keys() == {"campaign", "version", "title_zh", "title_en", "currency", "rounding", "rule"}
    assert said["rule"] == BOGO


def test_a_shop_is_concerned_if_it_is_named_or_none_is() -> None:
    assert offer(BOGO).is_for(7)
    assert (offer(BOGO, stores=[8, 9]).is_for(7), offer(BOGO, stores=[8, 9]).is_for(9)) == (False, True)


def test_every_error_can_be_told_as_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(problem({"kind": "?"})))["hint"]


# ---------------------------------------------------------------- what docs/campaigns.md says

PAGE = (FOLDER.parents[1] / "docs" / "campaigns.md").read_text(encoding="utf-8")
BLOCKS = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)]


def test_every_example_on_the_page_is_what_it_says() -> None:
    whole = [block for block in BLOCKS if "rule" in block]
    assert all(isinstance(read_campaign(json.dumps(block).encode()), Campaign) for block in whole) and whole
    for rule in (block for block in BLOCKS if "kind" in block):
        assert offer(rule, trigger="voucher" if rule["kind"] == "face_value" else "automatic").kind == rule["kind"]
    assert {block["kind"] for block in BLOCKS if "kind" in block} == set(KINDS)
    (asked,) = (block for block in BLOCKS if "asks" in block)
    read = read_asks(json.dumps(asked).encode(), StationAsks)
    assert all(getattr(read.asks[0], name) for name in Ask.__struct_fields__)


def test_every_field_is_on_the_page() -> None:
    for shape in (Campaign, Window, Grace, Limits, Items, Hours, *Rule.__args__):
        for name in shape.__struct_fields__:
            assert f"`{name}`" in PAGE or f'"{name}"' in PAGE, name


def test_the_page_says_why_not_in_the_words_of_the_screens() -> None:
    said = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.partition("## Why not")[2], re.MULTILINE))
    files = [Path(rules.__file__).parent / name for name in ("campaign.py", "limits.py", "windows.py")]
    engine = "".join(path.read_text(encoding="utf-8") for path in files)
    given = {name for name in REASONS if f'"{name}"' in engine}
    assert said.keys() == given and len(given) > 18
    for name, words in said.items():
        reason = REASONS[name]
        assert words == f"{reason.text.zh}。{reason.next_step.zh} | {reason.text.en}. {reason.next_step.en}"
