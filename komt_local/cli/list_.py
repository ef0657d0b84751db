"""`komt-local list`: the models on this machine, or with --all those that are known by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..language import say
from . import options
from .base import KomtCommand
from .output import note, print_json, size
from .welcome import SUGGESTED

if TYPE_CHECKING:
    from ..catalogue import Model
    from ..library.contents import Entry


@click.command(
    cls=KomtCommand,
    help=say(
        "List the models on this machine: name, type, size, template, when last used, where. With "
        "--all, the Korean models that komt-local knows by name.",
        "이 컴퓨터에 있는 모델을 보여 줍니다: 이름, 타입, 크기, 템플릿, 마지막 사용, 위치. "
        "--all이면 komt-local이 이름으로 아는 한국어 모델을 보여 줍니다.",
    ),
)
@click.option(
    "--all",
    "show_all",
    is_flag=True,
    help=say("What can be pulled by name.", "이름으로 받을 수 있는 모델."),
)
@options.json_output()
@options.quiet()
def command(show_all: bool, **given: Any) -> None:
    show = _print_catalogue if show_all else _print_contents
    show(given["json"], given["quiet"])


def _print_contents(as_json: bool, quiet: bool) -> None:
    from ..library.contents import contents

    entries = contents()
    if as_json:
        print_json([_entry_json(entry) for entry in entries])
    elif quiet:
        for entry in entries:
            click.echo(entry.name)
    else:
        if entries:
            heads = ("NAME", "TYPE", "SIZE", "TEMPLATE", "LAST USED", "WHERE")
            korean = ("이름", "타입", "크기", "템플릿", "마지막 사용", "위치")
            _print_table(say_all(heads, korean), [_row(entry) for entry in entries])
        if all(entry.origin == "embedded" for entry in entries):
            _print_what_to_do()


def _print_what_to_do() -> None:
    """For someone who has no model yet."""
    note(
        f"No model of your own yet: `komt-local pull {SUGGESTED}` brings one here, `komt-local "
        "list --all` shows which there are, and `komt-local import` takes in GGUF files.",
        f"아직 받은 모델이 없습니다. `komt-local pull {SUGGESTED}`로 받고, 받을 수 있는 모델은 "
        "`komt-local list --all`로 보고, 가진 GGUF 파일은 `komt-local import`로 들여옵니다.",
    )


def _row(entry: Entry) -> tuple[str, ...]:
    star = " *" if entry.is_default else ""
    names = f" ({', '.join(entry.aliases)})" if entry.aliases else ""
    template = _problem(entry.problem) if entry.problem else _template(entry)
    return (
        entry.name + names + star,
        entry.type or "-",
        size(entry.size),
        template,
        entry.last_used[:10] or "-",
        _where(entry.path),
    )


def _where(path: Path) -> str:
    """The folder it is kept in, for the cache that of the whole cache; --json has the path."""
    from ..library.cache import cache_folder, is_in_cache

    folder = cache_folder() if is_in_cache(path) else path.parent
    home = Path.home()
    return (
        f"~/{folder.relative_to(home).as_posix()}" if folder.is_relative_to(home) else str(folder)
    )


def _problem(problem: str) -> str:
    gone = say("file is gone", "파일 없음")
    return gone if problem == "missing" else say("not usable", "쓸 수 없음")


def _template(entry: Entry) -> str:
    """The preset's name, or that the file has a template of its own."""
    name = _template_name(entry)
    return say("its own", "자체") if name == "file" else name or "-"


def _template_name(entry: Entry) -> str | None:
    """Of what the file carries, else what the catalogue knows of its repository."""
    from ..library import template_for
    from ..prompts import choose

    if entry.chat_template is None:
        return template_for(entry.path)
    return choose(None, entry.chat_template).name


def _entry_json(entry: Entry) -> dict[str, Any]:
    values = entry.as_dict()
    del values["chat_template"]
    return values | {"template": _template_name(entry)}


# --- the catalogue -------------------------------------------------------------------------------


def _print_catalogue(as_json: bool, quiet: bool) -> None:
    from ..catalogue import models

    if as_json:
        print_json([_model_json(model) for model in models()])
    elif quiet:
        click.echo("\n".join(model.name for model in models()))
    else:
        heads = ("NAME", "PARAMETERS", "MEMORY Q4_K_M", "MEMORY Q8_0", "CONTEXT", "GGUF", "LICENCE")
        korean = (
            "이름",
            "매개변수",
            "메모리 Q4_K_M",
            "메모리 Q8_0",
            "컨텍스트",
            "GGUF",
            "라이선스",
        )
        _print_table(say_all(heads, korean), [_model_row(model) for model in models()])
        click.echo(
            say(
                "? = not confirmed. LoRA = an adapter, not a model.",
                "? = 확인되지 않음. LoRA = 모델이 아닌 어댑터.",
            )
        )


def _model_row(model: Model) -> tuple[str, ...]:
    def sure(field: str, text: str) -> str:
        return text + ("?" if field in model.unconfirmed else "")

    memory = model.memory()
    limits = say(model.restrictions, model.restrictions_ko)
    return (
        model.name,
        "LoRA"
        if model.adapter_of
        else sure("parameters", f"{model.parameters / 1e9:.1f} B".replace(".0 B", " B")),
        size(memory["Q4_K_M"]) if memory else "-",
        size(memory["Q8_0"]) if memory else "-",
        sure("context", f"{model.context:,}") if model.context else "-",
        _ready(model),
        sure("licence", model.licence) + (f": {limits}" if limits else ""),
    )


def _ready(model: Model) -> str:
    """Whether there are GGUF files, or a checkpoint to convert."""
    if model.adapter_of:
        return "-"
    return say("yes", "있음") if model.gguf else say("converted", "변환")


def _model_json(model: Model) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(model) | {"memory_bytes": model.memory()}


# --- tables --------------------------------------------------------------------------------------


def say_all(en: Sequence[str], ko: Sequence[str]) -> list[str]:
    return [say(*pair) for pair in zip(en, ko, strict=True)]


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; Hangul takes two places."""
    from rich.cells import cell_len

    from ..terminal.text import printable

    lines = [list(heads), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        cells = (cell + " " * (w - cell_len(cell)) for cell, w in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
