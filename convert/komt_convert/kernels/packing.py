"""How K-quants put levels into bytes: values that lie some places apart share a byte."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from komt_convert.kernels.compile import Kernel

Bytes = NDArray[np.uint8]


def pack(levels: Bytes, bits: int, apart: int = 32, shift: int = 0) -> Bytes:
    """`bits` of each level, those from `shift` on, of 256 levels each: (n, 32 * bits).

    Byte i of a group holds the levels i, i + `apart`, i + 2 * `apart` ..., from its low bits up.
    """
    words = levels.reshape(-1, 256).view(np.uint64)
    packed = np.empty((len(words), 4 * bits), np.uint64)
    mask = np.uint64(0x0101010101010101 * ((1 << bits) - 1))
    _pack(words, np.uint64(bits), mask, apart // 8, np.uint64(shift), packed)
    return packed.view(np.uint8)


@Kernel
def _pack(words: Any, bits: Any, mask: Any, apart: int, shift: Any, packed: Any) -> None:
    """Eight bytes at once; the mask keeps the bits of one from the next."""
    n, n_packed = packed.shape
    n_parts = words.shape[1] // n_packed
    for block in range(n):
        for group in range(n_packed // apart):
            for i in range(apart):
                word = np.uint64(0)
                for part in range(n_parts):
                    level = (words[block, (group * n_parts + part) * apart + i] >> shift) & mask
                    word |= level << (bits * np.uint64(part))
                packed[block, group * apart + i] = word


def pack_6_bits(scales: Bytes, minima: Bytes) -> Bytes:
    """Eight scales and eight minima of 6 bits as 12 bytes, as `get_scale_min_k4` reads them."""
    low = scales[:, :4] | (scales[:, 4:] >> 4 << 6), minima[:, :4] | (minima[:, 4:] >> 4 << 6)
    return np.concatenate([*low, (scales[:, 4:] & 15) | (minima[:, 4:] << 4)], axis=1)


def as_bytes(numbers: NDArray[np.float16]) -> Bytes:
    return numbers.view(np.uint8).reshape(-1, 2)
