"""`komt-local show`: what a model file holds, what it takes, and the prompt as it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len

from .. import library
from ..language import say
from ..terminal.text import printable
from . import asking, options, showing
from .base import KomtCommand
from .output import print_json

if TYPE_CHECKING:
    from ..library import Facts
    from ..prompts import Segment, Template


@click.command(
    cls=KomtCommand,
    help=say(
        "Show what MODEL holds: architecture, parameters, tokenizer, licence, digest, the memory "
        "that it takes, how it was proven, its metadata, and the prompt as it will be sent.",
        "MODEL의 내용을 보여 줍니다: 구조, 매개변수, 토크나이저, 라이선스, 다이제스트, 필요한 "
        "메모리, 변환할 때의 증명, 메타데이터, 실제로 보낼 프롬프트.",
    ),
)
@click.argument("model", required=False)
@click.argument("question", required=False)
@options.template()
@click.option(
    "--ids",
    is_flag=True,
    help=say("The prompt as token ids too.", "프롬프트를 토큰 번호로도 보입니다."),
)
@click.option(
    "--detect-template",
    is_flag=True,
    help=say(
        "Ask the model which template it was trained with.",
        "어떤 템플릿으로 학습했는지 모델에게 묻습니다.",
    ),
)
@click.option(
    "--stops",
    is_flag=True,
    help=say(
        "Answer QUESTION, and show why the answer ends or runs on.",
        "QUESTION에 답하고, 답이 왜 끝나는지 또는 이어지는지 보입니다.",
    ),
)
@click.option(
    "--digest",
    is_flag=True,
    help=say(
        "Read the file for its SHA-256 where that is not known.",
        "SHA-256이 알려져 있지 않으면 파일을 읽어 계산합니다.",
    ),
)
@options.threads()
@options.json_output()
def command(model: str | None, question: str | None, template: str | None, **given: Any) -> None:
    path = library.resolve(model)
    if given["detect_template"] or given["stops"]:
        asking.show(path, question, template, given)
        return
    shown = showing.look(path, digest=given["digest"])
    chosen, prompt = _prompt(shown.facts, template, question)
    ids = asking.ids_of(path, prompt) if given["ids"] and prompt else []
    if given["json"]:
        name = chosen.name if chosen else None
        plain = [{"text": segment.text, "ours": segment.ours} for segment in prompt]
        told = shown.as_dict() | {"template": name, "prompt": plain}
        print_json(told | ({"ids": ids} if ids else {}))
        return
    for line in (*_lines(shown), *_prompt_lines(chosen, prompt, ids)):
        click.echo(line)


def _lines(shown: showing.Shown) -> Iterator[str]:
    """A table of names and values; the metadata below it."""
    rows = showing.rows(shown)
    width = max(cell_len(name) for name, _ in rows) + 2
    for name, values in rows:
        heads = [name, *[""] * (len(values) - 1)]
        for head, value in zip(heads, values, strict=True):
            yield f"{head}{' ' * (width - cell_len(head))}{printable(value)}"
    yield f"{say('metadata', '메타데이터')}:"
    yield from map(printable, showing.metadata_lines(shown.header))


def _prompt_lines(
    chosen: Template | None, prompt: tuple[Segment, ...], ids: list[int]
) -> Iterator[str]:
    yield f"{say('template', '템플릿')}: {_template_line(chosen)}"
    if prompt:
        yield say("prompt (what you type in «»):", "프롬프트(입력한 글은 «» 안):")
        yield _marked(prompt)
    if ids:
        yield f"{say('token ids', '토큰 번호')}: {' '.join(map(str, ids))}"


def _prompt(
    facts: Facts, name: str | None, question: str | None
) -> tuple[Template | None, tuple[Segment, ...]]:
    """The template that would be used, and what it makes of a question; nothing without one."""
    from ..prompts import choose, render
    from ..types import Message

    if name is None and facts.chat_template is None:
        name = library.template_for(facts.path, facts.identity)
        if name is None:
            return None, ()
    template = choose(name, facts.chat_template)
    asked = Message("user", question or say("your question", "여기에 질문"))
    return template, render(template, [asked], bos=facts.bos, eos=facts.eos)


def _template_line(template: Template | None) -> str:
    if template is None:
        return say(
            "none; name one with --template, or ask the model with --detect-template",
            "없음. --template으로 정하거나 --detect-template으로 모델에게 물어보세요",
        )
    single = say(", single turn", ", 문답 하나씩") if template.single_turn else ""
    doubtful = "" if template.confirmed else say(", unconfirmed", ", 확인되지 않음")
    source = f" ({template.source})" if template.source and template.name != "file" else ""
    return f"{template.name}{single}{doubtful}{source}"


def _marked(prompt: tuple[Segment, ...]) -> str:
    text = "".join(part.text if part.ours else f"«{part.text}»" for part in prompt)
    return printable(text)
