"""`komt-local bench`: prompt and generation speed, as llama-bench defines them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
from rich.cells import cell_len

from ..language import say
from . import options
from .base import KomtCommand
from .output import print_json


@click.command(
    cls=KomtCommand,
    help=say(
        "Measure MODEL: a prompt of random tokens, then tokens generated one by one.",
        "MODEL의 속도를 잽니다: 무작위 토큰 프롬프트, 그다음 한 토큰씩 생성.",
    ),
)
@click.argument("model", required=False)
@click.option(
    "-p",
    "--prompt-tokens",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    metavar="N",
    help=say("Tokens of the prompt.", "프롬프트 토큰 수."),
)
@click.option(
    "-n",
    "--generated-tokens",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    metavar="N",
    help=say("Tokens to generate.", "생성할 토큰 수."),
)
@options.threads()
@options.json_output()
def command(model: str | None, threads: int | None, **given: Any) -> None:
    from .. import library
    from ..bench import measure

    path = library.resolve(model)
    n_prompt, n_gen = given["prompt_tokens"], given["generated_tokens"]
    result = measure(path, n_prompt=n_prompt, n_gen=n_gen, threads=threads)
    if given["json"]:
        print_json(asdict(result))
        return
    click.echo(path.name)
    for label, count, speed in (
        (say("prompt", "프롬프트"), n_prompt, result.prompt_tokens_per_second),
        (say("generation", "생성"), n_gen, result.generated_tokens_per_second),
    ):
        padding = " " * (12 - cell_len(label))
        click.echo(f"  {label}{padding}{count:>6} {speed:>10.1f} {say('tokens/s', '토큰/초')}")
