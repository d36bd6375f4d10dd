"""The OpenAPI document: the verbs of money, which the framework does not know, and what every route may refuse.

Refusals have one shape (`Problem`): what is wrong and the next step, in both languages.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from msgspec import Struct

from gateway.core.devices import DeviceView
from gateway.core.views import OrderView, Screen, StoreView
from gateway.kiosk.api import JSON, StationView
from gateway.kiosk.members import Alerts, MemberAnswer, MemberAsked
from gateway.kiosk.pos import MARK_HEADER
from gateway.kiosk.shown import Outcome
from gateway.kiosk.verbs import KEY_HEADER, VERBS, Verb
from gateway.rules.answers import Answer
from gateway.rules.pricing import PriceAnswer, StationAsks
from gateway.rules.reasons import Text


class FieldProblem(Struct):
    """A field that is wrong; its value is never repeated."""

    field: str
    problem: str


class Problem(Struct):
    """Why a request was refused before anything was decided. `error` is a stable key."""

    error: str
    message: Text
    next_step: Text
    fields: list[FieldProblem] | msgspec.UnsetType = msgspec.UNSET


REFERENCE: Final = "#/components/schemas/{name}"
SHAPES: Final = (
    Answer,
    StoreView,
    Screen,
    StationView,
    OrderView,
    DeviceView,
    Problem,
    StationAsks,
    PriceAnswer,
    MemberAsked,
    MemberAnswer,
    Alerts,
    Outcome,
    *(verb.body for verb in VERBS),
)
EVERYWHERE: Final = {
    400: "Not a request this box serves: another host's name, or a request that is cut short.",
    403: "The box, the device or the page that asks may not.",
    404: "There is no such thing.",
    500: "A fault of the box. What was decided before it stands: ask again with the same key.",
    503: "The box cannot serve for now: nothing was decided, or its answer is not on the disk yet. Ask again with the same key.",
}
WITH_BODY: Final = {
    408: "The body took longer than 10 s to arrive.", 413: "The body is above 64 kB; nothing of it was read.",
    422: "The body is not as described, or the key belongs to another request.",
}  # fmt: skip
WITH_KEY: Final = {401: "Nobody this box knows asks: no device's key, no person signed in.", 429: "Too often: wait `Retry-After` seconds."}
OPEN_PATHS: Final = frozenset({"/healthz", "/v1/store", "/v1/store/events", "/v1/stations/{name}", "/v1/stations/{name}/events"})
STREAM: Final = "text/event-stream"


def describe(app: FastAPI) -> None:
    """Have the application's document say all that."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = made()
        for verb in VERBS:
            document["paths"][verb.path] = {"post": _operation(verb)}
        for path, method, operation in _operations(document):
            _add_refusals(path, method, operation)
        components = document.setdefault("components", {})
        _, shapes = msgspec.json.schema_components(SHAPES, ref_template=REFERENCE)
        components.setdefault("schemas", {}).update(shapes)
        for name in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(name, None)  # this box says `Problem`
        components["securitySchemes"] = {
            "device": {"type": "http", "scheme": "bearer", "description": "A till's key, from pairing."},
            "browser": {"type": "apiKey", "in": "cookie", "name": "device_STATION", "description": "A screen's key, from pairing."},
            "person": {"type": "apiKey", "in": "cookie", "name": "staff", "description": "A signed-in person."},
        }  # fmt: skip
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _operation(verb: Verb) -> dict[str, Any]:
    with_key = [] if verb.name == "validate" else [KEY_HEADER]
    headers = [
        {
            "name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string"},
            "description": "Instead of the field in the body: 32 hex digits or a UUID.",
        }
        for _ in with_key
    ]  # fmt: skip
    who = ", ".join(sorted(verb.who))
    mark = {"description": "A till keeps it and sends it with its next request; it vouches for the box.", "schema": {"type": "string"}}
    answer = {"description": "Decided, and on the disk. A refusal is an answer too: `decision` is then `refused`."}
    return {
        "tags": ["money"], "summary": verb.summary, "operationId": verb.name,
        "description": f"{verb.more} May be asked by: {who}. Needs the key of a device paired with the station, or a person.".strip(),
        "security": [{"device": []}, {"browser": []}, {"person": []}],
        "parameters": headers,
        "requestBody": {"required": True, "content": {JSON: {"schema": _reference(verb.body)}}},
        "responses": {
            "200": {**answer, "content": {JSON: {"schema": _reference(Answer)}}, "headers": {MARK_HEADER: mark}},
        },
    }  # fmt: skip


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def _add_refusals(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    may = EVERYWHERE | (WITH_BODY if method != "get" else {}) | (WITH_KEY if path not in OPEN_PATHS else {})
    if "{" in path:
        may |= {422: WITH_BODY[422]}
    for status, why in may.items():
        responses[str(status)] = {"description": why, "content": {JSON: {"schema": _reference(Problem)}}}
        if status == 429:
            responses["429"]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    if path.endswith("/events"):
        responses["200"]["content"] = {STREAM: {"schema": {"type": "string"}}}


def _reference(kind: type[Struct]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(name=kind.__name__)}
