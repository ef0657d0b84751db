"""Q6_K: sixteen cells of 16 values in 6 bits, without minima (`quantize_row_q6_K_ref`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from komt_convert.kernels.levels import relevel
from komt_convert.kernels.packing import Bytes, as_bytes, pack
from komt_convert.kernels.search_signed import fit_signed
from komt_convert.kernels.tools import F, half, nearest, signed_steps
from komt_convert.tensors import FloatArray

_HALF = np.int32(32)
_STEPS = signed_steps(32)
_NONE = np.zeros((1, 1), F)


def quantize(rows: FloatArray) -> Bytes:
    cells = rows.reshape(-1, 16)
    scales, own = np.empty(len(cells), F), np.empty((len(cells), 2), F)
    fit_signed(cells, _NONE, False, _HALF, _STEPS, scales, own)
    d, quantized, empty = _share(scales.reshape(-1, 16))
    with np.errstate(all="ignore"):
        cell_scales = (d.astype(F)[:, None] * quantized.astype(F)).ravel()
    levels, none = np.empty(cells.shape, np.uint8), np.zeros_like(cell_scales)
    relevel(cells, cell_scales, none, own, -_HALF, _HALF - np.int32(1), levels)
    levels.reshape(-1, 256)[empty] = 0
    low_bits, high_bits = pack(levels, 4, apart=64), pack(levels, 2, shift=4)
    return np.concatenate([low_bits, high_bits, quantized.view(np.uint8), as_bytes(d)], axis=1)


def _share(
    scales: FloatArray,
) -> tuple[NDArray[np.float16], NDArray[np.int8], NDArray[np.bool_]]:
    """One float16 for each super-block, its scales as multiples of it, and whether all are zero."""
    sizes = np.where(np.abs(scales) > 0, np.abs(scales), F(0))
    place = np.arange(len(scales)), sizes.argmax(axis=1)
    empty = sizes[place] < F(1e-15)
    with np.errstate(all="ignore"):
        inverse: FloatArray = np.where(empty, F(np.inf), F(-128) / scales[place]).astype(F)
        quantized = np.minimum(nearest(inverse[:, None] * scales), 127).astype(np.int8)
        d = half(F(1) / inverse)
    quantized[empty] = 0
    return d, quantized, empty
