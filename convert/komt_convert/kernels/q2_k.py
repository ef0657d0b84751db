"""Q2_K: sixteen cells of 16 values in 2 bits (`block_q2_K`, `quantize_row_q2_K_ref`)."""

from __future__ import annotations

import numpy as np

from komt_convert.kernels import affine
from komt_convert.kernels.packing import Bytes, as_bytes, pack
from komt_convert.kernels.search_affine import MAGNITUDE
from komt_convert.tensors import FloatArray

RECIPE = affine.Recipe(16, 3, 15, MAGNITUDE, True, first=-0.5, step=0.1, n_steps=15)


def quantize(rows: FloatArray) -> Bytes:
    blocks = affine.quantize(rows, RECIPE)
    scales = blocks.scales | (blocks.minima << 4)
    levels = pack(blocks.levels, 2)
    return np.concatenate([scales, levels, as_bytes(blocks.d), as_bytes(blocks.dmin)], axis=1)
