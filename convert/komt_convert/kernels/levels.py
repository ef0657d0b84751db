"""The levels of values, once their scales and minima are known as they will be written."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from komt_convert.kernels.compile import Kernel
from komt_convert.kernels.lanes import ZERO, nearest
from komt_convert.tensors import FloatArray

Levels = NDArray[np.uint8]


@Kernel
def relevel(
    cells: FloatArray,
    scales: FloatArray,
    minima: FloatArray,
    own: FloatArray,
    low: np.int32,
    high: np.int32,
    levels: Levels,
) -> None:
    """The nearest levels of all cells, counted from `low`; a cell with scale 0 goes its own way."""
    n_cells, size = cells.shape
    for cell in range(n_cells):
        scale, minimum = scales[cell], minima[cell]
        if scale != ZERO:
            for i in range(size):
                level = nearest((cells[cell, i] + minimum) / scale)
                level = level if level < high else high
                levels[cell, i] = np.uint8((level if level > low else low) - low)
        else:
            for i in range(size):
                level = nearest(own[cell, 0] * (cells[cell, i] - own[cell, 1]))
                level = level if level < high else high
                levels[cell, i] = np.uint8((level if level > low else low) - low)
