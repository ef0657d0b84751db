"""A conversion as a whole: a folder in, a file out, and nothing left behind when it fails."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import komt_convert
from checkpoints import noise, write_llama_checkpoint, write_safetensors
from komt_convert import convert, pipeline, sources
from komt_convert.errors import (
    ConvertError,
    OutputError,
    QuantizationError,
    SourceError,
    TokenizerMismatch,
    VerificationError,
)
from komt_convert.gguf_file import check
from komt_convert.report import Progress
from komt_convert.verify import Proof

SLOWED = r"""
import os, sys, time
from komt_convert import ggml
quantize = ggml.quantize
def slow(*arguments):
    os.write(1, b"chunk\n")
    time.sleep(0.2)
    return quantize(*arguments)
ggml.quantize = slow
from komt_convert.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_checkpoint(
        tmp_path_factory.mktemp("source") / "my-model",
        n_layers=2,
        hidden_size=256,
        intermediate_size=512,
        n_heads=4,
        n_kv_heads=2,
        dtype="BF16",
        shards=2,
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "결과"
    folder.mkdir()
    return folder / "모델.gguf"


def folder_of(out: Path) -> list[str]:
    return [path.name for path in out.parent.iterdir()]


# --- what comes out ------------------------------------------------------------------------------


def test_a_report_is_about_the_file(checkpoint: Path, out: Path) -> None:
    report = convert(str(checkpoint), str(out), quant="q4_k_m")
    header, raw = check(out), out.read_bytes()
    assert report.out == out
    assert (report.file_type, report.architecture) == ("Q4_K_M", "llama")
    assert report.source_bytes == sum(f.stat().st_size for f in checkpoint.glob("*.safetensors"))
    assert report.out_bytes == len(raw)
    assert report.n_tensors == len(header.tensors) == 21
    assert report.n_parameters == header.n_parameters
    tensor_bytes = sum(tensor.n_bytes for tensor in header.tensors)
    assert report.bits_per_weight == pytest.approx(8 * tensor_bytes / header.n_parameters)
    assert report.sha256 == hashlib.sha256(raw).hexdigest()
    assert report.verified
    assert report.tokens_compared > 10_000
    assert {error.type for error in report.errors} == {"F32", "Q4_K", "Q6_K"}
    assert 0 < report.seconds < 600
    assert report.peak_memory_bytes > 10 << 20
    assert json.loads(json.dumps(report.as_dict()))["out"] == str(out)
    assert folder_of(out) == [out.name]


def test_metadata_says_what_the_file_is(checkpoint: Path, out: Path) -> None:
    convert(checkpoint, out, quant="Q8_0", chat_template="{{ messages }}", name="나의 모델")
    metadata = check(out).metadata
    assert metadata["general.file_type"] == 7
    assert metadata["general.quantization_version"] == 2
    assert metadata["general.name"] == "나의 모델"
    assert metadata["tokenizer.chat_template"] == "{{ messages }}"
    assert metadata["komt.tokenizer.legacy"] is True
    assert metadata["general.architecture"] == "llama"
    assert len(metadata["tokenizer.ggml.tokens"]) == metadata["llama.vocab_size"]


def test_the_template_of_the_tokenizer_is_kept(checkpoint: Path, out: Path, tmp_path: Path) -> None:
    source = tmp_path / "with-template"
    source.mkdir()
    for file in checkpoint.iterdir():
        (source / file.name).symlink_to(file)
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
    (source / "tokenizer_config.json").unlink()
    (source / "tokenizer_config.json").write_text(
        json.dumps(settings | {"chat_template": "{{ bos_token }}", "legacy": False})
    )
    assert not convert(checkpoint, out, quant="F16").has_chat_template
    assert convert(source, out, quant="F16", force=True).has_chat_template
    metadata = check(out).metadata
    assert metadata["tokenizer.chat_template"] == "{{ bos_token }}"
    assert metadata["komt.tokenizer.legacy"] is False


def test_adapters_are_merged_by_their_strength(checkpoint: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    module = "base_model.model.model.layers.1.mlp.down_proj"
    a, b = noise((2, 512), 1), noise((256, 2), 2)
    halves = {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    write_safetensors(adapter / "adapter_model.safetensors", halves, "F32")
    (adapter / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 8})
    )

    def down(*adapters: tuple[Path, float]) -> np.ndarray:
        out = tmp_path / "out.gguf"
        convert(checkpoint, out, quant="F32", adapters=adapters, force=True)
        tensor = next(t for t in check(out).tensors if t.name == "blk.1.ffn_down.weight")
        raw = out.read_bytes()[tensor.offset : tensor.offset + tensor.n_bytes]
        return np.frombuffer(raw, np.float32).reshape(256, 512)

    plain, once, both = down(), down((adapter, 1.0)), down((adapter, 0.5), (adapter, -1.5))
    assert np.allclose(once - plain, 4 * b @ a, atol=1e-5)
    assert np.allclose(both - plain, -4 * b @ a, atol=1e-5)


@pytest.mark.parametrize("quant", ["Q4_K_M", "BF16"])
def test_threads_do_not_change_the_file(quant: str, checkpoint: Path, tmp_path: Path) -> None:
    digests = {
        convert(checkpoint, tmp_path / f"{n}.gguf", quant=quant, threads=n).sha256 for n in (1, 2)
    }
    assert len(digests) == 1


def test_progress_is_told_by_stages(checkpoint: Path, out: Path) -> None:
    steps: list[Progress] = []
    report = convert(checkpoint, out, quant="F16", progress=steps.append)
    stages = [step.stage for step in steps]
    assert stages == sorted(stages, reverse=True)
    assert set(stages) == {"write", "verify"}
    written = [step for step in steps if step.stage == "write"][-1]
    assert written.done == written.total
    assert (steps[-1].done, steps[-1].total) == (report.out_bytes, report.out_bytes)


def test_without_verification(checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pipeline, "verify_tensors")
    monkeypatch.delattr(pipeline, "verify_tokens")
    report = convert(checkpoint, out, verify=False)
    assert not report.verified
    assert (report.tokens_compared, report.errors, report.sha256) == (0, (), "")
    assert check(out)


def test_an_existing_file_is_replaced_with_force_only(checkpoint: Path, out: Path) -> None:
    out.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        convert(checkpoint, out, quant="F16")
    assert out.read_bytes() == b"old"
    convert(checkpoint, out, quant="F16", force=True)
    assert check(out)


# --- what is refused, before and in the middle ---------------------------------------------------


def test_wrong_calls_cost_nothing(out: Path) -> None:
    with pytest.raises(QuantizationError, match="Q4_K_M"):
        convert("nowhere", out, quant="Q17")
    with pytest.raises(SourceError, match="nowhere"):
        convert("nowhere", out)
    with pytest.raises(OutputError, match="There is no folder"):
        convert("nowhere", out.parent / "absent" / "model.gguf")
    assert folder_of(out) == []


def test_a_disk_without_room_is_noticed_before_the_first_byte(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1_000_000}))
    monkeypatch.setattr(pipeline, "write", None)
    with pytest.raises(OutputError, match="0.00 GB free"):
        convert(checkpoint, out)
    assert folder_of(out) == []


def test_a_disk_that_fills_up_leaves_nothing(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, left = os.pwrite, [12]

    def until_full(descriptor: int, data: Any, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", until_full)
    with pytest.raises(OutputError, match="disk is full") as caught:
        convert(checkpoint, out)
    assert "디스크가 가득" in caught.value.ko
    assert folder_of(out) == []


def test_a_tokenizer_that_differs_leaves_nothing(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = sources.read_vocabulary

    def other(folder: Path, n_rows: int) -> Any:
        vocabulary = read(folder, n_rows)
        return replace(vocabulary, encode=lambda text: [*vocabulary.encode(text), 0])

    monkeypatch.setattr(sources, "read_vocabulary", other)
    with pytest.raises(TokenizerMismatch):
        convert(checkpoint, out, quant="F16")
    assert folder_of(out) == []


def test_tokens_that_would_kill_llama_cpp_are_refused_before_the_first_byte(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = sources.read_vocabulary

    def with_one_twice(folder: Path, n_rows: int) -> Any:
        vocabulary = read(folder, n_rows)
        tokens = (*vocabulary.tokens[:-1], vocabulary.tokens[-2])
        return replace(vocabulary, tokens=tokens)

    monkeypatch.setattr(sources, "read_vocabulary", with_one_twice)
    monkeypatch.setattr(pipeline, "write", None)
    with pytest.raises(SourceError, match="aborts llama.cpp: its tokens 1022 and 1023 are both"):
        convert(checkpoint, out, verify=False)
    assert folder_of(out) == []


def test_a_tensor_that_differs_leaves_nothing(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pipeline.write

    def and_damage(layout: Any, output: Any, **given: Any) -> None:
        write(layout, output, **given)
        output.write_at(layout.tensors[3].offset, bytes(layout.tensors[3].n_bytes))

    monkeypatch.setattr(pipeline, "write", and_damage)
    with pytest.raises(VerificationError, match="tensor 'blk.0.attn_k.weight'"):
        convert(checkpoint, out, quant="F16")
    assert folder_of(out) == []


@pytest.mark.parametrize("stage", ["write", "verify"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_of_the_caller_leaves_nothing(
    stage: str, error: type[BaseException], checkpoint: Path, out: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == stage:
            raise error

    with pytest.raises(error):
        convert(checkpoint, out, progress=stop)
    assert folder_of(out) == []


# --- signals -------------------------------------------------------------------------------------


def slowed(checkpoint: Path, out: Path) -> subprocess.Popen[bytes]:
    """The command line with a pause in every chunk, at work on its third."""
    arguments = [str(checkpoint), "-o", str(out), "-q", "F16", "--no-verify"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWED, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    for _ in range(3):
        assert process.stdout.readline() == b"chunk\n"
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_ctrl_c_in_the_middle_leaves_nothing(checkpoint: Path, out: Path) -> None:
    with slowed(checkpoint, out) as process:
        assert len(folder_of(out)) == 1
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().strip() == "Stopped; no file was left."
    assert folder_of(out) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_a_kill_in_the_middle_leaves_no_file_under_the_name(checkpoint: Path, out: Path) -> None:
    with slowed(checkpoint, out) as process:
        process.kill()
        process.communicate(timeout=60)
    assert folder_of(out) == [f".{out.name}.{process.pid}.partial"]
    convert(checkpoint, out, quant="F16", verify=False)
    assert folder_of(out) == [out.name]


# --- the package ---------------------------------------------------------------------------------


def test_the_public_names_are_there_and_sorted() -> None:
    assert komt_convert.__all__ == sorted(komt_convert.__all__)
    for name in komt_convert.__all__:
        assert getattr(komt_convert, name).__name__ == name
    assert dir(komt_convert) == komt_convert.__all__
    with pytest.raises(AttributeError, match="nothing"):
        _ = komt_convert.nothing
    assert Proof().sha256 == ""
    assert issubclass(komt_convert.ConvertError, ConvertError)


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, komt_convert, komt_convert.gguf_file, komt_convert.__main__;"
        "print(sorted({'numpy', 'gguf', 'llama_cpp', 'rich', 'torch', 'tokenizers',"
        " 'sentencepiece', 'transformers'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "[]\n"
