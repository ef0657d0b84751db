"""`python -m komt_convert`: what it prints, where, and with which status."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints import write_llama_checkpoint
from komt_convert.__main__ import parser
from komt_convert.console import progress_bar, speaks_korean
from komt_convert.gguf_file import check
from komt_convert.report import Progress


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_checkpoint(
        tmp_path_factory.mktemp("source") / "my-model",
        n_layers=1,
        hidden_size=64,
        intermediate_size=96,
        n_heads=2,
    )


def run(*arguments: object, locale: str = "en_US.UTF-8") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "", "LANG": locale, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "komt_convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)


def test_a_conversion_ends_with_a_summary(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    done = run(checkpoint, "-o", out, "-q", "q8_0")
    assert (done.returncode, done.stderr) == (0, "")
    path, sizes, time, kernels, _, end, template, *proof = done.stdout.splitlines()
    tokens, *tensors, digest = proof
    assert path == str(out)
    assert re.fullmatch(r"  Q8_0, [\d.]+ KiB → [\d.]+ KiB, \d\.\d\d bits per weight", sizes)
    assert re.fullmatch(r"  [\d.]+ s, peak memory [\d.]+ MiB", time)
    assert kernels == "  kernels: Q8_0 ggml"
    assert re.fullmatch(r"  end token \d+ \S+: .+ name it\.", end)
    assert template == "  chat template: The tokenizer carries none and none was given."
    assert re.fullmatch(r"  [\d,]+ token ids in [\d,]+ texts equal the source tokenizer's", tokens)
    assert [line.split(":")[0] for line in tensors] == ["  3 tensors of F32", "  9 tensors of Q8_0"]
    sha256, _, others = digest.removeprefix("  sha256 ").partition(", ")
    assert sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert re.fullmatch(r"and those of \d source files in the report", others)
    assert check(out)


def test_in_korean(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    done = run(checkpoint, "-o", out, locale="ko_KR.UTF-8")
    assert "가중치당" in done.stdout
    again = run(checkpoint, "-o", out, locale="ko_KR.UTF-8")
    assert again.returncode == 1
    assert again.stdout == ""
    assert again.stderr == (
        f"{out} 파일이 이미 있습니다. 다른 이름을 고르거나 --force로 덮어쓰세요.\n"
    )


def test_as_json(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages }} 답:", encoding="utf-8")
    options = ("-q", "F16", "--template-file", template, "--no-verify", "--threads", 1, "--json")
    done = run(checkpoint, "-o", out, *options)
    report = json.loads(done.stdout)
    assert report["out"] == str(out)
    assert report["file_type"] == "F16"
    assert report["verified"] is False
    assert check(out).metadata["tokenizer.chat_template"] == "{{ messages }} 답:"


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["-q", "Q5"], 1, "There is no quantization type 'Q5'; choose one of F32"),
        (["--template-file", "absent.jinja"], 1, "absent.jinja is not a readable text file"),
        (["--lora", "absent"], 1, "absent"),
        (["--tensor-type", "attn_v"], 1, "'attn_v' is no PATTERN=TYPE"),
        (["--imatrix", "absent.gguf"], 1, "absent.gguf"),
        (["--lora-scale", "2"], 2, "comes after the --lora"),
        (["--threads", "0"], 2, "argument -t/--threads"),
        (["--threads", "many"], 2, "argument -t/--threads"),
        (["--quant", "F16"], 2, "unrecognized arguments"),
    ],
)
def test_errors_are_one_sentence_and_a_status(
    options: list[str], status: int, words: str, checkpoint: Path, tmp_path: Path
) -> None:
    done = run(checkpoint, "-o", tmp_path / "model.gguf", *options)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert status == 2 or done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_in_both_languages() -> None:
    assert "folder of the checkpoint" in run("--help").stdout
    assert "체크포인트 폴더" in run("--help", locale="ko_KR").stdout


def test_a_scale_is_that_of_the_adapter_before_it() -> None:
    given = "in -o out --lora a --lora b --lora-scale 0.5 --lora c".split()
    options = parser(korean=False).parse_args(given)
    assert options.lora == [("a", 1.0), ("b", 0.5), ("c", 1.0)]


@pytest.mark.parametrize(
    ("environment", "korean"),
    [
        ({}, False),
        ({"LANG": "ko_KR.UTF-8"}, True),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "C", "LC_MESSAGES": "ko"}, True),
        ({"LANG": "ko_KR", "LC_ALL": ""}, True),
    ],
)
def test_the_language_is_that_of_the_locale(environment: dict[str, str], korean: bool) -> None:
    assert speaks_korean(environment) is korean


def test_a_bar_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(sys.stdout) as progress:
        progress(Progress("write", 50, 100))
    assert capsys.readouterr().out == ""


def test_a_bar_has_a_name_for_each_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(sys.stdout, korean=True) as progress:
        for stage in ("write", "verify"):
            progress(Progress(stage, 50, 100))
            progress(Progress(stage, 100, 100))
    shown = capsys.readouterr().out
    assert "변환" in shown
    assert "검증" in shown
