"""Metadata of a GGUF file: a mapping from keys to values whose types are explicit.

GGUF distinguishes u32 from i32 from f32, and readers insist on the type they expect, so a Python
number alone is not a value here: `u32(32)`, `f32(1e-5)`, `texts(pieces)`. The order of the mapping
is the order in the file. This module knows no keys and no bytes; `writer` encodes, `gguf_file`
reads. Types and numbers: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = Sequence[Any] | NDArray[Any]


class ValueType(IntEnum):
    """The type numbers of GGUF metadata values."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12


@dataclass(frozen=True, slots=True)
class Value:
    """One value; when `element` is given, `type` is ARRAY and `data` a sequence of that type."""

    type: ValueType
    data: Any
    element: ValueType | None = None


Metadata = dict[str, Value]


def u32(number: int) -> Value:
    return Value(ValueType.U32, int(number))


def u64(number: int) -> Value:
    return Value(ValueType.U64, int(number))


def i32(number: int) -> Value:
    return Value(ValueType.I32, int(number))


def f32(number: float) -> Value:
    return Value(ValueType.F32, float(number))


def flag(value: bool) -> Value:
    return Value(ValueType.BOOL, bool(value))


def text(value: str) -> Value:
    return Value(ValueType.STRING, value)


def texts(values: Iterable[str | bytes]) -> Value:
    """An array of strings; `bytes` go into the file as they are."""
    return Value(ValueType.ARRAY, list(values), ValueType.STRING)


def f32s(values: Array) -> Value:
    return Value(ValueType.ARRAY, values, ValueType.F32)


def i32s(values: Array) -> Value:
    return Value(ValueType.ARRAY, values, ValueType.I32)


def u32s(values: Array) -> Value:
    return Value(ValueType.ARRAY, values, ValueType.U32)


def flags(values: Array) -> Value:
    return Value(ValueType.ARRAY, values, ValueType.BOOL)
