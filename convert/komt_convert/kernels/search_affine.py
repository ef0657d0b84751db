"""The search for a scale and a minimum: `make_qkx2_quants` of ggml.

With weights that are given, it is `make_qkx3_quants`. See `lanes` for how the values lie.
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
    OWN_MIN,
    SCALE,
    SUM_W,
    SUM_X,
    UNROLLED,
    WEIGHT,
    ZERO,
    A,
    B,
    C,
    F,
    load,
    nearest_level,
    row_of,
)
from komt_convert.tensors import FloatArray

GIVEN, MAGNITUDE, MEAN_PLUS_MAGNITUDE = 0, 1, 2
"""How much a value counts in `fit_affine`: as said, |x|, or |x| and the cell's root mean square."""


@Kernel
def fit_affine(
    cells: FloatArray,
    weights: FloatArray,
    weighting: int,
    absolute: bool,
    high: np.int32,
    steps: FloatArray,
    scales: FloatArray,
    minima: FloatArray,
    sums: FloatArray,
    own: FloatArray,
) -> None:
    """For every cell a scale and a minimum, the sum of its weights, and its `own` way to levels.

    `cells` and `weights` (when they are GIVEN) are (n_cells, size); the levels are 0 to `high`.
    `own` is (n_cells, 2): the search's levels are `own[0] * (x - own[1])`, rounded. `steps` are the
    numbers of levels that the search tries to spread the values over.
    Errors are counted by magnitude if `absolute`, else squared.
    """
    values, lanes = np.zeros(N_VALUES, F), np.zeros(N_SUMS, F)
    n_cells, size = cells.shape
    for start in range(0, n_cells, LANES):
        load(cells, start, values, 0)
        if weighting == GIVEN:
            load(weights, start, values, WEIGHT)
        else:
            _weigh(values, lanes, size, weighting)
        _begin_affine(values, lanes, size, absolute, high)
        for step in range(steps.size):
            _try_affine(values, lanes, size, absolute, high, steps[step])
        for lane in range(min(LANES, n_cells - start)):
            scales[start + lane] = lanes[SCALE + lane]
            minima[start + lane] = -lanes[MIN + lane]
            sums[start + lane] = lanes[SUM_W + lane]
            own[start + lane, 0] = lanes[OWN_ISCALE + lane]
            own[start + lane, 1] = lanes[OWN_MIN + lane]


@part
def _weigh(values: Any, lanes: Any, size: int, weighting: int) -> None:
    for lane in range(LANES):
        lanes[A + lane] = ZERO
    if weighting == MEAN_PLUS_MAGNITUDE:
        for i in range(size):
            row = row_of(i)
            for lane in range(LANES):
                lanes[A + lane] += values[row + lane] * values[row + lane]
        for lane in range(LANES):
            lanes[A + lane] = np.sqrt(lanes[A + lane] / F(size))
    for i in range(size):
        row = row_of(i)
        for lane in range(LANES):
            values[WEIGHT + row + lane] = lanes[A + lane] + abs(values[row + lane])


@part
def _begin_affine(values: Any, lanes: Any, size: int, absolute: bool, high: Any) -> None:
    """The range of each cell, and the error of spreading the levels over just that.

    In a cell of equal values the range is 0 and `iscale` infinite: scale and levels become 0.
    """
    _measure(values, lanes, size)
    for lane in range(LANES):
        low = lanes[MIN + lane]
        low = ZERO if low > ZERO else low
        iscale = F(high) / (lanes[MAX + lane] - low)
        lanes[MIN + lane] = lanes[OWN_MIN + lane] = low
        lanes[ISCALE + lane] = lanes[OWN_ISCALE + lane] = iscale
        lanes[SCALE + lane] = ONE / iscale
        lanes[BEST + lane] = ZERO
    for i in range(size):
        row = row_of(i)
        for lane in range(LANES):
            low, x = lanes[MIN + lane], values[row + lane]
            level = nearest_level(lanes[ISCALE + lane] * (x - low), np.int32(0), high)
            miss = lanes[SCALE + lane] * level + low - x
            miss = abs(miss) if absolute else miss * miss
            lanes[BEST + lane] += values[WEIGHT + row + lane] * miss


@part
def _measure(values: Any, lanes: Any, size: int) -> None:
    """The least and the greatest value, and the sums of weights and weighted values."""
    for lane in range(LANES):
        x, weight = values[lane], values[WEIGHT + lane]
        lanes[MIN + lane] = lanes[MAX + lane] = x
        lanes[SUM_W + lane], lanes[SUM_X + lane] = weight, weight * x
    for i in range(1, size):
        row = row_of(i)
        for lane in range(LANES):
            x, weight = values[row + lane], values[WEIGHT + row + lane]
            least, most = lanes[MIN + lane], lanes[MAX + lane]
            lanes[MIN + lane] = x if x < least else least
            lanes[MAX + lane] = x if x > most else most
            lanes[SUM_W + lane] += weight
            lanes[SUM_X + lane] += weight * x


@part
def _try_affine(
    values: Any, lanes: Any, size: int, absolute: bool, high: Any, n_levels: Any
) -> None:
    """One step: levels for another spread, the best scale and minimum for them, their error.

    As in ggml, a step starts from the best minimum so far, not from the least value.
    """
    for lane in range(LANES):
        lanes[ISCALE + lane] = n_levels / (lanes[MAX + lane] - lanes[MIN + lane])
        lanes[A + lane] = lanes[B + lane] = lanes[C + lane] = ZERO
    for first in range(0, size, UNROLLED):
        row = row_of(first)
        for lane in range(LANES):
            iscale, low = lanes[ISCALE + lane], lanes[MIN + lane]
            sum_l, sum_l2, sum_xl = lanes[A + lane], lanes[B + lane], lanes[C + lane]
            for i in range(UNROLLED):
                at = row + i * LANES + lane
                level = nearest_level(iscale * (values[at] - low), np.int32(0), high)
                values[LEVEL + at] = level
                weighted = values[WEIGHT + at] * level
                sum_l += weighted
                sum_l2 += weighted * level
                sum_xl += weighted * values[at]
            lanes[A + lane], lanes[B + lane], lanes[C + lane] = sum_l, sum_l2, sum_xl
    _solve(lanes)
    for first in range(0, size, UNROLLED):
        row = row_of(first)
        for lane in range(LANES):
            scale, low, error = lanes[A + lane], lanes[B + lane], lanes[C + lane]
            for i in range(UNROLLED):
                at = row + i * LANES + lane
                miss = scale * values[LEVEL + at] + low - values[at]
                miss = abs(miss) if absolute else miss * miss
                error += values[WEIGHT + at] * miss
            lanes[C + lane] = error
    _keep_better(lanes)


@part
def _solve(lanes: Any) -> None:
    """From the sums: scale (A) and minimum (B) of least squares; NaN as the error (C) if none."""
    for lane in range(LANES):
        sum_w, sum_x = lanes[SUM_W + lane], lanes[SUM_X + lane]
        sum_l, sum_l2, sum_xl = lanes[A + lane], lanes[B + lane], lanes[C + lane]
        determinant = sum_w * sum_l2 - sum_l * sum_l
        scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
        low = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
        lanes[A + lane] = sum_xl / sum_l2 if low > ZERO else scale
        lanes[B + lane] = ZERO if low > ZERO else low
        lanes[C + lane] = ZERO if determinant > ZERO else F(np.nan)


@part
def _keep_better(lanes: Any) -> None:
    for lane in range(LANES):
        better = lanes[C + lane] < lanes[BEST + lane]
        lanes[BEST + lane] = lanes[C + lane] if better else lanes[BEST + lane]
        lanes[OWN_ISCALE + lane] = lanes[ISCALE + lane] if better else lanes[OWN_ISCALE + lane]
        lanes[OWN_MIN + lane] = lanes[MIN + lane] if better else lanes[OWN_MIN + lane]
        lanes[SCALE + lane] = lanes[A + lane] if better else lanes[SCALE + lane]
        lanes[MIN + lane] = lanes[B + lane] if better else lanes[MIN + lane]
