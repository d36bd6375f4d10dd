"""The API over a real socket."""

import asyncio
import json
import secrets

import httpx
import pytest

from gateway.errors import LedgerError
from tests.gateway.kiosk.conftest import Shop
from tests.gateway.kiosk.desk_stand import CAKE, COFFEE, PICKUP


async def test_a_code_is_redeemed_once_and_the_second_time_refused_with_the_first_use(shop: Shop) -> None:
    first, second = await shop.redeem(COFFEE), await shop.redeem(COFFEE, "lockers")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["decision"] == "redeemed"
    refused = second.json()
    assert (refused["decision"], refused["reason"]) == ("refused", "already_redeemed")
    assert refused["before"]["station"] == "counter" and refused["before"]["read_point"] == "pos@counter"
    assert refused["next_step"]["zh"] and refused["next_step"]["en"]


async def test_a_retry_gets_the_same_bytes(shop: Shop) -> None:
    name = secrets.token_hex(16)
    bodies = {(await shop.redeem(CAKE, presentation_id=name)).content for _ in range(3)}
    assert len(bodies) == 1
    assert len(shop.desk.presented) == 1


async def test_two_stations_in_the_same_moment_redeem_once(shop: Shop) -> None:
    answers = await asyncio.gather(*(shop.redeem(CAKE, station) for station in ["counter", "lockers"] * 10))
    assert sorted(answer.json()["decision"] for answer in answers) == ["redeemed"] + ["refused"] * 19


@pytest.mark.parametrize("key", ["0" * 32, "A" * 32, "00000000-0000-4000-8000-00000000ABCD", '"' + "f" * 32 + '"'])
async def test_an_idempotency_key_serves_as_presentation_id(shop: Shop, key: str) -> None:
    body = {"station": "counter", "code": COFFEE}
    answers = [await shop.client.post("/v1/redeem", json=body, headers={"idempotency-key": key}) for _ in range(2)]
    assert answers[0].status_code == 200
    assert answers[0].content == answers[1].content
    assert shop.desk.presented[0].presentation_id == key.strip('"').replace("-", "").lower()


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        ({"station": "counter", "code": "x"}, {}, "id_missing"),
        ({"station": "counter", "code": "x"}, {"idempotency-key": "short"}, "id_missing"),
        ({"station": "counter", "code": "x", "presentation_id": "a" * 32}, {"idempotency-key": "b" * 32}, "id_differs"),
        ({"station": "counter", "code": "x", "presentation_id": "xyz"}, {}, "bad_input"),
        ({"station": "counter", "code": "", "presentation_id": "a" * 32}, {}, "bad_input"),
        ({"station": "counter", "code": "x" * 4297, "presentation_id": "a" * 32}, {}, "bad_input"),
        ({"station": "counter", "code": "券" * 2000, "presentation_id": "a" * 32}, {}, "bad_input"),
        ({"station": "counter", "code": "x", "presentation_id": "a" * 32, "symbology_id": "QR"}, {}, "bad_input"),
        ({"station": "counter", "code": "x", "presentation_id": "a" * 32, "amount": 1}, {}, "bad_input"),
        ({"code": "x", "presentation_id": "a" * 32}, {}, "bad_input"),
        ([], {}, "bad_input"),
    ],
)
async def test_bad_input_is_answered_in_words_and_decides_nothing(shop: Shop, body: object, headers: dict[str, str], error: str) -> None:
    answer = await shop.client.post("/v1/redeem", json=body, headers=headers)
    assert answer.status_code == 422
    found = answer.json()
    assert found["error"] == error
    assert found["message"]["zh"] and found["message"]["en"] and found["next_step"]["zh"]
    assert shop.desk.presented == []


async def test_bytes_that_are_no_json_and_text_that_is_no_text_are_refused(shop: Shop) -> None:
    headers = {"content-type": "application/json"}
    lone = b'{"station":"counter","code":"\\ud800","presentation_id":"' + b"a" * 32 + b'"}'
    for body in (b"{", b"\xff\xfe", b"null", lone):
        assert (await shop.client.post("/v1/redeem", content=body, headers=headers)).status_code == 422
    assert shop.desk.presented == []


async def test_a_problem_never_repeats_what_was_sent(shop: Shop) -> None:
    answer = await shop.client.post("/v1/redeem", json={"station": "counter", "code": "x", "presentation_id": "4111111111111111"})
    assert "4111111111111111" not in answer.text


async def test_an_unknown_station_is_404_everywhere(shop: Shop) -> None:
    assert (await shop.redeem(COFFEE, "cellar")).status_code == 404
    for path in ("/v1/stations/cellar", "/v1/stations/cellar/events", "/kiosk/cellar"):
        assert (await shop.client.get(path)).status_code == 404, path


async def test_an_id_used_for_another_code_is_422(shop: Shop) -> None:
    name = secrets.token_hex(16)
    await shop.redeem(COFFEE, presentation_id=name)
    answer = await shop.redeem(CAKE, presentation_id=name)
    assert (answer.status_code, answer.json()["error"]) == (422, "id_reused")


async def test_a_core_that_cannot_serve_says_so_calmly(shop: Shop) -> None:
    shop.desk.fails = LedgerError("disk I/O error at page 7")
    answer = await shop.redeem(COFFEE)
    assert (answer.status_code, answer.json()["error"]) == (503, "not_serving")
    assert "page 7" not in answer.text


async def test_a_bug_shows_no_trace(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.desk.fails = RuntimeError("secret detail")
    answer = await shop.redeem(COFFEE)
    assert answer.status_code == 500
    assert "secret" not in answer.text and "Traceback" not in answer.text
    assert answer.json()["message"]["zh"]
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "secret detail" in caplog.text


async def test_a_missing_page_is_calm_in_both_languages(shop: Shop) -> None:
    answer = await shop.client.get("/nothing-here")
    assert answer.status_code == 404
    assert "找不到此頁" in answer.text and "There is no such page" in answer.text
    assert (await shop.client.get("/v1/nothing")).json()["error"] == "not_found"
    assert (await shop.client.get("/v1/redeem")).status_code == 405


async def test_store_and_station_tell_what_core_tells(shop: Shop) -> None:
    await shop.redeem(PICKUP, "lockers")
    store = (await shop.client.get("/v1/store")).json()
    assert store["name_zh"] == "信義旗艦店"
    assert [door["state"] for door in store["compartments"]][6] == "pickup_opening"
    screen = (await shop.client.get("/v1/stations/lockers")).json()
    assert (screen["state"], screen["answer"]["compartment"]) == ("collecting", 7)
    assert (await shop.client.get("/healthz")).json() == {"status": "serving"}


async def test_openapi_describes_answers_and_every_reference_leads_somewhere(shop: Shop) -> None:
    document = (await shop.client.get("/v1/openapi.json")).json()
    assert {"/v1/redeem", "/v1/store", "/v1/staff/stage"} <= document["paths"].keys()
    shapes = document["components"]["schemas"]
    assert shapes["Answer"]["properties"]["decision"]
    for reference in set(_references(document)):
        assert reference.removeprefix("#/components/schemas/") in shapes, reference


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for inner in node.values() for found in _references(inner)]
    return [found for inner in node for found in _references(inner)] if isinstance(node, list) else []


async def test_a_client_that_goes_away_does_not_undo_a_decision(shop: Shop) -> None:
    shop.desk.hold = asyncio.Event()
    name = secrets.token_hex(16)
    with pytest.raises(httpx.ReadTimeout):
        body = {"station": "counter", "code": COFFEE, "presentation_id": name}
        await shop.client.post("/v1/redeem", json=body, timeout=0.3)
    shop.desk.hold.set()
    again = await shop.redeem(COFFEE, presentation_id=name)
    assert json.loads(again.content)["decision"] == "redeemed"
    assert len(shop.desk.presented) == 1
