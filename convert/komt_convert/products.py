"""rows += left · right in float32, where left is thin: what a LoRA adapter adds to a weight.

Every value of the product is ((0 + l0·r0) + l1·r1) + …, each step rounded, and then added to the
row. So its bits are the same on every machine and for every cut of the rows, which they are not
with a BLAS: it sums in the order that suits the processor and the shape. numpy does it here, and
`products_llvm`, twice as quick as a BLAS, where there is much to do and llvmlite works.

`right` comes as `tiles`: cut to pieces of `TILE` columns, so that a piece stays in the nearest
cache while all rows go by.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from math import prod
from threading import Lock

import numpy as np

from komt_convert.tensors import FloatArray

TILE = 256

AddProduct = Callable[[FloatArray, FloatArray, FloatArray], None]
"""Of rows (n, columns), which are changed, left (n, rank) and tiles, all of them contiguous."""

_WORTHWHILE = 1 << 23
"""So many values take numpy as long as it takes to import llvmlite and to compile."""
_LINE = 16  # values in a cache line
_BLOCK = 64  # rows whose tile fits the second-level cache
_compiling = Lock()  # `cache` alone would let all threads compile at once


def tiles(right: FloatArray) -> FloatArray:
    """(pieces, rank, TILE) of (rank, columns)."""
    rank, columns = right.shape
    n_tiles = -(-columns // TILE)
    pieces = _aligned_zeros((n_tiles, rank, TILE))
    for number in range(n_tiles):
        values = right[:, number * TILE : (number + 1) * TILE]
        pieces[number, :, : values.shape[1]] = values
    return pieces


def _aligned_zeros(shape: tuple[int, ...]) -> FloatArray:
    """Zeros from the start of a cache line on; products with them are a third quicker so."""
    spare = np.zeros(prod(shape) + _LINE, np.float32)
    first = -(spare.ctypes.data // spare.itemsize) % _LINE
    return spare[first : first + prod(shape)].reshape(shape)


def adder(n_values: int) -> AddProduct:
    """What adds products quickest, if so many values are to be changed altogether."""
    if n_values < _WORTHWHILE:
        return by_numpy
    with _compiling:
        return _compiled()


def by_numpy(rows: FloatArray, left: FloatArray, tiles: FloatArray) -> None:
    for first in range(0, len(rows), _BLOCK):
        block = slice(first, first + _BLOCK)
        for number, tile in enumerate(tiles):
            part = rows[block, number * TILE : (number + 1) * TILE]
            sums = np.zeros_like(part)
            for column, values in zip(left[block].T, tile[:, : part.shape[1]], strict=True):
                sums += column[:, None] * values
            part += sums


@cache
def _compiled() -> AddProduct:
    """LLVM's, if llvmlite is there and the bits are those of numpy."""
    try:
        compiled: AddProduct = import_module("komt_convert.products_llvm").add_product
        return compiled if _agrees(compiled) else by_numpy
    except Exception:  # whatever keeps LLVM from working here, numpy can do it
        return by_numpy


def _agrees(compiled: AddProduct) -> bool:
    random = np.random.default_rng(1)
    rows, left, right = (
        random.standard_normal(shape, np.float32) for shape in ((40, 700), (40, 48), (48, 700))
    )
    expected = rows.copy()
    for add, changed in ((by_numpy, expected), (compiled, rows)):
        add(changed, left, tiles(right))
    return np.array_equal(rows.view(np.uint32), expected.view(np.uint32))
