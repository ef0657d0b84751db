"""The search that moves single levels for a better scale: `make_q3_quants` of ggml.

See `lanes` for how the values lie; LEVEL has the levels so far.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from komt_convert.kernels.compile import Kernel, part
from komt_convert.kernels.lanes import (
    LANES,
    LEVEL,
    MAX,
    MIN,
    N_SUMS,
    N_VALUES,
    ZERO,
    A,
    B,
    F,
    load,
    nearest_level,
    row_of,
)
from komt_convert.kernels.levels import Levels
from komt_convert.kernels.search_signed import TINY, find_extreme
from komt_convert.tensors import FloatArray

_ROUNDS = 5


@Kernel
def fit_levels(cells: FloatArray, half: np.int32, scales: FloatArray, levels: Levels) -> None:
    """For every cell of `cells`, (n_cells, size), a scale, and levels from 0 to 2 * half - 1."""
    values, lanes = np.zeros(N_VALUES, F), np.zeros(N_SUMS, F)
    n_cells, size = cells.shape
    for start in range(0, n_cells, LANES):
        load(cells, start, values, 0)
        find_extreme(values, lanes, size)
        _begin(values, lanes, size, half)
        for _ in range(_ROUNDS):
            for i in range(size):
                _move(values, lanes, i, half)
        for lane in range(min(LANES, n_cells - start)):
            empty = lanes[MAX + lane] < TINY
            scale = lanes[A + lane] / lanes[B + lane] if lanes[B + lane] > ZERO else ZERO
            scales[start + lane] = ZERO if empty else scale
            for i in range(size):
                level = values[LEVEL + row_of(i) + lane] + F(half)
                levels[start + lane, i] = np.uint8(0) if empty else np.uint8(level)


@part
def _begin(values: Any, lanes: Any, size: int, half: Any) -> None:
    """The plain levels, and their sums: with the weighted values (A), and of their squares (B)."""
    for lane in range(LANES):
        lanes[A + lane] = lanes[B + lane] = ZERO
        lanes[MIN + lane] = F(-half) / lanes[MIN + lane]
    for i in range(size):
        row = row_of(i)
        for lane in range(LANES):
            x = values[row + lane]
            level = nearest_level(lanes[MIN + lane] * x, -half, half - np.int32(1))
            values[LEVEL + row + lane] = level
            weight = x * x
            lanes[A + lane] += weight * x * level
            lanes[B + lane] += weight * level * level


@part
def _move(values: Any, lanes: Any, i: int, half: Any) -> None:
    """One value of every cell gets the level that suits the others' scale, if all gain by it."""
    row = row_of(i)
    for lane in range(LANES):
        x, level = values[row + lane], values[LEVEL + row + lane]
        sum_lx, sum_l2, weight = lanes[A + lane], lanes[B + lane], x * x
        rest_lx = sum_lx - weight * x * level
        rest_l2 = sum_l2 - weight * level * level
        other = nearest_level(x * rest_l2 / rest_lx, -half, half - np.int32(1))
        new_lx = rest_lx + weight * x * other
        new_l2 = rest_l2 + weight * other * other
        gains = new_lx * new_lx * sum_l2 > sum_lx * sum_lx * new_l2
        better = (rest_lx > ZERO) & (other != level) & (new_l2 > ZERO) & gains
        values[LEVEL + row + lane] = other if better else level
        lanes[A + lane] = new_lx if better else sum_lx
        lanes[B + lane] = new_l2 if better else sum_l2
