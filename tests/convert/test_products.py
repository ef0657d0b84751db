"""What an adapter adds: the same bits by numpy and by LLVM, however the rows are cut."""

from __future__ import annotations

import sys
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from komt_convert import products
from komt_convert.tensors import FloatArray


def parts(seed: int, n_rows: int, rank: int, n_columns: int) -> tuple[FloatArray, ...]:
    """rows, left, right."""
    random = np.random.default_rng(seed)
    sizes = ((n_rows, n_columns), (n_rows, rank), (rank, n_columns))
    return tuple(random.standard_normal(size, np.float32) for size in sizes)


def added(add: products.AddProduct, rows: FloatArray, *product: FloatArray) -> FloatArray:
    changed = rows.copy()
    add(changed, *product)
    return changed


SHAPES = {"seed": st.integers(0, 1 << 30), "n_rows": st.integers(0, 70), "rank": st.integers(0, 50),
          "n_columns": st.integers(1, 600)}  # fmt: skip


@settings(deadline=None)
@given(**SHAPES)
def test_llvm_gives_the_bits_of_numpy(seed: int, n_rows: int, rank: int, n_columns: int) -> None:
    rows, left, right = parts(seed, n_rows, rank, n_columns)
    compiled = import_module("komt_convert.products_llvm").add_product
    ours = added(compiled, rows, left, products.tiles(right))
    theirs = added(products.by_numpy, rows, left, products.tiles(right))
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@settings(deadline=None)
@given(**SHAPES, cut=st.integers(0, 70))
def test_a_row_does_not_depend_on_its_neighbours(
    seed: int, n_rows: int, rank: int, n_columns: int, cut: int
) -> None:
    rows, left, right = parts(seed, n_rows, rank, n_columns)
    whole = added(products.by_numpy, rows, left, products.tiles(right))
    pieces = [
        added(products.by_numpy, rows[piece], left[piece], products.tiles(right))
        for piece in (slice(cut), slice(cut, None))
    ]
    assert np.array_equal(whole, np.concatenate(pieces))


@settings(deadline=None)
@given(**SHAPES)
def test_the_sum_is_right(seed: int, n_rows: int, rank: int, n_columns: int) -> None:
    rows, left, right = parts(seed, n_rows, rank, n_columns)
    expected = rows + left.astype(np.float64) @ right
    found = added(products.by_numpy, rows, left, products.tiles(right))
    assert np.abs(found - expected).max(initial=0) <= 1e-5 * rank


@pytest.mark.parametrize(
    ("left", "right"),
    [((5, 3), (3, 600)), ((4, 3), (2, 600)), ((4, 3), (3, 300)), ((4, 3), (3, 900))],
)
def test_machine_code_sees_no_shapes_that_do_not_fit(
    left: tuple[int, int], right: tuple[int, int]
) -> None:
    rows, wrong, other = (np.zeros(shape, np.float32) for shape in ((4, 600), left, right))
    compiled = import_module("komt_convert.products_llvm").add_product
    with pytest.raises(ValueError):
        compiled(rows, wrong, products.tiles(other))


def test_much_is_added_by_llvm_and_little_by_numpy() -> None:
    compiled = import_module("komt_convert.products_llvm").add_product
    assert products.adder(1 << 30) is compiled
    assert products.adder(1 << 20) is products.by_numpy


@pytest.fixture
def unchecked() -> object:
    products._compiled.cache_clear()
    yield
    products._compiled.cache_clear()


def test_a_kernel_that_differs_is_not_used(
    unchecked: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fused(rows: FloatArray, left: FloatArray, tiles: FloatArray) -> None:
        rows += (left.astype(np.float64) @ np.hstack(list(tiles)))[:, : rows.shape[1]]

    monkeypatch.setattr("komt_convert.products_llvm.add_product", fused)
    assert products.adder(1 << 30) is products.by_numpy


def test_without_llvmlite_numpy_does_the_work(
    unchecked: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "komt_convert.products_llvm", None)
    assert products.adder(1 << 30) is products.by_numpy
