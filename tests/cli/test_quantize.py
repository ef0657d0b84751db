"""`quantize` on the command line: what it prints, what it asks for, what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from komt_convert.file_types import FILE_TYPES
from komt_convert.gguf_file import read_header
from komt_local.cli import run


def test_a_file_in_another_type(
    tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.gguf"
    assert run(["quantize", str(tiny_gguf), "-o", str(out), "-q", "q8_0"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith(f"{out}\n  Q8_0, ")
    assert re.search(r"^  kernels: Q8_0 ggml$", captured.out, re.M)
    old, new = read_header(tiny_gguf).metadata, read_header(out).metadata
    assert new["tokenizer.chat_template"] == old["tokenizer.chat_template"]
    assert (old["general.file_type"], new["general.file_type"]) == (1, 7)


def test_quantizing_again_is_allowed_with_a_warning(
    tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once, twice = tmp_path / "once.gguf", tmp_path / "twice.gguf"
    assert run(["quantize", str(tiny_gguf), "-o", str(once), "-q", "Q8_0", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    again = ["quantize", str(once), "-o", str(twice), "-q", "Q4_0", "--json"]
    assert run(again) == 1
    assert "--allow-requantize" in capsys.readouterr().err
    assert not twice.exists()
    assert run([*again, "--allow-requantize", "--tensor-type", "attn_v=Q5_1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file_type"] == "Q4_0" and "Q5_1" in report["kernels"]
    assert "quantized already" in report["warnings"][0][0]


def test_a_type_is_asked_for(tiny_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quantize", str(tiny_gguf), "-o", "x.gguf"]) == 2
    assert "-q" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["convert", "quantize"])
def test_the_help_lists_all_types(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    words = re.findall(r"\w+", capsys.readouterr().out)
    assert set(FILE_TYPES) <= set(words)


def test_matrices_and_patterns_are_passed_on(
    tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["quantize", str(tiny_gguf), "-o", str(tmp_path / "x.gguf"), "-q", "Q4_0"]
    assert run([*arguments, "--tensor-type", "attn_v"]) == 1
    assert "PATTERN=TYPE" in capsys.readouterr().err
    assert run([*arguments, "--imatrix", str(tiny_gguf)]) == 1
    assert "llama-imatrix" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
