"""`komt-local alias`: names of one's own."""

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
        "Let NAME stand for REFERENCE, a path or anything else that names a model. Without "
        "arguments, list the aliases.",
        "NAME이 REFERENCE(경로, 또는 모델을 가리키는 무엇이든)를 뜻하게 합니다. 인자가 없으면 "
        "별칭을 보여 줍니다.",
    ),
)
@click.argument("name", required=False)
@click.argument("reference", required=False)
@click.option("--delete", is_flag=True, help=say("Forget the alias NAME.", "별칭 NAME을 지웁니다."))
@options.json_output()
def command(name: str | None, reference: str | None, delete: bool, **given: Any) -> None:
    from ..library import names, records

    if name and delete and not reference:
        names.unset_alias(name)
    elif name and reference and not delete:
        names.set_alias(name, reference)
    elif name or delete:
        raise UsageError(
            "An alias needs a name and what it stands for: komt-local alias NAME REFERENCE.",
            "별칭에는 이름과 대상이 필요합니다: komt-local alias NAME REFERENCE.",
        )
    aliases = records.load().aliases
    if given["json"]:
        print_json(aliases)
    elif not name:
        for alias, target in sorted(aliases.items()):
            click.echo(f"{alias}  {target}")
