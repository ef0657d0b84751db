"""Q3_K: sixteen cells of 16 values in 3 bits, without minima (`quantize_row_q3_K_ref`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from komt_convert.kernels.levels import relevel
from komt_convert.kernels.packing import Bytes, as_bytes, pack
from komt_convert.kernels.search_levels import fit_levels
from komt_convert.kernels.tools import F, half, largest_in_magnitude, nearest
from komt_convert.tensors import FloatArray

_HALF = np.int32(4)


def quantize(rows: FloatArray) -> Bytes:
    cells = rows.reshape(-1, 16)
    scales, own = np.empty(len(cells), F), np.empty(cells.shape, np.uint8)
    fit_levels(cells, _HALF, scales, own)
    d, quantized = _share(scales.reshape(-1, 16))
    with np.errstate(all="ignore"):
        cell_scales = (d.astype(F)[:, None] * (quantized.astype(F) - F(32))).ravel()
    levels, none = np.empty(cells.shape, np.uint8), np.zeros_like(cell_scales)
    no_way = np.zeros((len(cells), 2), F)
    relevel(cells, cell_scales, none, no_way, -_HALF, _HALF - np.int32(1), levels)
    kept = cell_scales == 0
    levels[kept] = own[kept]
    high_bits, low_bits = pack(levels, 1, shift=2), pack(levels, 2)
    return np.concatenate([high_bits, low_bits, _pack_scales(quantized), as_bytes(d)], axis=1)


def _share(scales: FloatArray) -> tuple[NDArray[np.float16], Bytes]:
    """One float16 for each super-block, and its scales as multiples of it, from 0 for -32."""
    largest = largest_in_magnitude(scales)
    with np.errstate(all="ignore"):
        inverse: FloatArray = np.where(largest == 0, F(np.inf), F(-32) / largest).astype(F)
        multiples = nearest(inverse[:, None] * scales).astype(np.int8)
        d = half(F(1) / inverse)
    quantized = (np.clip(multiples, -32, 31) + np.int8(32)).astype(np.uint8)
    quantized[largest == 0] = 0
    return d, quantized


def _pack_scales(scales: Bytes) -> Bytes:
    """Sixteen scales of 6 bits in 12 bytes: low halves first, then the two high bits of each."""
    low, high = scales & 15, scales >> 4
    high_bits = high[:, 0:4] | (high[:, 4:8] << 2) | (high[:, 8:12] << 4) | (high[:, 12:16] << 6)
    return np.concatenate([low[:, :8] | (low[:, 8:] << 4), high_bits], axis=1)
