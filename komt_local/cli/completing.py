"""What the shell offers for a parameter, by the parameter's name: models, templates, types, files.

The shell starts the program anew for each press of Tab, so that only what is asked for is loaded;
and it never shows an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from ..errors import KomtError


def _models() -> Iterable[str]:
    from ..library.contents import names

    return names()


def _pullable() -> Iterable[str]:
    from ..catalogue import models

    return (model.name for model in models())


def _templates() -> Iterable[str]:
    from ..prompts import PRESETS

    return PRESETS


def _tasks() -> Iterable[str]:
    from ..prompts.tasks import task_names

    return task_names()


def _types() -> Iterable[str]:
    from komt_convert.recipes import FILE_TYPES

    return FILE_TYPES


def _nothing() -> Iterable[str]:
    return ()


_BY_NAME: dict[str, Callable[[], Iterable[str]]] = {
    "model": _models,
    "reference": _pullable,
    "template": _templates,
    "task": _tasks,
    "quantization": _types,
    "source": _pullable,
    "output": _nothing,
    "lora": _nothing,
}


class _Named(click.types.StringParamType):
    """Text that completes with names, and where none begins like it, with files."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self.names = names

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            found = sorted(name for name in self.names() if name.startswith(incomplete))
        except KomtError:
            found = []
        is_path = incomplete.startswith((".", "/", "~"))
        if found and not is_path:
            return [CompletionItem(name) for name in found]
        return [CompletionItem(incomplete, type="file")]


def let_complete(parameters: Iterable[click.Parameter]) -> None:
    """Give the parameters that are plain text the completion that belongs to their names."""
    for parameter in parameters:
        names = _BY_NAME.get(parameter.name or "")
        if names is not None and parameter.type is click.STRING:
            parameter.type = _Named(names)
