"""`run`, `show` and `bench` with a real model, whole outputs compared."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from komt_local.cli import run
from komt_local.cli.options import _SAMPLING
from komt_local.types import Sampling


def test_an_answer_and_nothing_else_goes_to_stdout(
    chat_gguf: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", "-m", str(chat_gguf), "안녕?", "--temp", "0"]) == 0
    captured = capfd.readouterr()
    assert captured.out == "한글 world\n"
    assert captured.err == ""


def test_the_prompt_comes_from_stdin(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("안녕?\n"))
    assert run(["run", "-m", str(chat_gguf), "--temp", "0"]) == 0
    assert capsys.readouterr().out == "한글 world\n"


def test_an_empty_stdin_is_a_usage_error(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run(["run", "-m", str(chat_gguf), "-"]) == 2
    assert "Standard input holds no prompt" in capsys.readouterr().err


def test_json_is_one_object(chat_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "-m", str(chat_gguf), "안녕?", "--temp", "0", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == "한글 world"
    assert answer["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 8
    assert set(answer) == {"text", "finish_reason", "usage", "timings"}


def test_a_limit_ends_the_answer_within_no_syllable(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "-m", str(chat_gguf), "안녕?", "--temp", "0", "-n", "3", "--json"]
    assert run(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["text"], answer["finish_reason"]) == ("한", "length")


def test_a_stop_never_leaks(chat_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "-m", str(chat_gguf), "안녕?", "--temp", "0", "--stop", "글 w"]) == 0
    assert capsys.readouterr().out == "한\n"


def test_raw_text_is_completed_as_it_stands(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "-m", str(chat_gguf), "--raw", "안녕? ##output:", "--temp", "0", "-n", "4"]
    assert run(arguments) == 0
    assert capsys.readouterr().out == " two three: two\n"


def test_penalties_look_back_as_far_as_they_are_told(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    always = ["run", "-m", str(chat_gguf), "안녕?", "--temp", "0"]
    penalized = [*always, "--repeat-penalty", "100"]
    texts = []
    for arguments in (always, penalized, [*penalized, "--repeat-last-n", "0"]):
        assert run(arguments) == 0
        texts.append(capsys.readouterr().out)
    free, bound, blind = texts
    assert free == blind != bound


def test_every_sampling_setting_has_an_option() -> None:
    numbers = {field.name for field in fields(Sampling)} - {"grammar"}  # comes from a file
    assert numbers <= set(_SAMPLING.values())


def test_options_come_from_the_environment(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOMT_LOCAL_RUN_TEMP", "0")
    monkeypatch.setenv("KOMT_LOCAL_RUN_MAX_TOKENS", "3")
    monkeypatch.setenv("KOMT_LOCAL_RUN_MODEL", str(chat_gguf))
    assert run(["run", "안녕?"]) == 0
    assert capsys.readouterr().out == "한\n"


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", "-m", str(chat_gguf), "가" * 200, "-c", "64"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "the context holds 64" in captured.err


def test_a_context_larger_than_memory_is_refused_with_what_fits(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", "-m", str(chat_gguf), "안녕", "-c", "999999999999"]) == 1
    assert "-c/--ctx-size" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "no-gguf", "empty"])
def test_a_bad_file_is_named_in_one_sentence(
    damage: str, chat_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = chat_gguf.read_bytes()
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(
        {"truncated": whole[:-1000], "no-gguf": b"PK" + whole[2:], "empty": b""}[damage]
    )
    for command in (["run", "-m", str(bad), "안녕"], ["show", str(bad)], ["bench", str(bad)]):
        assert run(command) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("Error: ") and captured.err.count("\n") == 1
        assert "bad.gguf" in captured.err


def test_show_says_what_the_file_holds(chat_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(chat_gguf)]) == 0
    shown = capsys.readouterr().out
    assert "architecture  llama\n" in shown
    assert "template: komt, single turn (github.com/davidkim205/komt" in shown
    assert shown.endswith("### instruction: «your question»\n\n### Response: \n")


def test_show_as_json_marks_who_wrote_what(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", str(chat_gguf), "--json", "--template", "komt-output"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["prompt"] == [
        {"text": "your question", "ours": False},
        {"text": " ##output:", "ours": True},
    ]


def test_bench_measures_both_speeds(chat_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(chat_gguf), "-p", "16", "-n", "4", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["prompt_tokens_per_second"] > 0
    assert result["generated_tokens_per_second"] > 0


def test_a_dry_run_says_what_would_lie_where(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["run", "-m"], ["chat"]):
        assert run([*command, str(chat_gguf), "--dry-run", "-c", "4096", "-ngl", "0"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("machine: 2/2 layers; model 17 MB, KV cache 1 MB (4,096 tokens)")
    assert run(["run", "-m", str(chat_gguf), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["n_ctx"] == 8192 and plan["shares"][0]["device"] is None
