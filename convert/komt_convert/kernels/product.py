"""`products.add_product`, compiled: the columns of a tile side by side, each with its own sum."""

from __future__ import annotations

from typing import Any

import numpy as np

from komt_convert.kernels.compile import Kernel, part
from komt_convert.products import GROUP, TILE
from komt_convert.tensors import FloatArray

_ZERO = np.float32(0)


@part
def _total(total: Any, left: Any, tile: Any, column: int) -> Any:
    """A group's products of one column, added one after the other."""
    for k in range(GROUP):
        total += left[k] * tile[k * TILE + column]
    return total


@part
def _add(sums: Any, left: Any, tile: Any) -> None:
    """A group's products to the sums of one row, a tile wide."""
    for column in range(TILE):
        sums[column] = _total(sums[column], left, tile, column)


@part
def _add_last(row: Any, n_columns: int, sums: Any, left: Any, tile: Any) -> None:
    """The last group's products to the sums, and these to the row."""
    for column in range(n_columns):
        row[column] += _total(sums[column], left, tile, column)


@Kernel
def add_product(rows: FloatArray, left: FloatArray, tiles: FloatArray) -> None:
    last = left.shape[1] - GROUP
    sums = np.zeros(TILE, np.float32)
    for number in range(len(tiles)):
        start = number * TILE
        tile = tiles[number, last:].reshape(-1)
        for i in range(len(rows)):
            if last:
                sums[:] = _ZERO
            for k in range(0, last, GROUP):
                _add(sums, left[i, k : k + GROUP], tiles[number, k : k + GROUP].reshape(-1))
            row = rows[i, start : start + TILE]
            if len(row) == TILE:  # a number that the compiler knows
                _add_last(row, TILE, sums, left[i, last:], tile)
            else:
                _add_last(row, len(row), sums, left[i, last:], tile)
