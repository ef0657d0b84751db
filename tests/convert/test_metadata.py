"""Metadata values: explicit types, whatever was given."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGUFValueType

from komt_convert.metadata import (
    Value,
    ValueType,
    f32,
    f32s,
    flag,
    i32,
    i32s,
    text,
    texts,
    u32,
    u32s,
    u64,
)


def test_the_numbers_of_types_are_those_of_the_gguf_package() -> None:
    short = {"UINT": "U", "INT": "I", "FLOAT": "F"}
    for theirs in GGUFValueType:
        name = theirs.name
        for long, letter in short.items():
            name = letter + name.removeprefix(long) if name.startswith(long) else name
        assert ValueType[name] == theirs.value


@pytest.mark.parametrize(
    ("value", "kind", "data"),
    [
        (u32(np.int64(7)), ValueType.U32, 7),
        (u64(7), ValueType.U64, 7),
        (i32(-7), ValueType.I32, -7),
        (f32(1), ValueType.F32, 1.0),
        (flag(np.bool_(True)), ValueType.BOOL, True),
        (text("값"), ValueType.STRING, "값"),
    ],
)
def test_a_value_has_its_type(value: Value, kind: ValueType, data: object) -> None:
    assert (value.type, value.data, value.element) == (kind, data, None)
    assert type(value.data) is type(data)


@pytest.mark.parametrize(
    ("value", "element"),
    [
        (texts(word for word in ("a", b"\xff")), ValueType.STRING),
        (f32s([1.0, 2.0]), ValueType.F32),
        (i32s(np.arange(2)), ValueType.I32),
        (u32s((1, 2)), ValueType.U32),
    ],
)
def test_an_array_has_the_type_of_its_elements(value: Value, element: ValueType) -> None:
    assert (value.type, value.element, len(value.data)) == (ValueType.ARRAY, element, 2)
