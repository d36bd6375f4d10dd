"""As much of JSON Schema 2020-12 as the contract's schemas use; a word it does not know is an error, not a pass."""

import re
from pathlib import Path
from typing import Any, Final

import msgspec

TYPES: Final[dict[str, Any]] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
}  # fmt: skip
SILENT: Final = frozenset({"$schema", "$id", "$defs", "title", "description", "default", "contentEncoding", "discriminator"})


class Invalid(Exception):
    """A value that its schema does not allow; the message names the place."""


def load(path: Path) -> dict[str, Any]:
    """A schema from its file."""
    return dict(msgspec.json.decode(path.read_bytes()))


def validate(value: Any, schema: Any, path: Path, root: dict[str, Any] | None = None, at: str = "$") -> None:
    """Look whether a schema allows a value.

    Args:
        path: The schema's file, which relative references start from.

    Raises:
        Invalid: It does not.
    """
    root = schema if root is None else root
    if isinstance(schema, bool):
        _want(schema, at, "nothing is allowed here")
        return
    unknown = schema.keys() - SILENT - CHECKS.keys() - {"additionalProperties", "items"}
    assert not unknown, f"the schema at {at} uses {unknown}"
    for word, check in CHECKS.items():
        if word in schema:
            check(value, schema, path, root, at)


def _want(true: bool, at: str, why: str) -> None:
    if not true:
        raise Invalid(f"{at}: {why}")


def _type(value: Any, schema: dict[str, Any], path: Path, root: dict[str, Any], at: str) -> None:
    wanted = schema["type"]
    fits = isinstance(value, TYPES[wanted]) and not (isinstance(value, bool) and wanted in ("integer", "number"))
    _want(fits, at, f"{type(value).__name__} is no {wanted}")


def _reference(value: Any, schema: dict[str, Any], path: Path, root: dict[str, Any], at: str) -> None:
    file, _, inner = schema["$ref"].partition("#")
    if file:
        path = path.parent / file
        root = load(path)
    found: Any = root
    for name in filter(None, inner.split("/")):
        found = found[name]
    validate(value, found, path, root, at)


def _any_of(value: Any, schema: dict[str, Any], path: Path, root: dict[str, Any], at: str) -> None:
    why = []
    for choice in schema["anyOf"]:
        try:
            validate(value, choice, path, root, at)
        except Invalid as error:
            why.append(str(error))
        else:
            return
    raise Invalid(f"{at}: fits none of {len(why)}: {why[:3]}")


def _properties(value: Any, schema: dict[str, Any], path: Path, root: dict[str, Any], at: str) -> None:
    for name, inner in schema["properties"].items():
        if isinstance(value, dict) and name in value:
            validate(value[name], inner, path, root, f"{at}.{name}")


def _object(value: Any, schema: dict[str, Any], path: Path, root: dict[str, Any], at: str) -> None:
    _type(value, schema, path, root, at)
    if schema["type"] == "object" and "additionalProperties" in schema:
        for name in value.keys() - schema.get("properties", {}).keys():
            validate(value[name], schema["additionalProperties"], path, root, f"{at}.{name}")
    if schema["type"] == "array" and "items" in schema:
        for number, inner in enumerate(value[len(schema.get("prefixItems", [])) :]):
            validate(inner, schema["items"], path, root, f"{at}[{number}]")


def _prefix(value: Any, schema: dict[str, Any], path: Path, root: dict[str, Any], at: str) -> None:
    for number, (inner, item) in enumerate(zip(schema["prefixItems"], value, strict=False)):
        validate(item, inner, path, root, f"{at}[{number}]")


def _is_of_format(value: Any, name: str) -> bool:
    assert name == "date"
    return isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value) is not None


CHECKS: Final[dict[str, Any]] = {
    "type": _object,
    "$ref": _reference,
    "anyOf": _any_of,
    "properties": _properties,
    "prefixItems": _prefix,
    "required": lambda value, schema, path, root, at: _want(
        set(schema["required"]) <= value.keys(), at, f"lacks {set(schema['required']) - value.keys()}"
    ),
    "enum": lambda value, schema, path, root, at: _want(value in schema["enum"], at, f"{value!r} is none of {schema['enum']}"),
    "const": lambda value, schema, path, root, at: _want(value == schema["const"], at, f"{value!r} is not {schema['const']!r}"),
    "pattern": lambda value, schema, path, root, at: _want(bool(re.search(schema["pattern"], value)), at, f"{value!r}"),
    "minimum": lambda value, schema, path, root, at: _want(value >= schema["minimum"], at, "too little"),
    "maximum": lambda value, schema, path, root, at: _want(value <= schema["maximum"], at, "too much"),
    "minLength": lambda value, schema, path, root, at: _want(len(value) >= schema["minLength"], at, "too short"),
    "maxLength": lambda value, schema, path, root, at: _want(len(value) <= schema["maxLength"], at, "too long"),
    "format": lambda value, schema, path, root, at: _want(_is_of_format(value, schema["format"]), at, f"no {schema['format']}"),
    "minItems": lambda value, schema, path, root, at: _want(len(value) >= schema["minItems"], at, "too few"),
    "maxItems": lambda value, schema, path, root, at: _want(len(value) <= schema["maxItems"], at, "too many"),
}
