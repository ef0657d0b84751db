"""`komt-local import`: take in model files that are on this machine already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidModel, UsageError
from ..language import say
from . import options
from .base import KomtCommand
from .output import note, print_json, size

if TYPE_CHECKING:
    from ..library.records import Record
    from ..library.stores import Found


@click.command(
    cls=KomtCommand,
    help=say(
        "Take in SOURCE: a GGUF file, a folder with such files, `lm-studio`, `ollama`, or "
        "`ollama:NAME`. Files stay where they are, unless --copy is given.",
        "SOURCE를 들여옵니다: GGUF 파일, 그런 파일이 있는 폴더, `lm-studio`, `ollama`, "
        "`ollama:NAME`. --copy가 없으면 파일은 제자리에 둡니다.",
    ),
)
@click.argument("source")
@click.option("--name", metavar="NAME", help=say("What to call it.", "부를 이름."))
@click.option(
    "--copy", is_flag=True, help=say("Copy into komt-local's folder.", "komt-local 폴더로 복사.")
)
@options.json_output()
@options.quiet()
def command(source: str, name: str | None, copy: bool, **given: Any) -> None:
    from ..library.stores import find

    found = find(source)
    if name and len(found) > 1:
        raise UsageError(
            f"{source!r} holds {len(found)} models, and --name names one; give one file.",
            f"{source!r}에는 모델이 {len(found)}개 있는데 --name은 하나뿐입니다. "
            "파일 하나를 주세요.",
        )
    records = list(_import_all(found, name or "", copy, given["quiet"]))
    if given["json"]:
        print_json([asdict(record) for record in records])
        return
    for record in records:
        click.echo(f"{record.name}  {record.type or '-'}  {size(record.size)}  {record.path}")


def _import_all(found: list[Found], name: str, copy: bool, quiet: bool) -> Iterator[Record]:
    """One after the other; of several, those that are unusable are said and passed over."""
    for item in found:
        try:
            yield _import(item, name, copy, quiet)
        except InvalidModel as error:
            if len(found) == 1:
                raise
            note(str(error), error.ko)


def _import(item: Found, name: str, copy: bool, quiet: bool) -> Record:
    from ..library.adding import add
    from .bars import bars

    with bars(hidden=quiet) as step:
        return add(
            item,
            name=name,
            copy=copy,
            on_bytes=lambda done, total: step("check", item.name, done, total),
        )
