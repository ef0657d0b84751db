"""Role markers that are plain text, and whether somebody typed one.

`### 답변:` is no control token: a line of typed text that begins so looks to the model like the
template's own. It cannot be told apart by tokens, so it is noticed and said, or refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from ..errors import TemplateError, UsageError
from ..types import Message
from .jinja import render
from .template import Template

_LONGEST = 40
"""Longer lines of a template are instructions to the model, not markers."""
_CONTROL = re.compile(r"<\|.*\|>|\[\|.*\|\]|</?\w+>")


@lru_cache(maxsize=32)
def role_markers(template: Template) -> tuple[str, ...]:
    """The plain texts with which the template begins and ends turns, longest first."""
    dialogue = [Message("user", "1"), Message("assistant", "2"), Message("user", "3")]
    try:
        segments = render(template, dialogue)
    except TemplateError:
        segments = render(template, dialogue[:1])
    lines = (
        line.strip() for segment in segments if segment.ours for line in segment.text.splitlines()
    )
    found = {line for line in lines if 1 < len(line) <= _LONGEST and not _CONTROL.search(line)}
    return tuple(sorted(found, key=lambda marker: (-len(marker), marker)))


def typed_markers(template: Template, messages: Iterable[Message]) -> list[str]:
    """The markers with which a line of a message begins, in the order of their appearance."""
    markers = role_markers(template)
    lines = (line.strip() for message in messages for line in message.content.splitlines())
    found = (next((m for m in markers if line.startswith(m)), None) for line in lines)
    return list(dict.fromkeys(marker for marker in found if marker))


def refuse_markers(template: Template, messages: Iterable[Message]) -> None:
    """Raise UsageError if a line of a message begins like the template's own."""
    if found := typed_markers(template, messages):
        raise UsageError(*marker_sentences(template, found))


def marker_sentences(template: Template, found: Iterable[str]) -> tuple[str, str]:
    """What to say about markers that were typed, in English and in Korean."""
    shown = ", ".join(found)
    return (
        f"A line begins with {shown}, which the template {template.name} uses itself; "
        "put a space or a quotation mark in front if the model takes it for a new turn.",
        f"{shown}(으)로 시작하는 줄이 있습니다. 템플릿 {template.name}이(가) 쓰는 표시이므로, "
        "모델이 새 차례로 여기면 앞에 따옴표를 붙이세요.",
    )
