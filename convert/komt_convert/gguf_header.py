"""What the header of a GGUF file says: metadata, and where the tensors lie.

Plain values without any reading or checking, which is `gguf_file`'s. Needs the standard library
only.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, overload

from komt_convert.metadata import ValueType
from komt_convert.tensor_types import TensorType

CODES = {
    ValueType.U8: "B",
    ValueType.I8: "b",
    ValueType.U16: "H",
    ValueType.I16: "h",
    ValueType.U32: "I",
    ValueType.I32: "i",
    ValueType.F32: "f",
    ValueType.BOOL: "?",
    ValueType.U64: "Q",
    ValueType.I64: "q",
    ValueType.F64: "d",
}
"""The struct code of every value of a fixed size."""

_LENGTH = struct.Struct("<Q")


class Array(Sequence[Any]):
    """An array of metadata, decoded when it is first looked into."""

    def __init__(self, block: bytes, start: int, length: int, element: ValueType) -> None:
        self.element = element
        self._block, self._start, self._length = block, start, length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._values[index]

    @cached_property
    def _values(self) -> tuple[Any, ...]:
        if self.element is ValueType.STRING:
            return tuple(raw.decode("utf-8", "replace") for raw in self.raw())
        code = f"<{self._length}{CODES[self.element]}"
        return struct.unpack_from(code, self._block, self._start)

    def raw(self) -> list[bytes]:
        """The strings as bytes, which need not be UTF-8."""
        block, position, strings = self._block, self._start, []
        for _ in range(self._length):
            end = position + 8 + _LENGTH.unpack_from(block, position)[0]
            strings.append(block[position + 8 : end])
            position = end
        return strings


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies.

    `shape` is in GGUF order, the row length first; `offset` is in bytes from the file's start.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def n_elements(self) -> int:
        return prod(self.shape)

    @property
    def n_bytes(self) -> int:
        return self.type.row_bytes(self.n_elements)


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about itself.

    Arrays of `metadata` are `Array`s, the rest is plain; `kinds` has the types of its values.
    """

    path: Path
    size: int
    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    kinds: Mapping[str, ValueType] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The value of general.architecture; empty if there is none."""
        name = self.metadata.get("general.architecture", "")
        return name if isinstance(name, str) else ""

    def of_architecture(self, key: str, default: Any = None) -> Any:
        """The value of `<architecture>.<key>`."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    @property
    def n_parameters(self) -> int:
        return sum(tensor.n_elements for tensor in self.tensors)
