"""`run --task`: variables from text and files, the prompt for the last one, what is refused."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from komt_local.cli import run

HALF, WHOLE = "\u1112\u1161\u11ab", "한"


@pytest.fixture
def own_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "komt-local" / "tasks"
    folder.mkdir(parents=True)
    return folder


def asked(
    arguments: list[str], model: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    status = run(["run", "-m", str(model), "--temp", "0", "-n", "8", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_variables_go_into_the_prompt(
    chat_gguf: Path, own_tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_tasks / "echo.txt").write_text("{first}{second} 답:", encoding="utf-8")
    (tmp_path / "doc.txt").write_text("문서 </s>", encoding="utf-8")
    arguments = ["--task", "echo", "--var", "first=가", "--var", f"second=@{tmp_path}/doc.txt"]
    assert asked(arguments, chat_gguf, capsys) == (0, "two three: two three: two three\n", "")


def test_the_prefix_is_told_again_and_the_stops_count(
    chat_gguf: Path, own_tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = '+++\nprefix = "답:"\nstops = [" three"]\n+++\n'
    (own_tasks / "QA.txt").write_text(settings + "{q} 답:", encoding="utf-8")
    assert asked(["--task", "qa", "왜"], chat_gguf, capsys) == (0, "답: two\n", "")
    _, out, _ = asked(["--task", "qa", "왜", "--stop", "tw", "--json"], chat_gguf, capsys)
    answer = json.loads(out)
    assert (answer["text"], answer["finish_reason"]) == ("답: ", "stop")


def test_the_built_in_tasks_run(
    chat_gguf: Path,
    own_tasks: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, out, _ = asked(["--task", "QA", "--var", "context=문서", "왜?"], chat_gguf, capsys)
    assert (status, out[:4]) == (0, "two ")
    monkeypatch.setattr(sys, "stdin", io.StringIO("긴 문서\n"))
    status, out, _ = asked(["--task", "summarization"], chat_gguf, capsys)
    assert status == 0 and out.startswith("1)")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--task", "요약"], "There is no task called '요약'; the tasks are QA"),
        (["--task", "QA", "왜?"], "not clear which variable of the task QA"),
        (["--task", "QA", "--var", "context"], "--var 'context' has no name"),
        (["--task", "QA", "--var", "a=1", "--var", "b=2"], "needs the variables context, question"),
        (["--task", "QA", "--var", "context=@/no/such", "왜?"], "'/no/such' of --var context"),
        (["--task", "translation", "--template", "komt", "왜?"], "--template does not go with"),
        (["--task", "translation", "--raw", "왜?"], "--raw does not go with --task"),
    ],
)
def test_what_cannot_be_right_is_refused_before_a_model_is_loaded(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = asked(arguments, Path("/no/such/model.gguf"), capsys)
    assert (status, out) == (2, "")
    assert sentence in err and err.count("\n") == 1


def prompt_tokens(arguments: list[str], model: Path, capsys: pytest.CaptureFixture[str]) -> int:
    status, out, _ = asked([*arguments, "--json"], model, capsys)
    assert status == 0
    return int(json.loads(out)["usage"]["prompt_tokens"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["{}"],
        ["-s", "{}", "왜?"],
        ["--template", "koalpaca", "--context", "{}", "왜?"],
        ["--task", "translation", "{}"],
        ["--task", "translation", "--var", "source_sentence={}"],
    ],
)
def test_decomposed_hangul_is_offered_composed(
    arguments: list[str], chat_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, half = (
        prompt_tokens([text.format(form) for text in arguments], chat_gguf, capsys)
        for form in (WHOLE, HALF)
    )
    assert half == whole


def test_raw_text_stays_as_it_is(chat_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, half = (prompt_tokens(["--raw", form], chat_gguf, capsys) for form in (WHOLE, HALF))
    assert half > whole


def test_tasks_come_from_the_environment_too(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "KOMT_LOCAL_RUN_TASK", "translation")
    status, out, _ = asked(["안녕"], chat_gguf, capsys)
    assert (status, out[:4]) == (0, "two ")
