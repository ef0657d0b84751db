"""Rendering: presets literally, files' own templates in the sandbox, marks that hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komt_local.errors import TemplateError
from komt_local.prompts import PRESETS, Segment, Template, child, choose, render
from komt_local.types import Message

USER = Message("user", "인삼은 어떤 효과가 있나요?")


def text_of(segments: tuple[Segment, ...]) -> str:
    return "".join(segment.text for segment in segments)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("komt", "### instruction: 인삼은 어떤 효과가 있나요?\n\n### Response: "),
        ("komt-output", "인삼은 어떤 효과가 있나요? ##output:"),
    ],
)
def test_presets_render_what_the_models_were_trained_on(name: str, expected: str) -> None:
    segments = render(PRESETS[name], [USER], bos="<s>", eos="</s>")
    assert text_of(segments) == expected
    assert [segment.text for segment in segments if not segment.ours] == [USER.content]


def test_exchanges_are_joined_by_the_end_token() -> None:
    messages = [USER, Message("assistant", "몸에 좋습니다."), Message("user", "왜?")]
    assert text_of(render(PRESETS["komt"], messages, eos="</s>")) == (
        "### instruction: 인삼은 어떤 효과가 있나요?\n\n### Response: 몸에 좋습니다.</s>"
        "### instruction: 왜?\n\n### Response: "
    )


CHATML = Template(
    "chatml",
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
)


@given(st.text(max_size=60))
def test_theirs_is_what_was_typed_and_no_more(typed: str) -> None:
    for template in (*PRESETS.values(), CHATML):
        segments = render(template, [Message("user", typed)], eos="</s>")
        theirs = [segment.text for segment in segments if not segment.ours]
        assert theirs == ([typed.strip()] if typed.strip() else [])


def test_a_templates_trim_still_trims() -> None:
    segments = render(CHATML, [Message("user", "  안녕 \n")])
    assert text_of(segments).startswith("<|im_start|>user\n안녕<|im_end|>\n")


@pytest.mark.parametrize(
    "jinja",
    [
        "{{ messages[0]['content'][:3] }}",
        "{{ messages[0]['content'] | truncate(8, True) }}",
        "{% for m in messages",
        "{{ raise_exception('no system prompt, please') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ unknown.thing }}",
        "{{ range(10 ** 9) | list }}",
        "{% include '/etc/passwd' %}",
        "{% set ns = namespace(x='가') %}{% for a in range(40) %}"
        "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'x'.center(10 ** 10) }}",
        "{{ '%09999999999d' % 1 }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_what_cannot_be_rendered_is_refused_in_a_sentence(jinja: str) -> None:
    with pytest.raises(TemplateError, match="--template"):
        render(Template("bad", jinja), [USER])


def test_a_template_without_a_slot_refuses_a_context() -> None:
    with pytest.raises(TemplateError, match="no place for a context"):
        render(PRESETS["komt"], [USER], context="문서")


def test_a_context_is_theirs() -> None:
    template = Template(
        "with-context", "{{ context }} {{ messages[0]['content'] }}", context_slot=True
    )
    segments = render(template, [USER], context="</s> 문서")
    assert Segment("</s> 문서", ours=False) in segments


def test_choose_knows_a_preset_by_its_text() -> None:
    assert choose(None, PRESETS["komt-output"].jinja) is PRESETS["komt-output"]
    assert choose("KOMT", None) is PRESETS["komt"]
    assert choose(None, "{{ 1 }}").name == "file"


def test_choose_names_what_is_near() -> None:
    with pytest.raises(TemplateError, match="komt-output"):
        choose("komt-outptu", None)
    with pytest.raises(TemplateError, match="--template"):
        choose(None, None)


def test_a_template_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "MOST_SECONDS", 0.5)
    loops = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    with pytest.raises(TemplateError, match="more time or memory"):
        render(Template("endless", loops), [USER])
    # And the next one is answered by a new child.
    monkeypatch.undo()
    assert text_of(render(CHATML, [USER])).startswith("<|im_start|>user")
