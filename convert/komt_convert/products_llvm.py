"""What `products.by_numpy` computes, as machine code that LLVM makes of the lines of IR below.

Numba would make it of Python, but takes a quarter of a second to be imported, five times as long as
all of this, and its code is slower. llvmlite is what Numba itself compiles with.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import llvmlite.binding as llvm

from komt_convert.products import TILE, by_numpy
from komt_convert.tensors import FloatArray

_STRIP = 64  # columns of a tile that are summed at once, in as many registers as that takes
_VECTOR = f"<{_STRIP} x float>"
_IR = f"""
define void @add(ptr %rows, i64 %n_rows, i64 %row_length, ptr %left, i64 %rank,
                 ptr %tiles, i64 %n_tiles) {{
entry:
  %tile_size = mul i64 %rank, {TILE}
  br label %tile_begins

tile_begins:
  %tile = phi i64 [0, %entry], [%next_tile, %tile_ends]
  %tile_at = mul i64 %tile, %tile_size
  %tile_p = getelementptr float, ptr %tiles, i64 %tile_at
  %column = mul i64 %tile, {TILE}
  %column_p = getelementptr float, ptr %rows, i64 %column
  br label %row_begins

row_begins:
  %row = phi i64 [0, %tile_begins], [%next_row, %row_ends]
  %row_at = mul i64 %row, %row_length
  %row_p = getelementptr float, ptr %column_p, i64 %row_at
  %left_at = mul i64 %row, %rank
  %left_p = getelementptr float, ptr %left, i64 %left_at
  br label %strip_begins

strip_begins:
  %strip = phi i64 [0, %row_begins], [%next_strip, %strip_ends]
  %strip_p = getelementptr float, ptr %tile_p, i64 %strip
  br label %product

product:
  %k = phi i64 [0, %strip_begins], [%next_k, %product]
  %sums = phi {_VECTOR} [zeroinitializer, %strip_begins], [%next_sums, %product]
  %factor_p = getelementptr float, ptr %left_p, i64 %k
  %factor = load float, ptr %factor_p
  %first = insertelement {_VECTOR} poison, float %factor, i64 0
  %factors = shufflevector {_VECTOR} %first, {_VECTOR} poison, <{_STRIP} x i32> zeroinitializer
  %values_at = mul i64 %k, {TILE}
  %values_p = getelementptr float, ptr %strip_p, i64 %values_at
  %values = load {_VECTOR}, ptr %values_p, align 4
  %products = fmul {_VECTOR} %factors, %values
  %next_sums = fadd {_VECTOR} %sums, %products
  %next_k = add i64 %k, 1
  %is_product = icmp ult i64 %next_k, %rank
  br i1 %is_product, label %product, label %strip_ends

strip_ends:
  %target_p = getelementptr float, ptr %row_p, i64 %strip
  %target = load {_VECTOR}, ptr %target_p, align 4
  %total = fadd {_VECTOR} %target, %next_sums
  store {_VECTOR} %total, ptr %target_p, align 4
  %next_strip = add i64 %strip, {_STRIP}
  %is_strip = icmp ult i64 %next_strip, {TILE}
  br i1 %is_strip, label %strip_begins, label %row_ends

row_ends:
  %next_row = add i64 %row, 1
  %is_row = icmp ult i64 %next_row, %n_rows
  br i1 %is_row, label %row_begins, label %tile_ends

tile_ends:
  %next_tile = add i64 %tile, 1
  %is_tile = icmp ult i64 %next_tile, %n_tiles
  br i1 %is_tile, label %tile_begins, label %end

end:
  ret void
}}
"""
"""rows[:, : n_tiles * TILE] += left · tiles, where none of the numbers is zero.

Without fast-math flags LLVM neither reorders operations nor fuses them:
https://llvm.org/docs/LangRef.html#fast-math-flags.
"""


def _compile() -> tuple[llvm.ExecutionEngine, Callable[..., None]]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_IR), machine)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    prototype = ctypes.CFUNCTYPE(None, pointer, number, number, pointer, number, pointer, number)
    return engine, prototype(engine.get_function_address("add"))


_engine, _add = _compile()  # the code lives as long as its engine


def add_product(rows: FloatArray, left: FloatArray, tiles: FloatArray) -> None:
    (n_rows, row_length), rank = rows.shape, left.shape[1]
    if left.shape[0] != n_rows or tiles.shape != (-(-row_length // TILE), rank, TILE):
        raise ValueError("these shapes do not fit, and the code below trusts them")
    n_whole = row_length // TILE
    if n_rows and n_whole and rank:
        values, tile = left.ctypes.data, tiles.ctypes.data
        _add(rows.ctypes.data, n_rows, row_length, values, rank, tile, n_whole)
    if n_whole < len(tiles):
        by_numpy(rows[:, n_whole * TILE :], left, tiles[n_whole:])
