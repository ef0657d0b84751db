"""Which template a prompt is made with: the one that was asked for, else the file's own."""

from __future__ import annotations

from difflib import get_close_matches

from ..errors import TemplateError
from .own import own_names, read_own
from .presets import PRESETS
from .template import Template


def choose(name: str | None, jinja: str | None) -> Template:
    """The template called `name`; without a name, the one whose text a file carries.

    A template of one's own comes before a preset of that name.
    Raises TemplateError for an unknown name, and when there is neither.
    """
    if name is not None:
        return _named(name)
    if jinja is None:
        names = ", ".join(_names())
        raise TemplateError(
            f"The file carries no chat template; name one with --template ({names}), or ask the "
            "model with `komt-local show MODEL --detect-template`.",
            f"파일에 대화 템플릿이 없습니다. --template으로 하나를 고르거나({names}), "
            "`komt-local show MODEL --detect-template`으로 모델에게 물어보세요.",
        )
    same = (template for template in PRESETS.values() if template.jinja == jinja)
    return next(same, Template(name="file", jinja=jinja, source="tokenizer.chat_template"))


def _named(name: str) -> Template:
    if template := read_own(name) or PRESETS.get(name.lower()):
        return template
    near = get_close_matches(name.lower(), _names(), n=3) or _names()
    raise TemplateError(
        f"There is no template called {name!r}; did you mean {', '.join(near)}?",
        f"{name!r}(이)라는 템플릿은 없습니다. 혹시 {', '.join(near)} 인가요?",
    )


def _names() -> list[str]:
    return list(dict.fromkeys((*own_names(), *PRESETS)))
