"""The search for a scale that may be negative: `make_qx_quants` of ggml, with rmse_type 1.

See `lanes` for how the values lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from komt_convert.kernels.compile import Kernel, part
from komt_convert.kernels.lanes import (
    BEST,
    ISCALE,
    LANES,
    LEVEL,
    MAX,
    MIN,
    N_SUMS,
    N_VALUES,
    ONE,
    OWN_ISCALE,
    SCALE,
    UNROLLED,
    WEIGHT,
    ZERO,
    A,
    B,
    F,
    load,
    row_of,
    small_level,
)
from komt_convert.tensors import FloatArray

TINY = F(1e-15)  # GROUP_MAX_EPS
_FAR = F(1e6)  # so far above a cell of zeros that its levels are the lowest


@Kernel
def fit_signed(
    cells: FloatArray,
    weights: FloatArray,
    weighted: bool,
    half: np.int32,
    steps: FloatArray,
    scales: FloatArray,
    own: FloatArray,
) -> None:
    """For every cell a scale for levels from -`half` to `half` - 1, and its `own` way to them.

    A value counts by its weight if `weighted`, else by its square. `steps` are the numbers of
    levels that the search tries for the value that is largest in magnitude, negated. A cell of
    zeros has the lowest levels, as in ggml.
    """
    values, lanes = np.zeros(N_VALUES, F), np.zeros(N_SUMS, F)
    n_cells, size = cells.shape
    for start in range(0, n_cells, LANES):
        load(cells, start, values, 0)
        if weighted:
            load(weights, start, values, WEIGHT)
        _multiply(values, size, weighted)
        find_extreme(values, lanes, size)
        for step in range(steps.size):
            _try_signed(values, lanes, size, half, steps[step], step == 0)
        for lane in range(min(LANES, n_cells - start)):
            empty = lanes[MAX + lane] < TINY
            scales[start + lane] = ZERO if empty else lanes[SCALE + lane]
            own[start + lane, 0] = ONE if empty else lanes[OWN_ISCALE + lane]
            own[start + lane, 1] = _FAR if empty else ZERO


@part
def _multiply(values: Any, size: int, weighted: bool) -> None:
    """The weighted values, in the place of levels; and the weights if they are squares."""
    for i in range(size):
        row = row_of(i)
        for lane in range(LANES):
            x = values[row + lane]
            weight = values[WEIGHT + row + lane] if weighted else x * x
            values[WEIGHT + row + lane] = weight
            values[LEVEL + row + lane] = weight * x


@part
def find_extreme(values: Any, lanes: Any, size: int) -> None:
    """The first value that is largest in magnitude (MIN), and its magnitude (MAX)."""
    for lane in range(LANES):
        lanes[MIN + lane] = lanes[MAX + lane] = ZERO
    for i in range(size):
        row = row_of(i)
        for lane in range(LANES):
            x = values[row + lane]
            larger = abs(x) > lanes[MAX + lane]
            lanes[MAX + lane] = abs(x) if larger else lanes[MAX + lane]
            lanes[MIN + lane] = x if larger else lanes[MIN + lane]


@part
def _try_signed(
    values: Any, lanes: Any, size: int, half: Any, n_levels: Any, is_first: bool
) -> None:
    for lane in range(LANES):
        lanes[ISCALE + lane] = n_levels / lanes[MIN + lane]
        lanes[A + lane] = lanes[B + lane] = ZERO
    low, high = F(-half), F(half - np.int32(1))
    for first in range(0, size, UNROLLED):
        row = row_of(first)
        for lane in range(LANES):
            iscale, sum_lx, sum_l2 = lanes[ISCALE + lane], lanes[A + lane], lanes[B + lane]
            for i in range(UNROLLED):
                at = row + i * LANES + lane
                level = small_level(iscale * values[at], low, high)
                sum_lx += values[LEVEL + at] * level
                sum_l2 += values[WEIGHT + at] * level * level
            lanes[A + lane], lanes[B + lane] = sum_lx, sum_l2
    for lane in range(LANES):
        sum_lx, sum_l2 = lanes[A + lane], lanes[B + lane]
        scale = sum_lx / sum_l2
        if is_first:
            scale = scale if sum_l2 != ZERO else ZERO
        better = is_first or (sum_l2 > ZERO and sum_lx * sum_lx > lanes[BEST + lane] * sum_l2)
        lanes[SCALE + lane] = scale if better else lanes[SCALE + lane]
        lanes[BEST + lane] = scale * sum_lx if better else lanes[BEST + lane]
        lanes[OWN_ISCALE + lane] = lanes[ISCALE + lane] if better else lanes[OWN_ISCALE + lane]
