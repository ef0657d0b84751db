"""`komt-local show`: what a model file holds, and the prompt as it would be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len

from .. import library
from ..language import say
from ..terminal.text import printable
from . import asking, options
from .base import KomtCommand
from .output import print_json, size

if TYPE_CHECKING:
    from ..library import Facts
    from ..prompts import Segment, Template


@click.command(
    cls=KomtCommand,
    help=say(
        "Show what MODEL holds: architecture, size, tokenizer, template, and the prompt as it "
        "will be sent.",
        "MODEL의 내용을 보여 줍니다: 구조, 크기, 토크나이저, 템플릿, 실제로 보낼 프롬프트.",
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
@options.threads()
@options.json_output()
def command(model: str | None, question: str | None, template: str | None, **given: Any) -> None:
    path = library.resolve(model)
    if given["detect_template"] or given["stops"]:
        asking.show(path, question, template, given)
        return
    facts = library.describe(path)
    chosen, prompt = _prompt(facts, template, question)
    ids = asking.ids_of(path, prompt) if given["ids"] and prompt else []
    if given["json"]:
        name = chosen.name if chosen else None
        plain = [{"text": segment.text, "ours": segment.ours} for segment in prompt]
        told = facts.as_dict() | {"template": name, "prompt": plain}
        print_json(told | ({"ids": ids} if ids else {}))
        return
    rows = [*_rows(facts), (say("template", "템플릿"), _template_line(chosen))]
    width = max(cell_len(name) for name, _ in rows) + 2
    for name, value in rows:
        click.echo(f"{name}{' ' * (width - cell_len(name))}{value}")
    if prompt:
        click.echo(say("prompt (what you type in «»):", "프롬프트(입력한 글은 «» 안):"))
        click.echo(_marked(prompt))
    if ids:
        click.echo(f"{say('token ids', '토큰 번호')}: {' '.join(map(str, ids))}")


def _rows(facts: Facts) -> list[tuple[str, str]]:
    return [
        (say("file", "파일"), str(facts.path)),
        (say("name", "이름"), facts.name),
        (say("architecture", "구조"), facts.architecture),
        (say("parameters", "매개변수"), f"{facts.n_parameters:,}"),
        (say("type", "양자화"), facts.file_type),
        (say("size", "크기"), size(facts.size_bytes)),
        (say("context", "컨텍스트"), f"{facts.n_ctx_train:,} {say('tokens', '토큰')}"),
        (say("tokenizer", "토크나이저"), f"{facts.tokenizer}, {facts.n_tokens:,}"),
        (say("author", "만든 이"), facts.author or "-"),
        (say("licence", "라이선스"), facts.licence or "-"),
        (say("source", "출처"), facts.source or "-"),
    ]


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
