"""The vectorized kernels: ggml's bytes on rows of every kind, or ggml does the work."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from komt_convert import ggml, kernels
from komt_convert.tensor_types import BY_NAME
from komt_convert.tensors import FloatArray

OURS = sorted(kernels.TYPES)
F = np.float32


def bytes_of_both(name: str, rows: FloatArray) -> tuple[np.ndarray, np.ndarray]:
    """(ours, ggml's), a row for each super-block."""
    type_ = BY_NAME[name]
    ours = kernels.Kernels({name: kernels._load(type_)}).quantize(type_, rows)
    return (
        ours.reshape(-1, type_.block_bytes),
        ggml.quantize(type_, rows).reshape(-1, type_.block_bytes),
    )


def assert_same(name: str, rows: FloatArray) -> None:
    ours, theirs = bytes_of_both(name, rows)
    differ = np.flatnonzero((ours != theirs).any(axis=1))
    assert differ.size == 0, (
        f"{differ.size} of {len(ours)}, the first {rows.reshape(-1, 256)[differ[0]]}"
    )


def scaled(rows: FloatArray, by: float) -> FloatArray:
    limit = np.finfo(F).max
    return np.clip(rows.astype(np.float64) * by, -limit, limit).astype(F)


def kinds(seed: int) -> dict[str, FloatArray]:
    random = np.random.default_rng(seed)
    normal = random.standard_normal((24, 512), F)
    bits = random.integers(0, 1 << 32, normal.shape, np.uint32).view(F)
    outliers = normal.copy()
    outliers[:, ::100] *= 1000
    return {
        "normal": normal * F(0.02),
        "heavy-tailed": (random.standard_t(1.2, normal.shape) * 0.01).astype(F),
        "outliers": outliers,
        "tiny": scaled(normal, 1e-20),
        "at the edge of float16": scaled(normal, 3e-7),
        "at the edge of zero": scaled(normal, 1e-15),
        "denormal": scaled(normal, 1e-41),
        "huge": scaled(normal, 1e6),
        "too huge to square": scaled(normal, 1e25),
        "up to the largest": scaled(normal, 1e38),
        "constant": np.repeat(normal[:, :1], 512, axis=1),
        "nearly constant": normal[:, :1] * (1 + normal * F(1e-7)),
        "zero": np.zeros_like(normal),
        "negative zero": -np.zeros_like(normal),
        "positive": abs(normal),
        "negative": -abs(normal),
        "mostly zero": normal * (random.random(normal.shape) < 0.02).astype(F),
        "zero cells": normal * np.repeat(random.random((24, 32)) < 0.3, 16, axis=1),
        "cells of all sizes": scaled(normal, 1) * np.repeat(
            (10.0 ** random.integers(-30, 30, (24, 32))).astype(F), 16, axis=1
        ),
        "few values": np.round(normal * 3) / F(8),
        "bf16": (normal.view(np.uint32) & np.uint32(0xFFFF0000)).view(F),
        "any bits": np.where(np.isfinite(bits), bits, F(0)),
    }  # fmt: skip


@pytest.mark.parametrize("kind", kinds(0))
@pytest.mark.parametrize("name", OURS)
def test_bytes_are_those_of_ggml(name: str, kind: str) -> None:
    for seed in range(3):
        assert_same(name, kinds(seed)[kind])


@pytest.mark.parametrize("name", OURS)
@settings(deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    shift=st.floats(-3, 3, width=32),
    exponent=st.integers(-44, 37),
    levels=st.sampled_from([0, 1, 3, 30]),
    kept=st.floats(0, 1),
)
def test_bytes_are_those_of_ggml_for_any_mixture(
    name: str, seed: int, shift: float, exponent: int, levels: int, kept: float
) -> None:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((2, 768), F) + F(shift)
    rows = np.round(rows * levels) / F(levels) if levels else rows
    rows *= random.random(rows.shape) <= kept
    assert_same(name, scaled(rows, 10.0**exponent))


@pytest.mark.parametrize("name", OURS)
def test_one_block_and_a_row_that_cannot_be_written_to(name: str) -> None:
    rows = np.random.default_rng(5).standard_normal((1, 256), F)
    rows.flags.writeable = False
    assert_same(name, rows)


def test_the_self_check_finds_all_kernels_right_here() -> None:
    assert all(kernels.agrees(BY_NAME[name]) for name in OURS)
    assert sum(rows.size for rows in kernels.sample_rows(2048)) >= 2048 * 256
    assert {rows.dtype for rows in kernels.sample_rows(64)} == {np.dtype(F)}


# --- who does the work ----------------------------------------------------------------------------

MANY = {BY_NAME["Q4_K"]: kernels.WORTHWHILE, BY_NAME["Q4_0"]: 5, BY_NAME["F32"]: 7}


def makers() -> dict[str, str]:
    return dict(kernels.choose(MANY).makers(MANY))


def test_numba_does_what_it_can() -> None:
    assert makers() == {"Q4_K": "numba", "Q4_0": "ggml"}


def test_what_ggml_does_quickly_is_worthwhile_only_when_there_is_much() -> None:
    few, many = ({BY_NAME["Q8_0"]: n * kernels.WORTHWHILE} for n in (2, 20))
    assert kernels.choose(few) is kernels.GGML
    assert dict(kernels.choose(many).makers(many)) == {"Q8_0": "numba"}


def test_little_is_left_to_ggml() -> None:
    few = {BY_NAME["Q4_K"]: kernels.WORTHWHILE - 1, BY_NAME["F16"]: 1 << 40}
    assert kernels.choose(few) is kernels.GGML


@pytest.fixture
def unchecked() -> object:
    kernels.agrees.cache_clear()
    yield
    kernels.agrees.cache_clear()


def test_a_kernel_that_differs_is_not_used(
    unchecked: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("komt_convert.kernels.q4_k")
    right = module.quantize

    def off_by_one(rows: FloatArray) -> np.ndarray:
        data = right(rows)
        data[-1, -1] ^= 1
        return data

    monkeypatch.setattr(module, "quantize", off_by_one)
    assert makers()["Q4_K"] == "ggml"


def test_without_numba_ggml_does_the_work() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from komt_convert import kernels; from komt_convert.tensor_types import BY_NAME\n"
        "assert kernels.choose({BY_NAME['Q4_K']: 1 << 30}) == kernels.GGML"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numba_is_not_imported_for_what_it_does_not_do() -> None:
    code = (
        "import sys; from komt_convert import kernels\n"
        "from komt_convert.tensor_types import BY_NAME\n"
        "kernels.choose({BY_NAME['Q4_0']: 1 << 40, BY_NAME['Q4_K']: 100})\n"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


RAISING = "{} = lambda *arguments: (_ for _ in ()).throw({})"
UNWRITABLE = """
import sys
import numba.core.caching as caching
{sabotage}
import numpy as np
from komt_convert.kernels import packing
levels = np.arange(256, dtype=np.uint8) & 15
packed = packing.pack(levels, 4)[0, :32]
sys.exit(not np.array_equal(packed, levels[:32] | levels[32:64] << 4))
"""


@pytest.mark.parametrize(
    "sabotage",
    [
        "caching.CacheImpl._locator_classes = []",
        "caching.IndexDataCacheFile." + RAISING.format("save", "OSError(28)"),
        "caching.IndexDataCacheFile." + RAISING.format("load", "EOFError()"),
    ],
    ids=["no place", "full disk", "damaged"],
)
def test_a_cache_that_does_not_work_costs_time_only(sabotage: str, tmp_path: Path) -> None:
    code = UNWRITABLE.format(sabotage=sabotage)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
