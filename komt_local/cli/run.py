"""`komt-local run`: one prompt in, one answer out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..language import say
from . import options
from .base import KomtCommand
from .output import note, note_line, print_answer
from .typed import MarkerWatch, composed, read_file, read_prompt, read_variables, text_or_file

if TYPE_CHECKING:
    from ..model import Model
    from ..prompts.tasks import Task
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
@click.option(
    "--task",
    metavar="NAME",
    help=say(
        "A prompt file: QA, translation, summarization, or one's own.",
        "프롬프트 파일: QA, translation, summarization 또는 직접 만든 것.",
    ),
)
@click.option(
    "--var",
    multiple=True,
    metavar="NAME=TEXT|@FILE",
    help=say("A variable of the task (repeatable).", "작업에 넣을 변수(반복 가능)."),
)
@click.option(
    "--grammar",
    metavar="FILE",
    help=say("GBNF that the answer must follow.", "답이 따라야 할 GBNF 문법."),
)
@click.option(
    "--json-schema",
    metavar="FILE",
    help=say(
        "JSON schema of the answer; the result is checked.",
        "답의 JSON 스키마. 결과를 검사합니다.",
    ),
)
@click.option(
    "--logprobs",
    type=click.IntRange(0, 100),
    metavar="N",
    help=say(
        "With --json: how likely each token was, and the N likeliest.",
        "--json과 함께: 토큰마다 확률과 가장 그럴듯한 N개.",
    ),
)
@options.loading()
@options.answering()
@options.strict_input()
@options.json_output()
@options.quiet()
def command(prompt: str | None, model: str | None, **given: Any) -> None:
    if given["dry_run"]:
        return options.print_plan(model, given)
    given["form"] = _read_form(given)
    if given["context"] is not None:
        given["context"] = text_or_file(given["context"], "--context")
    if given["task"] is not None:
        task, values = _read_task(prompt, given)
        with options.load(model, given) as opened:
            _print(_stream_task(opened, task, values, given), given)
        return
    text = read_prompt(prompt)
    with options.load(model, given) as opened:
        _print(_stream(opened, text, given), given)


def _print(events: Iterator[Event], given: dict[str, Any]) -> None:
    last = print_answer(events, as_json=given["json"])
    if last.finish_reason == "loop" and not given["quiet"]:
        note(
            "Stopped, as the answer went round in circles; --no-stop-loops lets it go on.",
            "같은 말이 되풀이되어 멈췄습니다. --no-stop-loops를 주면 계속합니다.",
        )


def _read_form(given: dict[str, Any]) -> dict[str, Any]:
    """The options that say what form the answer has, as the methods of `Model` take them."""
    form = {}
    if given["grammar"] is not None:
        form["grammar"] = read_file(given["grammar"], "--grammar")
    if given["json_schema"] is not None:
        from ..schema import read_schema

        form["json_schema"] = read_schema(read_file(given["json_schema"], "--json-schema"))
    if given["logprobs"] is not None:
        if not given["json"]:
            raise UsageError(
                "--logprobs has nowhere to go without --json; add it.",
                "--logprobs는 --json과 함께만 쓸 수 있습니다. --json을 더하세요.",
            )
        form["logprobs"] = given["logprobs"]
    return form


def _answering(given: dict[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = given["form"]
    return options.answer_options(given) | form


def _stream(model: Model, text: str, given: dict[str, Any]) -> Iterator[Event]:
    if given["raw"]:
        return model.stream_completion(
            text, parse_special=given["parse_special"], **_answering(given)
        )
    messages: list[MessageDict] = [{"role": "user", "content": composed(text)}]
    if given["system"]:
        messages.insert(0, {"role": "system", "content": composed(given["system"])})
    typed = model.typed_markers(messages, context=given["context"])
    _watch(given).check(model.template.name, typed)
    return model.stream(messages, context=given["context"], **_answering(given))


def _stream_task(
    model: Model, task: Task, values: dict[str, str], given: dict[str, Any]
) -> Iterator[Event]:
    from ..prompts.markers import markers_in, plain_markers

    prompt = task.render(values)
    _watch(given).check(task.name, markers_in(values.values(), plain_markers(prompt)))
    answering = _answering(given)
    answering["stop"] = (*task.stops, *answering["stop"])
    return model.stream_segments(prompt, prefix=task.prefix, **answering)


def _watch(given: dict[str, Any]) -> MarkerWatch:
    return MarkerWatch(
        strict=given["strict_input"],
        note=lambda text: None if given["quiet"] else note_line(text),
    )


def _read_task(prompt: str | None, given: dict[str, Any]) -> tuple[Task, dict[str, str]]:
    """The task and its variables; the prompt is the one variable that was not named."""
    from ..prompts.folders import task_folders
    from ..prompts.tasks import find_task

    _refuse_what_a_task_has(given)
    task = find_task(given["task"], task_folders())
    values = read_variables(given["var"])
    missing = [name for name in task.variables if name not in values]
    if len(missing) == 1:
        values[missing[0]] = composed(read_prompt(prompt))
    elif prompt is not None:
        needed = ", ".join(task.variables)
        raise UsageError(
            f"It is not clear which variable of the task {task.name} ({needed}) the prompt is; "
            "name all but one with --var.",
            f"프롬프트가 작업 {task.name}의 어느 변수({needed})인지 알 수 없습니다. "
            "하나만 남기고 --var로 주세요.",
        )
    task.render(values)
    return task, values


def _refuse_what_a_task_has(given: dict[str, Any]) -> None:
    """A task's prompt is complete in itself."""
    for name in ("raw", "parse_special", "context", "system", "template"):
        if given[name]:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} does not go with --task, whose prompt is complete in itself; "
                "leave one of them out.",
                f"{flag}은(는) 그 자체로 완전한 프롬프트인 --task와 함께 쓸 수 없습니다. "
                "둘 중 하나를 빼세요.",
            )
