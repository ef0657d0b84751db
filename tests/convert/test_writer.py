"""Written files: what the gguf package reads in them, and llama.cpp's quantizer as the judge."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_quantizer import (
    Shapes,
    Sizes,
    llama_metadata,
    llama_quantize,
    llama_shapes,
    random_tensors,
    random_values,
)

from komt_convert import writer
from komt_convert.errors import ConvertError, QuantizationError, SourceError
from komt_convert.gguf_file import check
from komt_convert.kernels import GGML, Kernels, choose
from komt_convert.metadata import Metadata, f32s, flag, i32, i32s, text, texts, u32, u32s, u64
from komt_convert.output import replacing
from komt_convert.recipes import FILE_TYPES, Model, choose_types, override
from komt_convert.report import Progress
from komt_convert.tensors import FloatArray, Tensor, from_array
from komt_convert.writer import plan, write

SIZES = Sizes(layers=8, width=256, ffn=256, heads=8, kv_heads=2, vocab=96)
MODEL = Model("llama", SIZES.layers, SIZES.heads, SIZES.kv_heads)


def write_file(
    path: Path,
    tensors: Iterable[Tensor],
    file_type: str = "F32",
    *,
    metadata: Metadata | None = None,
    model: Model = MODEL,
    imatrix: Mapping[str, FloatArray] | None = None,
    overrides: Iterable[str] = (),
    kernels: Kernels = GGML,
    threads: int = 2,
    progress: Any = None,
) -> Path:
    tensors = list(tensors)
    kind = FILE_TYPES[file_type]
    types = choose_types(
        {tensor.name: tensor.shape for tensor in tensors},
        model,
        kind,
        overrides=[override(text) for text in overrides],
        imatrix=imatrix is not None,
    )
    given = llama_metadata(SIZES) if metadata is None else metadata
    given = {**given, "general.file_type": u32(kind.number)}
    layout = plan(given, tensors, types, imatrix or {})
    with replacing(path, force=True) as output:
        write(layout, output, threads=threads, kernels=kernels, on_progress=progress)
        output.commit()
    return path


def tensor_bytes(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    raw, header = path.read_bytes(), check(path)
    return {
        t.name: (t.type.name, t.shape, raw[t.offset : t.offset + t.n_bytes]) for t in header.tensors
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model as F32 and, rounded, as F16 and BF16: what llama.cpp's quantizer starts from."""
    folder = tmp_path_factory.mktemp("sources")
    tensors = random_tensors(llama_shapes(SIZES))
    return {
        kind: write_file(folder / f"{kind}.gguf", tensors, kind) for kind in ("F32", "F16", "BF16")
    }


def rounded(tensors: Iterable[Tensor], kind: str) -> list[Tensor]:
    """The tensors with the values that a checkpoint of that type would have."""
    from komt_convert import ggml
    from komt_convert.tensor_types import BY_NAME

    def as_kind(tensor: Tensor) -> Tensor:
        if len(tensor.shape) == 1:
            return tensor
        values = tensor.read(0, tensor.n_rows)
        data = ggml.quantize(BY_NAME[kind], values)
        return from_array(tensor.name, ggml.dequantize(BY_NAME[kind], data, tensor.row_length))

    return [as_kind(tensor) for tensor in tensors]


# --- llama.cpp is the judge ----------------------------------------------------------------------


NEED_IMATRIX = (
    "IQ3_XS",
    "IQ3_XXS",
    "Q2_K_S",
    "IQ2_M",
    "IQ2_S",
    "IQ2_XS",
    "IQ2_XXS",
    "IQ1_M",
    "IQ1_S",
)


@pytest.mark.parametrize("name", [n for n in FILE_TYPES if n != "F32" and n not in NEED_IMATRIX])
def test_bytes_are_those_of_llama_cpp(name: str, sources: dict[str, Path], tmp_path: Path) -> None:
    tensors = random_tensors(llama_shapes(SIZES))
    types = choose_types({t.name: t.shape for t in tensors}, MODEL, FILE_TYPES[name])
    fast = choose(dict.fromkeys(types.values(), 1), worthwhile=0)
    ours = write_file(tmp_path / "ours.gguf", tensors, name, kernels=fast)
    theirs = tmp_path / "theirs.gguf"
    llama_quantize(sources["F32"], theirs, FILE_TYPES[name].number)
    assert tensor_bytes(ours) == tensor_bytes(theirs)
    assert [t.name for t in check(ours).tensors] == [t.name for t in check(theirs).tensors]


SMALL = Sizes(layers=1, width=256, ffn=256, heads=8, kv_heads=2, vocab=40)


def importance_of(shapes: Shapes) -> dict[str, FloatArray]:
    """Numbers like those that are measured: positive and of very different sizes."""
    random = np.random.default_rng(3)
    names = (name for name, shape in shapes.items() if name.startswith("blk") and len(shape) > 1)
    return {n: np.exp(random.standard_normal(shapes[n][-1], np.float32) * 2) for n in names}


SLOW = ("IQ1_M", "IQ1_S", "IQ2_M", "IQ2_S", "IQ3_XXS")

QUANTIZED = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name, kind in FILE_TYPES.items()
    if kind.default.is_quantized
]


@pytest.mark.parametrize("name", QUANTIZED)
def test_bytes_with_an_importance_matrix_are_those_of_llama_cpp(name: str, tmp_path: Path) -> None:
    shapes = llama_shapes(SMALL)
    tensors, metadata, weights = (
        random_tensors(shapes),
        llama_metadata(SMALL),
        importance_of(shapes),
    )
    source = write_file(tmp_path / "f32.gguf", tensors, metadata=metadata)
    ours = write_file(
        tmp_path / "o.gguf",
        tensors,
        name,
        model=Model("llama", 1, 8, 2),
        metadata=metadata,
        imatrix=weights,
    )
    theirs = tmp_path / "theirs.gguf"
    llama_quantize(source, theirs, FILE_TYPES[name].number, imatrix=weights)
    assert tensor_bytes(ours) == tensor_bytes(theirs)


def test_bytes_with_overrides_are_those_of_llama_cpp(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    given = ["attn_v=Q8_0", r"blk\.[0-3]\.ffn=IQ4_XS", "output=F16"]
    ours = write_file(
        tmp_path / "ours.gguf", random_tensors(llama_shapes(SIZES)), "Q4_K_M", overrides=given
    )
    theirs = tmp_path / "theirs.gguf"
    numbers = [(o.pattern.pattern, o.type.number) for o in map(override, given)]
    llama_quantize(sources["F32"], theirs, FILE_TYPES["Q4_K_M"].number, overrides=numbers)
    assert tensor_bytes(ours) == tensor_bytes(theirs)


@pytest.mark.parametrize("source", ["F16", "BF16"])
@pytest.mark.parametrize("name", ["Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"])
def test_a_checkpoint_of_16_bits_gives_the_bytes_of_the_two_step_way(
    name: str, source: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    tensors = rounded(random_tensors(llama_shapes(SIZES)), source)
    ours = write_file(tmp_path / "ours.gguf", tensors, name)
    theirs = tmp_path / "theirs.gguf"
    llama_quantize(sources[source], theirs, FILE_TYPES[name].number)
    assert tensor_bytes(ours) == tensor_bytes(theirs)


def test_rows_that_fit_no_block_fall_back_as_in_llama_cpp(tmp_path: Path) -> None:
    sizes = Sizes(layers=3, width=96, ffn=200, heads=2, kv_heads=1, vocab=70, tied=True)
    tensors = random_tensors(llama_shapes(sizes))
    source = write_file(tmp_path / "f32.gguf", tensors, metadata=llama_metadata(sizes))
    ours = write_file(tmp_path / "q4.gguf", tensors, "Q4_K_S", metadata=llama_metadata(sizes))
    theirs = tmp_path / "theirs.gguf"
    llama_quantize(source, theirs, FILE_TYPES["Q4_K_S"].number)
    found = tensor_bytes(ours)
    assert found == tensor_bytes(theirs)
    assert {kind for kind, _, _ in found.values()} == {"F32", "Q5_0", "Q5_1", "Q8_0", "F16"}


# --- the gguf package reads it -------------------------------------------------------------------


def test_the_gguf_package_reads_what_was_written(tmp_path: Path) -> None:
    from gguf import GGUFReader

    values = random_values({"a.weight": (6, 64), "b.bias": (7,), "c.weight": (2, 3, 32)})
    values["d.weight"] = np.zeros((1, 1), np.float32)
    metadata: Metadata = {
        "general.architecture": text("llama"),
        "한글": text("값"),
        "numbers": i32s(np.array([-1, 2**31 - 1])),
        "floats": f32s((0.1, 1e30)),
        "unsigned": u32s([2**32 - 1]),
        "strings": texts(["", "안녕", "a\0b"]),
        "empty": texts([]),
        "flag": flag(False),
        "small": i32(-1),
        "large": u64(2**63),
    }
    path = write_file(
        tmp_path / "f32.gguf",
        [from_array(name, array) for name, array in values.items()],
        metadata=metadata,
    )
    reader = GGUFReader(path)
    for key, value in metadata.items():
        found = reader.fields[key].contents() if key != "empty" else []
        expected = list(value.data) if value.element else value.data
        assert found == pytest.approx(expected) if key == "floats" else found == expected, key
    assert {t.name for t in reader.tensors} == set(values)
    for tensor in reader.tensors:
        assert tensor.data_offset % 32 == 0
        assert np.array_equal(tensor.data.reshape(-1), values[tensor.name].reshape(-1))
        assert tensor.shape.tolist() == list(values[tensor.name].shape[::-1])
    assert path.stat().st_size % 32 == 0


def test_tensors_lie_in_the_order_of_their_types(tmp_path: Path) -> None:
    header = check(write_file(tmp_path / "f16.gguf", random_tensors(llama_shapes(SIZES)), "F16"))
    names = [tensor.name for tensor in header.tensors]
    assert names[:4] == [
        "output.weight",
        "output_norm.weight",
        "token_embd.weight",
        "blk.0.attn_k.weight",
    ]
    assert [t.offset for t in header.tensors] == sorted(t.offset for t in header.tensors)


def test_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="'tokens' is not valid Unicode"):
        plan({"tokens": texts(["a", "\ud800"])}, [], {})


# --- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Q4_K_M", "F16"])
def test_any_number_of_threads_gives_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK_VALUES", 10_000)
    tensors = random_tensors(llama_shapes(SIZES))
    one, two, seven = (
        write_file(tmp_path / f"{n}.gguf", tensors, name, threads=n).read_bytes() for n in (1, 2, 7)
    )
    assert one == two == seven


class Watched:
    """A tensor that notes how many of its readers are at work at once, and what each wants."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.lock, self.active, self.most = threading.Lock(), 0, 0
        self.values, self.read_rows = np.ones(shape, np.float32), [0] * shape[0]
        self.tensor = Tensor("token_embd.weight", shape, "F32", self.read)

    def read(self, start: int, stop: int) -> FloatArray:
        with self.lock:
            self.active += 1
            self.most = max(self.most, self.active)
            for row in range(start, stop):
                self.read_rows[row] += 1
        try:
            return self.values[start:stop].copy()
        finally:
            with self.lock:
                self.active -= 1


def test_each_row_is_read_once_and_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK_VALUES", 256)
    watched = Watched((1000, 64))
    write_file(tmp_path / "f16.gguf", [watched.tensor], "F16", threads=3)
    assert watched.read_rows == [1] * 1000
    assert watched.most <= 3


def test_progress_grows_to_the_size_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK_VALUES", 10_000)
    steps: list[Progress] = []
    tensors = [replace(t, dtype="BF16") for t in random_tensors(llama_shapes(SIZES))]
    write_file(tmp_path / "q8.gguf", tensors, "Q8_0", progress=steps.append)
    total = 2 * sum(tensor.n_elements for tensor in tensors)
    assert {step.total for step in steps} == {total}
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert done[-1] == total
    assert len(done) > 10


# --- values that cannot be written ---------------------------------------------------------------


def spoilt(value: float) -> list[Tensor]:
    values = np.ones((8, 256), np.float32)
    values[5, 17] = value
    return [from_array("blk.0.attn_q.weight", values), from_array("b.bias", np.ones(3))]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["F32", "F16", "Q4_K_M", "Q8_0"])
def test_what_is_not_finite_is_refused_by_name(value: float, name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'blk.0.attn_q.weight' holds NaN or infinity"):
        write_file(tmp_path / "out.gguf", spoilt(value), name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("F16", 65520.0), ("Q8_0", 1e8), ("Q4_0", -6e5)])
def test_what_is_too_large_is_refused_with_a_remedy(
    name: str, value: float, tmp_path: Path
) -> None:
    with pytest.raises(QuantizationError, match=f"'blk.0.attn_q.weight' .*{name}.*BF16"):
        write_file(tmp_path / "out.gguf", spoilt(value), name)
    assert list(tmp_path.iterdir()) == []
    write_file(tmp_path / "out.gguf", spoilt(value), "BF16")


def test_the_largest_f16_is_not_too_large(tmp_path: Path) -> None:
    path = write_file(tmp_path / "out.gguf", spoilt(65519.0), "F16")
    values = np.frombuffer(tensor_bytes(path)["blk.0.attn_q.weight"][2], np.float16)
    assert values.max() == 65504


def test_an_error_in_a_thread_stops_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK_VALUES", 64)
    watched = Watched((5000, 64))
    watched.values[3] = np.nan
    with suppress(ConvertError):
        write_file(tmp_path / "out.gguf", [watched.tensor], threads=2)
    assert sum(watched.read_rows) < 100
