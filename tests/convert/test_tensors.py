"""Safetensors: exact values, by rows, from many threads; and files that are not what they say."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from checkpoints import noise, write_safetensors
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.tensors import from_array, permute_rows, read_safetensors, to_float32


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_values_are_those_of_the_safetensors_library(dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"b": noise((7, 5), 1), "a": noise((3,), 2)}, dtype)
    expected = load_file(path)
    tensors = read_safetensors(path)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        values = expected[name].float().numpy()
        assert tensor.shape == values.shape
        assert tensor.dtype == dtype
        found = tensor.read(0, tensor.n_rows)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values.reshape(-1, tensor.row_length))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_16_bit_pattern_is_exact(dtype: str) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    kind = torch.float16 if dtype == "F16" else torch.bfloat16
    expected = torch.from_numpy(bits.view(np.int16).copy()).view(kind).float().numpy()
    np.testing.assert_array_equal(to_float32(bits.view(np.uint8), dtype), expected)


@settings(deadline=None)
@given(data=st.data())
def test_any_range_of_rows(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    n_rows, n_columns = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 9))
    values = noise((n_rows, n_columns), 3)
    path = tmp_path_factory.mktemp("rows") / "a.safetensors"
    write_safetensors(path, {"first": noise((5,), 4), "x": values}, "F32")
    tensor = read_safetensors(path)["x"]
    order = np.array(data.draw(st.permutations(range(n_rows))), dtype=np.intp)
    start = data.draw(st.integers(0, n_rows))
    stop = data.draw(st.integers(start, n_rows))
    np.testing.assert_array_equal(tensor.read(start, stop), values[start:stop])
    np.testing.assert_array_equal(
        permute_rows(tensor, order).read(start, stop), values[order][start:stop]
    )


def test_a_vector_is_permuted_by_its_values() -> None:
    vector = from_array("v", np.arange(4, dtype=np.float32))
    order = np.array([2, 0, 3, 1], dtype=np.intp)
    assert permute_rows(vector, order).read(0, 1).tolist() == [[2, 0, 3, 1]]


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    values = noise((2000, 64), 5)
    write_safetensors(tmp_path / "a.safetensors", {"x": values}, "F32")
    tensor = read_safetensors(tmp_path / "a.safetensors")["x"]
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda start: tensor.read(start, start + 10), range(0, 2000, 10))
        np.testing.assert_array_equal(np.concatenate(list(parts)), values)


# --- files that are not what they say ------------------------------------------------------------


def file_with(header: bytes | dict[str, Any], data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(start: int = 0, stop: int = 8, **changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [start, stop], **changes}


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "its header is cut short"),
    "seven bytes": (b"1234567", "its header is cut short"),
    "a header longer than the file": (struct.pack("<Q", 100) + b"{}", "its header is cut short"),
    "a header of 2**62 bytes": (struct.pack("<Q", 2**62) + b"{}", "its header is cut short"),
    "no JSON": (file_with(b"PK\3\4"), "its header is not JSON"),
    "not UTF-8": (file_with(b'{"\xff": 1}'), "its header is not JSON"),
    "deep": (file_with(b"[" * 100_000), "its header is not JSON"),
    "a huge number": (file_with(b'{"a": ' + b"9" * 5000 + b"}"), "its header is not JSON"),
    "a list": (file_with(b"[]"), "not a JSON object"),
    "a name twice": (
        file_with(b'{"a":%b,"a":%b}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
        "it names 'a' twice",
    ),
    "an entry that is a number": (file_with({"a": 1}), "'a' makes no sense"),
    "no shape": (file_with({"a": {"dtype": "F32"}}), "'a' makes no sense"),
    "a negative size": (file_with({"a": entry(shape=[-2])}, bytes(8)), "'a' makes no sense"),
    "a size of 2**63": (file_with({"a": entry(shape=[2**63])}, bytes(8)), "'a' makes no sense"),
    "a size that is text": (file_with({"a": entry(shape=["2"])}, bytes(8)), "'a' makes no sense"),
    "true as a size": (file_with({"a": entry(shape=[True])}, bytes(8)), "'a' makes no sense"),
    "three offsets": (
        file_with({"a": entry(data_offsets=[0, 4, 8])}, bytes(8)),
        "'a' makes no sense",
    ),
    "a shape that does not fit": (file_with({"a": entry(shape=[3])}, bytes(8)), "do not fit F32"),
    "offsets the wrong way": (file_with({"a": entry(8, 0)}, bytes(8)), "do not fit F32"),
    "cut off": (file_with({"a": entry()}, bytes(7)), "'a' lies beyond its end"),
    "offsets far outside": (file_with({"a": entry(2**40, 2**40 + 8)}, bytes(8)), "beyond its end"),
    "overlapping": (
        file_with({"a": entry(), "b": entry(4, 12)}, bytes(12)),
        "'b' does not begin where 'a' ends",
    ),
    "the same place twice": (
        file_with({"a": entry(), "b": entry()}, bytes(8)),
        "'b' does not begin where 'a' ends",
    ),
    "a gap": (
        file_with({"a": entry(), "b": entry(12, 20)}, bytes(20)),
        "'b' does not begin where 'a' ends",
    ),
    "more data than tensors": (file_with({"a": entry()}, bytes(9)), "after its last tensor"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    content, sentence = DAMAGED[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(SourceError) as error:
        read_safetensors(path)
    assert str(path) in str(error.value)
    assert sentence in str(error.value)
    assert str(path) in error.value.ko


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), data=st.data())
def test_a_cut_or_flipped_file_is_read_or_refused(
    seed: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("hostile") / "a.safetensors"
    write_safetensors(path, {"b": noise((3, 4), seed), "a": noise((2,), seed)}, "F16")
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        tensors = read_safetensors(path)
    except SourceError:
        return
    assert all(t.dtype not in ("F16", "F32") or t.read(0, t.n_rows).size for t in tensors.values())


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"x": noise((4, 4), 6)}, "F32")
    tensor = read_safetensors(path)["x"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SourceError, match="became shorter"):
        tensor.read(0, 4)


INTEGERS: dict[str, Callable[[], torch.Tensor]] = {
    "I32": lambda: torch.zeros(2, 2, dtype=torch.int32),
    "U8": lambda: torch.zeros(2, 2, dtype=torch.uint8),
    "F64": lambda: torch.zeros(2, 2, dtype=torch.float64),
    "F8_E4M3": lambda: torch.zeros(2, 2, dtype=torch.float8_e4m3fn),
}


@pytest.mark.parametrize("dtype", INTEGERS)
def test_other_dtypes_are_listed_but_not_read(dtype: str, tmp_path: Path) -> None:
    save_file({"x": INTEGERS[dtype]()}, tmp_path / "a.safetensors")
    tensor = read_safetensors(tmp_path / "a.safetensors")["x"]
    assert tensor.shape == (2, 2)
    with pytest.raises(UnsupportedError, match=f"'x' has the dtype {dtype}"):
        tensor.read(0, 1)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_what_was_read_may_be_changed_or_cannot(dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": noise((6, 4), 1)}, dtype)
    stored = read_safetensors(path)["a"]
    for tensor in (stored, permute_rows(stored, np.arange(6)), from_array("b", noise((6, 4), 2))):
        before = tensor.read(0, 6).copy()
        rows = tensor.read(0, 6)
        if rows.flags.writeable:
            rows[:] = 7
        np.testing.assert_array_equal(tensor.read(0, 6), before)
