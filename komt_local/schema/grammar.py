"""A JSON Schema as a grammar in GBNF.

Properties come in the order in which the schema has them. White space is allowed where JSON allows
it, but bounded: a model that may write spaces for ever sometimes does.
https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .patterns import FORMATS, pattern_of_text
from .ranges import in_range
from .reading import (
    Schema,
    alternatives,
    as_schema,
    bad_schema,
    count,
    follow,
    merge,
    resolved,
    types_of,
)

_BASE = r"""
ws ::= | " " | "\n" [ \t]{0,20}
char ::= [^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
string ::= "\"" char* "\""
integer ::= "-"? ("0" | [1-9] [0-9]{0,15})
number ::= integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?
boolean ::= "true" | "false"
null ::= "null"
pair ::= string ws ":" ws value
object ::= "{" ws (pair (ws "," ws pair)* ws)? "}"
array ::= "[" ws (value (ws "," ws value)* ws)? "]"
value ::= object | array | string | number | boolean | null
"""
_SIMPLE = {"string", "integer", "number", "boolean", "null", "object", "array"}


def to_grammar(schema: Any) -> str:
    """The grammar of the JSON texts that the schema allows. Raises UsageError for what it is not.

    What a grammar cannot say (multiples, unique items, patterns that are not regular) is left to
    `check_answer`.
    """
    writer = _Writer(schema)
    try:
        root = writer.expression(schema)
    except RecursionError:
        raise bad_schema(
            "it is too deep, or a $ref in it leads back to itself",
            "너무 깊거나 $ref가 자기 자신으로 돌아옴",
        ) from None
    except (TypeError, AttributeError) as error:
        raise bad_schema(str(error), str(error)) from error
    rules = (f"{name} ::= {body}\n" for name, body in writer.rules.items())
    return f'root ::= " "? {root}\n{"".join(rules)}{_BASE}'


def quoted(text: str) -> str:
    """A literal of GBNF."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(char, char) for char in text) + '"'


class _Writer:
    """Writes rules for parts of a schema; a reference is one rule, so that it may be recursive."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._references: dict[str, str] = {}
        self.rules: dict[str, str] = {}

    def expression(self, schema: Any) -> str:
        """What stands for the schema on the right side of a rule."""
        found = as_schema(schema)
        if set(found) == {"$ref"}:
            return self._reference(found["$ref"])
        found = resolved(found, self._root)
        if (options := alternatives(found)) is not None:
            rest = {name: found[name] for name in found if name not in ("anyOf", "oneOf")}
            return self._any_of(self.expression(self._merged(rest, each)) for each in options)
        if "const" in found:
            return _literal(found["const"])
        if "enum" in found:
            return self._any_of(map(_literal, found["enum"]))
        types = types_of(found)
        return self._any_of(self._of_type(found, name) for name in types) if types else "value"

    def _merged(self, rest: Schema, option: Any) -> Schema:
        return merge(rest, resolved(option, self._root)) if rest else as_schema(option)

    def _reference(self, reference: str) -> str:
        if reference not in self._references:
            target = follow(reference, self._root)
            name = self._references[reference] = f"ref{len(self._references)}"
            self.rules[name] = ""  # its place, should it refer to itself
            self.rules[name] = self.expression(target)
        return self._references[reference]

    def _rule(self, body: str) -> str:
        name = f"r{len(self.rules)}"
        self.rules[name] = body
        return name

    def _any_of(self, expressions: Iterable[str]) -> str:
        found = list(dict.fromkeys(expressions))
        if not found:
            raise bad_schema("a choice in it has nothing to choose from", "고를 것이 없는 선택")
        return found[0] if len(found) == 1 else self._rule(" | ".join(found))

    def _of_type(self, schema: Schema, name: str) -> str:
        if name not in _SIMPLE:
            raise bad_schema(f"there is no type {name!r}", f"{name!r} 유형은 없음")
        if name == "object":
            return self._object(schema)
        if name == "array":
            return self._array(schema)
        if name == "string":
            return _string(schema)
        if name in ("integer", "number"):
            return in_range(schema, whole=name == "integer") or name
        return name

    def _object(self, schema: Schema) -> str:
        """One rule for each property and what may follow, with a comma in front of it or without.

        In `first` nothing was written yet, in `later` something was.
        """
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties", not properties)
        if not properties and others is True:
            return "object"
        more = self._rule(f'string ws ":" ws {self.expression(others)}') if others else ""
        later = f'(ws "," ws {more})*' if more else ""
        first = f"({more} {later})?" if more else ""
        required = schema.get("required", [])
        for name, inner in reversed(properties.items()):
            pair = f'{_literal(name)} ws ":" ws {self.expression(inner)}'
            here, with_comma = f"{pair} {later}", f'ws "," ws {pair} {later}'
            if name in required:
                first, later = self._rule(here), self._rule(with_comma)
            else:
                first = self._rule(" | ".join(filter(None, (here, first or '""'))))
                later = self._rule(" | ".join(filter(None, (with_comma, later or '""'))))
        return self._rule(f'"{{" ws {first} ws "}}"')

    def _array(self, schema: Schema) -> str:
        before = [self.expression(each) for each in schema.get("prefixItems", [])]
        items = schema.get("items", not before)
        least, most = count(schema, "minItems") or 0, count(schema, "maxItems", None)
        if not before and items is True and not least and most is None:
            return "array"
        if before:
            inner = ' ws "," ws '.join(before)
            rest = f' (ws "," ws {self.expression(items)})*' if items else ""
            return self._rule(f'"[" ws {inner}{rest} ws "]"')
        item = self.expression(items)
        times = _between(max(least - 1, 0), None if most is None else max(most - 1, 0))
        inner = f'{item} (ws "," ws {item}){times} ws' if most != 0 else ""
        return self._rule(f'"[" ws {inner if least else f"({inner})?"} "]"')


def _string(schema: Schema) -> str:
    """A pattern comes before lengths, which it mostly implies; the check has both."""
    pattern = schema.get("pattern", FORMATS.get(schema.get("format", "")))
    if pattern is not None and (text := pattern_of_text(pattern)) is not None:
        return f'"\\"" {text} "\\""'
    if {"minLength", "maxLength"} & set(schema):
        return f'"\\"" char{_times(schema, "Length")} "\\""'
    return "string"


def _times(schema: Schema, what: str) -> str:
    return _between(count(schema, f"min{what}") or 0, count(schema, f"max{what}", None))


def _between(least: int, most: int | None) -> str:
    return f"{{{least},{'' if most is None else most}}}"


def _literal(value: Any) -> str:
    return quoted(json.dumps(value, ensure_ascii=False))
