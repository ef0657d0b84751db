"""Tensors of a file whose values lie in the blocks of a ggml type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from komt_convert import ggml
from komt_convert.tensor_types import TensorType
from komt_convert.tensors import FloatArray, Packed, Tensor, read_at, stored_tensor


def block_tensor(
    path: Path, name: str, type_: TensorType, shape: tuple[int, ...], offset: int
) -> Tensor:
    """A tensor that begins `offset` bytes from the file's start; `shape` has the rows first.

    A `Packed` one unless its values are F32, F16 or BF16.
    """
    if type_.name in ("F32", "F16", "BF16"):
        return stored_tensor(path, name, type_.name, shape, offset)
    row_length = shape[-1]
    row_bytes = type_.row_bytes(row_length)

    def packed(start: int, stop: int) -> NDArray[np.uint8]:
        raw = read_at(path, offset + start * row_bytes, (stop - start) * row_bytes)
        return raw.reshape(stop - start, row_bytes)

    def read(start: int, stop: int) -> FloatArray:
        return ggml.dequantize(type_, packed(start, stop), row_length)

    return Packed(name, shape, type_.name, read, packed)
