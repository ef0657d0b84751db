"""Whether a text is JSON that a schema allows: the last word on an answer.

The grammar has kept the answer's form; here stands what it cannot say (`multipleOf`, `uniqueItems`,
patterns that are not regular, lengths beside a pattern), and all the rest once more. Of `format`,
dates, times and UUIDs are checked. Patterns are ECMA 262's: `\\d` and `\\w` are ASCII.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import AnswerError
from .patterns import FORMATS
from .reading import Schema, alternatives, resolved, types_of

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool)
        and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
}

_LIMITS: dict[str, tuple[type | tuple[type, ...], Callable[[Any, Any], bool]]] = {
    "minimum": ((int, float), lambda value, limit: value >= limit),
    "maximum": ((int, float), lambda value, limit: value <= limit),
    "exclusiveMinimum": ((int, float), lambda value, limit: value > limit),
    "exclusiveMaximum": ((int, float), lambda value, limit: value < limit),
    "multipleOf": ((int, float), lambda value, limit: float(value / limit).is_integer()),
    "minLength": (str, lambda value, limit: len(value) >= limit),
    "maxLength": (str, lambda value, limit: len(value) <= limit),
    "pattern": (str, lambda value, limit: re.search(limit, value, re.ASCII) is not None),
    "format": (str, lambda value, name: _has_format(value, name)),
    "minItems": (list, lambda value, limit: len(value) >= limit),
    "maxItems": (list, lambda value, limit: len(value) <= limit),
    "uniqueItems": (list, lambda value, wanted: not wanted or len(_keys(value)) == len(value)),
    "minProperties": (dict, lambda value, limit: len(value) >= limit),
    "maxProperties": (dict, lambda value, limit: len(value) <= limit),
}  # fmt: skip


def _has_format(value: str, name: str) -> bool:
    return name not in FORMATS or re.search(FORMATS[name], value) is not None


def check_answer(text: str, schema: Any) -> None:
    """Raises AnswerError for a text that is no JSON, or none that the schema allows."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_as_asked(f"{error}") from error
    for problem in problems(value, schema, schema):
        raise _not_as_asked(problem)


def _not_as_asked(why: str) -> AnswerError:
    return AnswerError(
        f"The answer is not the JSON that was asked for ({why}); ask again, or allow a longer "
        "answer with -n/--max-tokens (max_tokens).",
        f"답이 요청한 JSON이 아닙니다({why}). 다시 묻거나 -n/--max-tokens(max_tokens)로 더 긴 "
        "답을 허용하세요.",
    )


def problems(value: Any, schema: Any, root: Any, path: str = "$") -> Iterator[str]:
    """What is wrong with a value, each as a place and the keyword that it breaks."""
    if schema is False:
        yield f"{path}: false"
        return
    found = resolved(schema, root)
    yield from _own_problems(value, found, path)
    if (options := alternatives(found)) is not None:
        fitting = sum(not any(problems(value, option, root, path)) for option in options)
        if not fitting or ("oneOf" in found and fitting > 1):
            yield f"{path}: {'oneOf' if 'oneOf' in found else 'anyOf'}"
    if isinstance(value, dict):
        yield from _of_properties(value, found, root, path)
    if isinstance(value, list):
        yield from _of_items(value, found, root, path)


def _own_problems(value: Any, schema: Schema, path: str) -> Iterator[str]:
    types = types_of(schema) if "type" in schema else []
    if types and not any(_TYPES[name](value) for name in types):
        yield f"{path}: type {', '.join(types)}"
    if "const" in schema and _key(value) != _key(schema["const"]):
        yield f"{path}: const"
    if "enum" in schema and _key(value) not in map(_key, schema["enum"]):
        yield f"{path}: enum"
    for name, (kinds, holds) in _LIMITS.items():
        is_meant = isinstance(value, kinds) and not isinstance(value, bool)
        if name in schema and is_meant and not holds(value, schema[name]):
            yield f"{path}: {name} {schema[name]}"


def _of_properties(value: dict[str, Any], schema: Schema, root: Any, path: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    yield from (f"{path}: required {n}" for n in schema.get("required", []) if n not in value)
    others = schema.get("additionalProperties", True)
    for name, inner in value.items():
        yield from problems(inner, properties.get(name, others), root, f"{path}.{name}")


def _of_items(value: list[Any], schema: Schema, root: Any, path: str) -> Iterator[str]:
    before = schema.get("prefixItems", [])
    for n, inner in enumerate(value):
        each = before[n] if n < len(before) else schema.get("items", True)
        yield from problems(inner, each, root, f"{path}[{n}]")


def _keys(values: list[Any]) -> set[str]:
    return {_key(value) for value in values}


def _key(value: Any) -> str:
    """JSON values are equal when these are: 1 and true are not."""
    return json.dumps(value, sort_keys=True)
