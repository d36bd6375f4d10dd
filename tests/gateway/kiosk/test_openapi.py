"""The OpenAPI document keeps its word: whatever is sent, each answer is one it describes, and none is a fault of the server.

Beside schemathesis (`test_schemathesis`), which knows shapes only: bodies, parameters and headers that mean something to this shop, from
the document's own schemas, then bent; statuses, media types and shapes of the answers held against it.
"""

import json
import random
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.config import GatewayConfig, TillTable
from gateway.kiosk.app import make_app
from gateway.kiosk.verbs import VERBS
from gateway.rules.reasons import REASONS
from tests.conftest import VirtualClock
from tests.contract.validator import Invalid, validate
from tests.gateway.core.shop import voucher_token
from tests.gateway.kiosk.real_shop import PIN, Doors, open_doors

ODD: list[Any] = [None, True, -1, 0, 1.5, 2**64, "", "x", "\x00", "名" * 50, "a" * 5_000, [], {}, [[]], {"a": 1}]
TRIES = 40  # of each operation and caller


@pytest.fixture
async def doors(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> AsyncIterator[Doors]:
    quick = msgspec.structs.replace(shop_config, till=TillTable(requests_per_s=100_000))
    async with open_doors(quick, clock) as opened:
        yield opened


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if "text/event-stream" not in operation["responses"]["200" if "200" in operation["responses"] else "201"]["content"]:
                yield method, path, operation


class Drawn:
    """Values that fit a schema, or nearly."""

    def __init__(self, document: dict[str, Any], chance: random.Random) -> None:
        self._document = document
        self._chance = chance

    def value(self, schema: dict[str, Any], name: str = "") -> Any:
        """One that fits."""
        while "$ref" in schema:
            schema = self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if "anyOf" in schema:
            return self.value(self._chance.choice(schema["anyOf"]), name)
        if "enum" in schema:
            return self._chance.choice(schema["enum"])
        kind = schema.get("type")
        if kind == "object":
            wanted = schema.get("required", [])
            chosen = [one for one in schema.get("properties", {}) if one in wanted or self._chance.random() < 0.7]
            return {one: self.value(schema["properties"][one], one) for one in chosen}
        if kind == "integer":
            return self._chance.randint(int(schema.get("minimum", 0)), min(int(schema.get("maximum", 10**6)), 10**6))
        return {"boolean": True, "null": None, "array": [], "number": 1.0}.get(str(kind), self.text(name, schema))

    def text(self, name: str, schema: dict[str, Any]) -> str:
        """Words that mean something here, as often as not."""
        hexes = secrets.token_hex(16)
        known = {
            "station": ["counter", "door", "cellar"], "code": [voucher_token(self._chance.randint(1, 20)).decode(), "x"],
            "presentation_id": [hexes], "key": [hexes], "staff_ref": ["s-1", "nobody"], "pin": [PIN, "1"], "name": ["counter", "x"],
            "symbology_id": ["]Q1", "]X0"], "order_id": ["00000000000002b", "x"], "bank": ["wall", "x"], "ask": ["x"],
            "device_id": ["d-1"], "Idempotency-Key": [hexes, "x"], "mark": ["", "x.y"],
        }.get(name)  # fmt: skip
        if known:
            return self._chance.choice(known)
        return "123456" if "[0-9]{6}" in schema.get("pattern", "") else "x" * max(1, schema.get("minLength", 1))

    def bent(self, value: Any) -> Any:
        """The same with something wrong in it, now and then."""
        if not isinstance(value, dict) or self._chance.random() < 0.5:
            return value
        name = self._chance.choice([*value, "stray"])
        if self._chance.random() < 0.3:
            return {key: kept for key, kept in value.items() if key != name}
        return value | {name: self._chance.choice(ODD)}


def check(document: dict[str, Any], operation: dict[str, Any], answer: httpx.Response, where: str) -> None:
    """Look whether the document told of this answer."""
    assert answer.status_code < 500, f"{where}: {answer.status_code}"
    described = operation["responses"].get(str(answer.status_code))
    assert described is not None, f"{where}: {answer.status_code} is not described"
    ((media, content),) = described["content"].items()
    assert answer.headers["content-type"].partition(";")[0] == media, where
    schema = _plain(content.get("schema", {}), document)
    try:
        validate(answer.json(), schema, Path(__file__), schema)
    except Invalid as error:
        raise AssertionError(f"{where}: {answer.status_code} is not as described: {error}") from error


def _plain(schema: Any, document: dict[str, Any]) -> Any:
    """A schema with its references replaced and the framework's words that check nothing left out."""
    if isinstance(schema, list):
        return [_plain(one, document) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    return {key: {name: _plain(one, document) for name, one in value.items()} if key == "properties" else _plain(value, document)
            for key, value in schema.items()}  # fmt: skip


@pytest.mark.slow
async def test_every_answer_to_anything_is_described_and_none_is_a_fault(doors: Doors) -> None:
    document = (await doors.nobody().http.get("/v1/openapi.json")).json()
    chance = random.Random(7)
    drawn, found = Drawn(document, chance), Counter[int]()
    callers = [await doors.till(), await doors.kiosk(), await doors.person("s-1"), await doors.person("s-2"), doors.nobody()]
    for method, path, operation in operations(document):
        for caller in callers:
            for _ in range(TRIES // len(callers)):
                answer = await _send(caller.http, method, path, operation, drawn, chance)
                check(document, operation, answer, f"{method} {path}")
                found[answer.status_code] += 1
    assert found[200] > 100 and found[422] > 100 and found[401] and found[403] and found[404], found
    await doors.shop.desk.prove()


async def _send(
    http: httpx.AsyncClient, method: str, path: str, operation: dict[str, Any], drawn: Drawn, chance: random.Random
) -> httpx.Response:
    filled = re.sub(r"\{(\w+)\}", lambda part: chance.choice([drawn.text(part[1], {}), "%00", "a" * 200]), path)
    headers = {one["name"]: drawn.text(one["name"], {}) for one in operation.get("parameters", []) if one["in"] == "header"}
    headers = {name: value for name, value in headers.items() if chance.random() < 0.2}
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is None:
        return await http.request(method, filled, headers=headers)
    raw = json.dumps(drawn.bent(drawn.value(body))).encode()
    if chance.random() < 0.05:
        raw = chance.choice([b"", b"{", b"\xff", b"[]", b"null", b" " * 70_000])
    return await http.request(method, filled, headers={**headers, "content-type": "application/json"}, content=raw)


async def test_the_document_names_every_route_and_its_refusals(doors: Doors) -> None:
    document = (await doors.nobody().http.get("/v1/openapi.json")).json()
    served = {path for route in make_app(doors.shop.desk).routes if (path := str(getattr(route, "path", ""))).startswith("/v1/")} - {
        "/v1/openapi.json"
    }
    assert served <= document["paths"].keys()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], path
            assert {"400", "403", "404", "503"} <= operation["responses"].keys(), (method, path)
            assert method == "get" or {"408", "413", "422", "429"} <= operation["responses"].keys(), (method, path)


async def test_another_method_is_refused_and_says_which_one_serves(doors: Doors) -> None:
    answer = await doors.nobody().http.get("/v1/capture")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_the_page_for_makers_of_tills_names_every_verb_and_who_may() -> None:
    text = (Path(__file__).parents[3] / "docs" / "pos.md").read_text(encoding="utf-8")
    said = {name: set(who.split(", ")) for name, who in re.findall(r"^\| `(\w+)` \| .+ \| ([a-z, ]+) \|$", text, re.MULTILINE)}
    assert said == {verb.name: set(verb.who) for verb in VERBS}
    reasons = {"held", "already_redeemed", "hold_expired", "exhausted", "amount_needed", "stock_out", "daily_stock_out", "session_full"}
    for reason in (*reasons, "outside_window"):
        assert reason in text and reason in REASONS
