"""Pricing from a request's bytes to the answer's."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MalformedFrame
from gateway.rules.definitions import read_campaigns
from gateway.rules.pricing import MOST_ASKS, Ask, Place, StationAsks, StoreAsks, answer, read_asks
from tests.gateway.rules.offers import BOGO, STORE, TAIPEI, at, definition

LINE = {"line_id": "1", "sku": "LATTE", "quantity": 2, "unit_minor": 120}
ASK: dict[str, Any] = {"basket": {"currency": "TWD", "lines": [LINE]}}
NOON = at("2026-11-22 12:00")
PLACE = Place(STORE, TAIPEI, NOON, NOON)


def body(*asks: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"station": "counter", "asks": asks} | more).encode()


def told(*asks: dict[str, Any], campaigns: bytes = b"") -> Any:
    read = read_asks(body(*asks), StationAsks)
    return json.loads(answer(read.asks, read_campaigns([campaigns or definition(BOGO)]), PLACE))


def test_each_ask_has_its_price_in_order() -> None:
    found = told(ASK, {"basket": {"currency": "TWD", "lines": [LINE | {"quantity": 1}]}}, ASK)
    assert [one["off_minor"] for one in found["priced"]] == [120, 0, 120]
    assert found["problems"] == []


def test_a_definition_that_is_refused_is_told_with_every_answer() -> None:
    found = told(ASK, campaigns=definition({"kind": "lucky_wheel"}))
    assert found["priced"][0]["off_minor"] == 0
    assert "lucky_wheel" in found["problems"][0]["problem"]


def test_another_moment_may_be_asked_for() -> None:
    sunday = definition(BOGO, window={"weekdays": [7]})
    moments = {None: 120, "2026-11-21 23:59": 0, "2026-11-22 23:59": 120}
    for moment, off in moments.items():
        asked = ASK | ({"at": {"earliest_us": at(moment), "latest_us": at(moment)}} if moment else {})
        assert told(asked, campaigns=sunday)["priced"][0]["off_minor"] == off, moment
    unsure = ASK | {"at": {"earliest_us": NOON, "latest_us": None}}
    assert told(unsure, campaigns=sunday)["priced"][0]["refused"][0]["reason"] == "time_untrusted"


@pytest.mark.parametrize(
    "asked",
    [
        {"basket": {"currency": "EUR", "lines": []}},
        {"basket": {"currency": "TWD", "lines": [LINE | {"quantity": 0}]}},
        {"basket": {"currency": "TWD", "lines": [LINE | {"quantity": 1.5}]}},
        {"basket": {"currency": "TWD", "lines": [LINE | {"unit_minor": -1}]}},
        {"basket": {"currency": "TWD", "lines": [LINE | {"unit_minor": 10**10}]}},
        {"basket": {"currency": "TWD", "lines": [LINE | {"colour": "red"}]}},
        {"basket": {"currency": "TWD", "lines": [LINE] * 101}},
        ASK | {"codes": ["lower"]},
        ASK | {"phone": "0912345678"},
        ASK | {"vouchers": [{"voucher_id": "v", "campaign": 0}]},
        ASK | {"at": {"earliest_us": -1, "latest_us": 1}},
        ASK | {"at": {"earliest_us": 1, "latest_us": 2**62}},
        {},
    ],
)
def test_what_is_no_ask_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(MalformedFrame) as caught:
        read_asks(body(asked), StationAsks)
    assert caught.value.hint


def test_a_batch_is_bounded_and_never_empty() -> None:
    assert len(read_asks(body(*[ASK] * MOST_ASKS), StationAsks).asks) == MOST_ASKS
    for count in (0, MOST_ASKS + 1):
        with pytest.raises(MalformedFrame):
            read_asks(body(*[ASK] * count), StationAsks)


def test_shop_and_headquarters_are_asked_with_their_own_place() -> None:
    assert read_asks(json.dumps({"store": "tpe-001", "asks": [ASK]}).encode(), StoreAsks).store == "tpe-001"
    with pytest.raises(MalformedFrame):
        read_asks(body(ASK), StoreAsks)


def test_a_basket_with_two_lines_of_one_name_is_named_by_its_place() -> None:
    doubled = {"basket": {"currency": "TWD", "lines": [LINE, LINE]}}
    with pytest.raises(MalformedFrame, match=r"asks\[1\]: two lines"):
        told(ASK, doubled)


@given(st.binary(max_size=300))
def test_any_bytes_are_malformed(data: bytes) -> None:
    for shape in (StationAsks, StoreAsks):
        with pytest.raises(MalformedFrame):
            read_asks(data, shape)  # type: ignore[type-var]


def test_nesting_without_end_is_malformed() -> None:
    with pytest.raises(MalformedFrame):
        read_asks(b'{"asks":' + b"[" * 60_000, StationAsks)


def test_the_largest_basket_has_sums_any_reader_of_json_holds() -> None:
    largest = msgspec.convert({"basket": {"currency": "TWD", "lines": [LINE | {"quantity": 999, "unit_minor": 10**9}] * 100}}, Ask)
    assert sum(line.quantity * line.unit_minor for line in largest.basket.lines) < 2**53
