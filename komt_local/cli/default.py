"""`komt-local default`: the model that is taken when none is named."""

from __future__ import annotations

from typing import Any

import click

from ..errors import UsageError
from ..language import say
from . import options
from .base import KomtCommand
from .output import print_json


@click.command(
    cls=KomtCommand,
    help=say(
        "Take MODEL wherever no model is named. Without MODEL, print what is taken.",
        "모델 이름을 주지 않을 때 MODEL을 씁니다. MODEL이 없으면 지금 쓰는 것을 출력합니다.",
    ),
)
@click.argument("model", required=False)
@click.option(
    "--unset", is_flag=True, help=say("Back to the embedded model.", "내장 모델로 되돌립니다.")
)
@options.json_output()
def command(model: str | None, unset: bool, **given: Any) -> None:
    from ..library import EMBEDDED_NAME, names, records, resolve

    if model and unset:
        raise UsageError(
            "--unset goes back to the embedded model, so MODEL has no place beside it.",
            "--unset은 내장 모델로 되돌리므로 MODEL과 함께 쓸 수 없습니다.",
        )
    if model or unset:
        path = resolve(model) if model else None
        names.set_default(model if path else None)
    chosen = records.load().default or EMBEDDED_NAME
    if given["json"]:
        print_json({"default": chosen})
    else:
        click.echo(chosen)
