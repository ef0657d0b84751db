"""The types that tensors have in a GGUF file: name, number, and how many bytes a block takes.

A type stores `block` values in `block_bytes` bytes; a row is a whole number of blocks. The numbers
are those of `enum ggml_type`, the sizes those of ggml-common.h at llama.cpp 0c1e5709; a test holds
them to the library that is installed. Nothing here reads, writes or quantizes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorType:
    name: str
    number: int
    block: int
    block_bytes: int

    def row_bytes(self, n_values: int) -> int:
        """Bytes of a row of `n_values`, which must be a multiple of `block`."""
        return n_values // self.block * self.block_bytes

    @property
    def is_quantized(self) -> bool:
        """Whether values share a scale; F32, F16 and BF16 store them one by one."""
        return self.block > 1


_TABLE = (
    ("F32", 0, 1, 4),
    ("F16", 1, 1, 2),
    ("Q4_0", 2, 32, 18),
    ("Q4_1", 3, 32, 20),
    ("Q5_0", 6, 32, 22),
    ("Q5_1", 7, 32, 24),
    ("Q8_0", 8, 32, 34),
    ("Q8_1", 9, 32, 36),
    ("Q2_K", 10, 256, 84),
    ("Q3_K", 11, 256, 110),
    ("Q4_K", 12, 256, 144),
    ("Q5_K", 13, 256, 176),
    ("Q6_K", 14, 256, 210),
    ("Q8_K", 15, 256, 292),
    ("IQ2_XXS", 16, 256, 66),
    ("IQ2_XS", 17, 256, 74),
    ("IQ3_XXS", 18, 256, 98),
    ("IQ1_S", 19, 256, 50),
    ("IQ4_NL", 20, 32, 18),
    ("IQ3_S", 21, 256, 110),
    ("IQ2_S", 22, 256, 82),
    ("IQ4_XS", 23, 256, 136),
    ("I8", 24, 1, 1),
    ("I16", 25, 1, 2),
    ("I32", 26, 1, 4),
    ("I64", 27, 1, 8),
    ("F64", 28, 1, 8),
    ("IQ1_M", 29, 256, 56),
    ("BF16", 30, 1, 2),
    ("TQ1_0", 34, 256, 54),
    ("TQ2_0", 35, 256, 66),
    ("MXFP4", 39, 32, 17),
    ("NVFP4", 40, 64, 36),
    ("Q1_0", 41, 128, 18),
    ("Q2_0", 42, 64, 18),
)

BY_NUMBER = {number: TensorType(name, number, *sizes) for name, number, *sizes in _TABLE}
BY_NAME = {type_.name: type_ for type_ in BY_NUMBER.values()}
