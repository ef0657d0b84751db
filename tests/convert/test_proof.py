"""The proof, repeated on a file that lies there: what passes, and what it notices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from checkpoints import noise, write_json, write_llama_checkpoint, write_safetensors
from ggml_files import write_ggml
from komt_convert import convert
from komt_convert.errors import SourceError, UnsupportedError, VerificationError
from komt_convert.gguf_file import read_header
from komt_convert.logits import log_softmax
from komt_convert.proof import verify_file

SMALL: dict[str, Any] = {
    "n_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 96,
    "n_heads": 4,
    "n_kv_heads": 2,
    "dtype": "BF16",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_checkpoint(tmp_path_factory.mktemp("models") / "model", **SMALL)


@pytest.mark.parametrize("type_", ["F32", "F16", "Q8_0", "Q4_0"])
def test_a_file_agrees_with_its_source(type_: str, source: Path, tmp_path: Path) -> None:
    report = convert(
        source, tmp_path / "a.gguf", quant=type_, name="다른 이름", chat_template="{{ x }}"
    )
    proof = verify_file(report.out, source, threads=1)
    assert (proof.sha256, proof.tokens_compared) == (report.sha256, report.tokens_compared)
    assert (proof.errors, proof.n_tensors, proof.logits) == (report.errors, report.n_tensors, None)
    assert json.loads(json.dumps(proof.as_dict()))["path"] == str(report.out)


def test_a_file_of_2023_is_a_source_as_well(tmp_path: Path) -> None:
    path = write_ggml(tmp_path / "old.bin", type_="Q4_0")
    assert verify_file(convert(path, tmp_path / "a.gguf").out, path).tokens_compared > 10_000


def test_adapters_are_part_of_the_source(source: Path, tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_"
    weights = {f"{name}A.weight": noise((4, 64), 1), f"{name}B.weight": noise((32, 4), 2)}
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": str(source)}
    write_json(adapter / "adapter_config.json", settings)
    write_safetensors(adapter / "adapter_model.safetensors", weights, "F32")
    report = convert(adapter, tmp_path / "a.gguf", quant="F16")
    assert verify_file(report.out, adapter).sha256 == report.sha256
    assert verify_file(report.out, source, adapters=[(adapter, 1.0)]).sha256 == report.sha256
    with pytest.raises(VerificationError, match=r"'blk\.0\.attn_v\.weight' does not have its"):
        verify_file(report.out, source)


def test_a_changed_value_is_noticed(source: Path, tmp_path: Path) -> None:
    out = convert(source, tmp_path / "a.gguf", quant="F16").out
    place = next(t for t in read_header(out).tensors if t.name == "blk.1.ffn_up.weight")
    raw = bytearray(out.read_bytes())
    raw[place.offset] ^= 1
    out.write_bytes(raw)
    with pytest.raises(VerificationError, match=r"Row 0 of tensor 'blk\.1\.ffn_up\.weight'"):
        verify_file(out, source)


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "other numbers": ({"config": {"rms_norm_eps": 1e-6}}, "another value for llama.attention"),
    "more layers": ({"n_layers": 3}, r"another value for llama\.block_count"),
    "another width": ({"intermediate_size": 128}, r"llama\.feed_forward_length"),
    "another vocabulary": ({"vocab": "byte-level", "n_rows": 1024}, "tokenizer"),
    "biases": ({"bias": True}, r"it lacks 'blk\.0\.attn_k\.bias'"),
    "tied": ({"tied": True}, r"it also holds 'output\.weight'"),
    "other values": ({"seed": 1}, "does not have its source's values"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_model_is_noticed(name: str, source: Path, tmp_path: Path) -> None:
    changes, words = OTHERS[name]
    out = convert(source, tmp_path / "a.gguf", quant="F16").out
    other = write_llama_checkpoint(tmp_path / "other", **(SMALL | changes))
    with pytest.raises(VerificationError, match=words):
        verify_file(out, other)


# --- digests -------------------------------------------------------------------------------------


@pytest.fixture
def copied(source: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_digests_of_the_report_are_compared(copied: Path, tmp_path: Path) -> None:
    report = convert(copied, tmp_path / "a.gguf", quant="Q8_0", save_report=True)
    proof = verify_file(report.out, copied)
    assert (proof.recorded, proof.changed) == (len(report.source_files), ())
    assert proof.source_files == report.source_files


def test_without_a_report_there_is_nothing_to_compare_with(copied: Path, tmp_path: Path) -> None:
    out = convert(copied, tmp_path / "a.gguf", quant="Q8_0").out
    assert verify_file(out, copied).recorded == 0
    for text in ("[]", "{", '{"sha256": 3}', '{"sha256": "", "source_files": [3]}'):
        Path(f"{out}.report.json").write_text(text, encoding="utf-8")
        assert verify_file(out, copied).recorded == 0


def test_a_change_too_small_for_samples_is_noticed(copied: Path, tmp_path: Path) -> None:
    """The last bit of a mantissa, within the error of the type."""
    out = convert(copied, tmp_path / "a.gguf", quant="Q8_0", save_report=True).out
    weights = copied / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8 : 8 + length])["model.layers.1.mlp.up_proj.weight"]
    raw[8 + length + entry["data_offsets"][0]] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(VerificationError, match=r"model\.safetensors is not the file that it was"):
        verify_file(out, copied)
    Path(f"{out}.report.json").unlink()
    assert verify_file(out, copied).recorded == 0


def test_a_config_that_says_the_same_in_other_words(copied: Path, tmp_path: Path) -> None:
    report = convert(copied, tmp_path / "a.gguf", quant="Q8_0", save_report=True)
    config = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    write_json(copied / "config.json", config | {"transformers_version": "9"})
    proof = verify_file(report.out, copied)
    assert (proof.recorded, proof.changed) == (len(report.source_files) - 1, ("config.json",))


def test_the_report_of_another_file(copied: Path, tmp_path: Path) -> None:
    one = convert(copied, tmp_path / "a.gguf", quant="Q8_0", save_report=True).out
    other = convert(copied, tmp_path / "b.gguf", quant="F16").out
    other.replace(one)
    with pytest.raises(VerificationError, match=r"a\.gguf is not the file that it was"):
        verify_file(one, copied)


# --- logits --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_logits_of_float32_are_those_of_transformers(source: Path, tmp_path: Path) -> None:
    out = convert(source, tmp_path / "a.gguf", quant="F32").out
    far = verify_file(out, source, logits=True, threads=1).logits
    assert far is not None
    assert far.n_positions > 4000
    assert 0 <= far.kl_mean < 1e-6
    assert far.kl_99 <= far.kl_max < 1e-5
    assert far.same_choice > 0.999


@pytest.mark.filterwarnings("ignore")
def test_logits_say_how_far_a_quantized_file_is(source: Path, tmp_path: Path) -> None:
    out = convert(source, tmp_path / "a.gguf", quant="Q8_0").out
    far = verify_file(out, source, logits=True, threads=1).logits
    assert far is not None
    assert 1e-5 < far.kl_mean < far.kl_99 <= far.kl_max < 0.1
    assert 0.8 < far.same_choice < 1


def test_missing_memory_is_told_in_numbers(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = convert(source, tmp_path / "a.gguf", quant="F16").out
    little = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(SourceError, match=r"takes 0\.0 GB of memory .* are missing"):
        verify_file(out, source, logits=True)


def test_code_that_comes_with_a_checkpoint_is_not_run(source: Path, tmp_path: Path) -> None:
    """A model type that transformers does not know, with a class of its own beside it."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    names = {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}
    write_json(folder / "config.json", config | {"model_type": "own", "auto_map": names})
    marker = tmp_path / "it ran"
    (folder / "code.py").write_text(f"open({str(marker)!r}, 'w')\n", encoding="utf-8")
    out = convert(folder, tmp_path / "a.gguf", quant="F32").out
    with pytest.raises(UnsupportedError, match="transformers cannot load"):
        verify_file(out, folder, logits=True)
    assert not marker.exists()


def test_softmax_of_large_logits() -> None:
    found = log_softmax(np.array([[1000, 1000], [-1000, 0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[np.log(0.5)] * 2, [-1000, 0]])
