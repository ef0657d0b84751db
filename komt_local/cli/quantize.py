"""`komt-local quantize`: a GGUF file in another type."""

from __future__ import annotations

from typing import Any

import click

from ..language import say
from . import options
from .base import KomtCommand
from .convert import progress_bar, quantization, show, weighing


@click.command(
    cls=KomtCommand,
    help=say(
        "Write the GGUF file IN (F32, F16 or BF16) in another type, and prove it. The bytes are "
        "those of llama-quantize.",
        "GGUF 파일 IN(F32, F16, BF16)을 다른 타입으로 만들고 증명합니다. 바이트는 "
        "llama-quantize가 만드는 것과 같습니다.",
    ),
)
@click.argument("source", metavar="IN")
@click.option(
    "-o", "--output", required=True, metavar="OUT", help=say("The new file.", "만들 파일.")
)
@quantization()
@weighing
@click.option(
    "--allow-requantize",
    is_flag=True,
    help=say(
        "Quantize again what is quantized already, at a loss.",
        "이미 양자화된 파일도 손실을 감수하고 다시 양자화합니다.",
    ),
)
@click.option("--no-verify", is_flag=True, help=say("Skip the proof.", "증명을 건너뜁니다."))
@click.option(
    "--force", is_flag=True, help=say("Replace OUT if it exists.", "OUT이 있으면 바꿔 씁니다.")
)
@options.threads()
@options.json_output()
@options.quiet()
def command(source: str, output: str, **given: Any) -> None:
    from komt_convert import quantize

    with progress_bar(hidden=given["quiet"]) as progress:
        report = quantize(
            source,
            output,
            quant=given["quantization"],
            tensor_types=given["tensor_type"],
            imatrix=given["imatrix"],
            allow_requantize=given["allow_requantize"],
            verify=not given["no_verify"],
            force=given["force"],
            save_report=True,
            threads=given["threads"],
            progress=progress,
        )
    show(report, given)
