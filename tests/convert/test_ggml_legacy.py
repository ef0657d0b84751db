"""GGML files of 2023 become what llama.cpp's own converter makes of them, or one sentence."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest

from checkpoints import VOCABULARIES, llama_pieces, write_json
from ggml_files import N_EMBD, N_FF, N_HEADS, N_LAYERS, write_ggml
from komt_convert import convert
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.ggml_legacy import read_legacy
from komt_convert.ggml_model import open_legacy
from komt_convert.gguf_file import check
from komt_convert.pipeline import plan_file, prove_tokens
from komt_convert.planning import want

GOLDEN: dict[str, Any] = json.loads(
    (VOCABULARIES.parent / "golden" / "ggml.json").read_text(encoding="utf-8")
)

OURS = {
    "general.quantization_version",
    "general.type",
    "komt.tokenizer.legacy",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_space_prefix",
}
WORDED_DIFFERENTLY = {"general.description", "general.name"}


def made(case: str, folder: Path) -> Path:
    kind, version, type_ = case.split("-")
    return write_ggml(folder / "ggml-model.bin", kind, int(version), type_)


@pytest.mark.parametrize("case", GOLDEN)
def test_the_file_is_that_of_llama_cpp(case: str, tmp_path: Path) -> None:
    type_ = case.rpartition("-")[2]
    report = convert(made(case, tmp_path), tmp_path / "out.gguf", quant=type_)
    assert (report.file_type, report.verified) == (type_, True)
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    tensors = {
        tensor.name: [
            tensor.tensor_type.name,
            tensor.shape.tolist()[::-1],
            hashlib.sha256(tensor.data.tobytes()).hexdigest(),
        ]
        for tensor in reader.tensors
    }
    assert tensors == GOLDEN[case]["tensors"]
    found, recorded = metadata(reader), GOLDEN[case]["metadata"]
    assert found.keys() - recorded.keys() == OURS
    different = {key for key in recorded if found[key] != recorded[key]}
    without_scores = {"tokenizer.ggml.scores"} if case.startswith("GGML-") else set()
    assert different == WORDED_DIFFERENTLY | without_scores


def metadata(reader: gguf.GGUFReader) -> dict[str, Any]:
    """As `make.py` records it."""
    found = {}
    for name, field in reader.fields.items():
        value = field.contents()
        if isinstance(value, list):
            digest = hashlib.sha256(json.dumps(value).encode()).hexdigest()
            found[name] = [field.types[-1].name, len(value), digest]
        elif not name.startswith("GGUF."):
            found[name] = [field.types[0].name, value]
    return found


def test_missing_scores_are_those_of_llama(tmp_path: Path) -> None:
    """The oldest files have none."""
    path = write_ggml(tmp_path / "oldest.bin", "GGML", 1, full_vocab=True)
    report = convert(path, tmp_path / "out.gguf", quant="F16")
    found = list(check(report.out).metadata["tokenizer.ggml.scores"])
    assert found == list(llama_pieces(full=True).scores)
    assert any("no scores" in english for english, _ in report.warnings)


def test_lines_with_control_tokens_are_compared(tmp_path: Path) -> None:
    opened = open_legacy(write_ggml(tmp_path / "old.bin"))
    vocabulary = opened.vocabulary
    assert vocabulary.parse is not None
    assert list(vocabulary.special_tokens) == ["<s>", "</s>"]
    asked = vocabulary.parse("안녕</s><s>안녕")
    assert asked == [*vocabulary.encode("안녕"), 2, 1, *vocabulary.encode("안녕")]
    metadata = plan_file(opened, want("F16")).metadata
    n_compared, differing = prove_tokens(metadata, vocabulary)
    n_plain, _ = prove_tokens(metadata, replace(vocabulary, parse=None))
    assert differing is None and n_compared > n_plain + 100
    wrong = replace(vocabulary, parse=lambda text: vocabulary.encode(text))
    assert prove_tokens(metadata, wrong)[1] is not None


def test_plain_weights_get_any_type_and_quantized_ones_stay(tmp_path: Path) -> None:
    plain = convert(made("GGJT-1-F16", tmp_path), tmp_path / "plain.gguf")
    assert (plain.file_type, check(plain.out).metadata["general.file_type"]) == ("Q4_K_M", 15)
    kept = convert(made("GGJT-3-Q5_1", tmp_path), tmp_path / "kept.gguf", name="나의 모델")
    assert (kept.file_type, check(kept.out).metadata["general.file_type"]) == ("Q5_1", 9)
    assert check(kept.out).metadata["general.name"] == "나의 모델"
    assert any("Q5_1 already" in english for english, _ in kept.warnings)
    assert {error.relative for error in kept.errors} == {0.0}


def test_grouped_queries_are_seen_in_the_shapes(tmp_path: Path) -> None:
    path = write_ggml(tmp_path / "grouped.bin", n_kv_heads=2)
    assert read_legacy(path).n_kv_heads == 2
    header = check(convert(path, tmp_path / "out.gguf", quant="F16").out)
    assert header.of_architecture("attention.head_count_kv") == 2


# --- what a config.json beside the file says -----------------------------------------------------


def write_config(folder: Path, **changes: Any) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": N_EMBD,
        "intermediate_size": N_FF,
        "num_attention_heads": N_HEADS,
        "num_hidden_layers": N_LAYERS,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "vocab_size": 1024,
    }
    write_json(folder / "config.json", config | changes)


def test_a_config_beside_the_file_fills_the_gaps(tmp_path: Path) -> None:
    path = made("GGJT-3-Q4_0", tmp_path)
    report = convert(path, tmp_path / "assumed.gguf")
    assert any("2,048 and 5e-06 are assumed" in english for english, _ in report.warnings)
    write_config(tmp_path)
    report = convert(path, tmp_path / "known.gguf")
    header = check(report.out)
    assert header.of_architecture("context_length") == 4096
    assert header.of_architecture("attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    assert not any("assumed" in english for english, _ in report.warnings)


def test_the_config_of_another_model_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path, num_hidden_layers=3)
    with pytest.raises(SourceError, match=r"disagree about llama\.block_count"):
        convert(made("GGJT-3-Q4_0", tmp_path), tmp_path / "out.gguf")


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, version, type_",
    [
        ("GGML", 1, "Q4_0"),
        ("GGMF", 1, "Q4_1"),
        ("GGJT", 1, "Q4_0"),
        ("GGJT", 1, "Q5_0"),
        ("GGJT", 2, "Q4_0"),
        ("GGJT", 2, "Q4_1"),
        ("GGJT", 2, "Q8_0"),
        ("GGJT", 2, "Q6_K"),
    ],
)
def test_blocks_that_changed_are_refused_by_name(
    kind: str, version: int, type_: str, tmp_path: Path
) -> None:
    path = write_ggml(tmp_path / "old.gguf", kind, version, type_)
    with pytest.raises(UnsupportedError) as error:
        convert(path, tmp_path / "out.gguf")
    assert f"{kind}v{version} with {type_}" in str(error.value)
    assert str(path) in error.value.ko
    assert [file.name for file in tmp_path.iterdir()] == ["old.gguf"]


STARTS: dict[str, tuple[bytes, str]] = {
    "GGUF": (b"GGUF\x03\0\0\0", "is a GGUF file already; .*komt-local quantize"),
    "an adapter of 2023": (b"algg\x01\0\0\0", r"is a LoRA adapter of 2023 \(GGLA\)"),
    "a later version": (b"tjgg\x04\0\0\0", "a GGJT of version 4"),
    "a pickle": (b"PK\x03\x04", "give the folder that holds"),
    "nothing": (b"", "give the folder that holds"),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_file_is_known_by_its_first_bytes(name: str, tmp_path: Path) -> None:
    start, words = STARTS[name]
    (tmp_path / "ggml-model-q4_0.bin").write_bytes(start)
    with pytest.raises(SourceError, match=words):
        convert(tmp_path / "ggml-model-q4_0.bin", tmp_path / "out.gguf")


def test_an_adapter_needs_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="merged into checkpoints only"):
        convert(made("GGJT-1-F16", tmp_path), tmp_path / "out.gguf", adapters=[(tmp_path, 1.0)])


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    path = made("GGJT-3-Q4_0", tmp_path)
    whole = path.read_bytes()
    for length in (4, 8, 20, 36, 40, 5000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match="no whole GGML file"):
            read_legacy(path)


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("value", [0, 3, 1 << 15, (1 << 32) - 1])
def test_numbers_that_make_no_sense(index: int, value: int, tmp_path: Path) -> None:
    """Counts are bounded before anything is done with them; two of the seven do not matter."""
    path = made("GGJT-3-Q4_0", tmp_path)
    whole = bytearray(path.read_bytes())
    whole[8 + 4 * index : 12 + 4 * index] = struct.pack("<I", value)
    path.write_bytes(whole)
    if index in (2, 5, 6):  # n_mult, n_rot, ftype
        assert read_legacy(path)
        return
    with pytest.raises(SourceError):
        read_legacy(path)
