"""A GGUF file in another type: llama.cpp's own quantizer is the judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llama_quantizer import llama_quantize

from checkpoints import write_llama_checkpoint
from komt_convert import convert, quantize
from komt_convert.errors import (
    GGUFError,
    OutputError,
    QuantizationError,
    UnsupportedError,
)
from komt_convert.gguf_file import check
from komt_convert.gguf_header import Array
from komt_convert.recipes import FILE_TYPES


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model in several types."""
    folder = tmp_path_factory.mktemp("sources")
    checkpoint = write_llama_checkpoint(
        folder / "모델", n_layers=2, hidden_size=256, intermediate_size=256, n_heads=4, n_kv_heads=2
    )
    template = "{{ messages[0].content }} 답:"
    return {
        name: convert(
            checkpoint, folder / f"{name}.gguf", quant=name, chat_template=template, verify=False
        ).out
        for name in ("F32", "F16", "BF16", "Q8_0", "Q5_0", "Q6_K")
    }


def contents(path: Path) -> tuple[dict[str, object], dict[str, tuple[str, bytes]]]:
    """Metadata without their order, and what each tensor holds."""
    header, raw = check(path), path.read_bytes()
    values = {k: tuple(v) if isinstance(v, Array) else v for k, v in header.metadata.items()}
    kinds = {key: (header.kinds[key], value) for key, value in values.items()}
    tensors = {t.name: (t.type.name, raw[t.offset : t.offset + t.n_bytes]) for t in header.tensors}
    return kinds, tensors


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K_M", "Q5_K_S", "Q3_K_M", "IQ4_XS", "Q4_0", "F16"])
@pytest.mark.parametrize("source", ["F32", "F16", "BF16"])
def test_files_are_those_of_llama_cpp(
    name: str, source: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    report = quantize(sources[source], tmp_path / "ours.gguf", quant=name)
    llama_quantize(sources[source], tmp_path / "theirs.gguf", FILE_TYPES[name].number)
    assert contents(report.out) == contents(tmp_path / "theirs.gguf")
    assert report.file_type == name and report.architecture == "llama"
    assert report.verified and report.tokens_compared > 10_000
    assert report.has_chat_template and report.warnings == ()
    assert report.source_bytes == sources[source].stat().st_size
    assert report.out_bytes == report.out.stat().st_size


@pytest.mark.parametrize("source", ["Q8_0", "Q5_0", "Q6_K"])
@pytest.mark.parametrize("name", ["Q4_K_M", "Q8_0", "F16"])
def test_what_is_quantized_is_quantized_again_only_when_allowed(
    name: str, source: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "ours.gguf"
    if name != source:
        with pytest.raises(QuantizationError, match="--allow-requantize") as caught:
            quantize(sources[source], out, quant=name)
        assert "--allow-requantize" in caught.value.ko
        assert not out.exists()
    report = quantize(sources[source], out, quant=name, allow_requantize=True)
    number = FILE_TYPES[name].number
    llama_quantize(sources[source], tmp_path / "theirs.gguf", number, requantize=True)
    assert contents(out) == contents(tmp_path / "theirs.gguf")
    assert [("quantized already" in en, "겹쳤습니다" in ko) for en, ko in report.warnings] == (
        [(True, True)] if name != source else []
    )


def test_overrides_are_heard(sources: dict[str, Path], tmp_path: Path) -> None:
    report = quantize(
        sources["F32"], tmp_path / "ours.gguf", quant="Q4_K_M", tensor_types=["attn_v=Q8_0"]
    )
    types = {t.name: t.type.name for t in check(report.out).tensors}
    assert types["blk.0.attn_v.weight"] == types["blk.1.attn_v.weight"] == "Q8_0"


def test_a_file_may_replace_itself(sources: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(sources["F16"].read_bytes())
    with pytest.raises(OutputError, match="--force"):
        quantize(path, path, quant="Q8_0")
    quantize(path, path, quant="Q8_0", force=True)
    assert check(path).metadata["general.file_type"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]


def write_gguf(path: Path, **metadata: int) -> Path:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    for key, value in {"llama.block_count": 1, **metadata}.items():
        writer.add_uint32(key, value)
    writer.add_tensor("blk.0.ffn_up_exps.weight", np.zeros((2, 32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"split.count": 3}, "llama-gguf-split"),
        ({"llama.expert_count": 2, "llama.expert_used_count": 1}, "llama-quantize"),
        ({}, "holds several matrices"),
    ],
)
def test_models_with_other_rules_are_left_to_llama_cpp(
    metadata: dict[str, int], sentence: str, tmp_path: Path
) -> None:
    source = write_gguf(tmp_path / "model.gguf", **metadata)
    with pytest.raises(UnsupportedError, match=sentence):
        quantize(source, tmp_path / "out.gguf", quant="Q4_0")


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(b"GGUF but not really")
    with pytest.raises(GGUFError, match=r"model\.gguf"):
        quantize(source, tmp_path / "out.gguf", quant="Q4_0")
