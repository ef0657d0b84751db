"""JSON schemas: grammars by which llama.cpp takes what they allow and no more, and the check."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from komt_local.errors import AnswerError, UsageError
from komt_local.schema import check_answer, read_schema, to_grammar
from komt_local.schema.patterns import pattern_of_text

sys.path.insert(0, str(Path(__file__).parent.parent / "runtime"))

PERSON = {
    "type": "object",
    "properties": {
        "이름": {"type": "string", "minLength": 1, "maxLength": 5},
        "나이": {"type": "integer", "minimum": 0},
        "종류": {"enum": ["개", "고양이", "👍", 'a"\\b', None]},
    },
    "required": ["이름", "종류"],
}
TREE = {
    "$ref": "#/$defs/tree",
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {"v": {"type": "number"}, "c": {"items": {"$ref": "#/$defs/tree"}}},
            "required": ["v"],
        }
    },
}
LIST = {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}

# schema, texts that are allowed, texts whose form is not
CASES: list[tuple[Any, list[str], list[str]]] = [
    (
        PERSON,
        [
            '{"이름": "구름", "나이": 3, "종류": "개"}',
            '{"이름":"가","종류":null}',
            '{\n  "이름": "가",\n  "종류": "👍"\n}',
            r'{"이름": "\n", "종류": "a\"\\b"}',
        ],
        [
            '{"이름": "구름"}',
            '{"종류": "개", "이름": "구름"}',
            '{"이름": "", "종류": "개"}',
            '{"이름": "가나다라마바", "종류": "개"}',
            '{"이름": "가", "종류": "소"}',
            '{"이름": "가", "종류": "개", "키": 1}',
            '{"이름": "가", "나이": 1.5, "종류": "개"}',
            '{"이름": "\n", "종류": "개"}',
        ],
    ),
    (TREE, ['{"v":1}', '{"v":-2.5e3,"c":[{"v":1},{"v":0,"c":[]}]}'], ['{"c":[]}', '{"v":01}']),
    (LIST, ["[true]", "[true, false,true]"], ["[]", "[true,]", "[1]", "[true,true,true,true]"]),
    ({"type": "array", "items": {"const": "네"}, "maxItems": 0}, ["[]", "[ ]"], ['["네"]']),
    ({"type": "array", "minItems": 2}, ["[1, {}]"], ["[1]"]),
    (
        {"prefixItems": [{"type": "string"}, {"type": "null"}]},
        ['["가", null]'],
        ['["가"]', '["가",null,1]'],
    ),
    ({"anyOf": [{"type": "string"}, LIST]}, ['"가"', "[false]"], ["1", "[]"]),
    ({"oneOf": [{"const": 1}, {"const": "1"}]}, ["1", '"1"'], ["2"]),
    (
        {"type": "object", "properties": {"a": {"type": "null"}}, "anyOf": [{"required": ["a"]}]},
        ['{"a":null}'],
        ["{}"],
    ),
    (
        {"allOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"b": {"const": 1}}}]},
        ["{}", '{"a":null,"b":1}', '{"b":1}', '{"a":null}'],
        ['{"b":1,"a":null}', '{"b":2}'],
    ),
    (
        {"properties": {"a": {"type": "null"}}, "additionalProperties": {"type": "integer"}},
        ["{}", '{"a":null}', '{"나":1}', '{"a":null,"나":1,"다":2}'],
        ['{"나":"1"}'],
    ),
    ({"type": ["integer", "null"]}, ["0", "-7", "null"], ["1.0", "true"]),
    ({"type": "object"}, ["{}", '{"a": {"b": []}}'], ["[]"]),
    ({}, ["{}", "1", '"가"', "[null]"], ["가", ""]),
    (True, ["{}"], ["{"]),
]


CASES += [
    (
        {"type": "integer", "minimum": 0, "maximum": 130},
        ["0", "7", "99", "100", "130"],
        ["-1", "131", "1000", "00", "1.5"],
    ),
    (
        {"type": "integer", "minimum": -12, "exclusiveMaximum": 3},
        ["-12", "-9", "-1", "0", "2"],
        ["-13", "3", "10"],
    ),
    ({"type": "integer", "exclusiveMinimum": 9.5}, ["10", "999", "12345"], ["9", "0", "-10"]),
    ({"type": "integer", "maximum": -205}, ["-205", "-999", "-1000"], ["-204", "0", "-99", "205"]),
    (
        {"type": "number", "minimum": 0, "maximum": 1},
        ["0", "0.5", "1", "1.0", "0.999"],
        ["-0.1", "1.1", "2", "1.01", "5e-1"],
    ),
    (
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100},
        ["0.01", "3", "99.99"],
        ["0", "0.0", "100", "-1"],
    ),
    (
        {"type": "number", "minimum": -1.25, "maximum": 36.5},
        ["-1.25", "-1.2", "-1", "-0.3", "0", "36.5", "36.49", "36.4", "35.9"],
        ["-1.26", "-1.3", "-2", "36.51", "36.6", "37"],
    ),
    ({"type": ["number", "null"], "minimum": 3.75}, ["3.75", "3.8", "4", "null"], ["3.7", "-4"]),
    (
        {"type": "string", "pattern": "^[가-힣]{2,4}$"},
        ['"홍길"', '"남궁민수"'],
        ['"홍"', '"a나"', '"가나다라마"', '""'],
    ),
    (
        {"type": "string", "pattern": r"^010-\d{4}-\d{4}$"},
        ['"010-1234-5678"'],
        ['"010-123-5678"', '"011-1234-5678"', '"010-1234-56789"'],
    ),
    ({"type": "string", "pattern": "월|화"}, ['"월요일"', '"화"', '"수월"'], ['"수요일"', '""']),
    ({"type": "string", "pattern": "^(네|아니(오|요)?)$"}, ['"네"', '"아니요"'], ['"아"', '"예"']),
    ({"type": "string", "pattern": "^a|b$"}, ['"ab"', '"ax"', '"xb"'], ['"xa"', '"bx"']),
    ({"type": "string", "pattern": r'^"\\\n\t?$'}, [r'"\"\\\n"', r'"\"\\\n\t"'], [r'"\""', '"n"']),
    (
        {"type": "string", "pattern": r"^[^a-z\s]+$"},
        ['"가나\U0001f44d"', r'"\""'],
        ['"a"', '"가 나"'],
    ),
    ({"type": "string", "pattern": r"^.\w\.[\]^-]$"}, ['"가_.]"', '"-a.^"'], ['"가가.]"', '"a.-"']),
    ({"type": "string", "pattern": r"^(?:\u0041|\x42){2}?$"}, ['"AB"', '"BB"'], ['"A"', '"C"']),
    (
        {"type": "string", "format": "date"},
        ['"2026-11-20"'],
        ['"2026-13-01"', '"20-11-20"', '"2026-11-20 "'],
    ),
    ({"type": "string", "format": "date-time"}, ['"2026-11-20T09:30:00+09:00"'], ['"2026-11-20"']),
    ({"type": "string", "format": "korean-name"}, ['"홍길동"'], ["1"]),
]


class Acceptor:
    """Whether llama.cpp's grammar lets a text through, byte by byte, and then the end."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._bytes = {b: model_byte(b) for b in range(256)}

    def __call__(self, grammar: str, text: str) -> bool:
        from komt_local.llama.grammar import Grammar
        from komt_local.llama.library import native

        walk = Grammar(self._model, grammar)
        try:
            for byte in text.encode():
                if not walk._allows(self._bytes[byte]):
                    return False
                native().llama_sampler_accept(walk._pointer, self._bytes[byte])
            return walk._allows(self._model.eos)
        finally:
            walk.close()


def model_byte(byte: int) -> int:
    from runtime_models import token_ids

    return token_ids(f"<0x{byte:02X}>")[0]


@pytest.fixture(scope="module")
def accepts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acceptor]:
    from runtime_models import write_random

    from komt_local import llama

    path = write_random(tmp_path_factory.mktemp("schema") / "model.gguf", n_layer=1)
    model = llama.load(path)
    yield Acceptor(model)
    model.close()


@pytest.mark.parametrize(("schema", "allowed", "refused"), CASES)
def test_the_grammar_allows_what_the_schema_does(
    accepts: Acceptor, schema: Any, allowed: list[str], refused: list[str]
) -> None:
    grammar = to_grammar(schema)
    for text in allowed:
        check_answer(text, schema)
        assert accepts(grammar, text), text
        assert accepts(grammar, " " + text)
    for text in refused:
        assert not accepts(grammar, text), text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def schema_of(value: Any) -> dict[str, Any]:
    """A schema that allows the value: its types, all the way down."""
    if isinstance(value, dict):
        inner = {name: schema_of(each) for name, each in value.items()}
        return {"type": "object", "properties": inner, "required": list(value)}
    if isinstance(value, list):
        return {"type": "array", "prefixItems": [schema_of(each) for each in value]}
    kinds = {bool: "boolean", int: "integer", str: "string", type(None): "null"}
    return {"type": kinds[type(value)]}


@given(value=VALUES)
@settings(max_examples=60, deadline=None)
def test_every_value_is_allowed_by_its_own_schema(accepts: Acceptor, value: Any) -> None:
    for schema in (schema_of(value), {"const": value}, {}):
        text = json.dumps(value, ensure_ascii=False)
        check_answer(text, schema)
        assert accepts(to_grammar(schema), text)


@given(
    bounds=st.lists(st.integers(-1200, 1200), min_size=2, max_size=2).map(sorted),
    number=st.integers(-1300, 1300),
)
@settings(max_examples=60, deadline=None)
def test_a_whole_number_is_let_through_where_it_lies_in_its_range(
    accepts: Acceptor, bounds: list[int], number: int
) -> None:
    schema = {"type": "integer", "minimum": bounds[0], "maximum": bounds[1]}
    assert accepts(to_grammar(schema), str(number)) == (bounds[0] <= number <= bounds[1])
    open_above = {"type": "integer", "minimum": bounds[0]}
    assert accepts(to_grammar(open_above), str(number)) == (bounds[0] <= number)
    open_below = {"type": "integer", "exclusiveMaximum": bounds[1]}
    assert accepts(to_grammar(open_below), str(number)) == (number < bounds[1])


HUNDREDTHS = st.integers(-300, 300).map(lambda n: n / 100)


@given(bounds=st.lists(HUNDREDTHS, min_size=2, max_size=2).map(sorted), number=HUNDREDTHS)
@settings(max_examples=100, deadline=None)
def test_a_number_in_its_range_is_let_through(
    accepts: Acceptor, bounds: list[float], number: float
) -> None:
    """One outside is not, but where both ends have digits after the same whole part."""
    least, most = bounds
    allowed = accepts(
        to_grammar({"type": "number", "minimum": least, "maximum": most}), f"{number:.2f}"
    )
    inside = least <= number <= most
    assert allowed if inside else not allowed or int(least) == int(most) == int(number)


PIECES = st.sampled_from(
    ["가", "[가-힣]", "[^가b]", ".", "(가|나다)", r"\d", r"\.", '"', "(?:b가?)", r"\W", r"[\w-]"]
)
PATTERNS = st.lists(
    st.tuples(PIECES, st.sampled_from(["", "?", "*", "+", "{2}", "{1,2}"])).map("".join), max_size=4
).map("".join)


@given(
    pattern=st.tuples(st.sampled_from(["", "^"]), PATTERNS, st.sampled_from(["", "$"])).map(
        "".join
    ),
    text=st.text('가나다b1."\\-', max_size=5),
)
@settings(max_examples=150, deadline=None)
def test_a_text_is_let_through_where_its_pattern_is_found(
    accepts: Acceptor, pattern: str, text: str
) -> None:
    schema = {"type": "string", "pattern": pattern}
    found = re.search(pattern, text, re.ASCII) is not None
    assert accepts(to_grammar(schema), json.dumps(text, ensure_ascii=False)) == found


@pytest.mark.parametrize(
    "pattern",
    [r"(a)\1", "(?=a)a", r"\ba", "(?i)a", "(a*)*", "(a{99}){99}", "a$b", "(^a)", "(?P<x>a)", "a*+"],
)
def test_a_pattern_without_a_grammar_is_left_to_the_check(accepts: Acceptor, pattern: str) -> None:
    schema = {"type": "string", "pattern": pattern}
    assert pattern_of_text(pattern) is None
    assert accepts(to_grammar(schema), '"나"')
    with pytest.raises(AnswerError, match="pattern"):
        check_answer('"나"' if pattern != "(a*)*" else '"나" ', schema | {"pattern": pattern + "b"})


@pytest.mark.parametrize(
    ("schema", "text", "problem"),
    [
        (PERSON, '{"이름": "가", "나이": -1, "종류": "개"}', r"\$\.나이: minimum 0"),
        (PERSON, '{"이름": "가"}', r"required 종류"),
        (PERSON, '{"이름": "가", "종류": "개"', "delimiter"),
        ({"multipleOf": 0.5}, "0.75", "multipleOf"),
        ({"pattern": "^[가-힣]+$"}, '"a"', "pattern"),
        ({"items": {"type": "integer"}}, '[1, "a"]', r"\$\[1\]: type integer"),
        ({"uniqueItems": True}, "[1, true, 1]", "uniqueItems"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, "5", "oneOf"),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, "1", "anyOf"),
        ({"const": 1}, "true", "const"),
        ({"exclusiveMaximum": 3}, "3", "exclusiveMaximum"),
        ({"type": "object", "additionalProperties": False}, '{"a": 1}', r"\$\.a: false"),
        ({"type": "integer"}, "1e999", "type"),
    ],
)
def test_what_no_grammar_can_say_is_checked(schema: Any, text: str, problem: str) -> None:
    with pytest.raises(AnswerError, match=problem) as error:
        check_answer(text, schema)
    assert "JSON" in error.value.ko


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "1",
        '{"type": "strange"}',
        '{"$ref": "http://example.org/x"}',
        '{"$ref": "#/$defs/none"}',
        '{"allOf": [{"$ref": "#"}]}',
        '{"not": {}}',
        '{"pattern": "("}',
        '{"multipleOf": 0}',
        '{"minLength": -1, "type": "string"}',
        '{"enum": []}',
        '{"properties": []}',
        '{"type": "integer", "minimum": 3, "maximum": 2}',
        '{"type": "integer", "minimum": 2.1, "maximum": 2.9}',
        '{"type": "number", "exclusiveMinimum": 2, "maximum": 2}',
        '{"minimum": NaN}',
        '{"type": "number", "maximum": Infinity}',
        '{"format": 3}',
        '{"type": "object", "properties": {"a": false}}',
        '{"anyOf": []}',
        '{"items":' * 2000 + "1" + "}" * 2000,
        '"' + "x" * (1 << 18) + '"',
    ],
)
def test_a_bad_schema_is_named_in_a_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="The JSON schema cannot be used"):
        to_grammar(read_schema(text))
