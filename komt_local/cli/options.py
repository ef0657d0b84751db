"""The options that several commands share, and what they mean to the library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from ..language import say
from .output import note

if TYPE_CHECKING:
    from ..model import Model

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

# Names of the options (and of their environment variables), and of the fields of `Sampling`.
_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repeat_penalty": "repeat_penalty",
    "seed": "seed",
}


class GpuLayers(click.ParamType[str | int]):
    """`auto`, `all`, or a number of layers."""

    name = "auto|all|N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | int:
        if value in ("auto", "all"):
            return str(value)
        if str(value).isdigit():
            return int(value)
        self.fail(say(f"{value!r} is not auto, all or a number", f"{value!r}: auto, all, 숫자"))


def _stack(*options: Decorator) -> Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def loading() -> Decorator:
    """How a model is loaded: context, threads, GPU layers."""
    return _stack(
        click.option(
            "-c",
            "--ctx-size",
            "ctx_size",
            type=click.IntRange(min=1),
            metavar="N",
            help=say("Context in tokens.", "컨텍스트 크기(토큰)."),
        ),
        threads(),
        click.option(
            "-ngl",
            "--gpu-layers",
            type=GpuLayers(),
            default="auto",
            help=say("Layers on the GPU.", "GPU에 올릴 층 수."),
        ),
    )


def threads() -> Decorator:
    return click.option(
        "-t",
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help=say("CPU threads (default: physical cores).", "CPU 스레드 수(기본: 물리 코어 수)."),
    )


def template() -> Decorator:
    return click.option(
        "--template",
        metavar="NAME",
        help=say(
            "Prompt convention (default: the file's own).",
            "프롬프트 형식(기본: 파일에 담긴 것).",
        ),
    )


def answering() -> Decorator:
    """How an answer is made: template, system text, length, sampling, stops."""
    return _stack(
        click.option(
            "-s",
            "--system",
            metavar="TEXT",
            help=say("System prompt.", "시스템 프롬프트."),
        ),
        template(),
        click.option(
            "-n",
            "--max-tokens",
            type=click.IntRange(min=1),
            default=1024,
            show_default=True,
            metavar="N",
            help=say("Longest answer in tokens.", "답의 최대 길이(토큰)."),
        ),
        _sampling("--temp", "temp", float, "0 = always the likeliest", "0이면 늘 최선"),
        _sampling("--top-k", "top_k", int, "keep the K likeliest", "가장 그럴듯한 K개만"),
        _sampling("--top-p", "top_p", float, "keep a mass of P", "확률의 합 P까지만"),
        _sampling("--min-p", "min_p", float, "drop below P x best", "최고 확률의 P배 미만은 버림"),
        _sampling("--repeat-penalty", "repeat_penalty", float, "1 = off", "1이면 끔"),
        _sampling("--seed", "seed", int, "same seed, same answer", "같은 값이면 같은 답"),
        click.option(
            "--stop",
            multiple=True,
            metavar="TEXT",
            help=say(
                "End the answer before TEXT (repeatable).", "이 글 앞에서 답을 끝냄(반복 가능)."
            ),
        ),
    )


def _sampling(flag: str, name: str, kind: type, en: str, ko: str) -> Decorator:
    lowest = click.IntRange(min=0) if kind is int else click.FloatRange(min=0)
    return click.option(flag, name, type=lowest, metavar="X", help=say(en, ko))


def strict_input() -> Decorator:
    return click.option(
        "--strict-input",
        is_flag=True,
        help=say(
            "Refuse lines that begin like the template's own markers (else a note).",
            "템플릿의 표시처럼 시작하는 줄을 거절함(기본: 알림만).",
        ),
    )


def json_output() -> Decorator:
    return click.option("--json", is_flag=True, help=say("Print JSON.", "JSON으로 출력합니다."))


def quiet() -> Decorator:
    return click.option(
        "--quiet", is_flag=True, help=say("No notes, no progress.", "알림과 진행 표시를 끕니다.")
    )


def sampling_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling fields that were given; the rest stays as the model has it."""
    given = ((field, options.get(name)) for name, field in _SAMPLING.items())
    return {field: value for field, value in given if value is not None}


def answer_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """How an answer is made, as the methods of `Model` take it."""
    limits = {"max_tokens": options["max_tokens"], "stop": options["stop"]}
    return limits | sampling_of(options)


def load(reference: str | None, options: Mapping[str, Any]) -> Model:
    """Open the model that the command line names, as its options say."""
    from ..model import Model

    model = Model.load(
        reference,
        n_ctx=options["ctx_size"],
        threads=options["threads"],
        gpu_layers=options["gpu_layers"],
        template=options.get("template"),
    )
    if not options["quiet"]:
        for said in model.notes:
            note(said.en, said.ko)
    return model
