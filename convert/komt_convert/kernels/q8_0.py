"""Q8_0: blocks of 32 values in 8 bits with one scale (`quantize_row_q8_0_ref`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from komt_convert.kernels.compile import Kernel
from komt_convert.kernels.packing import Bytes, as_bytes
from komt_convert.kernels.tools import F, half
from komt_convert.tensors import FloatArray

_BLOCK = 32
_HALF, _MOST = F(0.5), F(127)
_NO_SIGN = np.int32(0x7FFFFFFF)


def quantize(rows: FloatArray) -> Bytes:
    blocks = rows.reshape(-1, _BLOCK)
    out = np.empty((len(blocks), 2 + _BLOCK), np.uint8)
    scales = np.empty(len(blocks), F)
    _fit(blocks, blocks.view(np.int32), scales, out)
    out[:, :2] = as_bytes(half(scales))
    return out


@Kernel
def _fit(blocks: FloatArray, bits: Any, scales: FloatArray, out: Bytes) -> None:
    """The scale of every block, and its levels from the third byte of its row on.

    `bits` are the same numbers as integers: without its sign a float is larger where its bits are,
    and only the largest integer is searched for with vectors.
    """
    for block in range(len(blocks)):
        largest = np.int32(0)
        for i in range(_BLOCK):
            size = bits[block, i] & _NO_SIGN
            largest = size if size > largest else largest
        scales[block] = np.int32(largest).view(F) / _MOST
        inverse = F(1) / scales[block] if scales[block] > 0 else F(0)
        if inverse == np.inf:
            inverse = F(0)  # C has no level for infinity; what x86 makes of it ends in a zero byte
        for i in range(_BLOCK):
            number = blocks[block, i] * inverse
            level = np.int32(number)
            rest = number - F(level)  # roundf: halves go away from zero
            level += np.int32(rest >= _HALF) - np.int32(rest <= -_HALF)
            out[block, 2 + i] = np.uint8(level & np.int32(255))
