"""ggml's bytes, several times sooner: K-quants and Q8_0 with Numba where that gives the same.

ggml's kernel does the work of every other type, and of all of them without Numba, for little data,
and where a check at first use finds a byte that differs (as on a processor for which ggml was
compiled with fused multiplications). `choose` decides; nothing here imports Numba before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from komt_convert import ggml
from komt_convert.tensor_types import TensorType
from komt_convert.tensors import FloatArray

Maker = Literal["numba", "ggml"]
Quantize = Callable[[FloatArray], NDArray[np.uint8]]

WORTHWHILE = 1 << 25
"""So many values take ggml a second or two, which is what compiling costs the first time."""
_EASY = {"Q8_0": 16}
"""So many values of these take ggml as long as one of another type."""

TYPES = {
    "Q2_K": "q2_k",
    "Q3_K": "q3_k",
    "Q4_K": "q4_k",
    "Q5_K": "q5_k",
    "Q6_K": "q6_k",
    "Q8_0": "q8_0",
}
"""Types that have a kernel here, and its module."""
_CHECKED_BLOCKS = 2048


@dataclass(frozen=True, slots=True)
class Kernels:
    """What quantizes each type: Numba's for those in `numba`, ggml's for the rest."""

    numba: Mapping[str, Quantize]

    def quantize(
        self, type_: TensorType, rows: FloatArray, importance: FloatArray | None = None
    ) -> NDArray[np.uint8]:
        """The bytes of `rows` (n_rows, row_length) as `type_`: (n_rows, bytes per row)."""
        quantize = self.numba.get(type_.name)
        if quantize is None or importance is not None:
            return ggml.quantize(type_, rows, importance)
        rows = np.require(rows, np.float32, ("C", "W"))
        return quantize(rows).reshape(len(rows), -1)

    def makers(self, types: Iterable[TensorType]) -> dict[str, Maker]:
        """Who quantizes each of `types` that is quantized at all."""
        names = sorted(type_.name for type_ in types if type_.is_quantized)
        return {name: "numba" if name in self.numba else "ggml" for name in names}


GGML = Kernels({})
"""ggml's own kernels for all types."""


def choose(n_values: Mapping[TensorType, int], *, worthwhile: int = WORTHWHILE) -> Kernels:
    """Kernels for a file that has so many values of each type."""
    ours = {type_: n for type_, n in n_values.items() if type_.name in TYPES}
    if sum(n // _EASY.get(type_.name, 1) for type_, n in ours.items()) < worthwhile:
        return GGML
    return Kernels({type_.name: _load(type_) for type_ in ours if agrees(type_)})


@cache
def agrees(type_: TensorType) -> bool:
    """Whether Numba is there and makes ggml's bytes on this machine."""
    try:
        quantize = _load(type_)
        return all(
            np.array_equal(quantize(rows).reshape(-1), ggml.quantize(type_, rows).reshape(-1))
            for rows in sample_rows(_CHECKED_BLOCKS)
        )
    except Exception:  # whatever keeps Numba from working here, ggml can do it
        return False


def _load(type_: TensorType) -> Quantize:
    quantize: Quantize = import_module(f"{__name__}.{TYPES[type_.name]}").quantize
    return quantize


def sample_rows(n_blocks: int) -> Iterator[FloatArray]:
    """Rows of all kinds, `n_blocks` times 256 values together, the same each time."""
    random, f32 = np.random.default_rng(1), np.float32
    normal = random.standard_normal((n_blocks // 16, 256), f32)
    yield normal * f32(0.02)
    yield (random.standard_t(1.5, normal.shape) * 0.01).astype(f32)
    yield from (abs(normal), -abs(normal), normal * f32(1e-6), normal * f32(1e4))
    yield from (normal * f32(1e-14), normal * f32(1e-41), normal * f32(1e12), normal * f32(1e30))
    yield np.repeat(normal[:, :1], 256, axis=1)
    yield np.zeros_like(normal)
    yield normal * (random.random(normal.shape) < 0.05)
    yield np.round(normal * 3) / f32(8)
    sizes = np.repeat(10.0 ** random.integers(-6, 6, (len(normal), 16)), 16, axis=1)
    yield normal * sizes.astype(f32)
    yield (normal.view(np.uint32) & 0xFFFF0000).view(f32)
