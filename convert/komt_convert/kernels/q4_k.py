"""Q4_K: eight cells of 32 values in 4 bits (`block_q4_K`, `quantize_row_q4_K_ref`)."""

from __future__ import annotations

import numpy as np

from komt_convert.kernels import affine
from komt_convert.kernels.packing import Bytes, as_bytes, pack, pack_6_bits
from komt_convert.kernels.search_affine import MEAN_PLUS_MAGNITUDE
from komt_convert.tensors import FloatArray

RECIPE = affine.Recipe(32, 15, 63, MEAN_PLUS_MAGNITUDE, False, first=-1.0, step=0.1, n_steps=20)


def quantize(rows: FloatArray) -> Bytes:
    blocks = affine.quantize(rows, RECIPE)
    scales = pack_6_bits(blocks.scales, blocks.minima)
    levels = pack(blocks.levels, 4)
    return np.concatenate([as_bytes(blocks.d), as_bytes(blocks.dmin), scales, levels], axis=1)
