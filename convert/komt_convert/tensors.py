"""Tensors that are not read yet: a name, a shape, a dtype and a way to get at the rows.

A tensor here is a plan. Whatever happens to it on its way (a merge, a permutation, another name)
wraps `read` and leaves the values on disk until the writer asks for them. This module knows how
safetensors files lay values out; it knows neither architectures nor GGUF.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor by name, with `read(start, stop)` for a range of its rows.

    `shape` is in the order of Hugging Face and numpy (rows first). Rows are those of the tensor
    seen as a matrix `(n_rows, row_length)`; a one-dimensional tensor is one row. `read` returns a
    new or read-only C-contiguous float32 array of shape `(stop - start, row_length)`, exact for
    the dtypes F32, F16 and BF16, and may be called from several threads at once.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[int, int], FloatArray]

    @property
    def row_length(self) -> int:
        return self.shape[-1]

    @property
    def n_rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def n_elements(self) -> int:
        return prod(self.shape)
