"""Renders a chat template in jinja2's immutable sandbox without losing sight of who wrote what.

Each content goes in between two unguessable marks, and the rendered text is cut at them. White
space at the ends of a content stays outside its marks, so that a template's `trim` still trims.
Nothing of a template can reach Python, and one that came with a file can neither loop for ever nor
eat the memory: see `child`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import TemplateError
from ..types import Message
from .reasons import korean
from .segments import Segment
from .template import Template


def render(
    template: Template,
    messages: Sequence[Message],
    *,
    context: str | None = None,
    bos: str = "",
    eos: str = "",
) -> tuple[Segment, ...]:
    """The prompt of a dialogue up to where the model's answer begins.

    `bos` and `eos` are the texts of the model's tokens, as the template may write them.
    Raises TemplateError when the template refuses these messages, cannot be rendered, has no
    place for a `context`, or takes a content apart so that it cannot be told from its own text.
    """
    if context is not None and not template.context_slot:
        raise _no_context_slot(template)
    marks = _Marks()
    variables: dict[str, Any] = {
        "messages": [
            {"role": message.role, "content": marks.around(message.content)} for message in messages
        ],
        "context": None if context is None else marks.around(context),
        "bos_token": bos,
        "eos_token": eos,
        "add_generation_prompt": True,
    }
    return tuple(marks.cut(_render(template, variables), template))


def _render(template: Template, variables: dict[str, Any]) -> str:
    """Ours are rendered here; what came with a file, in a child process within limits."""
    import jinja2

    from .child import RENDERER, RenderError
    from .presets import PRESETS
    from .render_child import render as render_here

    try:
        if PRESETS.get(template.name) is template:
            return render_here(template.jinja, variables)
        return RENDERER.render(template.jinja, variables)
    except (jinja2.TemplateError, RenderError) as error:
        raise TemplateError(
            f"The chat template {template.name!r} cannot be rendered here ({error}); "
            "choose another with --template.",
            f"대화 템플릿 {template.name!r}을(를) 적용할 수 없습니다({korean(error)}). "
            "--template으로 다른 것을 고르세요.",
        ) from error


_PIECE_OF_MARK = re.compile("[\ue000-\ue003]")


class _Marks:
    """A pair of marks that nobody could have typed, made anew for every prompt."""

    def __init__(self) -> None:
        # Digits between private-use characters: no filter that templates use changes either.
        number = secrets.randbits(128)
        self._open = f"\ue000{number}\ue001"
        self._close = f"\ue002{number}\ue003"
        self._any = re.compile(f"({self._open}|{self._close})")

    def around(self, content: str) -> str:
        """The content between marks, its outer white space outside them."""
        core = content.strip()
        if not core:
            return content
        start = content.index(core)
        end = start + len(core)
        return f"{content[:start]}{self._open}{core}{self._close}{content[end:]}"

    def cut(self, text: str, template: Template) -> Iterator[Segment]:
        """The rendered text as segments, ours and theirs, none of them empty."""
        inside = False
        for part in self._any.split(text):
            if part in (self._open, self._close):
                if inside == (part == self._open):
                    raise _taken_apart(template)
                inside = not inside
            elif not inside and _PIECE_OF_MARK.search(part):
                raise _taken_apart(template)
            elif part:
                yield Segment(part, ours=not inside)
        if inside:
            raise _taken_apart(template)


def _taken_apart(template: Template) -> TemplateError:
    return TemplateError(
        f"The chat template {template.name!r} takes a message apart, so that typed text cannot be "
        "told from its own; choose another with --template.",
        f"대화 템플릿 {template.name!r}이(가) 메시지를 쪼개어, 입력한 글과 템플릿의 글을 "
        "구별할 수 없습니다. --template으로 다른 것을 고르세요.",
    )


def _no_context_slot(template: Template) -> TemplateError:
    return TemplateError(
        f"The template {template.name!r} has no place for a context; put the text into the prompt.",
        f"템플릿 {template.name!r}에는 맥락을 넣을 자리가 없습니다. 글을 프롬프트에 넣으세요.",
    )
