"""What Q2_K, Q4_K and Q5_K share: cells with a scale and a minimum, both quantized themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from komt_convert.kernels.levels import relevel
from komt_convert.kernels.search_affine import fit_affine
from komt_convert.kernels.tools import F, affine_steps, half, nearest
from komt_convert.tensors import FloatArray

_NONE = np.zeros((1, 1), F)


@dataclass(frozen=True, slots=True)
class Recipe:
    """`size` values in a cell, levels up to `high`, scales and minima up to `most`."""

    size: int
    high: int
    most: int
    weighting: int
    absolute: bool
    first: float
    step: float
    n_steps: int

    @property
    def steps(self) -> FloatArray:
        return affine_steps(self.first, self.step, range(self.n_steps + 1), self.high)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Super-blocks of 256 values, not packed yet.

    `d` and `dmin` are (n,) in float16; `scales` and `minima` (n, n_cells) and `levels`
    (n, 256) are small numbers in bytes.
    """

    d: NDArray[np.float16]
    dmin: NDArray[np.float16]
    scales: NDArray[np.uint8]
    minima: NDArray[np.uint8]
    levels: NDArray[np.uint8]


def quantize(rows: FloatArray, recipe: Recipe) -> Blocks:
    """`rows` hold whole super-blocks and can be written to."""
    cells = rows.reshape(-1, recipe.size)
    scales, minima, sums = (np.empty(len(cells), F) for _ in range(3))
    own, levels = np.empty((len(cells), 2), F), np.empty(cells.shape, np.uint8)
    high = np.int32(recipe.high)
    how = recipe.weighting, recipe.absolute, high, recipe.steps
    fit_affine(cells, _NONE, *how, scales, minima, sums, own)
    n_cells = 256 // recipe.size
    d, quantized_scales = _share(scales.reshape(-1, n_cells), recipe.most)
    dmin, quantized_minima = _share(minima.reshape(-1, n_cells), recipe.most)
    with np.errstate(all="ignore"):
        cell_scales = d.astype(F)[:, None] * quantized_scales.astype(F)
        cell_minima = dmin.astype(F)[:, None] * quantized_minima.astype(F)
    relevel(cells, cell_scales.ravel(), cell_minima.ravel(), own, np.int32(0), high, levels)
    return Blocks(d, dmin, quantized_scales, quantized_minima, levels.reshape(-1, 256))


def _share(numbers: FloatArray, most: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """One float16 for each super-block, and its numbers as multiples of it, 0 to `most`."""
    largest = np.fmax.reduce(numbers, axis=1, initial=F(0)) + F(0)  # no negative zero
    with np.errstate(all="ignore"):
        inverse = np.where(largest > 0, F(most) / largest, F(0))
        multiples = nearest(inverse[:, None] * numbers).astype(np.uint8)
        return half(largest / F(most)), np.minimum(multiples, np.uint8(most))
