"""A JSON Schema as it is read: its text, references within it, and its parts put together."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from ..errors import UsageError

Schema = Mapping[str, Any]

_UNSUPPORTED = (
    "not", "if", "then", "else", "patternProperties", "propertyNames", "contains",
    "dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties",
    "$dynamicRef",
)  # fmt: skip
_MOST_CHARACTERS = 1 << 18


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and (isinstance(value, int) or math.isfinite(value))


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except (re.error, RecursionError, OverflowError):
        return False


# What the values of keywords must be, where something else would only be noticed at the end.
_VALUES: Mapping[str, Callable[[Any], bool]] = {
    "minimum": _is_number,
    "maximum": _is_number,
    "exclusiveMinimum": _is_number,
    "exclusiveMaximum": _is_number,
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "pattern": _is_pattern,
    "format": lambda value: isinstance(value, str),
    "minProperties": _is_number,
    "maxProperties": _is_number,
    "properties": lambda value: isinstance(value, Mapping),
    "required": lambda value: isinstance(value, list),
    "enum": lambda value: isinstance(value, list),
    "prefixItems": lambda value: isinstance(value, list),
    "allOf": lambda value: isinstance(value, list),
}


def read_schema(text: str) -> Any:
    """A schema from JSON text. Raises UsageError for what is none."""
    if len(text) > _MOST_CHARACTERS:
        most = f"{_MOST_CHARACTERS:,}"
        raise bad_schema(
            f"{len(text):,} characters, at most {most}", f"{len(text):,}자, 최대 {most}"
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_schema(*_of_json(error)) from error


def _of_json(error: Exception) -> tuple[str, str]:
    if isinstance(error, RecursionError):
        return "it is too deep", "너무 깊음"
    return f"it is no JSON: {error}", f"JSON이 아님: {error}"


def bad_schema(en: str, ko: str) -> UsageError:
    """What to say of a schema; `en` and `ko` are the reason, for the inside of the sentence."""
    return UsageError(
        f"The JSON schema cannot be used ({en}); correct it.",
        f"JSON 스키마를 쓸 수 없습니다({ko}). 고치세요.",
    )


def _bad_value(name: str, value: Any) -> UsageError:
    shown = json.dumps(value, ensure_ascii=False)
    return bad_schema(f"{name} is {shown}", f"{name} 값이 {shown}")


def as_schema(schema: Any) -> Schema:
    """`true` allows everything, as an empty schema does. Raises UsageError for what is none."""
    if schema is True:
        return {}
    if not isinstance(schema, Mapping):
        shown = json.dumps(schema, ensure_ascii=False)
        raise bad_schema(f"{shown} is no schema", f"{shown}: 스키마가 아님")
    for name in _UNSUPPORTED:
        if name in schema:
            raise bad_schema(
                f"the keyword {name!r} is not supported", f"{name!r} 키워드는 지원하지 않음"
            )
    for name, is_right in _VALUES.items():
        if name in schema and not is_right(schema[name]):
            raise _bad_value(name, schema[name])
    return schema


def follow(reference: Any, root: Any) -> Any:
    """What a `$ref` within the schema names: `#`, or `#/…` as a JSON pointer."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise bad_schema(
            f"$ref {reference!r} is not within the schema",
            f"$ref {reference!r}: 스키마 밖을 가리킴",
        )
    found = root
    for part in reference.split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            raise bad_schema(
                f"$ref {reference!r} leads nowhere", f"$ref {reference!r}: 가리키는 곳이 없음"
            )
    return found


def alternatives(schema: Schema) -> list[Any] | None:
    """The schemas of `anyOf` or `oneOf`; None where there is neither."""
    for name in ("anyOf", "oneOf"):
        if name in schema:
            if not isinstance(schema[name], list) or not schema[name]:
                raise bad_schema(f"{name} is no list of schemas", f"{name}: 스키마 목록이 아님")
            return list(schema[name])
    return None


def merge(one: Schema, other: Schema) -> Schema:
    """One schema that asks for what both do; where both say something else, the second counts."""
    merged = {**one, **other}
    for name in ("properties", "$defs"):
        if name in one and name in other:
            merged[name] = {**one[name], **other[name]}
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


def resolved(schema: Any, root: Any) -> Schema:
    """The schema with its own `$ref` followed and its `allOf` put together."""
    found = as_schema(schema)
    if "$ref" in found:
        rest = {name: value for name, value in found.items() if name != "$ref"}
        found = merge(resolved(follow(found["$ref"], root), root), rest)
    if "allOf" in found:
        parts = found["allOf"]
        found = {name: value for name, value in found.items() if name != "allOf"}
        for part in parts:
            found = merge(found, resolved(part, root))
    return found


def types_of(schema: Schema) -> list[str]:
    """The types that it allows; empty for any."""
    said = schema.get("type")
    if said is None:
        return ["object"] if "properties" in schema else ["array"] if _is_array(schema) else []
    return [str(each) for each in (said if isinstance(said, list) else [said])]


def _is_array(schema: Schema) -> bool:
    return "items" in schema or "prefixItems" in schema


def count(schema: Schema, name: str, default: int | None = 0) -> int | None:
    """A length: a whole number, or what holds without one."""
    value = schema.get(name, default)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise _bad_value(name, value)
    return value
