"""`komt-local convert`: a checkpoint becomes a verified GGUF file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..language import say
from . import options
from .base import KomtCommand
from .output import note, print_json, size

if TYPE_CHECKING:
    from komt_convert import Report


@click.command(
    cls=KomtCommand,
    help=say(
        "Turn the Hugging Face checkpoint in the folder SOURCE into one GGUF file, quantized, and "
        "prove that the file says what the checkpoint said.",
        "폴더 SOURCE의 허깅 페이스 체크포인트를 양자화된 GGUF 파일 하나로 바꾸고, 그 파일이 "
        "체크포인트와 같은 것을 말하는지 증명합니다.",
    ),
)
@click.argument("source")
@click.option(
    "-o", "--output", required=True, metavar="OUT", help=say("The GGUF file.", "만들 GGUF 파일.")
)
@click.option(
    "-q",
    "--quantization",
    metavar="TYPE",
    default="Q4_K_M",
    show_default=True,
    help=say(
        "F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0.",
        "F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0.",
    ),
)
@click.option(
    "--lora",
    multiple=True,
    metavar="PATH",
    help=say(
        "Merge the LoRA adapter in this folder (repeatable).",
        "이 폴더의 LoRA 어댑터를 합칩니다(반복 가능).",
    ),
)
@click.option(
    "--lora-scale",
    multiple=True,
    type=float,
    metavar="X",
    help=say(
        "How strongly each adapter counts, in the same order (default: 1).",
        "어댑터마다 얼마나 세게 합칠지, 같은 순서로(기본: 1).",
    ),
)
@click.option(
    "--base",
    metavar="PATH",
    help=say(
        "The folder of the base model, if SOURCE is an adapter (default: what the adapter names).",
        "SOURCE가 어댑터일 때 기반 모델의 폴더(기본: 어댑터에 적힌 모델).",
    ),
)
@click.option(
    "--as-adapter",
    is_flag=True,
    help=say(
        "Make a GGUF adapter of the adapter SOURCE, unmerged, for --lora of `chat` and `run`.",
        "어댑터 SOURCE를 합치지 않고 GGUF 어댑터로 만듭니다. `chat`과 `run`의 --lora에 씁니다.",
    ),
)
@options.template()
@click.option(
    "--no-verify",
    is_flag=True,
    help=say("Skip the proof of the weights.", "가중치 증명을 건너뜁니다."),
)
@click.option(
    "--allow-token-mismatch",
    is_flag=True,
    help=say(
        "Make the file even if llama.cpp would tokenize otherwise than the source.",
        "llama.cpp가 원본과 다르게 토큰을 나누더라도 파일을 만듭니다.",
    ),
)
@click.option(
    "--force", is_flag=True, help=say("Replace OUT if it exists.", "OUT이 있으면 바꿔 씁니다.")
)
@options.threads()
@options.json_output()
@options.quiet()
def command(source: str, output: str, **given: Any) -> None:
    from komt_convert import convert

    from ..prompts import PRESETS, choose

    if given["as_adapter"]:
        _convert_adapter(source, output, given)
        return
    name = given["template"]
    jinja = choose(name, None).jinja if name else None
    adapters = adapters_of(given["lora"], given["lora_scale"])
    with progress_bar(hidden=given["quiet"]) as progress:
        report = convert(
            source,
            output,
            quant=given["quantization"],
            adapters=adapters,
            base=given["base"],
            chat_template=jinja,
            verify=not given["no_verify"],
            allow_token_mismatch=given["allow_token_mismatch"],
            force=given["force"],
            threads=given["threads"],
            progress=progress,
        )
    if given["json"]:
        print_json(report.as_dict())
    elif not given["quiet"]:
        _summarize(report)
        for en, ko in report.warnings:
            note(en, ko)
        if not report.has_chat_template:
            names = ", ".join(PRESETS)
            note(
                f"The checkpoint carries no chat template; name one with --template ({names}).",
                f"체크포인트에 대화 템플릿이 없습니다. --template으로 정하세요({names}).",
            )


def _convert_adapter(source: str, output: str, given: Any) -> None:
    from komt_convert.lora_gguf import convert_adapter

    if given["lora"]:
        raise UsageError(
            "--as-adapter makes a file of the adapter SOURCE; leave --lora out.",
            "--as-adapter는 어댑터 SOURCE를 파일로 만듭니다. --lora를 빼세요.",
        )
    report = convert_adapter(source, output, base=given["base"], force=given["force"])
    if given["json"]:
        print_json(report.as_dict())
    elif not given["quiet"]:
        click.echo(
            say(
                f"{report.out}\n  {report.n_tensors} tensors for {report.architecture}, "
                f"{size(report.out_bytes)}\n  sha256 {report.sha256}",
                f"{report.out}\n  {report.architecture}용 텐서 {report.n_tensors}개, "
                f"{size(report.out_bytes)}\n  sha256 {report.sha256}",
            )
        )


def adapters_of(paths: Sequence[str], scales: Sequence[float]) -> list[tuple[str, float]]:
    if scales and len(scales) != len(paths):
        raise UsageError(
            f"There are {len(paths)} --lora and {len(scales)} --lora-scale; give one for each.",
            f"--lora는 {len(paths)}개, --lora-scale은 {len(scales)}개입니다. 짝을 맞추세요.",
        )
    return list(zip(paths, scales or [1.0] * len(paths), strict=True))


@contextmanager
def progress_bar(*, hidden: bool) -> Iterator[Any]:
    """A bar on stderr with rate and remaining time, for `convert`'s progress callback."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    stages = {
        "write": say("converting", "변환"),
        "verify": say("verifying", "검증"),
    }
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=hidden or not console.is_terminal
    ) as bar:
        tasks: dict[str, Any] = {}

        def report(step: Any) -> None:
            if step.stage not in tasks:
                tasks[step.stage] = bar.add_task(
                    stages.get(step.stage, step.stage), total=step.total
                )
            bar.update(tasks[step.stage], completed=step.done)

        yield report


def _summarize(report: Report) -> None:
    for line in _lines(report):
        click.echo(line)


def _lines(report: Report) -> Iterator[str]:
    before, after = size(report.source_bytes), size(report.out_bytes)
    bits = f"{report.bits_per_weight:.2f}"
    memory = size(report.peak_memory_bytes)
    yield str(report.out)
    yield say(
        f"  {report.file_type}, {before} → {after}, {bits} bits per weight",
        f"  {report.file_type}, {before} → {after}, 가중치당 {bits}비트",
    )
    yield say(
        f"  {report.seconds:.1f} s, peak memory {memory}",
        f"  {report.seconds:.1f}초, 최대 메모리 {memory}",
    )
    if not report.verified:
        yield say("  not verified", "  검증하지 않음")
        return
    yield say(
        f"  {report.tokens_compared:,} token ids equal the source tokenizer's",
        f"  토큰 {report.tokens_compared:,}개가 원본 토크나이저와 같음",
    )
    for error in report.errors:
        relative = f"{error.relative:.2%}"
        yield say(
            f"  {error.n_tensors} tensors of {error.type}: largest error {relative}",
            f"  {error.type} 텐서 {error.n_tensors}개: 가장 큰 오차 {relative}",
        )
    yield f"  sha256 {report.sha256}"
