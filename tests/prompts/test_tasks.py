"""Task files: the built-in prompts literally, variables that are theirs, files of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komt_local.errors import TemplateError
from komt_local.prompts import Segment
from komt_local.prompts.tasks import find_task, task_names

LITERAL = {
    "QA": "우리는 아래와 같은 정보를 갖고 있습니다.\n---------------------\n{context}\n"
    "---------------------\n### 주어진 정보에 따라, 질문에 답해주세요.: '{question}'\n"
    "### Assistant:",
    "summarization": "# Document\n{target_document}\n\n한국어 3문장으로 위의 Document를 요약해줘.\n"
    "### Assistant: 1)",
    "translation": "### Instruction: Translate Korean sentence into English. "
    "You may leave specific names as they are.\nKorean: 얼마나 많은 언어를 말할 수 있니?\n"
    "English: How many languages can you speak?#\nKorean: 일 다 끝났어?\n"
    "English: Did you finish your work?#\n"
    "Korean: {source_sentence} \nEnglish:",
}


@pytest.mark.parametrize("name", LITERAL)
def test_built_in_prompts_are_literally_these(name: str) -> None:
    assert find_task(name.lower()).text == LITERAL[name]
    assert find_task(name).source.startswith("github.com/krafton-ai/KORani")


def test_the_summary_begins_as_the_prompt_did() -> None:
    assert find_task("summarization").prefix == "1)"


@given(context=st.text(), question=st.text())
def test_values_are_theirs_to_the_letter(context: str, question: str) -> None:
    segments = find_task("QA").render({"context": context, "question": question})
    theirs = [segment.text for segment in segments if not segment.ours]
    assert theirs == [text for text in (context, question) if text]


def test_names_must_match() -> None:
    with pytest.raises(TemplateError, match="needs the variables context, question"):
        find_task("QA").render({"context": "문서"})
    with pytest.raises(TemplateError, match="--var"):
        find_task("QA").render({"context": "", "question": "", "answer": ""})


def test_ones_own_come_first(tmp_path: Path) -> None:
    (tmp_path / "QA.txt").write_text("{q}\n답:", encoding="utf-8")
    task = find_task("qa", [tmp_path])
    assert task.render({"q": "왜?"}) == (Segment("왜?", False), Segment("\n답:", True))
    assert task_names([tmp_path]) == ["QA", "summarization", "translation"]


@pytest.mark.parametrize(
    "content", ["+++\nstops = 3\n+++\nx", "+++\nstops = [", "+++\nstop = []\n+++\nx", "+++\nx"]
)
def test_a_bad_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.txt").write_text(content, encoding="utf-8")
    with pytest.raises(TemplateError, match="mine.txt"):
        find_task("mine", [tmp_path])


def test_an_unknown_task_lists_those_there_are() -> None:
    with pytest.raises(TemplateError, match="QA, summarization, translation"):
        find_task("요약")
