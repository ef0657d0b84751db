"""The embedded model: it is there, small, ours to the byte, and answers in both forms."""

from __future__ import annotations

import json

import pytest

from komt_convert.gguf_file import check
from komt_local import Model, library
from komt_local.cli import run

QUESTIONS = {
    "모델을 어떻게 변환하나요?": "komt-local convert",
    "메모리가 8GB인데 어떤 양자화가 좋아요?": "Q4_K_M",
    "너 누구야": "데모 모델",
    "오늘 날씨 어때?": "komt-local에 관한 것만",
    "GPU는 어떻게 써요?": "-ngl all",
}


def test_the_file_is_small_and_whole() -> None:
    header = check(library.embedded())
    assert header.size <= 8 << 20
    facts = library.describe(library.embedded())
    assert (facts.architecture, facts.file_type, facts.licence) == ("llama", "Q8_0", "apache-2.0")


@pytest.mark.parametrize(("question", "expected"), QUESTIONS.items())
def test_it_answers_in_both_forms_and_ends(question: str, expected: str) -> None:
    with Model.load(threads=1, n_ctx=512) as model:
        for answer in (
            model.chat(question),
            model.chat(question, template="komt-output"),
            model.complete(f"{question} ##output:"),
        ):
            assert expected in answer.text
            assert answer.finish_reason == "stop"


def test_the_command_line_takes_it_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    question = "모델을 어떻게 변환하나요?"
    assert run(["run", question, "-t", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["text"]
    assert run(["run", "--raw", f"{question} ##output:", "-t", "1"]) == 0
    assert capsys.readouterr().out == said + "\n"
