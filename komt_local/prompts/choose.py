"""Which template a prompt is made with: the one that was asked for, else the file's own."""

from __future__ import annotations

from difflib import get_close_matches

from ..errors import TemplateError
from .presets import PRESETS
from .template import Template


def choose(name: str | None, jinja: str | None) -> Template:
    """The template called `name`; without a name, the one whose text a file carries.

    Raises TemplateError for an unknown name, and when there is neither.
    """
    if name is not None:
        return _named(name)
    if jinja is None:
        names = ", ".join(PRESETS)
        raise TemplateError(
            f"The file carries no chat template; name one with --template ({names}).",
            f"파일에 대화 템플릿이 없습니다. --template으로 하나를 고르세요({names}).",
        )
    same = (template for template in PRESETS.values() if template.jinja == jinja)
    return next(same, Template(name="file", jinja=jinja, source="tokenizer.chat_template"))


def _named(name: str) -> Template:
    if template := PRESETS.get(name.lower()):
        return template
    near = get_close_matches(name.lower(), PRESETS, n=3) or PRESETS
    raise TemplateError(
        f"There is no template called {name!r}; did you mean {', '.join(near)}?",
        f"{name!r}(이)라는 템플릿은 없습니다. 혹시 {', '.join(near)} 인가요?",
    )
