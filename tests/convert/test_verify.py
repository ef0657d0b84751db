"""The proof of the tensors: it notices what is wrong, and is not alarmed by odd weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from komt_convert import ggml, verify, writer
from komt_convert.errors import ConvertError, VerificationError
from komt_convert.metadata import text
from komt_convert.output import replacing
from komt_convert.recipes import FILE_TYPES
from komt_convert.report import Progress
from komt_convert.tensor_types import BY_NAME
from komt_convert.tensors import FloatArray, Tensor, from_array
from komt_convert.verify import BOUNDS, verify_tensors
from komt_convert.writer import Placed, Plan, plan, write

# ggml takes long to build its table for IQ1_M.
MADE = sorted({kind.default.name for kind in FILE_TYPES.values()} - {"IQ1_M"})
QUANTIZED = [name for name in MADE if BY_NAME[name].is_quantized]


def random_values(rows: int = 40, length: int = 256) -> FloatArray:
    return np.random.default_rng(5).standard_normal((rows, length), np.float32) / 50


def written(path: Path, type_name: str, values: FloatArray) -> Plan:
    tensors = [from_array("a.weight", values), from_array("b.weight", values[:1, :7])]
    types = {"a.weight": BY_NAME[type_name], "b.weight": BY_NAME["F32"]}
    alike = {"a.weight": np.ones(values.shape[1], np.float32)}  # some types must have weights
    layout = plan({"general.architecture": text("llama")}, tensors, types, alike)
    with replacing(path, force=True) as output:
        write(layout, output, threads=2)
        output.commit()
    return layout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def test_types_of_three_bits_and_more_have_a_bound() -> None:
    few_bits = {name for name in QUANTIZED if name[:2] == "TQ" or "Q1" in name or "Q2" in name}
    assert set(QUANTIZED) - set(BOUNDS) == few_bits - {"Q2_K"} | {"IQ3_XXS"}
    assert max(bound.relative for bound in BOUNDS.values()) < 1.0


@pytest.mark.parametrize("name", MADE)
def test_a_good_file_is_proved_with_its_errors(name: str, path: Path) -> None:
    steps: list[Progress] = []
    layout = written(path, name, random_values())
    proof = verify_tensors(path, layout, threads=2, on_progress=steps.append)
    assert proof.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    errors = {error.type: error for error in proof.errors}
    assert set(errors) == {name, "F32"}
    assert errors[name].n_tensors == (2 if name == "F32" else 1)
    if name in BOUNDS:
        assert 0 < errors[name].relative < BOUNDS[name].relative / 2
    elif name in QUANTIZED:
        assert 0 < errors[name].relative < 1
    else:
        assert errors[name].relative == 0
    assert (steps[-1].done, steps[-1].total) == (layout.size, layout.size)


Damage = Callable[[bytearray, Placed], None]


def swap_two_rows(raw: bytearray, placed: Placed) -> None:
    start, row = placed.offset, placed.row_bytes
    last = start + placed.n_bytes - row
    raw[start : start + row], raw[last : last + row] = (
        raw[last : last + row],
        raw[start : start + row],
    )


def zeros(raw: bytearray, placed: Placed) -> None:
    raw[placed.offset : placed.offset + placed.n_bytes] = bytes(placed.n_bytes)


def shift_by_a_row(raw: bytearray, placed: Placed) -> None:
    end, row = placed.offset + placed.n_bytes, placed.row_bytes
    raw[placed.offset + row : end] = raw[placed.offset : end - row]


@pytest.mark.parametrize("damage", [swap_two_rows, zeros, shift_by_a_row])
@pytest.mark.parametrize("name", MADE)
def test_rows_that_are_not_their_source_are_noticed(
    name: str, damage: Damage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK_VALUES", 1024)
    layout = written(path, name, random_values())
    raw = bytearray(path.read_bytes())
    damage(raw, next(p for p in layout.tensors if p.tensor.name == "a.weight"))
    path.write_bytes(raw)
    with pytest.raises(VerificationError, match="of tensor 'a.weight' does not have") as caught:
        verify_tensors(path, layout, threads=2)
    assert "'a.weight'" in caught.value.ko


@pytest.mark.parametrize("name", QUANTIZED)
def test_values_that_are_twice_as_large_are_noticed(name: str, path: Path) -> None:
    values = random_values()
    layout = written(path, name, values)
    shrunk = from_array("a.weight", values / 2)
    tensors = (replace(layout.tensors[0], tensor=shrunk), layout.tensors[1])
    with pytest.raises(VerificationError):
        verify_tensors(path, replace(layout, tensors=tensors), threads=1)


def test_each_chunk_is_looked_into(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK_VALUES", 8 * 256)
    values = random_values(rows=80)
    layout = written(path, "F16", values)
    read: set[int] = set()

    def note(start: int, stop: int) -> FloatArray:
        read.update(range(start, stop))
        return values[start:stop]

    watched = replace(layout.tensors[0], tensor=Tensor("a.weight", (80, 256), "F32", note))
    verify_tensors(path, replace(layout, tensors=(watched, layout.tensors[1])), threads=1)
    assert {row // 8 for row in read} == set(range(10))
    assert {0, 79} <= read
    assert len(read) < 20


@pytest.mark.parametrize("position", [9, 30, 60])
def test_another_header_is_noticed(position: int, path: Path) -> None:
    layout = written(path, "Q8_0", random_values())
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ConvertError):
        verify_tensors(path, layout, threads=1)


def test_a_file_of_another_size_is_noticed(path: Path) -> None:
    layout = written(path, "Q8_0", random_values())
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(VerificationError, match="header"):
        verify_tensors(path, layout, threads=1)


rows_of_any_kind = st.one_of(
    arrays(np.float32, (2, 256), elements=st.floats(-1, 1, width=32)),
    arrays(np.float32, (2, 256), elements=st.floats(0, 1, width=32)),
    arrays(np.float32, (2, 256), elements=st.floats(-(2**-14), 2**-14, width=32)),
    arrays(np.float32, (2, 256), elements=st.floats(-(2**-24), 2**-24, width=32)),
    arrays(np.float32, (2, 256), elements=st.sampled_from([0.0, 1.0, -1.0, 1e-3, 50.0])),
    arrays(np.float32, (2, 256), elements=st.floats(-1000, 1000, width=32), fill=st.just(0.0)),
    st.builds(
        lambda seed, power, offset: (
            np.random.default_rng(seed).standard_t(2, (2, 256)) * 10.0**power + offset
        ).astype(np.float32),
        st.integers(0, 10**6),
        st.integers(-6, 1),
        st.sampled_from([0.0, 0.0, 0.5, -3.0]),
    ),
)


@pytest.mark.parametrize("name", QUANTIZED)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(values=rows_of_any_kind)
def test_odd_weights_are_no_reason_for_alarm(name: str, values: FloatArray) -> None:
    type_ = BY_NAME[name]
    ones = np.ones(values.shape[1], np.float32)
    placed = Placed(from_array("a.weight", values), type_, 0, ones)
    data = ggml.quantize(type_, values, ones)
    for row in range(2):
        verify._compare_row(placed, row, values[row : row + 1], data[row])
