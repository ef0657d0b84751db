"""Role markers that are plain text, and whether somebody typed one.

`### 답변:` is no control token: a line of typed text that begins so looks to the model like the
template's own. It cannot be told apart by tokens, so it is noticed and said, or refused. Where the
vocabulary lacks a template's `<|im_start|>`, that is plain text too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from ..errors import TemplateError, UsageError
from ..types import Message
from .jinja import render
from .segments import Segment
from .template import Template

_LONGEST = 40
"""Longer lines of a template are instructions to the model, not markers."""
_LOOKS_LIKE_CONTROL = re.compile(r"<\|.*\|>|\[\|.*\|\]|</?\w+>")


def role_markers(template: Template, control: Collection[str] | None = None) -> tuple[str, ...]:
    """The plain texts with which the template begins and ends turns, longest first.

    `control` are the texts of the vocabulary's control tokens; without a vocabulary, what looks
    like one is taken for one.
    """
    return plain_markers(_example(template), control)


@lru_cache(maxsize=32)
def _example(template: Template) -> tuple[Segment, ...]:
    """What the template makes of a dialogue, or of one message if it takes no more."""
    dialogue = [Message("user", "1"), Message("assistant", "2"), Message("user", "3")]
    try:
        return render(template, dialogue)
    except TemplateError:
        return render(template, dialogue[:1])


def plain_markers(
    segments: Iterable[Segment], control: Collection[str] | None = None
) -> tuple[str, ...]:
    """The short lines of ours in a prompt that hold no control token, longest first."""
    texts = (segment.text for segment in segments if segment.ours)
    lines = (line.strip() for text in texts for line in text.splitlines())
    found = {line for line in lines if 1 < len(line) <= _LONGEST and not _has_any(line, control)}
    return tuple(sorted(found, key=lambda marker: (-len(marker), marker)))


def _has_any(line: str, control: Collection[str] | None) -> bool:
    if control is None:
        return _LOOKS_LIKE_CONTROL.search(line) is not None
    return any(token in line for token in control)


def markers_in(texts: Iterable[str], markers: Iterable[str]) -> list[str]:
    """The markers with which a line of these texts begins, in the order of their appearance."""
    known = tuple(markers)
    lines = (line.strip() for text in texts for line in text.splitlines())
    found = (next((m for m in known if line.startswith(m)), None) for line in lines)
    return list(dict.fromkeys(marker for marker in found if marker))


def marker_error(name: str, found: Iterable[str]) -> UsageError:
    """What to say about markers that were typed; `name` is the template's or the task's."""
    shown = ", ".join(found)
    return UsageError(
        f"A line begins with {shown}, which the template {name} uses itself; "
        "put a space or a quotation mark in front if the model takes it for a new turn.",
        f"{shown}(으)로 시작하는 줄이 있습니다. 템플릿 {name}이(가) 쓰는 표시이므로, "
        "모델이 새 차례로 여기면 앞에 따옴표를 붙이세요.",
    )
