"""Importance matrices: llama.cpp's files read, applied, asked for, and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import write_llama_checkpoint
from komt_convert import convert
from komt_convert.errors import GGUFError, QuantizationError
from komt_convert.gguf_file import check
from komt_convert.imatrix import read_imatrix

NAMES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
LENGTHS = {f"blk.0.{name}.weight": 256 for name in NAMES}


def write_matrix(
    path: Path,
    lengths: dict[str, int] = LENGTHS,
    *,
    count: float = 8,
    value: float | None = None,
    counts: bool = True,
    dtype: str = "float32",
    about: bool = True,
) -> Path:
    """As tools/imatrix of llama.cpp writes one, by the gguf package."""
    from gguf import GGUFWriter

    random = np.random.default_rng(1)
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    if about:
        writer.add_array("imatrix.datasets", ["한국어.txt"])
        writer.add_uint32("imatrix.chunk_count", 2)
        writer.add_uint32("imatrix.chunk_size", 512)
    for name, length in lengths.items():
        sums = np.exp(random.standard_normal((1, length))).astype(dtype)
        if value is not None:
            sums[0, -1] = value
        writer.add_tensor(f"{name}.in_sum2", sums)
        if counts:
            writer.add_tensor(f"{name}.counts", np.full((1, 1), count, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_checkpoint(
        tmp_path_factory.mktemp("source") / "my-model",
        n_layers=1,
        hidden_size=256,
        intermediate_size=256,
        n_heads=4,
    )


def test_weights_are_means(tmp_path: Path) -> None:
    summed = read_imatrix(write_matrix(tmp_path / "a.gguf", count=1))
    matrix = read_imatrix(write_matrix(tmp_path / "b.gguf", count=8))
    assert matrix.datasets == ("한국어.txt",) and matrix.n_chunks == 2
    assert set(matrix.weights) == set(LENGTHS)
    for name, weights in matrix.weights.items():
        assert np.array_equal(weights, summed.weights[name] / np.float32(8))
        assert matrix.of(name, 256) is weights
    assert matrix.of("output.weight", 256) is None


def test_what_was_never_seen_counts_alike(tmp_path: Path) -> None:
    matrix = read_imatrix(write_matrix(tmp_path / "a.gguf", count=0))
    assert all((weights == 1).all() for weights in matrix.weights.values())


@pytest.mark.parametrize("name", ["Q4_K_M", "IQ2_XS", "Q2_K_S"])
def test_a_file_is_made_with_it_and_says_so(name: str, checkpoint: Path, tmp_path: Path) -> None:
    matrix = write_matrix(tmp_path / "중요도.gguf")
    out = tmp_path / "made.gguf"
    report = convert(checkpoint, out, quant=name, imatrix=matrix)
    assert report.file_type == name and report.verified
    metadata = check(out).metadata
    assert metadata["quantize.imatrix.file"] == "중요도.gguf"
    assert metadata["quantize.imatrix.dataset"] == "한국어.txt"
    assert metadata["quantize.imatrix.entries_count"] == len(LENGTHS)
    assert metadata["quantize.imatrix.chunks_count"] == 2
    if name == "Q4_K_M":
        plain = convert(checkpoint, tmp_path / "plain.gguf", quant=name)
        assert plain.sha256 != report.sha256
        assert "quantize.imatrix.file" not in check(plain.out).metadata


@pytest.mark.parametrize("name", ["IQ2_XXS", "IQ3_XS", "Q2_K_S", "IQ1_S"])
def test_types_that_need_one_are_refused_without(
    name: str, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made.gguf"
    with pytest.raises(QuantizationError, match=rf"{name} makes 'blk.0.*--imatrix") as caught:
        convert(checkpoint, out, quant=name)
    assert "--imatrix" in caught.value.ko
    few = write_matrix(tmp_path / "few.gguf", {"blk.0.attn_q.weight": 256})
    with pytest.raises(QuantizationError, match="importance matrix for it"):
        convert(checkpoint, out, quant=name, imatrix=few)
    assert not out.exists()


def test_an_override_may_need_one_too(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="token_embd"):
        convert(checkpoint, tmp_path / "x.gguf", quant="Q4_0", tensor_types=["token_embd=IQ1_S"])


def test_the_matrix_of_another_model_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    other = write_matrix(tmp_path / "other.gguf", dict.fromkeys(LENGTHS, 512))
    with pytest.raises(QuantizationError, match=r"other.gguf has 512 numbers .* 256"):
        convert(checkpoint, tmp_path / "x.gguf", quant="Q4_0", imatrix=other)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"counts": False}, "has no counts"),
        ({"about": False}, "it holds none"),
        ({"lengths": {}}, "it holds none"),
        ({"value": np.nan}, "no sums of squares"),
        ({"value": -1.0}, "no sums of squares"),
        ({"value": np.inf}, "no sums of squares"),
        ({"dtype": "float16"}, "is not F32"),
    ],
)
def test_what_is_no_matrix_is_refused(
    broken: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    path = write_matrix(tmp_path / "broken.gguf", **broken)  # type: ignore[arg-type]
    with pytest.raises(GGUFError, match=rf"broken.gguf.*{sentence}.*llama-imatrix"):
        read_imatrix(path)


def test_a_matrix_of_the_old_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(b"\x01\x00\x00\x00\x05\x00\x00\x00hello" + bytes(40))
    with pytest.raises(GGUFError, match=r"imatrix\.dat"):
        read_imatrix(path)
