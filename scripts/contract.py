"""Writes `contract/schemas/` and `contract/vectors/` from the code: `python -m scripts.contract` writes, `--check` only says what differs.

One schema for each row (the `data` of its CloudEvent), one for the CloudEvent around it, one for each message of the road as it is
under its seal, and one for a campaign's definition, which travels in a document. What the code calls a tuple is an array here; times
are what `gateway.events.Instant` says.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from cloud_bridge.envelope import Chunk, Header, Want
from gateway.cloudevents import SEQUENCE_DIGITS, SPEC, type_of, words_of
from gateway.events import LANE_OF
from gateway.rules.definitions import Campaign
from gateway.signed import Ack, Ask, Beat, BeatAnswered, Claim, Claimed, Document, Lend, Manifest, Recall, Renew, Renewed
from scripts import vectors

FOLDER: Final = Path(__file__).resolve().parents[1] / "contract" / "schemas"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MESSAGES: Final[dict[str, type[msgspec.Struct]]] = {
    "ack": Ack,
    "ask": Ask,
    "batch-header": Header,
    "beat": Beat,
    "beat-answered": BeatAnswered,
    "chunk": Chunk,
    "claim": Claim,
    "claimed": Claimed,
    "document": Document,
    "lend": Lend,
    "manifest": Manifest,
    "recall": Recall,
    "renew": Renew,
    "renewed": Renewed,
    "want": Want,
}


def row_schema(kind: type[Any]) -> dict[str, Any]:
    """What the `data` of a row's CloudEvent may be."""
    schema = _with_definitions(kind)
    schema["properties"].pop("type")
    schema["required"].remove("type")
    return {"$schema": DIALECT, "$id": f"{words_of(kind.__name__)}.json", **schema}


def message_schema(name: str) -> dict[str, Any]:
    """What a message of the road may be, under its seal."""
    return {"$schema": DIALECT, "$id": f"{name}.json", **_with_definitions(MESSAGES[name])}


def campaign_schema() -> dict[str, Any]:
    """What a campaign's definition may be."""
    return {"$schema": DIALECT, "$id": "campaign.json", **_with_definitions(Campaign)}


def cloudevent_schema() -> dict[str, Any]:
    """What a row's CloudEvent may be."""
    text, number = {"type": "string"}, {"type": "string", "pattern": "^-?[0-9]+$"}
    properties: dict[str, Any] = {
        "specversion": {"const": SPEC},
        "id": text | {"pattern": "^[A-Za-z0-9_-]{1,64}/[012]/[0-9]+$", "description": "EPOCH/LANE/SEQ"},
        "source": text | {"pattern": "^[A-Za-z0-9_-]{1,64}$", "description": "The gateway's name"},
        "type": {"enum": sorted(type_of(kind.__name__) for kind in LANE_OF)},
        "time": text | {"description": "When it happened, RFC 3339; left out where no calendar has that day"},
        "datacontenttype": {"const": "application/json"},
        "epoch": text | {"pattern": "^[A-Za-z0-9_-]{1,64}$", "description": "One start of the box: NUMBER-NONCE"},
        "lane": {"enum": [0, 1, 2], "description": "0 money and lockers, 1 foot traffic, 2 health"},
        "sequence": text | {"pattern": f"^[0-9]{{{SEQUENCE_DIGITS}}}$", "description": "Number within epoch and lane, from 1"},
        "recordtime": number | {"description": "When it was written, microseconds since 1970 UTC by the box's clock"},
        "timetrust": {"enum": [0, 1, 2], "description": "Of the box's clock: 0 agrees with HQ, 1 uncontradicted, 2 not to be believed"},
        "retimed": {"const": True, "description": "`time` is what HQ learned later; `data.event_time` is what the box's clock said"},
        "data": {"type": "object"},
    }
    choices = [
        {"properties": {"type": {"const": type_of(kind.__name__)}, "data": {"$ref": f"rows/{words_of(kind.__name__)}.json"}}}
        for kind in LANE_OF
    ]
    return {
        "$schema": DIALECT,
        "$id": "cloudevent.json",
        "title": "A row as a CloudEvent",
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in ("time", "retimed")],
        "additionalProperties": False,
        "anyOf": choices,
    }


def texts() -> Iterator[tuple[Path, str]]:
    """Every file and what belongs in it."""
    yield FOLDER / "cloudevent.json", _written(cloudevent_schema())
    yield FOLDER / "campaign.json", _written(campaign_schema())
    for kind in LANE_OF:
        yield FOLDER / "rows" / f"{words_of(kind.__name__)}.json", _written(row_schema(kind))
    for name in MESSAGES:
        yield FOLDER / "messages" / f"{name}.json", _written(message_schema(name))


def _with_definitions(kind: type[Any]) -> dict[str, Any]:
    (reference,), definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    schema = dict(definitions.pop(reference["$ref"].rpartition("/")[2]))
    if definitions:
        schema["$defs"] = {name: definitions[name] for name in sorted(definitions)}
    return schema


def _written(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write, or look."""
    parser = argparse.ArgumentParser(prog="python -m scripts.contract", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file differs from the code")
    asked = parser.parse_args(arguments)
    wanted = dict([*texts(), *vectors.texts()])
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    orphans = [path for path in FOLDER.rglob("*.json") if path not in wanted]
    for path in [*differing, *orphans]:
        print(path.relative_to(FOLDER.parent))
    if asked.check:
        return 1 if differing or orphans else 0
    for path in differing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    for path in orphans:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
