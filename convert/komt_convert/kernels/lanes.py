"""What ggml's searches do for one cell after the other, for many cells side by side.

A K-quant stores cells of 16 or 32 values, each with a scale of its own (and some with a minimum).
ggml looks for the scale in scalar code. Here `LANES` cells lie side by side: every innermost loop
runs over the lanes, so that the compiler can use vectors, and every sum of a cell stays in its own
lane, in ggml's order, so that every rounding is ggml's. What functions mirror is named with each,
in ggml-quants.c of llama.cpp 0c1e5709.

The values of the lanes lie in one flat array and their sums in another, at constant offsets:
with an array for each, LLVM gives up on proving that they do not overlap. 64 lanes are what fits
the first-level cache. A bare Python number would make an expression float64, hence `F`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from komt_convert.kernels.compile import part

LANES = 64
UNROLLED = 8
_MOST = 32  # values in a cell

# Places in the array of values: for each value of a cell, LANES numbers.
WEIGHT, LEVEL = _MOST * LANES, 2 * _MOST * LANES
N_VALUES = 3 * _MOST * LANES
_LAST = N_VALUES // 3 - 1

# Places in the array of sums: LANES numbers each.
(MIN, MAX, ISCALE, SCALE, BEST, SUM_W, SUM_X, A, B, C, OWN_ISCALE, OWN_MIN) = (
    i * LANES for i in range(12)
)
N_SUMS = 12 * LANES

F = np.float32
ZERO, ONE = F(0), F(1)
_MAGIC = F(12582912)


@part
def nearest(number: Any) -> Any:
    """`nearest_int`: what it makes of infinity, NaN and large numbers too."""
    bits = F(number + _MAGIC).view(np.int32)
    return np.int32((bits & np.int32(0x7FFFFF)) - np.int32(0x400000))


@part
def nearest_level(number: Any, low: Any, high: Any) -> Any:
    level = nearest(number)
    level = level if level < high else high
    return F(level if level > low else low)


@part
def small_level(number: Any, low: Any, high: Any) -> Any:
    """The same for numbers that are known to be small."""
    level = F(number + _MAGIC) - _MAGIC
    level = level if level < high else high
    return level if level > low else low


@part
def row_of(i: int) -> int:
    """Where value `i` of all lanes begins; the mask tells the compiler that it is not negative."""
    return (i * LANES) & _LAST


@part
def load(cells: Any, start: int, values: Any, place: int) -> None:
    """The cells from `start` on, side by side; the last one fills what is left of the lanes."""
    n_cells, size = cells.shape
    for lane in range(LANES):
        cell = min(start + lane, n_cells - 1)
        for i in range(size):
            values[place + row_of(i) + lane] = cells[cell, i]
