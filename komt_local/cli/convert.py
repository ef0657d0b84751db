"""`komt-local convert`: a checkpoint becomes a verified GGUF file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from komt_convert.file_types import FILE_TYPES

from ..errors import UsageError
from ..hardware import DEFAULT_CONTEXT
from ..language import say, speaks_korean
from . import options
from .base import KomtCommand
from .output import note, print_json, size
from .sources import bring

if TYPE_CHECKING:
    from komt_convert import Report
    from komt_convert.report import OnProgress

F = TypeVar("F", bound=Callable[..., Any])


def quantization(**default: Any) -> Callable[[F], F]:
    """-q, with all types in its help; required without a default."""
    return click.option(
        "-q",
        "--quantization",
        metavar="TYPE",
        required=not default,
        show_default=bool(default),
        help=", ".join(FILE_TYPES) + say(".", " 중 하나."),
        **default,
    )


def weighing(command: F) -> F:
    """What changes the types and the search: --tensor-type, --imatrix."""
    for option in (
        click.option(
            "--imatrix",
            metavar="FILE",
            help=say(
                "Importance matrix of llama-imatrix, which IQ1, IQ2, IQ3_XS, IQ3_XXS and Q2_K_S "
                "need.",
                "llama-imatrix로 만든 중요도 행렬. IQ1, IQ2, IQ3_XS, IQ3_XXS, Q2_K_S에 필요함.",
            ),
        ),
        click.option(
            "--tensor-type",
            multiple=True,
            metavar="PATTERN=TYPE",
            help=say(
                "Another type for tensors with PATTERN in their names, as attn_v=Q8_0 "
                "(repeatable).",
                "이름에 PATTERN이 든 텐서의 타입. 예: attn_v=Q8_0(반복 가능).",
            ),
        ),
    ):
        command = option(command)
    return command


@click.command(
    cls=KomtCommand,
    help=say(
        "Turn the Hugging Face checkpoint SOURCE, a folder or org/repo, into one GGUF file, "
        "quantized, and prove that the file says what the checkpoint said. An adapter is merged "
        "into the model that it was trained on.",
        "허깅 페이스 체크포인트 SOURCE(폴더나 org/repo)를 양자화된 GGUF 파일 하나로 바꾸고, 그 "
        "파일이 체크포인트와 같은 것을 말하는지 증명합니다. 어댑터는 학습한 기반 모델에 합칩니다.",
    ),
)
@click.argument("source")
@click.option("-o", "--output", metavar="OUT", help=say("The GGUF file.", "만들 GGUF 파일."))
@quantization(default="Q4_K_M")
@weighing
@click.option(
    "--lora",
    multiple=True,
    metavar="PATH",
    help=say(
        "Merge this LoRA adapter, a folder or org/repo (repeatable).",
        "이 LoRA 어댑터(폴더나 org/repo)를 합칩니다(반복 가능).",
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
        "The base model, a folder or org/repo, if SOURCE is an adapter (default: what it names).",
        "SOURCE가 어댑터일 때 기반 모델의 폴더나 org/repo(기본: 어댑터에 적힌 모델).",
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
    "--dry-run",
    is_flag=True,
    help=say(
        "Write nothing; show what the model takes in every type, on disk and in memory.",
        "아무것도 쓰지 않고, 타입마다 파일 크기와 필요한 메모리를 보여 줍니다.",
    ),
)
@click.option(
    "-c",
    "--ctx-size",
    type=click.IntRange(min=1),
    metavar="N",
    help=say(
        f"The context that --dry-run counts with (default: the model's, at most "
        f"{DEFAULT_CONTEXT:,}).",
        f"--dry-run이 계산에 쓰는 컨텍스트 크기(기본: 모델의 값, 최대 {DEFAULT_CONTEXT:,}).",
    ),
)
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
@options.offline()
@options.json_output()
@options.quiet()
def command(source: str, output: str | None, **given: Any) -> None:
    from komt_convert import convert
    from komt_convert.output import refuse_target
    from komt_convert.planning import want

    from ..prompts import PRESETS, choose

    if given["dry_run"]:
        _show_sizes(source, given)
        return
    if output is None:
        raise UsageError(
            "Say with -o which file to make, or ask for sizes only with --dry-run.",
            "만들 파일을 -o로 정하거나, 크기만 보려면 --dry-run을 쓰세요.",
        )
    refuse_target(Path(output), force=given["force"])  # sooner than a download ends
    if given["as_adapter"]:
        _convert_adapter(source, output, given)
        return
    want(given["quantization"], given["tensor_type"], given["imatrix"])
    name = given["template"]
    jinja = choose(name, None).jinja if name else None
    here = bring(source, given)
    with progress_bar(hidden=given["quiet"]) as progress:
        report = convert(
            here.model,
            output,
            quant=given["quantization"],
            adapters=here.adapters,
            base=here.base,
            chat_template=jinja,
            tensor_types=given["tensor_type"],
            imatrix=given["imatrix"],
            verify=not given["no_verify"],
            allow_token_mismatch=given["allow_token_mismatch"],
            force=given["force"],
            save_report=True,
            threads=given["threads"],
            progress=progress,
        )
    show(report, given)
    if not (report.has_chat_template or given["json"] or given["quiet"]):
        names = ", ".join(PRESETS)
        note(
            f"The checkpoint carries no chat template; name one with --template ({names}).",
            f"체크포인트에 대화 템플릿이 없습니다. --template으로 정하세요({names}).",
        )


def _show_sizes(source: str, given: Any) -> None:
    from komt_convert import survey

    from .sizes import show_sizes

    here = bring(source, given)
    found = survey(
        here.model, adapters=here.adapters, base=here.base, tensor_types=given["tensor_type"]
    )
    show_sizes(found, given)


def _convert_adapter(source: str, output: str, given: Any) -> None:
    from komt_convert.lora_gguf import convert_adapter

    if given["lora"]:
        raise UsageError(
            "--as-adapter makes a file of the adapter SOURCE; leave --lora out.",
            "--as-adapter는 어댑터 SOURCE를 파일로 만듭니다. --lora를 빼세요.",
        )
    here = bring(source, given, weights=False)
    report = convert_adapter(
        here.model, output, base=here.base, force=given["force"], save_report=True
    )
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


def progress_bar(*, hidden: bool) -> AbstractContextManager[OnProgress]:
    """A bar on stderr with rate and remaining time, for `convert`'s progress callback."""
    from komt_convert import console

    return console.progress_bar(sys.stderr, korean=speaks_korean(), hidden=hidden)


def show(report: Report, given: Mapping[str, Any]) -> None:
    """The report of a conversion, as JSON or in a few lines, and its warnings."""
    from komt_convert import console

    if given["json"]:
        print_json(report.as_dict())
    elif not given["quiet"]:
        click.echo(console.summary(report, korean=speaks_korean()))
        for en, ko in report.warnings:
            note(en, ko)
