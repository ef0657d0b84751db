"""Q5_K: eight cells of 32 values in 5 bits (`block_q5_K`, `quantize_row_q5_K_ref`)."""

from __future__ import annotations

import numpy as np

from komt_convert.kernels import affine
from komt_convert.kernels.packing import Bytes, as_bytes, pack, pack_6_bits
from komt_convert.kernels.search_affine import MEAN_PLUS_MAGNITUDE
from komt_convert.tensors import FloatArray

RECIPE = affine.Recipe(32, 31, 63, MEAN_PLUS_MAGNITUDE, False, first=-0.5, step=0.1, n_steps=15)


def quantize(rows: FloatArray) -> Bytes:
    blocks = affine.quantize(rows, RECIPE)
    scales = pack_6_bits(blocks.scales, blocks.minima)
    fifth_bits = pack(blocks.levels, 1, shift=4)
    low_bits = pack(blocks.levels, 4)
    d, dmin = as_bytes(blocks.d), as_bytes(blocks.dmin)
    return np.concatenate([d, dmin, scales, fifth_bits, low_bits], axis=1)
