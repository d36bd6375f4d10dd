"""Numbers of payment cards in what people and machines fill in: found wherever they stand, and goods are none."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codes import card_field, holds_card
from gateway.kiosk.guard import MAY_HOLD_CARD

CARD = "4111111111111111"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "written", [CARD, "4111 1111 1111 1111", "4111-1111-1111-1111", "４１１１１１１１１１１１１１１１", "王 4111 1111 1111 1111 先生"]
)
def test_a_card_is_found_however_it_is_written_and_named_by_its_field(written: str) -> None:
    body = {"customer": "王", "basket": {"lines": [{"sku": "A"}, {"sku": written}]}}
    assert holds_card(written)
    assert card_field(body) == "basket.lines.1.sku"
    for text in (json.dumps(body), json.dumps(body, ensure_ascii=False)):
        assert MAY_HOLD_CARD.search(text.encode())


@pytest.mark.parametrize(
    "harmless",
    [
        "4710088412416",
        "14710088412413",
        "4111111111111112",
        "a4111111111111111",
        "4111111111111111f",
        "0912-345-678",
        "2026-11-22 05:40:00",
    ],
)
def test_goods_identifiers_and_telephones_are_no_cards(harmless: str) -> None:
    assert not holds_card(harmless)


def test_what_has_a_reader_that_drops_cards_itself_is_left_to_it() -> None:
    assert card_field({"code": CARD, "codes": [CARD], "redemption_id": CARD}) is None
    assert card_field({CARD: 1}) == ""


@given(json_values)
def test_any_json_is_looked_at_to_its_end(value: object) -> None:
    found = card_field(value)
    assert found is None or isinstance(found, str)


@given(st.text(alphabet=string.ascii_letters + " -", max_size=12), st.integers(10**12, 10**19 - 1))
def test_what_is_found_in_the_tree_is_never_missed_by_the_first_look(before: str, number: int) -> None:
    text = f"{before} {number}"
    if holds_card(text):
        assert MAY_HOLD_CARD.search(json.dumps({"name": text}).encode())
