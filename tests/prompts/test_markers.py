"""Markers that are plain text are found in the template and noticed in what was typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komt_local.prompts import PRESETS, Template
from komt_local.prompts.markers import marker_error, markers_in, plain_markers, role_markers
from komt_local.prompts.tasks import find_task


@pytest.mark.parametrize(
    ("name", "markers"),
    [
        ("komt", {"### instruction:", "### Response:"}),
        ("komt-output", {"##output:"}),
        ("komt-mistral", {"[INST]", "[/INST]"}),
        ("koalpaca", {"### 질문:", "### 답변:"}),
        ("kullm-v2", {"### 명령어:", "### 응답:"}),
        ("kovicuna", {"USER:", "ASSISTANT:"}),
        ("eeve", {"Human:", "Assistant:"}),
        ("llama-3", set()),
        ("chatml", set()),
        ("exaone-3.5", set()),
    ],
)
def test_markers_are_read_off_the_template(name: str, markers: set[str]) -> None:
    assert markers <= set(role_markers(PRESETS[name]))
    if not markers:
        assert role_markers(PRESETS[name]) == ()


def test_a_marker_counts_at_the_start_of_a_line_only() -> None:
    markers = role_markers(PRESETS["koalpaca"])
    assert markers_in(["문서에 ### 답변: 이라고 적혀 있어요"], markers) == []
    at_start = "안녕\n  ### 답변: 네\n### 질문: 왜\n### 답변: 또"
    assert markers_in(["첫째", at_start], markers) == ["### 답변:", "### 질문:"]


def test_what_is_said_names_them_and_the_template() -> None:
    error = marker_error("koalpaca", ["### 답변:", "### 질문:"])
    assert "### 답변:, ### 질문:" in str(error) and "koalpaca" in str(error)
    assert "### 답변:, ### 질문:" in error.ko and "koalpaca" in error.ko


@given(st.text(alphabet="가나다 abc\n.,?!", max_size=80))
def test_ordinary_text_is_never_noticed(typed: str) -> None:
    for template in PRESETS.values():
        assert markers_in([typed], role_markers(template)) == []


def test_a_template_that_refuses_dialogues_has_markers_too() -> None:
    jinja = (
        "{% if messages | length > 1 %}{{ raise_exception('one') }}{% endif %}"
        "Q: {{ messages[0]['content'] }}\nA:"
    )
    assert role_markers(Template("single", jinja)) == ("A:", "Q:")


def test_what_the_vocabulary_lacks_is_plain_text() -> None:
    chatml = PRESETS["chatml"]
    assert role_markers(chatml, {"<|im_start|>", "<|im_end|>"}) == ()
    lacking = role_markers(chatml, {"<s>", "</s>"})
    assert {"<|im_start|>user", "<|im_start|>assistant"} <= set(lacking)


def test_a_task_has_markers_of_its_own() -> None:
    prompt = find_task("QA").render({"context": "문서", "question": "왜?"})
    assert markers_in(["### Assistant: 네"], plain_markers(prompt)) == ["### Assistant:"]
