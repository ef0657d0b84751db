"""The options that several commands share, and what they mean to the library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..language import say
from .output import note, print_json

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
    "repeat_last_n": "repeat_last_n",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "dry_multiplier": "dry_multiplier",
    "dry_base": "dry_base",
    "dry_allowed_length": "dry_allowed_length",
    "seed": "seed",
    "stop_loops": "stop_loops",
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


def stack(*options: Decorator) -> Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def loading() -> Decorator:
    """How a model is loaded: context, threads, GPU layers."""
    return stack(
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
        click.option(
            "--dry-run",
            is_flag=True,
            help=say(
                "Only print what would lie where in memory.",
                "메모리에 무엇이 어디 놓일지만 출력합니다.",
            ),
        ),
        lora(
            "Run with a LoRA adapter: a GGUF file or a PEFT folder (repeatable).",
            "LoRA 어댑터와 함께 실행: GGUF 파일이나 PEFT 폴더(반복 가능).",
        ),
        click.option(
            "--draft",
            type=click.IntRange(min=0, max=64),
            default=0,
            metavar="N",
            help=say(
                "Guess up to N tokens at a time from the text so far (0 = off).",
                "지금까지의 글에서 한 번에 N토큰까지 추측(0이면 끔).",
            ),
        ),
        cache_type("k", say("Type of the keys in the KV cache.", "KV 캐시의 키 유형.")),
        cache_type("v", say("Type of the values in the KV cache.", "KV 캐시의 값 유형.")),
    )


def cache_type(which: str, text: str) -> Decorator:
    types = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
    return click.option(
        f"--cache-type-{which}",
        type=click.Choice(types),
        metavar="TYPE",
        default="f16",
        show_default=True,
        help=text,
    )


def lora(en: str, ko: str) -> Decorator:
    """Adapters, and how strongly each counts."""
    return stack(
        click.option("--lora", multiple=True, metavar="PATH", help=say(en, ko)),
        click.option(
            "--lora-scale",
            multiple=True,
            type=float,
            metavar="X",
            help=say(
                "How strongly each adapter counts, in the same order (default: 1).",
                "어댑터마다 얼마나 세게 쓸지, 같은 순서로(기본: 1).",
            ),
        ),
    )


def adapters_of(options: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The adapters that were given, each with its scale. Raises UsageError for odd numbers."""
    paths, scales = options["lora"], options["lora_scale"]
    if scales and len(scales) != len(paths):
        raise UsageError(
            f"There are {len(paths)} --lora and {len(scales)} --lora-scale; give one for each.",
            f"--lora는 {len(paths)}개, --lora-scale은 {len(scales)}개입니다. 짝을 맞추세요.",
        )
    return list(zip(paths, scales or [1.0] * len(paths), strict=True))


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
    return stack(
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
        _sampling(
            "--repeat-last-n",
            "repeat_last_n",
            int,
            "tokens that the penalties look back on",
            "벌점이 돌아보는 토큰 수",
        ),
        _sampling("--frequency-penalty", "frequency_penalty", float, "0 = off", "0이면 끔"),
        _sampling("--presence-penalty", "presence_penalty", float, "0 = off", "0이면 끔"),
        _sampling(
            "--dry-multiplier",
            "dry_multiplier",
            float,
            "against repeated sequences; 0 = off, 0.8 is usual",
            "되풀이되는 구절을 막음. 0이면 끔, 보통 0.8",
        ),
        _sampling("--dry-base", "dry_base", float, "growth with length", "길이에 따른 증가율"),
        _sampling(
            "--dry-allowed-length", "dry_allowed_length", int, "free up to here", "여기까지는 허용"
        ),
        click.option(
            "--stop-loops/--no-stop-loops",
            default=None,
            help=say(
                "End an answer that goes round in circles (default: yes, but for --raw).",
                "같은 말을 되풀이하면 답을 끝냄(기본: 켬, --raw에서는 끔).",
            ),
        ),
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


def offline() -> Decorator:
    return click.option(
        "--offline",
        is_flag=True,
        help=say("Use no network; only what is here.", "네트워크 없이, 이미 있는 것만 씁니다."),
    )


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


def _how_to_load(options: Mapping[str, Any]) -> dict[str, Any]:
    names = ("threads", "gpu_layers", "draft", "cache_type_k", "cache_type_v")
    return {"n_ctx": options["ctx_size"], **{name: options[name] for name in names}}


def print_plan(reference: str | None, options: Mapping[str, Any]) -> None:
    """Print what `load` would do, and load nothing."""
    from dataclasses import asdict

    from ..model import Model

    plan, lines = Model.plan(reference, **_how_to_load(options))
    if options.get("json"):
        print_json(asdict(plan))
        return
    for line in lines:
        click.echo(say(line.en, line.ko))


def load(reference: str | None, options: Mapping[str, Any]) -> Model:
    """Open the model that the command line names, as its options say."""
    from ..model import Model

    model = Model.load(
        reference,
        template=options.get("template"),
        lora=adapters_of(options),
        **_how_to_load(options),
    )
    if not options["quiet"]:
        for said in model.notes:
            note(said.en, said.ko)
    return model
