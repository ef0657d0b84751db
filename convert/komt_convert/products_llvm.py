"""What `products.by_numpy` computes, as machine code that LLVM makes of the IR in `products.ll`.

Numba would make it of Python, but takes a quarter of a second to be imported, five times as long as
all of this, and its code is slower. llvmlite is what Numba itself compiles with.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm

from komt_convert.products import TILE, by_numpy
from komt_convert.tensors import FloatArray

_IR = Path(__file__).with_name("products.ll")


def _compile() -> tuple[llvm.ExecutionEngine, Callable[..., None]]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_IR.read_text("ascii")), machine)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    prototype = ctypes.CFUNCTYPE(
        None, pointer, number, number, pointer, number, pointer, number, number
    )
    return engine, prototype(engine.get_function_address("add"))


_engine, _add = _compile()  # the code lives as long as its engine


def add_product(rows: FloatArray, left: FloatArray, tiles: FloatArray) -> None:
    (n_rows, row_length), rank = rows.shape, left.shape[1]
    if left.shape[0] != n_rows or tiles.shape != (-(-row_length // TILE), rank, TILE):
        raise ValueError(rows.shape, left.shape, tiles.shape)  # which the code trusts
    n_whole = row_length // TILE
    if n_rows and n_whole and rank:
        values, tile = left.ctypes.data, tiles.ctypes.data
        _add(rows.ctypes.data, n_rows, row_length, values, rank, tile, n_whole, TILE)
    if n_whole < len(tiles):
        by_numpy(rows[:, n_whole * TILE :], left, tiles[n_whole:])
