"""`komt-local rm`: remove a model that was brought here."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import UsageError
from ..language import say
from . import options
from .base import KomtCommand
from .output import note, print_json, size


@click.command(
    cls=KomtCommand,
    help=say(
        "Remove MODEL, as `komt-local list` names it: the file that was pulled or made here, or "
        "for an imported one only its entry.",
        "`komt-local list`에 나오는 이름의 MODEL을 지웁니다. 받거나 만든 것은 파일까지, "
        "들여온 것은 항목만 지웁니다.",
    ),
)
@click.argument("model")
@click.option("-y", "--yes", is_flag=True, help=say("Do not ask.", "묻지 않습니다."))
@options.json_output()
@options.quiet()
def command(model: str, yes: bool, **given: Any) -> None:
    from ..library.removing import plan_removal, remove

    removal = plan_removal(model)
    if not yes:
        _ask(f"{removal.name} ({size(removal.size)})")
    remove(removal)
    if given["json"]:
        files = [str(path) for path in removal.files]
        print_json({"name": removal.name, "removed": files, "freed_bytes": removal.size})
    elif not given["quiet"]:
        note(*_done(removal.name, removal.size, kept=bool(removal.kept)))


def _ask(what: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "There is no terminal to ask on; give --yes to remove it.",
            "물어볼 터미널이 없습니다. 지우려면 --yes를 주세요.",
        )
    click.confirm(say(f"Remove {what}?", f"{what}을(를) 지울까요?"), abort=True, err=True)


def _done(name: str, freed: int, *, kept: bool) -> tuple[str, str]:
    if kept:
        return (
            f"{name} is no longer listed; its file is not ours and stays.",
            f"{name}을(를) 목록에서 뺐습니다. 파일은 그대로 있습니다.",
        )
    return f"Removed {name}, {size(freed)} freed.", f"{name}을(를) 지웠습니다({size(freed)})."
