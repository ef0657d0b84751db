"""`convert` on the command line: what it prints, what it refuses, what it leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from checkpoints import noise, write_json, write_llama_checkpoint, write_safetensors
from komt_convert.gguf_file import read_header
from komt_local.cli import run
from komt_local.prompts import PRESETS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_checkpoint(tmp_path_factory.mktemp("source") / "my-model", n_layers=1)


def test_the_summary_says_what_was_proven(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made.gguf"
    arguments = ["convert", str(checkpoint), "-o", str(out), "-q", "q4_k_m", "--template", "komt"]
    assert run(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert re.match(
        rf"{out}\n"
        r"  Q4_K_M, [\d.]+ MiB → [\d.]+ (KiB|MiB), \d\.\d\d bits per weight\n"
        r"  [\d.]+ s, peak memory [\d.]+ MiB\n"
        r"  kernels: Q4_K ggml, Q6_K ggml\n"
        r"  pre-tokenizer default: A SentencePiece vocabulary is read without one\.\n"
        r"  end token 2 </s>: tokenizer_config\.json [^\n]+ name it\.\n"
        r"  chat template: It was given\.\n"
        r"  [\d,]+ token ids in 2,\d\d\d texts equal the source tokenizer's\n"
        r"(  \d+ tensors of \w+: largest error (0|[\d.]+% \([\w.]+\))\n)+"
        r"  sha256 [0-9a-f]{64}, and those of \d source files in the report\n$",
        captured.out,
    ), captured.out
    metadata = read_header(out).metadata
    assert metadata["tokenizer.chat_template"] == PRESETS["komt"].jinja
    assert run(["show", str(out)]) == 0
    assert "template: komt, single turn" in capsys.readouterr().out


def test_a_file_without_a_template_is_said(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made.gguf"
    assert run(["convert", str(checkpoint), "-o", str(out), "-q", "f16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file_type"] == "F16" and report["verified"] is True
    assert run(["convert", str(checkpoint), "-o", str(out), "-q", "f16", "--force"]) == 0
    assert "name one with --template" in capsys.readouterr().err
    assert run(["run", "-m", str(out), "안녕"]) == 2
    assert "carries no chat template" in capsys.readouterr().err


def test_adapters_are_merged(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    write_json(adapter / "adapter_config.json", {"peft_type": "LORA", "r": 4, "lora_alpha": 8})
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = {
        f"{module}.lora_A.weight": noise((4, 256), 1),
        f"{module}.lora_B.weight": noise((256, 4), 2),
    }
    write_safetensors(adapter / "adapter_model.safetensors", weights, "F32")
    digests = []
    for name, options in {
        "plain": [],
        "merged": ["--lora", str(adapter)],
        "halved": ["--lora", str(adapter), "--lora-scale", "0.5"],
        "nothing": ["--lora", str(adapter), "--lora-scale", "0"],
    }.items():
        out = tmp_path / f"{name}.gguf"
        arguments = ["convert", str(checkpoint), "-o", str(out), "-q", "f32", "--json", *options]
        assert run(arguments) == 0
        digests.append(json.loads(capsys.readouterr().out)["sha256"])
    plain, merged, halved, nothing = digests
    assert len({plain, merged, halved}) == 3
    assert nothing == plain


def test_each_adapter_needs_its_scale(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(checkpoint), "-o", "x.gguf", "--lora-scale", "1"]
    assert run(arguments) == 2
    assert "There are 0 --lora and 1 --lora-scale" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "options", "status", "sentence"),
    [
        ("nowhere", [], 1, r"nowhere"),
        ("empty", [], 1, r"config\.json"),
        ("checkpoint", ["-q", "Q9_9"], 1, r"Q9_9.*Q4_K_M"),
        ("checkpoint", ["--template", "kmt"], 2, r"did you mean komt"),
        ("meta", [], 1, r"Hugging Face"),
        ("gguf", [], 1, r"GGUF|folder"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(
    source: str,
    options: list[str],
    status: int,
    sentence: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "consolidated.00.pth").write_bytes(b"PK")
    (tmp_path / "meta" / "params.json").write_text("{}")
    (tmp_path / "gguf").write_bytes(b"GGUF")
    folder = checkpoint if source == "checkpoint" else tmp_path / source
    out = tmp_path / "out" / "made.gguf"
    out.parent.mkdir()
    assert run(["convert", str(folder), "-o", str(out), *options]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ") and captured.err.count("\n") == 1
    assert re.search(sentence, captured.err)
    assert not list(out.parent.iterdir())


def test_an_existing_file_is_kept(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.gguf"
    out.write_text("precious")
    assert run(["convert", str(checkpoint), "-o", str(out)]) == 1
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "precious"


def test_errors_speak_korean(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KOMT_LOCAL_LANG", "ko")
    assert run(["convert", str(checkpoint), "-o", str(tmp_path / "x.gguf"), "-q", "Q9_9"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("오류: ") and re.search("[가-힣]{3}", error.removeprefix("오류: "))
