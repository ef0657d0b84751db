"""Small arithmetic of ggml's K-quants on whole arrays, in float32 as there."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from komt_convert.tensors import FloatArray

F = np.float32


def nearest(numbers: FloatArray) -> NDArray[np.int32]:
    """`nearest_int` of ggml, for infinity and NaN too."""
    bits = (numbers + F(12582912)).view(np.int32)
    return (bits & 0x7FFFFF) - 0x400000


def half(numbers: FloatArray) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        return numbers.astype(np.float16)


def affine_steps(first: float, step: float, numbers: Iterable[int], high: int) -> FloatArray:
    """`first + step * i + high` for each i, each operation rounded as in C."""
    return np.array([F(first) + F(step) * F(i) + F(high) for i in numbers], F)


def signed_steps(half: int) -> FloatArray:
    """What `make_qx_quants` tries: the plain number first, then 0.9 less to 0.9 more."""
    others = (-(F(half) + F(0.1) * F(i)) for i in range(-9, 10) if i)
    return np.array([F(-half), *others], F)


def largest_in_magnitude(scales: FloatArray) -> FloatArray:
    """The first number of each row that is largest in magnitude; zero if all are, or are NaN."""
    sizes = np.where(np.abs(scales) > 0, np.abs(scales), F(0))
    largest: FloatArray = scales[np.arange(len(scales)), sizes.argmax(axis=1)]
    return np.where(np.isnan(largest), F(0), largest)
