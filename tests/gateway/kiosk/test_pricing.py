"""Pricing over a real socket."""

from typing import Any

import msgspec
import pytest

from gateway.events import DevicePaired, DeviceSeen
from gateway.signed import Document
from tests.gateway.kiosk.conftest import Shop
from tests.gateway.rules.offers import BOGO, definition

LINE = {"line_id": "1", "sku": "LATTE", "quantity": 2, "unit_minor": 120}
ASK: dict[str, Any] = {"basket": {"currency": "TWD", "lines": [LINE]}}
BODY: dict[str, Any] = {"station": "counter", "asks": [ASK]}


@pytest.fixture
def offers(shop: Shop) -> None:
    definitions = [msgspec.Raw(definition(BOGO, title_zh="買一送一")), msgspec.Raw(definition({"kind": "lucky_wheel"}, 2))]
    shop.desk.catalog.apply(Document("gw-1", "campaigns", 1, 0, campaigns=definitions))


@pytest.mark.usefixtures("offers")
async def test_a_till_sees_what_campaigns_come_to(shop: Shop) -> None:
    answer = await shop.client.post("/v1/price", json=BODY)
    assert answer.status_code == 200
    (priced,) = answer.json()["priced"]
    assert (priced["off_minor"], priced["to_pay_minor"], priced["adjustments"][0]["title"]["zh"]) == (120, 120, "買一送一")
    assert [one["campaign"] for one in answer.json()["problems"]] == [2]


@pytest.mark.usefixtures("offers")
async def test_pricing_decides_and_keeps_nothing(shop: Shop) -> None:
    bodies = {(await shop.client.post("/v1/price", json=BODY)).content for _ in range(3)}
    assert (len(bodies), shop.desk.presented) == (1, [])
    assert {type(row) for row in shop.desk.rows} <= {DevicePaired, DeviceSeen}


async def test_only_who_stands_at_the_station_may_ask(shop: Shop) -> None:
    assert (await shop.client.post("/v1/price", json=BODY | {"station": "cellar"})).json()["error"] == "unknown_station"
    shop.client.cookies.clear()
    answer = await shop.client.post("/v1/price", json=BODY)
    assert (answer.status_code, answer.json()["error"]) == (401, "not_paired")


@pytest.mark.parametrize(
    "body",
    [{}, BODY | {"asks": []}, BODY | {"phone": "0912345678"}, {"station": "counter", "asks": [ASK] * 101}, [], BODY | {"asks": [{}]}],
)
async def test_bad_input_is_answered_in_words(shop: Shop, body: Any) -> None:
    answer = await shop.client.post("/v1/price", json=body)
    assert answer.status_code == 422
    found = answer.json()
    assert found["error"] == "bad_input" and found["message"]["zh"] and found["next_step"]["en"]
    assert "0912345678" not in answer.text


async def test_two_lines_of_one_name_are_told_by_their_place(shop: Shop) -> None:
    doubled = {"basket": {"currency": "TWD", "lines": [LINE, LINE]}}
    answer = await shop.client.post("/v1/price", json=BODY | {"asks": [ASK, doubled]})
    assert answer.status_code == 422
    assert "asks[1]" in answer.json()["fields"][0]["problem"]


async def test_the_shapes_are_in_the_openapi_document(shop: Shop) -> None:
    document = (await shop.client.get("/v1/openapi.json")).json()
    operation = document["paths"]["/v1/price"]["post"]
    named = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    shapes = document["components"]["schemas"]
    assert shapes[named]["properties"]["asks"]["maxItems"] == 100
    assert {"Priced", "Adjustment", "Refused", "Basket"} <= shapes.keys()
