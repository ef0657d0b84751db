"""ggml's searches for the scales of K-quants, side by side instead of one after the other.

A K-quant stores cells of 16 or 32 values, each with a scale of its own (and some with a minimum).
ggml looks for the scale of one cell after the other, in scalar code. Here `LANES` cells lie side
by side: every innermost loop runs over the lanes, so that the compiler can use vectors, and every
sum of a cell stays in its own lane, in ggml's order, so that every rounding is ggml's. What the
functions mirror is named with each, in ggml-quants.c of llama.cpp 0c1e5709.

The values of the lanes lie in one flat array and their sums in another, at constant offsets:
with an array for each, LLVM gives up on proving that they do not overlap. 64 lanes are what fits
the first-level cache. A bare Python number would make an expression float64, hence `F`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from komt_convert.kernels.compile import Kernel, part
from komt_convert.tensors import FloatArray

LANES = 64
_UNROLLED = 4
_MOST = 32  # values in a cell

# Places in the array of values: for each value of a cell, LANES numbers.
_WEIGHT, _LEVEL = _MOST * LANES, 2 * _MOST * LANES
_N_VALUES = 3 * _MOST * LANES
_LAST = _N_VALUES // 3 - 1

# Places in the array of sums: LANES numbers each.
(_MIN, _MAX, _ISCALE, _SCALE, _BEST, _SUM_W, _SUM_X, _A, _B, _C, _OWN_ISCALE, _OWN_MIN) = (
    i * LANES for i in range(12)
)
_N_SUMS = 12 * LANES

F = np.float32
_ZERO, _ONE = F(0), F(1)
_MAGIC = F(12582912)
_TINY = F(1e-15)  # GROUP_MAX_EPS

GIVEN, MAGNITUDE, MEAN_PLUS_MAGNITUDE = 0, 1, 2
"""How much a value counts in `fit_affine`: as said, |x|, or |x| and the cell's root mean square."""

Levels = NDArray[np.uint8]


@part
def nearest(number: Any) -> Any:
    """`nearest_int`: what it makes of infinity, NaN and large numbers too."""
    bits = F(number + _MAGIC).view(np.int32)
    return np.int32((bits & np.int32(0x7FFFFF)) - np.int32(0x400000))


@part
def _level(number: Any, low: Any, high: Any) -> Any:
    level = nearest(number)
    level = level if level < high else high
    return F(level if level > low else low)


@part
def _small_level(number: Any, low: Any, high: Any) -> Any:
    """The same for numbers that are known to be small."""
    level = F(number + _MAGIC) - _MAGIC
    level = level if level < high else high
    return level if level > low else low


@part
def _row(i: int) -> int:
    """Where value `i` of all lanes begins; the mask tells the compiler that it is not negative."""
    return (i * LANES) & _LAST


@part
def _load(cells: Any, start: int, values: Any, place: int) -> None:
    """The cells from `start` on, side by side; the last one fills what is left of the lanes."""
    n_cells, size = cells.shape
    for lane in range(LANES):
        cell = min(start + lane, n_cells - 1)
        for i in range(size):
            values[place + _row(i) + lane] = cells[cell, i]


@part
def _store(levels: Any, start: int, values: Any) -> None:
    n_cells, size = levels.shape
    for lane in range(min(LANES, n_cells - start)):
        for i in range(size):
            levels[start + lane, i] = np.uint8(values[_LEVEL + _row(i) + lane])


# --- scale and minimum: make_qkx2_quants, and make_qkx3_quants for weights that are given ---------


@Kernel
def fit_affine(
    cells: FloatArray,
    weights: FloatArray,
    weighting: int,
    absolute: bool,
    high: np.int32,
    steps: FloatArray,
    levels: Levels,
    scales: FloatArray,
    minima: FloatArray,
    sums: FloatArray,
) -> None:
    """For every cell a scale and a minimum, its levels with them, and the sum of its weights.

    `cells`, `weights` (when they are GIVEN) and `levels` are (n_cells, size); the levels are 0 to
    `high`. `steps` are the numbers of levels that the search tries to spread the values over.
    Errors are counted by magnitude if `absolute`, else squared.
    """
    values, lanes = np.zeros(_N_VALUES, F), np.zeros(_N_SUMS, F)
    n_cells, size = cells.shape
    for start in range(0, n_cells, LANES):
        _load(cells, start, values, 0)
        if weighting == GIVEN:
            _load(weights, start, values, _WEIGHT)
        else:
            _weigh(values, lanes, size, weighting)
        _begin_affine(values, lanes, size, absolute, high)
        for step in range(steps.size):
            _try_affine(values, lanes, size, absolute, high, steps[step])
        _finish_affine(values, lanes, size, high)
        _store(levels, start, values)
        for lane in range(min(LANES, n_cells - start)):
            scales[start + lane] = lanes[_SCALE + lane]
            minima[start + lane] = -lanes[_MIN + lane]
            sums[start + lane] = lanes[_SUM_W + lane]


@part
def _weigh(values: Any, lanes: Any, size: int, weighting: int) -> None:
    for lane in range(LANES):
        lanes[_A + lane] = _ZERO
    if weighting == MEAN_PLUS_MAGNITUDE:
        for i in range(size):
            row = _row(i)
            for lane in range(LANES):
                lanes[_A + lane] += values[row + lane] * values[row + lane]
        for lane in range(LANES):
            lanes[_A + lane] = np.sqrt(lanes[_A + lane] / F(size))
    for i in range(size):
        row = _row(i)
        for lane in range(LANES):
            values[_WEIGHT + row + lane] = lanes[_A + lane] + abs(values[row + lane])


@part
def _begin_affine(values: Any, lanes: Any, size: int, absolute: bool, high: Any) -> None:
    """The range of each cell, and the error of spreading the levels over just that."""
    _measure(values, lanes, size)
    for lane in range(LANES):
        low = lanes[_MIN + lane]
        low = _ZERO if low > _ZERO else low
        iscale = F(high) / (lanes[_MAX + lane] - low)
        lanes[_MIN + lane] = lanes[_OWN_MIN + lane] = low
        lanes[_ISCALE + lane] = lanes[_OWN_ISCALE + lane] = iscale
        lanes[_SCALE + lane] = _ONE / iscale
        lanes[_BEST + lane] = _ZERO
    for i in range(size):
        row = _row(i)
        for lane in range(LANES):
            low, x = lanes[_MIN + lane], values[row + lane]
            level = _level(lanes[_ISCALE + lane] * (x - low), np.int32(0), high)
            miss = lanes[_SCALE + lane] * level + low - x
            miss = abs(miss) if absolute else miss * miss
            lanes[_BEST + lane] += values[_WEIGHT + row + lane] * miss


@part
def _measure(values: Any, lanes: Any, size: int) -> None:
    """The least and the greatest value, and the sums of weights and weighted values."""
    for lane in range(LANES):
        x, weight = values[lane], values[_WEIGHT + lane]
        lanes[_MIN + lane] = lanes[_MAX + lane] = x
        lanes[_SUM_W + lane], lanes[_SUM_X + lane] = weight, weight * x
    for i in range(1, size):
        row = _row(i)
        for lane in range(LANES):
            x, weight = values[row + lane], values[_WEIGHT + row + lane]
            least, most = lanes[_MIN + lane], lanes[_MAX + lane]
            lanes[_MIN + lane] = x if x < least else least
            lanes[_MAX + lane] = x if x > most else most
            lanes[_SUM_W + lane] += weight
            lanes[_SUM_X + lane] += weight * x


@part
def _try_affine(
    values: Any, lanes: Any, size: int, absolute: bool, high: Any, n_levels: Any
) -> None:
    """One step: levels for another spread, the best scale and minimum for them, their error.

    As in ggml, a step starts from the best minimum so far, not from the least value.
    """
    for lane in range(LANES):
        lanes[_ISCALE + lane] = n_levels / (lanes[_MAX + lane] - lanes[_MIN + lane])
        lanes[_A + lane] = lanes[_B + lane] = lanes[_C + lane] = _ZERO
    for first in range(0, size, _UNROLLED):
        row = _row(first)
        for lane in range(LANES):
            iscale, low = lanes[_ISCALE + lane], lanes[_MIN + lane]
            sum_l, sum_l2, sum_xl = lanes[_A + lane], lanes[_B + lane], lanes[_C + lane]
            for i in range(_UNROLLED):
                at = row + i * LANES + lane
                level = _level(iscale * (values[at] - low), np.int32(0), high)
                values[_LEVEL + at] = level
                weighted = values[_WEIGHT + at] * level
                sum_l += weighted
                sum_l2 += weighted * level
                sum_xl += weighted * values[at]
            lanes[_A + lane], lanes[_B + lane], lanes[_C + lane] = sum_l, sum_l2, sum_xl
    _solve(lanes)
    for first in range(0, size, _UNROLLED):
        row = _row(first)
        for lane in range(LANES):
            scale, low, error = lanes[_A + lane], lanes[_B + lane], lanes[_C + lane]
            for i in range(_UNROLLED):
                at = row + i * LANES + lane
                miss = scale * values[_LEVEL + at] + low - values[at]
                miss = abs(miss) if absolute else miss * miss
                error += values[_WEIGHT + at] * miss
            lanes[_C + lane] = error
    _keep_better(lanes)


@part
def _solve(lanes: Any) -> None:
    """From the sums: scale (A) and minimum (B) of least squares; NaN as the error (C) if none."""
    for lane in range(LANES):
        sum_w, sum_x = lanes[_SUM_W + lane], lanes[_SUM_X + lane]
        sum_l, sum_l2, sum_xl = lanes[_A + lane], lanes[_B + lane], lanes[_C + lane]
        determinant = sum_w * sum_l2 - sum_l * sum_l
        scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
        low = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
        lanes[_A + lane] = sum_xl / sum_l2 if low > _ZERO else scale
        lanes[_B + lane] = _ZERO if low > _ZERO else low
        lanes[_C + lane] = _ZERO if determinant > _ZERO else F(np.nan)


@part
def _keep_better(lanes: Any) -> None:
    for lane in range(LANES):
        better = lanes[_C + lane] < lanes[_BEST + lane]
        lanes[_BEST + lane] = lanes[_C + lane] if better else lanes[_BEST + lane]
        lanes[_OWN_ISCALE + lane] = lanes[_ISCALE + lane] if better else lanes[_OWN_ISCALE + lane]
        lanes[_OWN_MIN + lane] = lanes[_MIN + lane] if better else lanes[_OWN_MIN + lane]
        lanes[_SCALE + lane] = lanes[_A + lane] if better else lanes[_SCALE + lane]
        lanes[_MIN + lane] = lanes[_B + lane] if better else lanes[_MIN + lane]


@part
def _finish_affine(values: Any, lanes: Any, size: int, high: Any) -> None:
    """The levels of the winner.

    In a cell of equal values the range is 0 and `iscale` infinite: scale and levels are 0.
    """
    for i in range(size):
        row = _row(i)
        for lane in range(LANES):
            number = lanes[_OWN_ISCALE + lane] * (values[row + lane] - lanes[_OWN_MIN + lane])
            values[_LEVEL + row + lane] = _level(number, np.int32(0), high)


# --- a scale that may be negative: make_qx_quants with rmse_type 1 --------------------------------


@Kernel
def fit_signed(
    cells: FloatArray,
    weights: FloatArray,
    weighted: bool,
    half: np.int32,
    steps: FloatArray,
    levels: Levels,
    scales: FloatArray,
) -> None:
    """For every cell a scale, and its levels with it: 0 to 2 * `half` - 1, of which `half` is zero.

    A value counts by its weight if `weighted`, else by its square. `steps` are the numbers of
    levels that the search tries for the value that is largest in magnitude, negated.
    """
    values, lanes = np.zeros(_N_VALUES, F), np.zeros(_N_SUMS, F)
    n_cells, size = cells.shape
    for start in range(0, n_cells, LANES):
        _load(cells, start, values, 0)
        if weighted:
            _load(weights, start, values, _WEIGHT)
        _multiply(values, size, weighted)
        _find_extreme(values, lanes, size)
        for step in range(steps.size):
            _try_signed(values, lanes, size, half, steps[step], step == 0)
        _finish_signed(values, lanes, size, half)
        _store(levels, start, values)
        for lane in range(min(LANES, n_cells - start)):
            scales[start + lane] = lanes[_SCALE + lane]


@part
def _multiply(values: Any, size: int, weighted: bool) -> None:
    """The weighted values, where levels will be at the end; weights first if they are squares."""
    for i in range(size):
        row = _row(i)
        for lane in range(LANES):
            x = values[row + lane]
            weight = values[_WEIGHT + row + lane] if weighted else x * x
            values[_WEIGHT + row + lane] = weight
            values[_LEVEL + row + lane] = weight * x


@part
def _find_extreme(values: Any, lanes: Any, size: int) -> None:
    """The first value that is largest in magnitude (MIN), and its magnitude (MAX)."""
    for lane in range(LANES):
        lanes[_MIN + lane] = lanes[_MAX + lane] = _ZERO
    for i in range(size):
        row = _row(i)
        for lane in range(LANES):
            x = values[row + lane]
            larger = abs(x) > lanes[_MAX + lane]
            lanes[_MAX + lane] = abs(x) if larger else lanes[_MAX + lane]
            lanes[_MIN + lane] = x if larger else lanes[_MIN + lane]


@part
def _try_signed(
    values: Any, lanes: Any, size: int, half: Any, n_levels: Any, is_first: bool
) -> None:
    for lane in range(LANES):
        lanes[_ISCALE + lane] = n_levels / lanes[_MIN + lane]
        lanes[_A + lane] = lanes[_B + lane] = _ZERO
    low, high = F(-half), F(half - np.int32(1))
    for first in range(0, size, _UNROLLED):
        row = _row(first)
        for lane in range(LANES):
            iscale, sum_lx, sum_l2 = lanes[_ISCALE + lane], lanes[_A + lane], lanes[_B + lane]
            for i in range(_UNROLLED):
                at = row + i * LANES + lane
                level = _small_level(iscale * values[at], low, high)
                sum_lx += values[_LEVEL + at] * level
                sum_l2 += values[_WEIGHT + at] * level * level
            lanes[_A + lane], lanes[_B + lane] = sum_lx, sum_l2
    for lane in range(LANES):
        sum_lx, sum_l2 = lanes[_A + lane], lanes[_B + lane]
        scale = sum_lx / sum_l2
        if is_first:
            scale = scale if sum_l2 != _ZERO else _ZERO
        better = is_first or (sum_l2 > _ZERO and sum_lx * sum_lx > lanes[_BEST + lane] * sum_l2)
        lanes[_SCALE + lane] = scale if better else lanes[_SCALE + lane]
        lanes[_BEST + lane] = scale * sum_lx if better else lanes[_BEST + lane]
        lanes[_OWN_ISCALE + lane] = lanes[_ISCALE + lane] if better else lanes[_OWN_ISCALE + lane]


@part
def _finish_signed(values: Any, lanes: Any, size: int, half: Any) -> None:
    """The levels of the winner; in a cell of zeros they are 0, the lowest, as in ggml."""
    for lane in range(LANES):
        empty = lanes[_MAX + lane] < _TINY
        lanes[_SCALE + lane] = _ZERO if empty else lanes[_SCALE + lane]
        lanes[_A + lane] = _ZERO if empty else F(half)
        lanes[_OWN_ISCALE + lane] = _ZERO if empty else lanes[_OWN_ISCALE + lane]
    for i in range(size):
        row = _row(i)
        for lane in range(LANES):
            number = lanes[_OWN_ISCALE + lane] * values[row + lane]
            level = _level(number, -half, half - np.int32(1))
            values[_LEVEL + row + lane] = level + lanes[_A + lane]


# --- the levels for the scales that are written ---------------------------------------------------


@Kernel
def relevel(
    cells: FloatArray,
    scales: FloatArray,
    minima: FloatArray,
    low: np.int32,
    high: np.int32,
    levels: Levels,
) -> None:
    """The nearest levels of every cell, counted from `low`; a cell with scale 0 keeps its own."""
    n_cells, size = cells.shape
    for cell in range(n_cells):
        scale, minimum = scales[cell], minima[cell]
        if scale != _ZERO:
            for i in range(size):
                level = nearest((cells[cell, i] + minimum) / scale)
                level = level if level < high else high
                levels[cell, i] = np.uint8((level if level > low else low) - low)
