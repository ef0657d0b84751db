"""`komt-local run`: one prompt in, one answer out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..language import say
from . import options
from .base import KomtCommand
from .output import print_answer

if TYPE_CHECKING:
    from ..model import Model
    from ..types import Event, MessageDict


@click.command(
    cls=KomtCommand,
    help=say(
        "Print one answer to PROMPT. Without PROMPT, or when it is '-', the prompt is read from "
        "standard input.",
        "PROMPT에 대한 답 하나를 출력합니다. PROMPT가 없거나 '-'이면 표준 입력에서 읽습니다.",
    ),
)
@click.argument("prompt", required=False)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    help=say("A GGUF file (default: the embedded model).", "GGUF 파일(기본: 내장 모델)."),
)
@click.option(
    "--raw",
    is_flag=True,
    help=say(
        "Complete the text as it stands, without a template.",
        "템플릿 없이 글을 있는 그대로 이어 씁니다.",
    ),
)
@click.option(
    "--parse-special",
    is_flag=True,
    help=say("With --raw: parse control tokens.", "--raw와 함께: 제어 토큰을 해석합니다."),
)
@click.option(
    "--context",
    metavar="TEXT|@FILE",
    help=say("For templates with a context slot.", "맥락을 받는 템플릿에 넣을 글."),
)
@options.loading()
@options.answering()
@options.json_output()
@options.quiet()
def command(prompt: str | None, model: str | None, **given: Any) -> None:
    text = _read_prompt(prompt)
    given["context"] = _text_or_file(given["context"])
    with options.load(model, given) as opened:
        print_answer(_stream(opened, text, given), as_json=given["json"])


def _stream(model: Model, text: str, given: dict[str, Any]) -> Iterator[Event]:
    limits = {"max_tokens": given["max_tokens"], "stop": given["stop"]}
    sampling = options.sampling_of(given)
    if given["raw"]:
        return model.stream_completion(
            text, parse_special=given["parse_special"], **limits, **sampling
        )
    messages: list[MessageDict] = [{"role": "user", "content": text}]
    if given["system"]:
        messages.insert(0, {"role": "system", "content": given["system"]})
    return model.stream(messages, context=given["context"], **limits, **sampling)


def _read_prompt(prompt: str | None) -> str:
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise UsageError(
            'There is no prompt; give one (komt-local run "…"), or pipe it in.',
            '프롬프트가 없습니다. komt-local run "…"처럼 주거나 파이프로 넘기세요.',
        )
    try:
        text = sys.stdin.read().rstrip("\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"Standard input is no {error.encoding} text; convert it to UTF-8 first.",
            f"표준 입력이 {error.encoding} 글이 아닙니다. 먼저 UTF-8로 바꾸세요.",
        ) from error
    if not text:
        raise UsageError(
            "Standard input holds no prompt; give it some text.",
            "표준 입력이 비어 있습니다. 프롬프트를 넣으세요.",
        )
    return text


def _text_or_file(value: str | None) -> str | None:
    """The text itself, or with a leading '@' what the file of that name holds."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The context file {value[1:]!r} cannot be read as UTF-8 text ({error}); "
            "check its path.",
            f"맥락 파일 {value[1:]!r}을(를) UTF-8 글로 읽을 수 없습니다({error}). "
            "경로를 확인하세요.",
        ) from error
